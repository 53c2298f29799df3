// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/snake_rule.h"

namespace eplora {

DeploymentSpec SnakeRule::build(const PresetArguments& sizes, std::int32_t num_experts) const {
  const std::int32_t dp = sizes.size("dp"), ep = sizes.size("ep"), tp = sizes.size("tp");
  sizes.ranks({dp, ep, tp});
  LayerClassSpec c;
  c.grid = "ranks";
  c.sharding.tokens = {"dp"};
  c.sharding.experts = {"ep"};
  c.sharding.intermediate = {"tp"};
  c.placement.rule = PlacementRule::table;
  c.placement.num_experts = num_experts;
  c.placement.table.resize(ep);
  for (std::int32_t e = 0; e < num_experts; ++e) {
    const std::int32_t at = e % ep;
    c.placement.table[e / ep % 2 == 0 ? at : ep - 1 - at].push_back(e);
  }
  DeploymentSpec spec;
  spec.grids = {{"ranks", {{"dp", dp}, {"ep", ep}, {"tp", tp}}}};
  spec.classes = {std::move(c)};
  return spec;
}

}  // namespace eplora
