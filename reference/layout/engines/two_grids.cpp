// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/engines/engine_presets.h"

namespace eplora::engines {

DeploymentSpec two_grids(std::vector<Axis> attention, Names tokens, Names heads, std::vector<Axis> moe,
                         ClassSharding sharding, std::int32_t num_experts) {
  DeploymentSpec spec;
  spec.grids = {{"attention", std::move(attention)}, {"moe", std::move(moe)}};
  spec.attention = {"attention", std::move(tokens), std::move(heads)};
  LayerClassSpec c;
  c.grid = "moe";
  c.sharding = std::move(sharding);
  c.placement.num_experts = num_experts;
  spec.classes = {std::move(c)};
  return spec;
}

void add_redundant(const PresetArguments& a, DeploymentSpec& spec, std::int32_t ep, ReplicaRule replicas) {
  ExpertPlacementSpec& place = spec.classes.front().placement;
  place.redundant = a.size("redundant", 0, 0);
  a.require_divides("num_experts + redundant", std::int64_t{place.num_experts} + place.redundant, "ep", ep);
  if (place.redundant == 0) return;
  place.rule = PlacementRule::redundant;
  place.replicas = replicas;
}

}  // namespace eplora::engines
