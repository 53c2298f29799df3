// SPDX-License-Identifier: Apache-2.0
// The judges of deployments: each holds for a right plan, and notices each single field that is wrong, in a
// sentence that names the place, the expected and the found value.
#include <gtest/gtest.h>

#include <functional>

#include "property_tests/generators/deployed_cases.h"
#include "reference/check.h"
#include "reference/contract/deployments.h"

namespace eplora::contract {
namespace {

/// pp 2 x dp 2 x ep 2 x tp 2, fully sharded, padded, with replicas and sharded shared experts; attention on a
/// grid of its own.
DeploymentSpec rich() {
  DeploymentSpec spec;
  spec.name = "rich";
  spec.grids = {{"moe", {{"pp", 2}, {"dp", 2}, {"ep", 2}, {"tp", 2}}},
                {"attention", {{"stage", 2}, {"adp", 4}, {"atp", 2}}}};
  spec.attention = {"attention", {"adp"}, {"atp"}};
  LayerClassSpec c;
  c.grid = "moe";
  c.sharding = {{"dp"}, {"ep"}, {"tp"}, {"tp"}, {"tp"}, {"pp"}};
  c.placement.rule = PlacementRule::redundant;
  c.placement.num_experts = 3;
  c.placement.redundant = 1;
  c.placement.replicas = ReplicaRule::token;
  c.padding.multiple = 4;
  c.shared_experts = {SharedExpertsKind::sharded, 1, 0, {"tp"}};
  spec.classes = {c};
  return spec;
}

struct Right {
  DeploymentSpec spec = rich();
  Deployment deployment = make_deployment(spec);
  ClassPlan plan = make_class_plan(deployment, deployment.classes.front(), {8, 6, 6, 4, 2, 3});
};

using Judge = std::function<Verdict(const Right&)>;
const Judge kGrids = [](const Right& r) { return p9_grids(r.spec, r.deployment); };
const Judge kClass = [](const Right& r) { return p9_class(r.spec, r.plan); };
const Judge kSlices = [](const Right& r) { return p7_slices(r.spec, r.plan); };
const Judge kHomes = [](const Right& r) { return p7_homes(r.spec, r.plan); };
const Judge kOwners = [](const Right& r) { return p8_owners(r.spec, r.plan); };
const Judge kReplicas = [](const Right& r) { return p8_replicas(r.spec, r.plan, 8, 2); };
const Judge kReductions = [](const Right& r) { return p7_reductions(r.spec, r.plan); };

TEST(DeploymentJudges, HoldForARightPlan) {
  for (const Judge& judge : {kGrids, kClass, kSlices, kHomes, kOwners, kReplicas, kReductions}) {
    const Verdict bad = judge(Right{});
    EXPECT_FALSE(bad) << bad->sentence;
  }
}

struct Wrong {
  const char* name;
  const Judge& judge;
  const char* mentions;
  std::function<void(Right&)> spoil;
};

TEST(DeploymentJudges, NoticeEveryFieldThatIsWrong) {
  const Wrong cases[] = {
      {"home index", kGrids, "attention's token axes",
       [](Right& r) { std::swap(r.deployment.home[0], r.deployment.home[2]); }},
      {"hidden index", kGrids, "the hidden axes",
       [](Right& r) { r.deployment.classes[0].hidden_index[3] = 0; }},
      {"lora index", kGrids, "the lora_rank axes",
       [](Right& r) { r.deployment.classes[0].lora_rank_index[3] = 0; }},
      {"stage", kGrids, "the layers axes", [](Right& r) { r.deployment.classes[0].stage[15] = 0; }},
      {"shared index", kGrids, "the shared experts'",
       [](Right& r) { r.deployment.classes[0].shared_index.pop_back(); }},
      {"mesh", kGrids, "axes of grid moe",
       [](Right& r) {
         r.deployment.meshes[0] = Mesh({{"x", 16}});
       }},
      {"rank", kClass, "its rank", [](Right& r) { r.plan.ranks[3].place.rank = 4; }},
      {"num_ranks", kClass, "its num_ranks", [](Right& r) { r.plan.ranks[3].place.num_ranks = 4; }},
      {"ep", kClass, "its ep:", [](Right& r) { r.plan.ranks[3].place.ep = 3; }},
      {"ep_rank", kClass, "its ep_rank", [](Right& r) { r.plan.ranks[3].place.ep_rank = 0; }},
      {"moe_tp", kClass, "its moe_tp:", [](Right& r) { r.plan.ranks[3].place.moe_tp = 4; }},
      {"moe_tp_rank", kClass, "its moe_tp_rank", [](Right& r) { r.plan.ranks[3].place.moe_tp_rank = 0; }},
      {"token_shards", kClass, "its token_shards", [](Right& r) { r.plan.ranks[3].place.token_shards = 1; }},
      {"token_shard", kClass, "its token_shard:", [](Right& r) { r.plan.ranks[3].place.token_shard = 1; }},
      {"ranks", kClass, "number of ranks", [](Right& r) { r.plan.ranks.pop_back(); }},
      {"axes", kClass, "axes of the sum of expert outputs",
       [](Right& r) { r.plan.routed_sum.axes = {"ep"}; }},
      {"members", kClass, "the sum of expert outputs",
       [](Right& r) { std::swap(r.plan.routed_sum.groups[0][0], r.plan.routed_sum.groups[1][0]); }},
      {"index", kClass, "its index in",
       [](Right& r) { std::swap(r.plan.delta_sum.groups[0][0], r.plan.delta_sum.groups[0][1]); }},
      {"shared", kClass, "shared experts", [](Right& r) { r.plan.shared_sum = r.plan.routed_sum; }},
      {"gather", kClass, "gather of tokens", [](Right& r) { r.plan.token_gather.groups.pop_back(); }},
      {"rank gather", kClass, "gather of LoRA ranks", [](Right& r) { r.plan.lora_rank_gather = {}; }},
      {"shrink", kClass, "sum of the down shrink", [](Right& r) { r.plan.shrink_sum = {}; }},
      {"columns", kSlices, "its columns",
       [](Right& r) {
         r.plan.ranks[5].columns.real = {0, 3};
       }},
      {"padding", kSlices, "padding columns: expected 1, found 0",
       [](Right& r) { r.plan.ranks[5].columns.padding = 0; }},
      {"padding value", kSlices, "what stands in padding", [](Right& r) { r.plan.padding_value = 1; }},
      {"hidden", kSlices, "rows of down B",
       [](Right& r) {
         r.plan.ranks[5].hidden = {0, 6};
       }},
      {"offset", kSlices, "are written", [](Right& r) { r.plan.ranks[5].hidden_offset = 0; }},
      {"rank rows", kSlices, "rows of gate_up A",
       [](Right& r) {
         r.plan.ranks[5].lora_rank = {0, 2};
       }},
      {"tokens", kSlices, "its tokens",
       [](Right& r) {
         r.plan.ranks[5].tokens = {0, 8};
       }},
      {"layers", kSlices, "its layers",
       [](Right& r) {
         r.plan.ranks[5].layers = {0, 3};
       }},
      {"shared columns", kSlices, "columns of a shared expert",
       [](Right& r) {
         r.plan.ranks[5].shared_columns = {0, 4};
       }},
      {"base form", kSlices, "weight form", [](Right& r) { r.plan.base_form = WeightForm::up_first; }},
      {"lora form", kSlices, "gate_up B's form",
       [](Right& r) { r.plan.lora_form = WeightForm::interleaved; }},
      {"home", kHomes, "tokens that stand on it",
       [](Right& r) {
         r.plan.ranks[5].home = {0, 2};
       }},
      {"loaded", kOwners, "experts of EP rank 1",
       [](Right& r) { std::swap(r.plan.loaded[1][0], r.plan.loaded[1][1]); }},
      {"twice", kOwners, "distinct ranks",
       [](Right& r) {
         r.plan.loaded[0] = {0, 0};
       }},
      {"unknown", kOwners, "one of [0, 3)", [](Right& r) { r.plan.loaded[1][1] = 3; }},
      {"nowhere", kOwners, "at least 1",
       [](Right& r) {
         r.plan.loaded[1] = {0, 1};
       }},
      {"tables", kOwners, "number of dispatch tables", [](Right& r) { r.plan.dispatch.pop_back(); }},
      {"entry", kOwners, "where it sends expert", [](Right& r) { r.plan.dispatch[0].local_ids[0] = 1; }},
      {"foreign", kOwners, "nowhere", [](Right& r) { r.plan.dispatch[0].local_ids[1] = 0; }},
      {"offsets", kOwners, "its offsets", [](Right& r) { r.plan.dispatch[0].offsets.clear(); }},
      {"rule", kReplicas, "under the rule token",
       [](Right& r) { r.plan.layer_class.spec.placement.replicas = ReplicaRule::slot; }},
      {"too small", kReductions, "the sum is too small",
       [](Right& r) { r.plan.routed_sum.groups = r.deployment.meshes[0].groups({"ep"}); }},
      {"twice in the sum", kReductions, "counted twice",
       [](Right& r) {
         r.plan.ranks[0].columns.real = {0, 6};
       }},
      {"other tokens", kReductions, "tokens of rank",
       [](Right& r) {
         r.plan.routed_sum.groups = r.deployment.meshes[0].groups({"dp", "ep", "tp"});
       }},
      {"delta twice", kReductions, "counted twice",
       [](Right& r) {
         r.plan.ranks[1].hidden_offset = 0;
         r.plan.ranks[1].hidden = {0, 3};
       }},
      {"shrink alone", kReductions, "sum of the down delta",
       [](Right& r) { r.plan.shrink_sum.groups = r.deployment.meshes[0].groups({}); }},
      {"shared twice", kReductions, "sum of shared experts",
       [](Right& r) { r.plan.shared_sum = r.plan.routed_sum; }},
      {"ungathered", kReductions, "gather of tokens",
       [](Right& r) { r.plan.token_gather.groups = r.deployment.meshes[0].groups({}); }},
      {"unranked", kReductions, "gather of LoRA ranks",
       [](Right& r) { r.plan.lora_rank_gather.groups = r.deployment.meshes[0].groups({}); }},
      {"rank in no group", kReductions, "expected one, found none",
       [](Right& r) { r.plan.routed_sum.groups.pop_back(); }},
      {"no such rank", kReductions, "no such rank", [](Right& r) { r.plan.routed_sum.groups[0][0] = 16; }},
  };
  for (const Wrong& wrong : cases) {
    Right right;
    wrong.spoil(right);
    const Verdict bad = wrong.judge(right);
    ASSERT_TRUE(bad) << wrong.name << " was not noticed";
    EXPECT_NE(bad->sentence.find(wrong.mentions), std::string::npos) << wrong.name << ": " << bad->sentence;
  }
}

TEST(DeploymentJudges, SayWhichTokensNoRankOfAStageHolds) {
  Right right;
  right.spec.grids[1].axes = {{"adp", 4}, {"atp", 4}};  // stage 0 holds parts 0 and 1 alone
  right.deployment = make_deployment(right.spec);
  right.plan = make_class_plan(right.deployment, right.deployment.classes.front(), right.plan.sizes);
  const Verdict bad = p7_homes(right.spec, right.plan);
  ASSERT_TRUE(bad);
  EXPECT_NE(bad->sentence.find("token shard 2 of attention on pipeline stage 0"), std::string::npos)
      << bad->sentence;
}

TEST(DeploymentJudges, RefuseAClassThatTheDescriptionLacks) {
  Right right;
  right.plan.layer_class.spec.name = "other";
  EXPECT_THROW(p9_class(right.spec, right.plan), InvalidArgument);
}

}  // namespace
}  // namespace eplora::contract
