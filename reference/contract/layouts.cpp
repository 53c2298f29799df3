// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/layouts.h"

#include "reference/check.h"
#include "reference/contract/mesh_reading.h"
#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

std::string range_words(std::int64_t begin, std::int64_t end) {
  return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

/// The places are as many as the ranks and can be computed with.
Verdict unusable_places(const char* property, const MeshReading& mesh, const Layout& layout) {
  const std::int64_t found = static_cast<std::int64_t>(layout.places.size());
  if (found != mesh.num_ranks())
    return violation(property, -1, "number of places", std::to_string(mesh.num_ranks()),
                     std::to_string(found));
  return std::nullopt;
}

Verdict wrong_columns(const MeshReading& mesh, const LayoutSpec& spec, const Layout& layout,
                      std::int64_t intermediate, std::int64_t rank) {
  const std::int64_t P = mesh.extent(spec.sharding.intermediate);
  const std::int64_t p = mesh.index_along(spec.sharding.intermediate, rank);
  const bool divides = intermediate % P == 0;
  const std::string what = mesh.words(rank) + "; its columns of I=" + std::to_string(intermediate) +
                           " at MoE-TP " + std::to_string(p) + " of " + std::to_string(P);
  const std::string expected = divides ? range_words(p * (intermediate / P), (p + 1) * (intermediate / P))
                                       : "an error that names I and P";
  const std::int64_t placed = layout.places[rank].moe_tp_rank;
  if (placed < 0 || placed >= kMaxIndex)
    return violation("P7", rank, what, expected, "a place with moe_tp_rank=" + std::to_string(placed));
  try {
    const Range got = layout.column_range(intermediate, static_cast<std::int32_t>(rank));
    if (divides && got.begin == p * (intermediate / P) && got.end == (p + 1) * (intermediate / P))
      return std::nullopt;
    return violation("P7", rank, what, expected, range_words(got.begin, got.end));
  } catch (const InvalidArgument& error) {
    if (!divides) return std::nullopt;
    return violation("P7", rank, what, expected, std::string("an error: ") + error.what());
  }
}

Verdict wrong_tokens(const MeshReading& mesh, const LayoutSpec& spec, const Layout& layout,
                     std::int64_t num_tokens, std::int64_t rank) {
  const std::int64_t D = mesh.extent(spec.sharding.tokens), d = mesh.index_along(spec.sharding.tokens, rank);
  std::int64_t begin = 0;  // section 2: shard x has T/D + (x < T % D) rows
  for (std::int64_t x = 0; x < d; ++x) begin += num_tokens / D + (x < num_tokens % D ? 1 : 0);
  const std::int64_t end = begin + num_tokens / D + (d < num_tokens % D ? 1 : 0);
  std::string found;
  if (layout.places[rank].token_shards < 1) {
    found = "a place with token_shards=" + std::to_string(layout.places[rank].token_shards);
  } else {
    const Range got = layout.token_range(num_tokens, static_cast<std::int32_t>(rank));
    if (got.begin == begin && got.end == end) return std::nullopt;
    found = range_words(got.begin, got.end);
  }
  return violation("P7", rank,
                   mesh.words(rank) + "; its rows of T=" + std::to_string(num_tokens) + " as token shard " +
                       std::to_string(d) + " of " + std::to_string(D),
                   range_words(begin, end), found);
}

}  // namespace

Verdict p7_shards(const LayoutSpec& spec, const Layout& layout, std::int64_t intermediate,
                  std::int64_t num_tokens) {
  const MeshReading mesh(spec.axes);
  if (auto bad = unusable_places("P7", mesh, layout)) return bad;
  const auto& owned = layout.placement.experts_of_rank();
  const std::int64_t ep = mesh.extent(spec.sharding.experts), E = spec.placement.num_experts;
  for (std::int64_t rank = 0; rank < mesh.num_ranks(); ++rank) {
    if (auto bad = wrong_columns(mesh, spec, layout, intermediate, rank)) return bad;
    if (auto bad = wrong_tokens(mesh, spec, layout, num_tokens, rank)) return bad;
    const std::int64_t q = layout.places[rank].ep_rank;
    if (q < 0 || q >= static_cast<std::int64_t>(owned.size()))
      return violation(
          "P7", rank, mesh.words(rank) + "; its ep_rank",
          "one of the placement's " + count_words(static_cast<std::int64_t>(owned.size()), "row"),
          std::to_string(q));
    const bool table = spec.placement.kind == PlacementKind::table;
    const std::int64_t row = mesh.index_along(spec.sharding.experts, rank);
    const bool may_be_empty = table ? row < static_cast<std::int64_t>(spec.placement.table.size()) &&
                                          spec.placement.table[row].empty()
                                    : E < ep;
    if (owned[q].empty() && !may_be_empty)
      return violation("P7", rank,
                       mesh.words(rank) + "; number of experts it owns, with E=" + std::to_string(E) +
                           ", ep=" + std::to_string(ep),
                       "at least 1", "0");
  }
  return std::nullopt;
}

Verdict p9_groups(const LayoutSpec& spec, const std::vector<std::string>& axes,
                  const std::vector<std::vector<std::int32_t>>& groups) {
  const MeshReading mesh(spec.axes);
  const std::int64_t members = mesh.extent(axes);
  std::string set;
  for (const std::string& axis : axes) set += (set.empty() ? "" : ", ") + axis;
  const std::string of_set = " of the axes {" + set + "}";
  const std::int64_t expected_groups = mesh.num_ranks() / members;
  if (static_cast<std::int64_t>(groups.size()) != expected_groups)
    return violation("P9", -1, "number of groups" + of_set, std::to_string(expected_groups),
                     std::to_string(groups.size()));
  std::vector<std::int64_t> group_of(mesh.num_ranks(), -1);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const std::string group = "group " + std::to_string(g) + of_set;
    if (static_cast<std::int64_t>(groups[g].size()) != members)
      return violation("P9", groups[g].empty() ? -1 : groups[g][0], "number of ranks in " + group,
                       std::to_string(members), std::to_string(groups[g].size()));
    for (std::size_t i = 0; i < groups[g].size(); ++i) {
      const std::int64_t rank = groups[g][i];
      const std::string what = "member " + std::to_string(i) + " of " + group;
      if (rank < 0 || rank >= mesh.num_ranks())
        return violation("P9", rank, what, "a rank in [0, " + std::to_string(mesh.num_ranks()) + ")",
                         std::to_string(rank));
      if (group_of[rank] >= 0)
        return violation("P9", rank, mesh.words(rank) + "; the groups" + of_set + " it stands in", "one",
                         "group " + std::to_string(group_of[rank]) + " and group " + std::to_string(g));
      group_of[rank] = static_cast<std::int64_t>(g);
      const std::int64_t index = mesh.index_along(axes, rank);
      if (index != static_cast<std::int64_t>(i))
        return violation("P9", rank, mesh.words(rank) + "; its index in " + group, std::to_string(index),
                         std::to_string(i));
      const std::int64_t first = groups[g][0];
      if (!mesh.agree_outside(axes, first, rank))
        return violation("P9", rank,
                         mesh.words(rank) + " stands in " + group + "; its coordinates on the other axes",
                         "those of " + mesh.words(first), "others");
    }
  }
  return std::nullopt;
}

Verdict p9_places(const LayoutSpec& spec, const Layout& layout) {
  const MeshReading mesh(spec.axes);
  if (auto bad = unusable_places("P9", mesh, layout)) return bad;
  for (std::int64_t rank = 0; rank < mesh.num_ranks(); ++rank) {
    const Sharding& cut = spec.sharding;
    const PlaceAxes axes{cut.experts, cut.intermediate, cut.tokens};
    if (auto bad = wrong_place(mesh, axes, rank, layout.places[rank], "")) return bad;
  }
  return std::nullopt;
}

}  // namespace eplora::contract
