// SPDX-License-Identifier: Apache-2.0
// The judges' own tests, P7 (geometry), P8 and P9: layouts, placements and groups that are wrong in the way
// of real bugs are refused with the rank or expert; the reference's are accepted for random meshes.
#include "reference/contract/layouts.h"

#include <limits>

#include "property_tests/unit/contract_expect.h"
#include "reference/contract/weights.h"
#include "reference/layout/presets.h"

namespace eplora::contract {
namespace {

constexpr std::int32_t kMin = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();

/// tp=4, ep=2: ranks 0..3 stand at MoE-TP 0,1,0,1. Five experts: 0..2 and 3..4.
struct LayoutJudge : testing::Test {
  LayoutSpec spec = sglang_layout({4, 2, 1}, 5);
  Layout layout = make_layout(spec);
};

TEST_F(LayoutJudge, AcceptsTheReference) {
  expect_accepted(p7_shards(spec, layout, 8, 7));
  expect_accepted(p8_cover(spec, layout));
  expect_accepted(p9_places(spec, layout));
  expect_accepted(p9_groups(spec, {"moe_tp"}, {{0, 1}, {2, 3}}));
  expect_accepted(p9_groups(spec, {"moe_ep"}, {{0, 2}, {1, 3}}));
}

TEST_F(LayoutJudge, P7RefusesColumnsBySlicingWithTheOuterRank) {
  for (RankPlace& place : layout.places) place.moe_tp_rank = place.rank;
  expect_violation(p7_shards(spec, layout, 8, 7), "P7", 2, "[0, 4)", "[8, 12)",
                   "rank 2 (moe_dp 0, moe_ep 1, moe_tp 0)");
  expect_violation(p9_places(spec, layout), "P9", 2, "0", "2", "moe_tp_rank");
}
TEST_F(LayoutJudge, P7RefusesGapsOverlapsAndAFoldedSize) {
  layout.places[1].moe_tp_rank = 0;
  expect_violation(p7_shards(spec, layout, 8, 7), "P7", 1, "[4, 8)", "[0, 4)");
  layout = make_layout(spec);
  for (RankPlace& place : layout.places) place.moe_tp = 4;  // tp where moe_tp is meant
  expect_violation(p7_shards(spec, layout, 8, 7), "P7", 0, "[0, 4)", "[0, 2)");
  layout.places[0].moe_tp = 0;
  expect_violation(p7_shards(spec, layout, 8, 7), "P7", 0, "[0, 4)", "an error: moe_tp is 0");
}
TEST_F(LayoutJudge, P7WantsAnErrorWhereColumnsDoNotDivide) {
  expect_accepted(p7_shards(spec, layout, 7, 7));
  for (RankPlace& place : layout.places) place.moe_tp = 1, place.moe_tp_rank = 0;
  expect_violation(p7_shards(spec, layout, 7, 7), "P7", 0, "an error that names I and P", "[0, 7)");
}
TEST_F(LayoutJudge, P7RefusesWrongTokenRows) {
  spec = sglang_layout({4, 1, 4}, 5);
  layout = make_layout(spec);
  expect_accepted(p7_shards(spec, layout, 8, 6));  // 2, 2, 1, 1 rows
  layout.places[3].token_shard = 2;
  expect_violation(p7_shards(spec, layout, 8, 6), "P7", 3, "[5, 6)", "[4, 5)", "T=6 as token shard 3 of 4");
  layout.places[0].token_shards = 0;
  expect_violation(p7_shards(spec, layout, 8, 6), "P7", 0, "[0, 2)", "token_shards=0");
  layout.places[0].token_shards = kMin;
  expect_violation(p7_shards(spec, layout, 8, 6), "P7", 0, "[0, 2)", "token_shards=");
}
TEST_F(LayoutJudge, P7RefusesARankWithoutExpertsUnlessTheyAreFewOrATableSaysSo) {
  layout.placement = Placement::table(5, {{0, 1, 2, 3, 4}, {}});
  expect_violation(p7_shards(spec, layout, 8, 7), "P7", 2, "at least 1", "0", "E=5, ep=2");
  spec.placement = {PlacementKind::table, 5, {{0, 1, 2, 3, 4}, {}}};
  expect_accepted(p7_shards(spec, layout, 8, 7));
  const LayoutSpec few = sglang_layout({4, 4, 1}, 3);
  expect_accepted(p7_shards(few, make_layout(few), 8, 7));
}
TEST_F(LayoutJudge, P7AsksAnEmptyRankForExactlyNothing) {
  const LayoutSpec few = sglang_layout({4, 4, 1}, 3);
  layout = make_layout(few);
  reference::Matrix<double> part = reference::Matrix<double>::Zero(2, 3);
  expect_accepted(p7_empty_rank(layout, 3, part));
  part(1, 2) = 1e-30;
  expect_violation(p7_empty_rank(layout, 3, part), "P7", 5, "0", "1e-30", "rank 3 owns no expert");
  part(1, 2) = std::numeric_limits<double>::quiet_NaN();
  expect_violation(p7_empty_rank(layout, 3, part), "P7", 5, "0", "nan");
  expect_accepted(p7_empty_rank(layout, 0, part));  // it owns one
  expect_violation(p7_empty_rank(layout, 4, part), "P7", 4, "one of the layout's 4", "4");
}

TEST_F(LayoutJudge, P8RefusesAnotherRuleOfOwnership) {
  layout.placement = Placement::round_robin(5, 2);
  expect_violation(p8_cover(spec, layout), "P8", 0, "[0, 1, 2]", "[0, 2, 4]", "experts of EP rank 0");
  layout.placement = Placement::table(5, {{0, 1}, {2, 3, 4}});  // the remainder to the last rank
  expect_violation(p8_cover(spec, layout), "P8", 0, "[0, 1, 2]", "[0, 1]");
  layout.placement = Placement::table(5, {{0, 1, 2}, {4, 3}});
  expect_violation(p8_cover(spec, layout), "P8", 1, "[3, 4]", "[4, 3]");
}
TEST_F(LayoutJudge, P8RefusesAnExpertOwnedTwice) {
  layout.placement = Placement::table(5, {{0, 1, 2}, {3, 4, 2}});
  expect_violation(p8_cover(spec, layout), "P8", 2, "1", "2",
                   "expert 2 among the ranks that differ from rank 0");
}
TEST_F(LayoutJudge, P8RefusesAnEpRankThatIsNoIndexInTheGroup) {
  layout.places[2].ep_rank = 0;  // ranks 0 and 2 both hold rank 0's experts
  expect_violation(p8_cover(spec, layout), "P8", 0, "1", "2", "expert 0");
  layout.places[2].ep_rank = 2;  // the world's rank
  expect_violation(p8_cover(spec, layout), "P8", 2, "2 rows", "2", "ep_rank");
  layout.places[2].ep_rank = kMin;
  expect_violation(p8_cover(spec, layout), "P8", 2, "2 rows", std::to_string(kMin));
}
TEST_F(LayoutJudge, P8RefusesAPlacementOfAnotherModel) {
  layout.placement = Placement::linear(6, 2);
  expect_violation(p8_cover(spec, layout), "P8", 2, "in [0, 5)", "5");
  layout.placement = Placement::linear(4, 2);
  expect_violation(p8_cover(spec, layout), "P8", 4, "1", "0", "expert 4");
  layout.placement = Placement::linear(5, 3);
  expect_violation(p8_cover(spec, layout), "P8", 4, "1", "0", "expert 4");
  layout.places.pop_back();
  expect_violation(p8_cover(spec, layout), "P8", -1, "4", "3", "number of places");
}
TEST_F(LayoutJudge, P8TakesReplicasFromTheTable) {
  spec.placement = {PlacementKind::table, 3, {{0, 1}, {2, 0}}};
  layout = make_layout(spec);
  expect_accepted(p8_cover(spec, layout));
  layout.placement = Placement::table(3, {{0, 1}, {2, 1}});
  expect_violation(p8_cover(spec, layout), "P8", 0, "2", "1", "expert 0");
  layout.placement = Placement::table(3, {{0, 0}, {2, 1}});  // both replicas on one rank
  expect_violation(p8_cover(spec, layout), "P8", 0, "[0, 1]", "[0, 0]");
}

TEST_F(LayoutJudge, P9RefusesGroupsWithADuplicatedMember) {
  expect_violation(p9_groups(spec, {"moe_tp"}, {{0, 1}, {2, 1}}), "P9", 1, "one", "group 0 and group 1",
                   "rank 1");
  expect_violation(p9_groups(spec, {"moe_tp"}, {{0, 0}, {2, 3}}), "P9", 0, "one", "group 0 and group 0");
}
TEST_F(LayoutJudge, P9RefusesAWrongIndexInTheGroup) {
  expect_violation(p9_groups(spec, {"moe_tp"}, {{0, 1}, {3, 2}}), "P9", 3, "1", "0", "its index in group 1");
}
TEST_F(LayoutJudge, P9RefusesMembersThatDifferElsewhere) {
  expect_violation(p9_groups(spec, {"moe_tp"}, {{0, 3}, {2, 1}}), "P9", 3, "those of rank 0", "others",
                   "rank 3");
}
TEST_F(LayoutJudge, P9RefusesGroupsOfAnotherSizeOrNumber) {
  expect_violation(p9_groups(spec, {"moe_tp"}, {{0, 1, 2, 3}}), "P9", -1, "2", "1", "{moe_tp}");
  expect_violation(p9_groups(spec, {"moe_tp"}, {{0, 1, 2}, {3}}), "P9", 0, "2", "3");
  expect_violation(p9_groups(spec, {"moe_tp"}, {{0, 1}, {}}), "P9", -1, "2", "0");
  expect_violation(p9_groups(spec, {"moe_tp", "moe_ep"}, {}), "P9", -1, "1", "0");
}
TEST_F(LayoutJudge, P9RefusesRanksThatDoNotExist) {
  for (const std::int32_t rank : {-1, 4, kMin, kMax})
    expect_violation(p9_groups(spec, {"moe_tp"}, {{0, 1}, {2, rank}}), "P9", rank, "a rank in [0, 4)",
                     std::to_string(rank));
}
TEST_F(LayoutJudge, P9RefusesEveryWrongPlace) {
  std::int32_t RankPlace::*const fields[] = {
      &RankPlace::rank,        &RankPlace::num_ranks, &RankPlace::ep_rank,     &RankPlace::ep,
      &RankPlace::moe_tp_rank, &RankPlace::moe_tp,    &RankPlace::token_shard, &RankPlace::token_shards};
  for (const auto field : fields) {
    layout = make_layout(spec);
    const std::int32_t right = layout.places[3].*field;
    layout.places[3].*field = right + 1;
    expect_violation(p9_places(spec, layout), "P9", 3, std::to_string(right), std::to_string(right + 1),
                     "rank 3 (moe_dp 0, moe_ep 1, moe_tp 1)");
  }
  layout.places.clear();
  expect_violation(p9_places(spec, layout), "P9", -1, "4", "0");
}

LayoutSpec random_layout(Random& random) {
  LayoutSpec spec;
  std::int64_t ranks = 1;
  std::vector<std::string>* const cuts[] = {&spec.sharding.tokens, &spec.sharding.experts,
                                            &spec.sharding.intermediate};
  for (char name = 'a'; name < 'a' + random.in(0, 5); ++name) {
    const std::int64_t size = random.in(1, 4);
    if (ranks * size > 64) break;
    ranks *= size;
    spec.axes.push_back({std::string(1, name), static_cast<std::int32_t>(size)});
    if (!random.one_in(4)) cuts[random.in(0, 2)]->push_back(spec.axes.back().name);  // else replicated
  }
  spec.placement.num_experts = static_cast<std::int32_t>(random.in(0, 40));
  spec.placement.kind = random.one_in(2) ? PlacementKind::linear : PlacementKind::round_robin;
  if (random.one_in(3)) {
    spec.placement.kind = PlacementKind::table;
    spec.placement.table.resize(Mesh(spec.axes).extent(spec.sharding.experts));
    for (std::int32_t e = 0; e < spec.placement.num_experts; ++e)
      for (std::int64_t copy = random.in(1, 2); copy > 0; --copy)
        spec.placement.table[random.in(0, static_cast<std::int64_t>(spec.placement.table.size()) - 1)]
            .push_back(e);
  }
  return spec;
}

TEST(RandomLayouts, TheReferenceIsAcceptedAndOneWrongPlaceIsNot) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed);
    const LayoutSpec spec = random_layout(random);
    const std::int64_t intermediate = random.in(1, 6) * Mesh(spec.axes).extent(spec.sharding.intermediate);
    const std::int64_t num_tokens = random.in(0, 30);
    Layout layout = make_layout(spec);
    for (const Verdict& verdict :
         {p7_shards(spec, layout, intermediate, num_tokens), p8_cover(spec, layout), p9_places(spec, layout),
          p7_shards(spec, layout, intermediate + 1, num_tokens)})
      ASSERT_FALSE(verdict) << "seed " << seed << ": " << verdict->sentence;
    for (const auto* axes : {&spec.sharding.tokens, &spec.sharding.experts, &spec.sharding.intermediate}) {
      auto groups = layout.mesh.groups(*axes);
      const Verdict verdict = p9_groups(spec, *axes, groups);
      ASSERT_FALSE(verdict) << "seed " << seed << ": " << verdict->sentence;
      auto& member = groups[random.in(0, static_cast<std::int64_t>(groups.size()) - 1)];
      member[random.in(0, static_cast<std::int64_t>(member.size()) - 1)] +=
          static_cast<std::int32_t>(random.in(1, 9));
      ASSERT_TRUE(p9_groups(spec, *axes, groups)) << "seed " << seed;
    }
    // Garbage places: whatever the judges say, they say it.
    RankPlace& place = layout.places[random.in(0, layout.mesh.num_ranks() - 1)];
    std::int32_t RankPlace::*const fields[] = {&RankPlace::ep_rank, &RankPlace::moe_tp_rank,
                                               &RankPlace::moe_tp, &RankPlace::token_shard,
                                               &RankPlace::token_shards};
    std::int32_t& field = place.*fields[random.in(0, 4)];
    field = random.one_in(3)   ? kMin
            : random.one_in(2) ? kMax
                               : field + static_cast<std::int32_t>(random.in(1, 70));
    p7_shards(spec, layout, intermediate, num_tokens);
    p8_cover(spec, layout);
    ASSERT_TRUE(p9_places(spec, layout)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace eplora::contract
