// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/layout.h"

#include <algorithm>

#include "reference/check.h"

namespace eplora {
namespace {

void require_axes_used_once(const Mesh& mesh, const Sharding& sharding) {
  std::vector<std::string> used;
  for (const auto* dimension : {&sharding.tokens, &sharding.experts, &sharding.intermediate}) {
    for (const std::string& name : *dimension) {
      mesh.size_of(name);
      if (std::find(used.begin(), used.end(), name) != used.end())
        reject("sharding axis " + name, "used twice",
               "an axis may shard tokens, experts or intermediate, once");
      used.push_back(name);
    }
  }
}

Placement make_placement(const PlacementSpec& spec, std::int32_t ep) {
  switch (spec.kind) {
    case PlacementKind::linear:
      return Placement::linear(spec.num_experts, ep);
    case PlacementKind::round_robin:
      return Placement::round_robin(spec.num_experts, ep);
    case PlacementKind::table:
      break;
  }
  if (static_cast<std::int64_t>(spec.table.size()) != ep)
    reject("placement table rows", std::to_string(spec.table.size()),
           "the expert axes have " + std::to_string(ep) + " ranks, one row each");
  return Placement::table(spec.num_experts, spec.table);
}

}  // namespace

Range contiguous_part(std::int64_t total, std::int32_t parts, std::int32_t part) {
  const std::int64_t base = total / parts, extra = total % parts;
  const std::int64_t begin = part * base + std::min<std::int64_t>(part, extra);
  return {begin, begin + base + (part < extra ? 1 : 0)};
}

const RankPlace& Layout::place(std::int32_t rank) const {
  require_in_range("rank", rank, 0, static_cast<std::int64_t>(places.size()) - 1);
  return places[rank];
}

const std::vector<std::int32_t>& Layout::local_experts(std::int32_t rank) const {
  return placement.local_experts(place(rank).ep_rank);
}

Range Layout::token_range(std::int64_t num_tokens, std::int32_t rank) const {
  return contiguous_part(num_tokens, place(rank).token_shards, place(rank).token_shard);
}

Range Layout::column_range(std::int64_t intermediate, std::int32_t rank) const {
  const RankPlace& at = place(rank);
  const std::int64_t width = intermediate_per_rank(intermediate, at.moe_tp, "the layer");
  return {at.moe_tp_rank * width, (std::int64_t{at.moe_tp_rank} + 1) * width};
}

Layout make_layout(const LayoutSpec& spec) {
  Layout layout{Mesh(spec.axes), spec.sharding, {}, {}};
  require_axes_used_once(layout.mesh, layout.sharding);
  const std::int32_t ep = layout.mesh.extent(spec.sharding.experts);
  layout.placement = make_placement(spec.placement, ep);
  for (std::int32_t rank = 0; rank < layout.mesh.num_ranks(); ++rank) {
    RankPlace place;
    place.rank = rank;
    place.num_ranks = layout.mesh.num_ranks();
    place.ep_rank = layout.mesh.index_along(spec.sharding.experts, rank);
    place.ep = ep;
    place.moe_tp_rank = layout.mesh.index_along(spec.sharding.intermediate, rank);
    place.moe_tp = layout.mesh.extent(spec.sharding.intermediate);
    place.token_shard = layout.mesh.index_along(spec.sharding.tokens, rank);
    place.token_shards = layout.mesh.extent(spec.sharding.tokens);
    layout.places.push_back(place);
  }
  return layout;
}

std::int64_t intermediate_per_rank(std::int64_t intermediate, std::int32_t moe_tp, const std::string& layer) {
  require_in_range("intermediate size of " + layer, intermediate, 1, kMaxIndex);
  require_in_range("moe_tp", moe_tp, 1, kMaxIndex);
  if (intermediate % moe_tp != 0)
    reject("intermediate size of " + layer, std::to_string(intermediate),
           "it must be divisible by moe_tp=" + std::to_string(moe_tp));
  return intermediate / moe_tp;
}

}  // namespace eplora
