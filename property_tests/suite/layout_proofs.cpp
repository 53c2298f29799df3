// SPDX-License-Identifier: Apache-2.0
#include "property_tests/suite/layout_proofs.h"

#include <algorithm>

#include "reference/check.h"
#include "reference/contract/deployments.h"
#include "reference/contract/weights.h"

namespace eplora::suite {
namespace {

using contract::Verdict;
using contract::Violation;

Violation broken(const char* property, std::string sentence, std::int64_t place = -1) {
  return {property, std::move(sentence), place, "", ""};
}

std::string place_words(const ResolvedTrial& trial, std::int32_t rank) {
  const Mesh& mesh = trial.plan.layer_class.layout.mesh;
  const std::vector<std::int32_t> at = mesh.coordinates(rank);
  std::string words = "rank " + std::to_string(rank);
  for (std::size_t a = 0; a < at.size(); ++a)
    words += (a == 0 ? " (" : ", ") + mesh.axes()[a].name + " " + std::to_string(at[a]);
  return at.empty() ? words : words + ")";
}

/// The groups of `axes` on the class's grid.
GroupSet groups_over(const ResolvedTrial& trial, std::vector<std::string> axes) {
  GroupSet set;
  set.groups = trial.deployment.mesh_of(trial.plan.spec().grid).groups(axes);
  set.axes = std::move(axes);
  return set;
}

struct Reduction {
  const char* name;
  GroupSet ClassPlan::*set;
  bool may_grow;  ///< an axis more counts something twice; a gather of the same rows only repeats them
};
constexpr Reduction kReductions[] = {{"the sum of expert outputs", &ClassPlan::routed_sum, true},
                                     {"the sum of the down delta", &ClassPlan::delta_sum, true},
                                     {"the sum of shared experts", &ClassPlan::shared_sum, true},
                                     {"the gather of tokens", &ClassPlan::token_gather, false},
                                     {"the gather of LoRA ranks", &ClassPlan::lora_rank_gather, false},
                                     {"the sum of the down shrink", &ClassPlan::shrink_sum, false}};

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Whether some batch tells the changed plan from the whole layer.
bool some_batch_differs(ResolvedTrial changed) {
  constexpr int kBatches = 6;
  for (int i = 0; i < kBatches; ++i) {
    changed.trial.seed += 2;
    if (differs_from_whole(changed)) return true;
  }
  return false;
}

/// Each axis of each sum or gather: without it the result is another; one axis more is another too.
Verdict unneeded_axis(const ResolvedTrial& trial) {
  ResolvedTrial base = trial;
  base.trial.sizes.sentinels = false;
  if (base.trial.sizes.tokens == 0) return std::nullopt;
  const LayerClassSpec& c = trial.plan.spec();
  for (const Reduction& reduction : kReductions) {
    const std::vector<std::string> axes = (trial.plan.*reduction.set).axes;
    const bool shared = reduction.set == &ClassPlan::shared_sum;
    if (shared && c.shared_experts.kind != SharedExpertsKind::replicated &&
        c.shared_experts.kind != SharedExpertsKind::sharded)
      continue;
    for (const Axis& axis : trial.deployment.mesh_of(c.grid).axes()) {
      if (axis.size == 1) continue;
      ResolvedTrial changed = base;
      std::vector<std::string> other = axes;
      const bool drop = has(axes, axis.name);
      if (drop) {
        std::erase(other, axis.name);
      } else {
        if (!reduction.may_grow || has(c.sharding.tokens, axis.name) || has(c.sharding.layers, axis.name))
          continue;
        other.push_back(axis.name);
      }
      changed.plan.*reduction.set = groups_over(trial, other);
      if (some_batch_differs(std::move(changed))) continue;
      return broken("P7", std::string(reduction.name) + (drop ? " without axis " : " with one axis more, ") +
                              axis.name +
                              ": expected another result, found the same one on every batch tried" +
                              (drop ? "; the axis is not needed" : "; nothing would be counted twice"));
    }
  }
  return std::nullopt;
}

Verdict judged(Proof proof, const ResolvedTrial& trial, const reference::LayerSteps& steps) {
  const DeploymentSpec& spec = trial.trial.spec;
  const DeployedSizes& sizes = trial.trial.sizes;
  switch (proof) {
    case Proof::groups:
      return contract::p9_grids(spec, trial.deployment);
    case Proof::places:
      return contract::p9_class(spec, trial.plan);
    case Proof::slices:
      return contract::p7_slices(spec, trial.plan);
    case Proof::homes:
      return contract::p7_homes(spec, trial.plan);
    case Proof::owners:
      return contract::p8_owners(spec, trial.plan);
    case Proof::replicas:
      return contract::p8_replicas(spec, trial.plan, std::min<std::int64_t>(sizes.tokens, 64), sizes.top_k);
    case Proof::reductions:
      return contract::p7_reductions(spec, trial.plan);
    case Proof::whole:
      return differs_from_whole(trial, steps);
    case Proof::necessity:
      return unneeded_axis(trial);
  }
  return std::nullopt;
}

}  // namespace

std::string_view to_string(Proof proof) {
  constexpr std::string_view kNames[] = {"groups",   "places",     "slices", "homes",    "owners",
                                         "replicas", "reductions", "whole",  "necessity"};
  return kNames[static_cast<std::size_t>(proof)];
}

std::string_view words_of(Proof proof) {
  constexpr std::string_view kWords[] = {
      "every rank stands in one group of each kind, at its coordinates' index",
      "a rank's own indices are its coordinates; sums and gathers go over the right axes",
      "columns, padding, hidden rows, LoRA ranks, shared columns, tokens and layers tile",
      "every pipeline stage holds every token, where attention leaves it",
      "experts stand where the rule says, replicas apart; dispatch and loading use one map",
      "every slot is served by one replica, the one the rule names",
      "in every sum each piece stands once: none missing, none twice",
      "sharded equals whole on every rank",
      "without any one axis of a sum, or with one more, the result is another"};
  return kWords[static_cast<std::size_t>(proof)];
}

std::string_view contract_of(Proof proof) {
  constexpr std::string_view kIds[] = {"P9", "P9", "P7", "P7", "P8", "P8", "P7", "P7", "P7"};
  return kIds[static_cast<std::size_t>(proof)];
}

ResolvedTrial resolve(const LayoutTrial& trial, const Spoil& spoil) {
  ResolvedTrial out{trial, make_deployment(trial.spec), ClassPlan()};
  out.plan =
      make_class_plan(out.deployment, out.deployment.class_named(trial.layer_class), trial.sizes.plan());
  if (spoil) spoil(out.deployment, out.plan);
  return out;
}

contract::Verdict prove(Proof proof, const ResolvedTrial& trial, const reference::LayerSteps& steps) {
  try {
    return judged(proof, trial, steps);
  } catch (const InvalidArgument& error) {
    return broken(contract_of(proof).data(), std::string("the plan cannot be run: ") + error.what());
  }
}

contract::Verdict differs_from_whole(const ResolvedTrial& trial, const reference::LayerSteps& steps) {
  const DeployedCase one = deployed_case(trial.plan.spec(), trial.trial.sizes, trial.trial.seed);
  const reference::Matrix<double> whole = reference::whole_layer<double>(one.problem);
  std::vector<reference::Matrix<double>> outputs;
  reference::ShardedLayerOptions options;
  options.block_size = 4;
  try {
    outputs = reference::deployed_moe_layer<double>(one.problem, trial.plan, options, steps);
  } catch (const std::exception& error) {
    return broken("P7", std::string("the ranks cannot run it: ") + error.what());
  }
  bool computed = false;
  for (std::int32_t rank = 0; rank < trial.plan.num_ranks(); ++rank) {
    const Range layers = trial.plan.ranks[rank].layers;
    if (trial.trial.sizes.layer < layers.begin || trial.trial.sizes.layer >= layers.end) continue;
    computed = true;
    Verdict bad = contract::p7_output(outputs[rank], whole, kWholeBound);
    if (bad) bad->sentence = "output on " + place_words(trial, rank) + ": " + bad->sentence;
    if (bad) return bad;
  }
  if (!computed)
    return broken("P7", "layer " + std::to_string(trial.trial.sizes.layer) +
                            " of the class: expected a pipeline stage that has it, found none");
  return std::nullopt;
}

DeployedSizes proof_sizes(const LayerClass& layer_class) {
  DeployedSizes sizes;
  sizes.tokens = 7;
  sizes.top_k = 2;
  sizes.hidden = 5;
  sizes.intermediate = 3;
  sizes.max_loras = 2;
  sizes.max_lora_rank = 2;
  sizes.num_layers = layer_class.stages + 1;
  return fitting_sizes(layer_class, sizes);
}

std::string describe(const LayoutTrial& trial) {
  std::string mesh;
  const Deployment deployment = make_deployment(trial.spec);
  const LayerClass& c = deployment.class_named(trial.layer_class);
  for (const Axis& axis : c.layout.mesh.axes())
    mesh += (mesh.empty() ? "" : " x ") + axis.name + " " + std::to_string(axis.size);
  const std::int32_t slots = c.spec.placement.redundant;
  const DeployedSizes& s = trial.sizes;
  std::string text = std::to_string(deployment.num_ranks) + (deployment.num_ranks == 1 ? " rank" : " ranks");
  if (!mesh.empty()) text += " (" + mesh + ")";
  text += ", E=" + std::to_string(c.spec.placement.num_experts);
  if (slots > 0) text += "+" + std::to_string(slots);
  for (const auto& [name, value] :
       {std::pair{"T", s.tokens}, std::pair{"K", s.top_k}, std::pair{"H", s.hidden},
        std::pair{"I", s.intermediate}, std::pair{"L", std::int64_t{s.max_loras}},
        std::pair{"R", s.max_lora_rank}})
    text += std::string(", ") + name + "=" + std::to_string(value);
  return text;
}

LayoutMutantOutcome run_layout_mutant(const LayoutMutant& mutant) {
  LayoutMutantOutcome outcome;
  const ResolvedTrial trial = resolve(mutant.start, mutant.spoil);
  for (const Proof proof : kProofs)
    if (proof != Proof::necessity && prove(proof, trial)) outcome.caught_by.push_back(proof);
  if (outcome.caught_by.empty()) return outcome;
  outcome.shown = outcome.caught_by.back() == Proof::whole ? Proof::whole : outcome.caught_by.front();
  outcome.smallest = smallest(outcome.shown, mutant.start, mutant.spoil);
  return outcome;
}

}  // namespace eplora::suite
