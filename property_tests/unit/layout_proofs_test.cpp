// SPDX-License-Identifier: Apache-2.0
// The proofs of layouts: they hold for every right deployment, and each shipped bug breaks one, with a small
// case.
#include <gtest/gtest.h>

#include <set>
#include <stdexcept>

#include "property_tests/suite/layout_proofs.h"
#include "reference/check.h"
#include "reference/routing/route.h"

namespace eplora::suite {
namespace {

LayoutTrial trial_of(const DeploymentSpec& spec, std::uint64_t seed) {
  const Deployment deployment = make_deployment(spec);
  LayoutTrial trial{spec, deployment.classes.front().spec.name, proof_sizes(deployment.classes.front()),
                    seed};
  trial.sizes.layer = static_cast<std::int64_t>(seed) % trial.sizes.num_layers;
  return trial;
}

/// A class of layers on one grid, in sizes that fit it.
LayoutTrial trial_on(std::vector<Axis> axes, LayerClassSpec c) {
  LayoutTrial trial;
  c.grid = "moe";
  trial.spec.grids = {{c.grid, std::move(axes)}};
  trial.spec.classes = {c};
  trial.layer_class = c.name;
  trial.sizes = proof_sizes(make_deployment(trial.spec).classes.front());
  return trial;
}

TEST(LayoutProofs, HoldForRandomDeployments) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    const ResolvedTrial trial = resolve(trial_of(random_deployment(seed, 12), seed));
    for (const Proof proof : kProofs) {
      if (proof == Proof::necessity && seed % 8 != 0) continue;  // many batches
      const contract::Verdict bad = prove(proof, trial);
      EXPECT_FALSE(bad) << "seed " << seed << ", " << to_string(proof) << ": " << bad->sentence;
    }
  }
}

TEST(LayoutProofs, HoldOnSixteenThousandRanks) {
  LayoutTrial trial;
  trial.spec.grids = {{"moe", {{"pp", 4}, {"dp", 8}, {"ep", 64}, {"tp", 8}}},
                      {"attention", {{"stage", 4}, {"adp", 128}, {"atp", 32}}}};
  trial.spec.attention = {"attention", {"adp"}, {"atp"}};
  LayerClassSpec c;
  c.grid = "moe";
  c.sharding = {{"dp"}, {"ep"}, {"tp"}, {"tp"}, {"tp"}, {"pp"}};
  c.placement.num_experts = 256;
  c.placement.rule = PlacementRule::redundant;
  c.placement.redundant = 64;
  trial.spec.classes = {c};
  trial.layer_class = c.name;
  trial.sizes =
      fitting_sizes(make_deployment(trial.spec).classes.front(), {4096, 8, 7168, 2048, 0, 2, 64, 60, 0});
  const ResolvedTrial resolved = resolve(trial);
  for (const Proof proof : kProofs) {
    if (!is_structural(proof)) continue;
    const contract::Verdict bad = prove(proof, resolved);
    EXPECT_FALSE(bad) << to_string(proof) << ": " << bad->sentence;
  }
  const DeploymentSpec few = shrunk_deployment(trial.spec, 16);
  EXPECT_LE(make_deployment(few).num_ranks, 16);
  EXPECT_EQ(shrunk_deployment(few, 16), few);
  EXPECT_FALSE(prove(Proof::whole, resolve(trial_of(few, 1))));
}

TEST(LayoutProofs, CatchEveryMutantWithASmallCase) {
  std::set<std::string> ids;
  for (const LayoutMutant& mutant : layout_mutant_list()) {
    EXPECT_TRUE(ids.insert(mutant.id).second) << mutant.id;
    for (const Proof proof : kProofs) {
      EXPECT_FALSE(prove(proof, resolve(mutant.start)))
          << mutant.id << " without its bug, " << to_string(proof);
    }
    const LayoutMutantOutcome outcome = run_layout_mutant(mutant);
    ASSERT_FALSE(outcome.caught_by.empty()) << mutant.id << " survived";
    const LayoutTrial& small = outcome.smallest.trial;
    EXPECT_LE(make_deployment(small.spec).num_ranks, 4) << mutant.id << ": " << describe(small);
    EXPECT_LE(small.spec.classes.front().placement.num_experts, 4) << mutant.id << ": " << describe(small);
    EXPECT_TRUE(prove(outcome.shown, resolve(small, mutant.spoil))) << mutant.id;
    EXPECT_FALSE(prove(outcome.shown, resolve(small))) << mutant.id << " is blamed for something else";
  }
  EXPECT_EQ(ids.size(), 30U);  // as docs/mutants.md says
}

TEST(LayoutProofs, FindTokensThatNoRankOfAStageHolds) {
  LayoutTrial trial;
  trial.spec.grids = {{"moe", {{"pp", 2}, {"ep", 2}}}, {"attention", {{"dp", 2}, {"tp", 2}}}};
  trial.spec.attention = {"attention", {"dp"}, {"tp"}};
  LayerClassSpec c;
  c.grid = "moe";
  c.sharding.experts = {"ep"};
  c.sharding.layers = {"pp"};
  c.placement.num_experts = 4;
  trial.spec.classes = {c};
  trial.layer_class = c.name;
  trial.sizes = proof_sizes(make_deployment(trial.spec).classes.front());
  const contract::Verdict bad = prove(Proof::homes, resolve(trial));
  ASSERT_TRUE(bad);
  EXPECT_NE(bad->sentence.find("pipeline stage"), std::string::npos) << bad->sentence;
  EXPECT_TRUE(prove(Proof::whole, resolve(trial)));
  const SmallestTrial small = smallest(Proof::homes, trial, {});
  EXPECT_EQ(make_deployment(small.trial.spec).num_ranks, 2);
}

TEST(LayoutProofs, SayThatAnAxisIsNotNeeded) {
  // A table that gives both EP ranks every expert: one replica serves all slots, the other none.
  LayoutTrial trial;
  trial.spec.grids = {{"moe", {{"ep", 2}}}};
  LayerClassSpec c;
  c.grid = "moe";
  c.sharding.experts = {"ep"};
  c.placement = {PlacementRule::table, 2, 0, {{0, 1}, {0, 1}}, ReplicaRule::first};
  trial.spec.classes = {c};
  trial.layer_class = c.name;
  trial.sizes = proof_sizes(make_deployment(trial.spec).classes.front());
  EXPECT_FALSE(prove(Proof::whole, resolve(trial)));
  EXPECT_FALSE(prove(Proof::necessity, resolve(trial)));  // rank 1 serves nothing and needs rank 0's sum
  // Claimed sums over nothing at all on a grid that cuts nothing: right, and an axis more is found.
  trial.spec.classes[0].sharding.experts = {};
  trial.spec.classes[0].placement = {PlacementRule::linear, 2, 0, {}, ReplicaRule::slot};
  EXPECT_FALSE(prove(Proof::necessity, resolve(trial)));
  const Spoil more = [](const Deployment&, ClassPlan& plan) { plan.delta_sum = {{"ep"}, {{0, 1}}}; };
  EXPECT_TRUE(prove(Proof::whole, resolve(trial, more)));
  EXPECT_TRUE(prove(Proof::reductions, resolve(trial, more)));
}

TEST(LayoutProofs, FindASumThatTheDescriptionNamesWrong) {
  LayerClassSpec c;
  c.sharding.experts = {"node", "ep"};
  c.sharding.intermediate = {"tp"};
  c.placement.num_experts = 8;
  const auto with_sum = [&](std::optional<std::vector<std::string>> axes) {
    c.sum_over = std::move(axes);
    return trial_on({{"node", 2}, {"ep", 2}, {"tp", 2}}, c);
  };
  for (const Proof proof : kProofs) {
    EXPECT_FALSE(prove(proof, resolve(with_sum(std::nullopt)))) << to_string(proof);
    EXPECT_FALSE(prove(proof, resolve(with_sum(std::vector<std::string>{"tp", "ep", "node"}))))
        << to_string(proof);
  }
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"ep", "tp"}, {"tp"}, {}}) {
    const LayoutTrial trial = with_sum(wrong);
    for (const Proof proof : {Proof::places, Proof::reductions, Proof::whole})
      EXPECT_TRUE(prove(proof, resolve(trial))) << to_string(proof);
    const SmallestTrial small = smallest(Proof::whole, trial, {});
    EXPECT_EQ(make_deployment(small.trial.spec).num_ranks, 2) << describe(small.trial);
    EXPECT_EQ(small.trial.spec.classes.front().sum_over, std::vector<std::string>{});
    EXPECT_TRUE(prove(Proof::whole, resolve(small.trial)));
  }
}

TEST(LayoutProofs, KeepTheAxisThatIsNotNeededInTheSmallestCase) {
  LayerClassSpec c;
  c.sharding.tokens = {"dp"};
  c.sharding.experts = {"ep"};
  c.sharding.intermediate = {"tp"};
  c.placement.num_experts = 4;
  c.sum_over = std::vector<std::string>{"dp", "ep", "tp"};
  const LayoutTrial trial = trial_on({{"dp", 4}, {"ep", 2}, {"tp", 2}}, c);
  EXPECT_TRUE(prove(Proof::reductions, resolve(trial)));
  const contract::Verdict bad = prove(Proof::necessity, resolve(trial));
  ASSERT_TRUE(bad);
  const std::string subject = "the sum of expert outputs without axis dp:";
  EXPECT_TRUE(bad->sentence.starts_with(subject)) << bad->sentence;
  const SmallestTrial small = smallest(Proof::necessity, trial, {});
  EXPECT_TRUE(small.violation.sentence.starts_with(subject)) << small.violation.sentence;
  EXPECT_EQ(make_deployment(small.trial.spec).num_ranks, 2) << describe(small.trial);
}

TEST(LayoutProofs, MakeACaseSmallerByTheStepsThatBreakIt) {
  LayerClassSpec c;
  c.sharding.experts = {"ep"};
  c.placement.num_experts = 12;
  const LayoutTrial trial = trial_on({{"ep", 4}, {"copies", 2}}, c);
  reference::LayerSteps steps;
  steps.route = [](const RouteProblem& problem) -> RouteResult {
    if (problem.num_local_experts > 1) throw std::runtime_error("one expert a rank is all there is");
    return reference::route(problem);
  };
  EXPECT_FALSE(prove(Proof::whole, resolve(trial)));
  ASSERT_TRUE(prove(Proof::whole, resolve(trial), steps));
  const SmallestTrial small = smallest(Proof::whole, trial, {}, steps);
  EXPECT_EQ(small.trial.spec.classes.front().placement.num_experts, 2) << describe(small.trial);
  EXPECT_EQ(make_deployment(small.trial.spec).num_ranks, 1) << describe(small.trial);
  EXPECT_NE(small.violation.sentence.find("one expert a rank"), std::string::npos);
}

TEST(LayoutProofs, RefuseToShrinkWhatHolds) {
  EXPECT_THROW(smallest(Proof::whole, trial_of(random_deployment(1, 4), 1), {}), InvalidArgument);
}

}  // namespace
}  // namespace eplora::suite
