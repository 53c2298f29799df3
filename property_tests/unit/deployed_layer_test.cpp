// SPDX-License-Identifier: Apache-2.0
// The driver of deployed layers: whatever a deployment says, every rank ends up with the whole layer's
// output.
#include <gtest/gtest.h>

#include "property_tests/generators/deployed_cases.h"
#include "reference/check.h"
#include "reference/layout/presets.h"

namespace eplora {
namespace {

using reference::Matrix;
using suite::DeployedSizes;

/// Largest relative difference of any rank that has the layer; NaN wins.
double worst_difference(const std::vector<Matrix<double>>& ranks, const Matrix<double>& whole) {
  double worst = 0;
  for (const Matrix<double>& y : ranks) {
    if (y.rows() == 0 && whole.rows() != 0) continue;
    const double difference = (y - whole).norm();
    const double relative = difference == 0 ? 0 : difference / whole.norm();
    if (!(relative <= worst)) worst = relative;
  }
  return worst;
}

double worst_difference(const DeploymentSpec& spec, const DeployedSizes& wanted, std::uint64_t seed,
                        const reference::ShardedLayerOptions& options = {}) {
  const Deployment deployment = make_deployment(spec);
  double worst = 0;
  for (const LayerClass& c : deployment.classes) {
    DeployedSizes sizes = suite::fitting_sizes(c, wanted);
    for (sizes.layer = 0; sizes.layer < sizes.num_layers; ++sizes.layer) {
      const suite::DeployedCase one = suite::deployed_case(c.spec, sizes, seed);
      const ClassPlan plan = make_class_plan(deployment, c, sizes.plan());
      const double found = worst_difference(reference::deployed_moe_layer<double>(one.problem, plan, options),
                                            reference::whole_layer<double>(one.problem));
      if (!(found <= worst)) worst = found;
    }
  }
  return worst;
}

DeploymentSpec two_by_two() {
  DeploymentSpec spec;
  spec.name = "two by two";
  spec.grids = {{"moe", {{"ep", 2}, {"tp", 2}}}};
  LayerClassSpec c;
  c.grid = "moe";
  c.sharding.experts = {"ep"};
  c.sharding.intermediate = {"tp"};
  c.placement.num_experts = 5;
  spec.classes = {c};
  return spec;
}

TEST(DeployedLayer, EqualsTheWholeLayerOnEveryRankOfRandomDeployments) {
  for (std::uint64_t seed = 1; seed <= 600; ++seed) {
    DeployedSizes sizes;
    sizes.tokens = static_cast<std::int64_t>(seed % 9);
    sizes.top_k = 1 + static_cast<std::int64_t>(seed % 3);
    sizes.max_loras = static_cast<std::int32_t>(seed % 4);
    sizes.hidden = 1 + static_cast<std::int64_t>(seed % 6);
    sizes.num_layers = 1 + static_cast<std::int64_t>(seed % 2);
    sizes.intermediate = 1 + static_cast<std::int64_t>(seed % 5);
    reference::ShardedLayerOptions options;
    options.block_size = 1 + static_cast<std::int32_t>(seed % 5);
    options.sentinels = seed % 2 == 0 ? Sentinels::keep : Sentinels::drop;
    options.no_adapter = seed % 3 == 0 ? NoAdapter::base_slot : NoAdapter::sentinel;
    EXPECT_LE(worst_difference(suite::random_deployment(seed, 12), sizes, seed, options), 1e-13)
        << "seed " << seed;
  }
}

TEST(DeployedLayer, AgreesWithTheDriverOfPlainLayouts) {
  for (const SglangSizes& sglang : sglang_sizes_that_divide(4, 8)) {
    const LayoutSpec layout = sglang_layout(sglang, 5);
    const DeploymentSpec spec = deployment_of(layout, "sglang");
    const Deployment deployment = make_deployment(spec);
    const DeployedSizes sizes = suite::fitting_sizes(deployment.classes[0], {});
    const suite::DeployedCase one = suite::deployed_case(spec.classes[0], sizes, 2);
    const ClassPlan plan = make_class_plan(deployment, deployment.classes[0], sizes.plan());
    const Matrix<double> plain =
        reference::sharded_moe_layer<double>(one.problem.routed, make_layout(layout));
    EXPECT_LE(worst_difference(reference::deployed_moe_layer<double>(one.problem, plan), plain), 1e-13);
  }
}

TEST(DeployedLayer, FullyShardedLoraNeedsItsThreeExchanges) {
  DeploymentSpec spec = two_by_two();
  spec.classes[0].sharding.hidden = {"tp"};
  spec.classes[0].sharding.lora_rank = {"tp"};
  EXPECT_LE(worst_difference(spec, {}, 3), 1e-13);
  const Deployment deployment = make_deployment(spec);
  const DeployedSizes sizes = suite::fitting_sizes(deployment.classes[0], {});
  const suite::DeployedCase one = suite::deployed_case(spec.classes[0], sizes, 3);
  const Matrix<double> whole = reference::whole_layer<double>(one.problem);
  const auto alone = [](GroupSet& set) { set.groups = {{0}, {1}, {2}, {3}}; };
  const auto differs = [&](auto spoil) {
    ClassPlan plan = make_class_plan(deployment, deployment.classes[0], sizes.plan());
    spoil(plan);
    const double worst = worst_difference(reference::deployed_moe_layer<double>(one.problem, plan), whole);
    return !(worst <= 1e-3);
  };
  EXPECT_FALSE(differs([](ClassPlan&) {}));
  EXPECT_TRUE(differs([&](ClassPlan& plan) { alone(plan.lora_rank_gather); }));
  EXPECT_TRUE(differs([&](ClassPlan& plan) { alone(plan.shrink_sum); }));
  EXPECT_TRUE(differs([&](ClassPlan& plan) { alone(plan.delta_sum); }));
  EXPECT_TRUE(differs([&](ClassPlan& plan) { alone(plan.routed_sum); }));
  EXPECT_TRUE(differs([](ClassPlan& plan) {
    for (RankPlan& rank : plan.ranks) rank.hidden_offset = 0;
  }));
}

TEST(DeployedLayer, PaddingMustBeZeroAndThenChangesNothing) {
  DeploymentSpec spec = two_by_two();
  spec.classes[0].padding = {8, PaddingPlace::each_rank};
  EXPECT_LE(worst_difference(spec, {}, 4), 1e-13);
  spec.classes[0].padding.place = PaddingPlace::end;
  DeployedSizes wanted;
  wanted.intermediate = 11;
  EXPECT_LE(worst_difference(spec, wanted, 4), 1e-13);
  const Deployment deployment = make_deployment(spec);
  const DeployedSizes sizes = suite::fitting_sizes(deployment.classes[0], wanted);
  ClassPlan plan = make_class_plan(deployment, deployment.classes[0], sizes.plan());
  plan.padding_value = 1;
  const suite::DeployedCase one = suite::deployed_case(spec.classes[0], sizes, 4);
  EXPECT_GT(worst_difference(reference::deployed_moe_layer<double>(one.problem, plan),
                             reference::whole_layer<double>(one.problem)),
            1e-3);
}

TEST(DeployedLayer, CountsSharedExpertsOnceInAllThreeForms) {
  for (const SharedExpertsKind kind :
       {SharedExpertsKind::replicated, SharedExpertsKind::sharded, SharedExpertsKind::fused}) {
    DeploymentSpec spec = two_by_two();
    spec.classes[0].shared_experts = {kind, 2, 0, {}};
    if (kind == SharedExpertsKind::sharded) spec.classes[0].shared_experts.axes = {"tp"};
    EXPECT_LE(worst_difference(spec, {}, 5), 1e-13) << to_string(kind);
  }
}

TEST(DeployedLayer, RefusesAPlanThatDoesNotFitTheProblemByName) {
  const DeploymentSpec spec = two_by_two();
  const Deployment deployment = make_deployment(spec);
  const DeployedSizes sizes = suite::fitting_sizes(deployment.classes[0], {});
  const suite::DeployedCase one = suite::deployed_case(spec.classes[0], sizes, 6);
  const auto sentence = [&](auto spoil) -> std::string {
    ClassPlan plan = make_class_plan(deployment, deployment.classes[0], sizes.plan());
    spoil(plan);
    try {
      reference::deployed_moe_layer<double>(one.problem, plan);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(sentence([](ClassPlan&) {}), "accepted");
  EXPECT_NE(sentence([](ClassPlan& p) { p.sizes.intermediate = 3; }).find("intermediate (I)"),
            std::string::npos);
  EXPECT_NE(sentence([](ClassPlan& p) { p.loaded[1][0] = 5; }).find("local id 0"), std::string::npos);
  EXPECT_NE(sentence([](ClassPlan& p) { p.ranks[3].place.ep_rank = 2; }).find("ep_rank of rank 3"),
            std::string::npos);
  EXPECT_NE(sentence([](ClassPlan& p) { p.base_form = WeightForm::non_gated; }).find("weight form"),
            std::string::npos);
  EXPECT_NE(sentence([](ClassPlan& p) { p.routed_sum.groups.pop_back(); }).find("none holds rank"),
            std::string::npos);
}

}  // namespace
}  // namespace eplora
