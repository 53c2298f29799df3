// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/eplb_deployment.h"

#include <numeric>
#include <string>

#include "reference/check.h"

namespace eplora {

EplbSizes EplbDeployment::balance(std::int32_t num_experts) const {
  require_in_range("tp", tp, 1, kMostPresetRanks);
  require_in_range("ranks", ranks, 1, kMostPresetRanks);
  require_in_range("redundant", redundant, 0, kMaxIndex - num_experts);
  if (ranks % tp != 0)
    reject("ranks", std::to_string(ranks), "it must be divisible by tp = " + std::to_string(tp));
  return {ranks / tp, nodes, groups, num_experts + redundant, distinct};
}

ReplicaRule replica_rule(std::string_view word) {
  for (const ReplicaRule rule :
       {ReplicaRule::slot, ReplicaRule::token, ReplicaRule::source, ReplicaRule::first})
    if (word == to_string(rule)) return rule;
  reject("replicas", "'" + std::string(word) + "'", "it must be token, slot, source or first");
}

DeploymentSpec eplb_deployment(const EplbDeployment& sizes, const LoadRows& load,
                               const std::vector<std::int32_t>& layers) {
  if (load.empty()) reject("load", "without a row", "it must have one for all layers, or one a layer");
  if (load.size() > 1 && load.size() != layers.size())
    reject(
        "rows of the load", std::to_string(load.size()),
        "there must be 1, or one for each of the " + std::to_string(layers.size()) + " layers with experts");
  const auto E = static_cast<std::int32_t>(load.front().size());
  const EplbSizes balance = sizes.balance(E);
  DeploymentSpec spec;
  for (std::size_t row = 0; row < load.size(); ++row) {
    LayerClassSpec c;
    if (load.size() > 1) {
      c.name = "layer " + std::to_string(layers[row]);
      c.layers = {layers[row]};
    }
    c.grid = "moe";
    c.sharding.experts = {"node", "gpu"};
    c.sharding.intermediate = {"moe_tp"};
    c.placement.rule = PlacementRule::table;
    c.placement.num_experts = E;
    c.placement.replicas = sizes.replicas;
    c.placement.table = balance_experts(load[row], balance).experts_of_rank;
    spec.classes.push_back(std::move(c));
  }
  spec.grids = {{"attention", {{"attn_dp", balance.ranks}, {"attn_tp", sizes.tp}}},
                {"moe", {{"node", sizes.nodes}, {"gpu", balance.ranks / sizes.nodes}, {"moe_tp", sizes.tp}}}};
  spec.attention = {"attention", {"attn_dp"}, {"attn_tp"}};
  return spec;
}

DeploymentSpec eplb_preset(const PresetArguments& a, const PresetInput& input) {
  EplbDeployment sizes;
  sizes.ranks = a.size("ranks");
  sizes.tp = a.size("tp");
  sizes.nodes = a.size("nodes");
  sizes.groups = a.size("groups");
  sizes.redundant = a.size("redundant", 0, 0);
  sizes.distinct = !a.flag("duplicates");
  sizes.replicas = replica_rule(a.one_of("replicas", {"token", "slot", "source", "first"}));
  if (!a.has("load")) a.refuse("load", "missing", "write load=FILE, or load=zipf:1.2 for a made-up one");
  if (!input.read_load) a.refuse("load", "'" + a.word("load", "") + "'", "no file can be read here");
  const LoadRows load = input.read_load(a.word("load", ""), input.num_experts);
  for (const std::vector<std::int64_t>& row : load)
    if (static_cast<std::int64_t>(row.size()) != input.num_experts)
      a.refuse("load", "of " + std::to_string(row.size()) + " experts",
               "the model has " + std::to_string(input.num_experts));
  if (load.size() == 1 && a.has("first_layer"))
    a.refuse("first_layer", a.word("first_layer", ""), "it goes with a load of several rows, one a layer");
  std::vector<std::int32_t> layers(load.size());
  std::iota(layers.begin(), layers.end(), a.size("first_layer", 0, 0));
  return eplb_deployment(sizes, load, layers);
}

}  // namespace eplora
