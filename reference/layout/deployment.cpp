// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/deployment.h"

#include <algorithm>
#include <set>

#include "reference/check.h"

namespace eplora {
namespace {

using Table = std::vector<std::vector<std::int32_t>>;

const GridSpec& grid_named(const DeploymentSpec& spec, const std::string& name) {
  for (const GridSpec& grid : spec.grids)
    if (grid.name == name) return grid;
  reject("grid", "'" + name + "'", "no grid has this name");
}

/// Axes of `cut`, each known to the mesh and named by no other list of `seen`.
void take_axes(const Mesh& mesh, const std::string& what, const std::vector<std::string>& cut,
               std::set<std::string>& seen) {
  for (const std::string& axis : cut) {
    mesh.size_of(axis);
    if (!seen.insert(axis).second)
      reject(what, "axis " + axis, "the axis cuts something already; an axis cuts one thing, once");
  }
}

void check_axes(const Mesh& mesh, const LayerClassSpec& c) {
  std::set<std::string> seen;
  const std::string at = "class " + c.name + ": ";
  take_axes(mesh, at + "tokens", c.sharding.tokens, seen);
  take_axes(mesh, at + "experts", c.sharding.experts, seen);
  take_axes(mesh, at + "layers", c.sharding.layers, seen);
  for (const auto& [what, cut] :
       {std::pair{"hidden", &c.sharding.hidden}, std::pair{"lora_rank", &c.sharding.lora_rank},
        std::pair{"shared_experts.axes", &c.shared_experts.axes}}) {
    std::set<std::string> own = seen;
    take_axes(mesh, at + what, *cut, own);
  }
  if (c.sum_over) {
    std::set<std::string> own;
    take_axes(mesh, at + "sum_over", *c.sum_over, own);
  }
  take_axes(mesh, at + "intermediate", c.sharding.intermediate, seen);
}

Table redundant_slots(const ExpertPlacementSpec& placement, std::int32_t ep, const std::string& at) {
  const std::int64_t E = placement.num_experts, slots = E + placement.redundant;
  require_in_range(at + "redundant", placement.redundant, 0, kMaxIndex - E);
  if (slots % ep != 0)
    reject(at + "num_experts + redundant", std::to_string(E) + " + " + std::to_string(placement.redundant),
           "the sum must be divisible by ep=" + std::to_string(ep));
  if (slots / ep > E)
    reject(at + "redundant", std::to_string(placement.redundant),
           "with ep=" + std::to_string(ep) + " two replicas of an expert would stand on one rank");
  Table table(ep);
  for (std::int64_t q = 0; q < ep; ++q) {
    for (std::int64_t s = 0; s < slots / ep; ++s) {
      const std::int64_t p =
          placement.rule == PlacementRule::redundant ? q * (slots / ep) + s : q * E / ep + s;
      table[q].push_back(static_cast<std::int32_t>(p % E));
    }
  }
  return table;
}

Table placed(const ExpertPlacementSpec& placement, std::int32_t ep, const std::string& at) {
  require_in_range(at + "num_experts", placement.num_experts, 1, kMaxIndex);
  const bool has_slots =
      placement.rule == PlacementRule::redundant || placement.rule == PlacementRule::wrap_around;
  if (!has_slots && placement.redundant != 0)
    reject(at + "redundant", std::to_string(placement.redundant),
           "it goes with the placements redundant and wrap_around");
  if ((placement.rule == PlacementRule::table) == placement.table.empty())
    reject(at + "placement", to_string(placement.rule), "a table goes with rule table, and only with it");
  if (has_slots) return redundant_slots(placement, ep, at);
  switch (placement.rule) {
    case PlacementRule::linear:
      return Placement::linear(placement.num_experts, ep).experts_of_rank();
    case PlacementRule::round_robin:
      return Placement::round_robin(placement.num_experts, ep).experts_of_rank();
    default:
      return placement.table;
  }
}

void check_class(const LayerClassSpec& c) {
  const std::string at = "class " + c.name + ": ";
  require_in_range(at + "num_experts", c.placement.num_experts, 1, kMaxIndex);
  require_in_range(at + "padding", c.padding.multiple, 1, kMaxIndex);
  require_in_range(at + "interleave_block", c.interleave_block, 1, kMaxIndex);
  if (c.weight_form != WeightForm::block_interleaved && c.interleave_block != 1)
    reject(at + "interleave_block", std::to_string(c.interleave_block),
           "it goes with weight form block_interleaved");
  const SharedExpertsSpec& shared = c.shared_experts;
  require_in_range(at + "shared experts", shared.count, shared.kind == SharedExpertsKind::none ? 0 : 1,
                   shared.kind == SharedExpertsKind::none ? 0 : kMaxIndex);
  require_in_range(at + "shared_experts.intermediate", shared.intermediate, 0, kMaxIndex);
  if (shared.kind != SharedExpertsKind::sharded && !shared.axes.empty())
    reject(at + "shared_experts.axes", shared.axes.front(), "axes go with kind sharded");
}

LayerClass resolve(const DeploymentSpec& spec, const LayerClassSpec& c) {
  check_class(c);
  check_axes(Mesh(grid_named(spec, c.grid).axes), c);
  LayerClass out{c, make_layout(layout_spec_of(spec, c)), {}, {}, {}, 1, 1, 1, {}, 1};
  const Mesh& mesh = out.layout.mesh;
  out.hidden_parts = mesh.extent(c.sharding.hidden);
  out.lora_rank_parts = mesh.extent(c.sharding.lora_rank);
  out.stages = mesh.extent(c.sharding.layers);
  out.shared_parts = mesh.extent(c.shared_experts.axes);
  for (std::int32_t rank = 0; rank < mesh.num_ranks(); ++rank) {
    out.hidden_index.push_back(mesh.index_along(c.sharding.hidden, rank));
    out.lora_rank_index.push_back(mesh.index_along(c.sharding.lora_rank, rank));
    out.stage.push_back(mesh.index_along(c.sharding.layers, rank));
    out.shared_index.push_back(mesh.index_along(c.shared_experts.axes, rank));
  }
  return out;
}

void check_names(const DeploymentSpec& spec) {
  if (spec.grids.empty()) reject("grids", "none", "give at least one");
  if (spec.classes.empty()) reject("layer classes", "none", "give at least one");
  std::set<std::string> grids, classes;
  for (const GridSpec& grid : spec.grids)
    if (!grids.insert(grid.name).second) reject("grid", "'" + grid.name + "'", "the name is used twice");
  std::set<std::int32_t> layers;
  int without = 0;
  for (const LayerClassSpec& c : spec.classes) {
    if (!classes.insert(c.name).second) reject("class", "'" + c.name + "'", "the name is used twice");
    for (const std::int32_t layer : c.layers) {
      require_in_range("class " + c.name + ": layer", layer, 0, kMaxIndex);
      if (!layers.insert(layer).second)
        reject("class " + c.name + ": layer", std::to_string(layer), "the layer is in a class already");
    }
    if (c.layers.empty() && ++without == 2)
      reject("class " + c.name, "no layers",
             "one class at most may leave its layers out; it takes those that the others do not name");
  }
}

std::string size_text(const DeploymentSpec& spec, std::size_t grid, const std::vector<Mesh>& meshes) {
  return spec.grids[grid].name + " has " + std::to_string(meshes[grid].num_ranks()) + " ranks";
}

}  // namespace

std::string_view to_string(PlacementRule rule) {
  switch (rule) {
    case PlacementRule::linear:
      return "linear";
    case PlacementRule::round_robin:
      return "round_robin";
    case PlacementRule::table:
      return "table";
    case PlacementRule::redundant:
      return "redundant";
    case PlacementRule::wrap_around:
      return "wrap_around";
  }
  return "?";
}

std::string_view to_string(ReplicaRule rule) {
  switch (rule) {
    case ReplicaRule::slot:
      return "slot";
    case ReplicaRule::token:
      return "token";
    case ReplicaRule::source:
      return "source";
    case ReplicaRule::first:
      return "first";
  }
  return "?";
}

std::string_view to_string(SharedExpertsKind kind) {
  switch (kind) {
    case SharedExpertsKind::none:
      return "none";
    case SharedExpertsKind::replicated:
      return "replicated";
    case SharedExpertsKind::sharded:
      return "sharded";
    case SharedExpertsKind::fused:
      return "fused";
  }
  return "?";
}

std::string_view to_string(PaddingPlace place) {
  return place == PaddingPlace::each_rank ? "each_rank" : "end";
}

PaddedRange LayerClass::columns(std::int64_t intermediate, std::int32_t rank) const {
  const RankPlace& at = layout.place(rank);
  const std::int64_t P = at.moe_tp, m = spec.padding.multiple;
  if (spec.padding.place == PaddingPlace::each_rank) {
    const Range real = layout.column_range(intermediate, rank);
    return {real, (real.size() + m - 1) / m * m - real.size()};
  }
  require_in_range("intermediate size", intermediate, 1, kMaxIndex);
  const std::int64_t width = (intermediate + P * m - 1) / (P * m) * m;
  const Range real{std::min(at.moe_tp_rank * width, intermediate),
                   std::min((at.moe_tp_rank + 1) * width, intermediate)};
  if (real.size() == 0)
    reject("intermediate size", std::to_string(intermediate),
           "padded to a multiple of " + std::to_string(m) + " on each of " + std::to_string(P) +
               " ranks, MoE-TP rank " + std::to_string(at.moe_tp_rank) + " would hold zeros alone");
  return {real, width - real.size()};
}

Range LayerClass::hidden_rows(std::int64_t hidden, std::int32_t rank) const {
  layout.place(rank);
  return contiguous_part(hidden, hidden_parts, hidden_index[rank]);
}

Range LayerClass::lora_rank_rows(std::int64_t max_lora_rank, std::int32_t rank) const {
  layout.place(rank);
  if (max_lora_rank % lora_rank_parts != 0)
    reject("max_lora_rank", std::to_string(max_lora_rank),
           "it must be divisible by the extent of lora_rank's axes, " + std::to_string(lora_rank_parts));
  const std::int64_t rows = max_lora_rank / lora_rank_parts;
  return {lora_rank_index[rank] * rows, (lora_rank_index[rank] + 1) * rows};
}

Range LayerClass::layers_of(std::int64_t num_layers, std::int32_t rank) const {
  layout.place(rank);
  return contiguous_part(num_layers, stages, stage[rank]);
}

Range LayerClass::shared_columns(std::int64_t intermediate, std::int32_t rank) const {
  layout.place(rank);
  const std::int64_t width = intermediate_per_rank(intermediate, shared_parts, "the shared experts");
  return {shared_index[rank] * width, (shared_index[rank] + 1) * width};
}

std::int32_t LayerClass::replica_of(std::int32_t expert, std::int64_t t, std::int64_t k, std::int64_t top_k,
                                    std::int32_t token_shard) const {
  const auto c = static_cast<std::int64_t>(layout.placement.replicas(expert).size());
  switch (spec.placement.replicas) {
    case ReplicaRule::slot:
      return static_cast<std::int32_t>((t * top_k + k) % c);
    case ReplicaRule::token:
      return static_cast<std::int32_t>(t % c);
    case ReplicaRule::source:
      return static_cast<std::int32_t>(token_shard % c);
    case ReplicaRule::first:
      break;
  }
  return 0;
}

const Mesh& Deployment::mesh_of(std::string_view grid) const {
  for (std::size_t g = 0; g < meshes.size(); ++g)
    if (spec.grids[g].name == grid) return meshes[g];
  reject("grid", "'" + std::string(grid) + "'", "no grid has this name");
}

const LayerClass& Deployment::class_named(std::string_view name) const {
  for (const LayerClass& c : classes)
    if (c.spec.name == name) return c;
  reject("class", "'" + std::string(name) + "'", "no class of layers has this name");
}

Range Deployment::home_tokens(std::int64_t num_tokens, std::int32_t rank) const {
  require_in_range("rank", rank, 0, num_ranks - 1);
  return contiguous_part(num_tokens, home_parts, home[rank]);
}

LayoutSpec layout_spec_of(const DeploymentSpec& spec, const LayerClassSpec& c) {
  LayoutSpec out;
  out.axes = grid_named(spec, c.grid).axes;
  out.sharding = {c.sharding.tokens, c.sharding.experts, c.sharding.intermediate};
  const bool fused = c.shared_experts.kind == SharedExpertsKind::fused;
  out.placement.num_experts = c.placement.num_experts + (fused ? c.shared_experts.count : 0);
  const bool by_rule = !fused && c.placement.table.empty() && c.placement.redundant == 0;
  if (by_rule && c.placement.rule == PlacementRule::linear) return out;
  if (by_rule && c.placement.rule == PlacementRule::round_robin) {
    out.placement.kind = PlacementKind::round_robin;
    return out;
  }
  out.placement.kind = PlacementKind::table;
  out.placement.table =
      placed(c.placement, Mesh(out.axes).extent(c.sharding.experts), "class " + c.name + ": ");
  if (fused)
    for (std::vector<std::int32_t>& experts : out.placement.table)
      for (std::int32_t i = 0; i < c.shared_experts.count; ++i)
        experts.push_back(c.placement.num_experts + i);
  return out;
}

DeploymentSpec deployment_of(const LayoutSpec& layout, std::string name) {
  DeploymentSpec spec;
  spec.name = std::move(name);
  spec.grids.push_back({"ranks", layout.axes});
  LayerClassSpec c;
  c.grid = "ranks";
  c.sharding.tokens = layout.sharding.tokens;
  c.sharding.experts = layout.sharding.experts;
  c.sharding.intermediate = layout.sharding.intermediate;
  c.placement.num_experts = layout.placement.num_experts;
  c.placement.table = layout.placement.table;
  c.placement.rule = layout.placement.kind == PlacementKind::table         ? PlacementRule::table
                     : layout.placement.kind == PlacementKind::round_robin ? PlacementRule::round_robin
                                                                           : PlacementRule::linear;
  spec.classes.push_back(std::move(c));
  return spec;
}

Deployment make_deployment(const DeploymentSpec& spec) {
  check_names(spec);
  Deployment out;
  out.spec = spec;
  for (const GridSpec& grid : spec.grids) out.meshes.emplace_back(grid.axes);
  for (std::size_t g = 1; g < out.meshes.size(); ++g)
    if (out.meshes[g].num_ranks() != out.meshes[0].num_ranks())
      reject("grid " + spec.grids[g].name, size_text(spec, g, out.meshes),
             size_text(spec, 0, out.meshes) + "; all grids arrange the same ranks");
  out.num_ranks = out.meshes.front().num_ranks();
  if (out.spec.attention.grid.empty()) {
    if (!spec.attention.tokens.empty() || !spec.attention.heads.empty())
      reject("attention", "no grid", "name the grid whose axes cut its tokens or heads");
    out.spec.attention.grid = spec.classes.front().grid;
    out.spec.attention.tokens = spec.classes.front().sharding.tokens;
  }
  const Mesh& attention = out.mesh_of(out.spec.attention.grid);
  std::set<std::string> seen;
  take_axes(attention, "attention: tokens", out.spec.attention.tokens, seen);
  take_axes(attention, "attention: heads", out.spec.attention.heads, seen);
  out.home_parts = attention.extent(out.spec.attention.tokens);
  for (std::int32_t rank = 0; rank < out.num_ranks; ++rank)
    out.home.push_back(attention.index_along(out.spec.attention.tokens, rank));
  for (const LayerClassSpec& c : spec.classes) out.classes.push_back(resolve(out.spec, c));
  return out;
}

}  // namespace eplora
