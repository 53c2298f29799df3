// SPDX-License-Identifier: Apache-2.0
// P9 and the slices of P7 for deployments: ranks, coordinates and parts, each re-derived from the
// description.
#include "reference/contract/deployments.h"

#include <algorithm>

#include "reference/contract/class_reading.h"
#include "reference/contract/layouts.h"
#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

LayoutSpec axes_only(const std::vector<Axis>& axes) {
  LayoutSpec spec;
  spec.axes = axes;
  return spec;
}

std::vector<std::string> sorted(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

std::string set_words(const std::vector<std::string>& names) {
  std::string words = "{";
  for (const std::string& name : names) words += (words.size() == 1 ? "" : ", ") + name;
  return words + "}";
}

/// Axis sets that the deployment forms groups of on one grid.
std::vector<std::vector<std::string>> kinds_on(const DeploymentSpec& spec, const GridSpec& grid) {
  std::vector<std::vector<std::string>> kinds = {{}};
  std::vector<std::string> all;
  for (const Axis& axis : grid.axes) {
    kinds.push_back({axis.name});
    all.push_back(axis.name);
  }
  kinds.push_back(all);
  if (spec.attention.grid == grid.name) {
    kinds.push_back(spec.attention.tokens);
    kinds.push_back(spec.attention.heads);
  }
  for (const LayerClassSpec& c : spec.classes) {
    if (c.grid != grid.name) continue;
    const ClassSharding& cut = c.sharding;
    for (const auto& axes : {cut.tokens, cut.experts, cut.intermediate, cut.hidden, cut.lora_rank, cut.layers,
                             c.shared_experts.axes})
      kinds.push_back(axes);
  }
  for (auto& kind : kinds) kind = sorted(kind);
  std::sort(kinds.begin(), kinds.end());
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  return kinds;
}

Verdict wrong_index(const MeshReading& mesh, const std::vector<std::string>& axes, const std::string& what,
                    const std::vector<std::int32_t>& found) {
  if (static_cast<std::int64_t>(found.size()) != mesh.num_ranks())
    return violation("P9", -1, "number of ranks with an index along " + what,
                     std::to_string(mesh.num_ranks()), std::to_string(found.size()));
  for (std::int64_t rank = 0; rank < mesh.num_ranks(); ++rank)
    if (const std::int64_t index = mesh.index_along(axes, rank); index != found[rank])
      return violation("P9", rank, mesh.words(rank) + "; its index along " + what, std::to_string(index),
                       std::to_string(found[rank]));
  return std::nullopt;
}

/// Axes of more than one rank, sorted: the others make no difference to any group.
std::vector<std::string> that_matter(const GridSpec& grid, std::vector<std::string> names) {
  for (const Axis& axis : grid.axes)
    if (axis.size == 1) std::erase(names, axis.name);
  return sorted(std::move(names));
}

Verdict wrong_groups(const ClassReading& reading, const std::string& what,
                     const std::vector<std::string>& axes, const GroupSet& found) {
  const std::vector<std::string> want = that_matter(reading.grid(), axes),
                                 got = that_matter(reading.grid(), found.axes);
  if (want != got)
    return violation("P9", -1, reading.at() + "axes of " + what, set_words(want), set_words(got));
  Verdict bad = p9_groups(axes_only(reading.grid().axes), axes, found.groups);
  if (bad) bad->sentence = reading.at() + what + ": " + bad->sentence;
  return bad;
}

}  // namespace

Verdict p9_grids(const DeploymentSpec& spec, const Deployment& deployment) {
  for (const GridSpec& grid : spec.grids) {
    const Mesh& mesh = deployment.mesh_of(grid.name);
    if (mesh.axes() != grid.axes)
      return violation("P9", -1, "axes of grid " + grid.name, "those of the description", "others");
    const MeshReading reading(grid.axes);
    if (reading.num_ranks() != deployment.num_ranks)
      return violation("P9", -1, "ranks of grid " + grid.name, std::to_string(deployment.num_ranks),
                       std::to_string(reading.num_ranks()));
    for (const auto& kind : kinds_on(deployment.spec, grid)) {
      Verdict bad = p9_groups(axes_only(grid.axes), kind, mesh.groups(kind));
      if (bad) bad->sentence = "grid " + grid.name + ": " + bad->sentence;
      if (bad) return bad;
    }
  }
  const MeshReading attention(grid_of(deployment.spec, deployment.spec.attention.grid).axes);
  if (auto bad =
          wrong_index(attention, deployment.spec.attention.tokens, "attention's token axes", deployment.home))
    return bad;
  for (const LayerClass& c : deployment.classes) {
    const MeshReading mesh(grid_of(spec, c.spec.grid).axes);
    const std::string of = " axes of class " + c.spec.name;
    if (auto bad = wrong_index(mesh, c.spec.sharding.hidden, "the hidden" + of, c.hidden_index)) return bad;
    if (auto bad = wrong_index(mesh, c.spec.sharding.lora_rank, "the lora_rank" + of, c.lora_rank_index))
      return bad;
    if (auto bad = wrong_index(mesh, c.spec.sharding.layers, "the layers" + of, c.stage)) return bad;
    if (auto bad = wrong_index(mesh, c.spec.shared_experts.axes, "the shared experts'" + of, c.shared_index))
      return bad;
  }
  return std::nullopt;
}

Verdict p9_class(const DeploymentSpec& spec, const ClassPlan& plan) {
  const ClassReading reading(spec, plan);
  if (auto bad = reading.wrong_number_of_ranks("P9")) return bad;
  const MeshReading& mesh = reading.mesh();
  const ClassSharding& cut = reading.declared().sharding;
  for (std::int64_t rank = 0; rank < mesh.num_ranks(); ++rank) {
    const PlaceAxes axes{cut.experts, cut.intermediate, cut.tokens};
    if (auto bad = wrong_place(mesh, axes, rank, plan.ranks[rank].place, reading.at())) return bad;
  }
  std::vector<std::string> routed = cut.experts, delta, shrink;
  routed.insert(routed.end(), cut.intermediate.begin(), cut.intermediate.end());
  delta = routed;
  for (const std::string& axis : cut.hidden) {
    const bool again = std::count(cut.intermediate.begin(), cut.intermediate.end(), axis) != 0;
    (again ? shrink : delta).push_back(axis);
  }
  const bool sharded = reading.declared().shared_experts.kind == SharedExpertsKind::sharded;
  const std::vector<std::string> shared =
      sharded ? reading.declared().shared_experts.axes : std::vector<std::string>{};
  if (auto bad = wrong_groups(reading, "the sum of expert outputs", routed, plan.routed_sum)) return bad;
  if (auto bad = wrong_groups(reading, "the sum of the down delta", delta, plan.delta_sum)) return bad;
  if (auto bad = wrong_groups(reading, "the sum of shared experts", shared, plan.shared_sum)) return bad;
  if (auto bad = wrong_groups(reading, "the gather of tokens", cut.tokens, plan.token_gather)) return bad;
  if (auto bad = wrong_groups(reading, "the gather of LoRA ranks", cut.lora_rank, plan.lora_rank_gather))
    return bad;
  return wrong_groups(reading, "the sum of the down shrink", shrink, plan.shrink_sum);
}

namespace {

/// The parts of one dimension along one axis set: part d of D has total/D + (d < total % D) (section 2).
class Parts {
 public:
  Parts(const MeshReading& mesh, const std::vector<std::string>& axes, std::int64_t total)
      : mesh_(mesh), axes_(axes) {
    const std::int64_t D = mesh.extent(axes);
    for (std::int64_t d = 0, begin = 0; d < D; ++d) {
      const std::int64_t size = total / D + (d < total % D ? 1 : 0);
      parts_.push_back({begin, begin + size});
      begin += size;
    }
  }
  const Range& of(std::int64_t rank) const { return parts_[mesh_.index_along(axes_, rank)]; }

 private:
  const MeshReading& mesh_;
  std::vector<std::string> axes_;
  std::vector<Range> parts_;
};

/// Columns with padding, by the two rules of the padding's place.
PaddedRange columns_of(const LayerClassSpec& c, std::int64_t I, std::int64_t P, std::int64_t p) {
  const std::int64_t m = c.padding.multiple;
  if (c.padding.place == PaddingPlace::each_rank) {
    const std::int64_t i = I / P, over = i % m;
    return {{p * i, (p + 1) * i}, over == 0 ? 0 : m - over};
  }
  std::int64_t width = 0;
  while (width * P < I) width += m;
  const std::int64_t begin = std::min(I, p * width), end = std::min(I, (p + 1) * width);
  return {{begin, end}, width - (end - begin)};
}

}  // namespace

Verdict p7_slices(const DeploymentSpec& spec, const ClassPlan& plan) {
  const ClassReading reading(spec, plan);
  if (auto bad = reading.wrong_number_of_ranks("P7")) return bad;
  const MeshReading& mesh = reading.mesh();
  const LayerClassSpec& c = reading.declared();
  const PlanSizes& sizes = plan.sizes;
  const std::int64_t P = mesh.extent(c.sharding.intermediate);
  if (c.padding.place == PaddingPlace::each_rank && sizes.intermediate % P != 0)
    return violation("P7", -1,
                     reading.at() + "I=" + std::to_string(sizes.intermediate) + " over " + std::to_string(P) +
                         " ranks without padding at the end",
                     "a size that divides", "a plan all the same");
  const Parts tokens(mesh, c.sharding.tokens, sizes.tokens), hidden(mesh, c.sharding.hidden, sizes.hidden),
      ranks(mesh, c.sharding.lora_rank, sizes.max_lora_rank),
      layers(mesh, c.sharding.layers, sizes.num_layers),
      shared(mesh, c.shared_experts.axes, sizes.shared_intermediate);
  const bool apart = c.shared_experts.kind == SharedExpertsKind::replicated ||
                     c.shared_experts.kind == SharedExpertsKind::sharded;
  std::vector<PaddedRange> columns;
  for (std::int64_t p = 0; p < P; ++p) columns.push_back(columns_of(c, sizes.intermediate, P, p));
  for (std::int64_t rank = 0; rank < mesh.num_ranks(); ++rank) {
    const RankPlan& got = plan.ranks[rank];
    const std::int64_t p = mesh.index_along(c.sharding.intermediate, rank);
    const auto wrong = [&](const std::string& what, const Range& want, const Range& found) {
      return violation("P7", rank, reading.at() + mesh.words(rank) + "; its " + what, range_words(want),
                       range_words(found));
    };
    if (got.columns.real != columns[p].real)
      return wrong("columns of I=" + std::to_string(sizes.intermediate) + " at MoE-TP " + std::to_string(p) +
                       " of " + std::to_string(P),
                   columns[p].real, got.columns.real);
    if (got.columns.real.size() <= 0) return wrong("columns", {0, 1}, got.columns.real);
    if (got.columns.padding != columns[p].padding)
      return violation("P7", rank, reading.at() + mesh.words(rank) + "; its padding columns",
                       std::to_string(columns[p].padding), std::to_string(got.columns.padding));
    if (got.hidden != hidden.of(rank)) return wrong("rows of down B", hidden.of(rank), got.hidden);
    if (got.hidden_offset != hidden.of(rank).begin)
      return violation("P7", rank, reading.at() + mesh.words(rank) + "; where its rows of down B are written",
                       std::to_string(hidden.of(rank).begin), std::to_string(got.hidden_offset));
    if (got.lora_rank != ranks.of(rank)) return wrong("rows of gate_up A", ranks.of(rank), got.lora_rank);
    if (got.tokens != tokens.of(rank)) return wrong("tokens", tokens.of(rank), got.tokens);
    if (got.layers != layers.of(rank)) return wrong("layers", layers.of(rank), got.layers);
    if (apart && got.shared_columns != shared.of(rank))
      return wrong("columns of a shared expert", shared.of(rank), got.shared_columns);
  }
  if (plan.padding_value != 0.0F)
    return violation("P7", -1, reading.at() + "what stands in padding columns", "0",
                     number_words(plan.padding_value));
  for (const auto& [what, form] : {std::pair{"gate_up's weight form on a rank", plan.base_form},
                                   std::pair{"gate_up B's form on a rank", plan.lora_form}})
    if (form != c.weight_form)
      return violation("P7", -1, reading.at() + what, std::string(to_string(c.weight_form)),
                       std::string(to_string(form)));
  return std::nullopt;
}

Verdict p7_homes(const DeploymentSpec& spec, const ClassPlan& plan) {
  const ClassReading reading(spec, plan);
  if (auto bad = reading.wrong_number_of_ranks("P7")) return bad;
  const MeshReading& mesh = reading.mesh();
  const AttentionSpec attention = reading.attention();
  const MeshReading outside(grid_of(spec, attention.grid).axes);
  const std::int64_t D = outside.extent(attention.tokens);
  const Parts homes(outside, attention.tokens, plan.sizes.tokens);
  const std::vector<std::string>& stage_axes = reading.declared().sharding.layers;
  std::vector<std::vector<bool>> held(mesh.extent(stage_axes), std::vector<bool>(D, false));
  for (std::int64_t rank = 0; rank < mesh.num_ranks(); ++rank) {
    const Range &want = homes.of(rank), &found = plan.ranks[rank].home;
    if (want != found)
      return violation("P7", rank,
                       reading.at() + outside.words(rank) + "; tokens that stand on it outside the experts",
                       range_words(want), range_words(found));
    held[mesh.index_along(stage_axes, rank)][outside.index_along(attention.tokens, rank)] = true;
  }
  for (std::size_t stage = 0; stage < held.size(); ++stage)
    for (std::int64_t d = 0; d < D; ++d)
      if (!held[stage][d])
        return violation("P7", d,
                         reading.at() + "token shard " + std::to_string(d) +
                             " of attention on pipeline stage " + std::to_string(stage),
                         "at least one rank that holds it",
                         "none: no rank of the stage can reach those tokens");
  return std::nullopt;
}

}  // namespace eplora::contract
