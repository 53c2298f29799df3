// SPDX-License-Identifier: Apache-2.0
// The judges' own tests, P1 and P2: a result that is broken in the way a property names is refused, and the
// sentence names the place, the expected and the found value; right results are accepted.
#include "reference/contract/ids.h"

#include "property_tests/unit/contract_expect.h"
#include "property_tests/unit/contract_routing_cases.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"

namespace eplora::contract {
namespace {

using Ids = std::vector<std::int32_t>;
constexpr std::int32_t kMin = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();

Form loose() {
  Form form;
  form.canonical_values = false;
  return form;
}

/// Two tokens a row of three slots; this rank owns experts 2 and 3 of 4.
struct DispatchJudge : testing::Test {
  Ids ids{2, 3, 0, -2, 4, kMax};
  Ids table{-1, -1, 0, 1};
  DispatchProblem problem{IdMatrix::of(ids, 3), 4, table, {}, 0, {}};
  DispatchResult right{{0, 1, -1, -2, -1, -1}};

  Verdict with(std::size_t slot, std::int32_t value, const Form& form = {}) {
    DispatchResult wrong = right;
    wrong.local_ids[slot] = value;
    return p1_closure(problem, wrong, form);
  }
};

TEST_F(DispatchJudge, AcceptsTheHandWorkedResult) { expect_accepted(p1_closure(problem, right)); }
TEST_F(DispatchJudge, RefusesMinusTwoTurnedToMinusOne) {
  expect_violation(with(3, -1), "P1", 3, "-2", "-1", "slot 3 (token 1, k 0) has global id -2, a sentinel");
  expect_accepted(with(3, -1, loose()));
}
TEST_F(DispatchJudge, RefusesTheLastTableEntryForASentinel) {
  expect_violation(with(3, 1, loose()), "P1", 3, "negative", "1");
}
TEST_F(DispatchJudge, RefusesAnInvalidIdThatAliasesAnExpert) {
  expect_violation(with(4, 1), "P1", 4, "-1", "1", "has global id 4, invalid for E=4");
  expect_violation(with(5, kMax), "P1", 5, "-1", std::to_string(kMax));
}
TEST_F(DispatchJudge, RefusesAForeignExpertWithALocalId) {
  expect_violation(with(2, 0), "P1", 2, "-1", "0", "owned elsewhere");
}
TEST_F(DispatchJudge, RefusesTheGlobalIdOrAnotherLocalId) {
  expect_violation(with(0, 2), "P1", 0, "0", "2", "owned here");
  expect_violation(with(1, 0, loose()), "P1", 1, "1", "0");
}
TEST_F(DispatchJudge, RefusesADroppedOwnedExpert) { expect_violation(with(1, -1), "P1", 1, "1", "-1"); }
TEST_F(DispatchJudge, RefusesWrongLengths) {
  expect_violation(p1_closure(problem, {{}}), "P1", -1, "6", "0");
  expect_violation(p1_closure(problem, {Ids(7, -1)}), "P1", -1, "6", "7");
}
TEST_F(DispatchJudge, RefusesTheOtherReplica) {
  const Ids offsets{0, 1, 3}, replicas{0, 1, -1}, twice{1, 1, 0, 1};
  const DispatchProblem shared{
      IdMatrix::of(twice, 2), 2, replicas, offsets, 3, {}};  // slots 3..6 of the whole batch
  const DispatchResult result = reference::dispatch(shared);
  EXPECT_EQ(result.local_ids, (Ids{-1, 1, 0, 1}));
  expect_accepted(p1_closure(shared, result));
  expect_violation(p1_closure(shared, {{1, -1, 0, -1}}), "P1", 0, "-1", "1");
}
TEST_F(DispatchJudge, RefusesAPaddingRowThatWasComputed) {
  problem.num_tokens = NumTokens::of(1);
  expect_accepted(p1_closure(problem, {{0, 1, -1, -1, -1, -1}}));
  expect_violation(p1_closure(problem, right), "P1", 3, "-1", "-2", "padding row");
}

/// E=8, L=2: adapter 1, none, an invalid one.
struct RemapJudge : testing::Test {
  Ids ids{3, -1, 8, -2, 7, 0, 1, kMin};
  Ids mapping{1, -1, 1, 2};
  RemapProblem problem{IdMatrix::of(ids, 2), mapping, 8, 2, false, NoAdapter::base_slot, {}};
  RemapResult right{{11, -1, -1, -2, 15, 8, -1, kMin}, {1, 0, 1, 0}};

  RemapResult with(std::size_t slot, std::int32_t value) {
    RemapResult wrong = right;
    wrong.virtual_ids[slot] = value;
    return wrong;
  }
};

TEST_F(RemapJudge, AcceptsTheHandWorkedResult) {
  expect_accepted(p1_closure(problem, right));
  expect_accepted(p2_decode(problem, right));
}
TEST_F(RemapJudge, RefusesASentinelPutThroughTheAffineMap) {
  expect_violation(p1_closure(problem, with(1, -1 + 8)), "P1", 1, "-1", "7",
                   "slot 1 (token 0, k 1) has expert -1, adapter 1 (E=8, L=2)");
  expect_violation(p1_closure(problem, with(7, 0), loose()), "P1", 7, "negative", "0");
}
TEST_F(RemapJudge, RefusesMinusTwoTurnedToMinusOneUnlessOnlyTheSignIsPromised) {
  expect_violation(p1_closure(problem, with(3, -1)), "P1", 3, "-2", "-1");
  expect_accepted(p1_closure(problem, with(3, -1), loose()));
}
TEST_F(RemapJudge, RefusesAnInvalidExpertThatAliasesTheNextAdapter) {
  expect_violation(p1_closure(problem, with(2, 8)), "P1", 2, "-1", "8");
}
TEST_F(RemapJudge, RefusesAnAdapterPastTheLast) {
  expect_violation(p1_closure(problem, with(6, 17)), "P1", 6, "-1", "17");
}
TEST_F(RemapJudge, RefusesAnOutputOutsideTheBuckets) {
  expect_violation(p1_closure(problem, with(4, 16)), "P1", 4, "in [0, 16)", "16");
  expect_violation(p1_closure(problem, with(4, -1)), "P1", 4, "15", "-1");
}
TEST_F(RemapJudge, RefusesAnotherExpertOrAdapter) {
  expect_violation(p2_decode(problem, with(0, 3)), "P2", 0, "11", "3 (expert 3, adapter 0)");
  expect_violation(p2_decode(problem, with(5, 9)), "P2", 5, "8", "9 (expert 1, adapter 1)");
  expect_violation(p2_decode(problem, with(0, 3 * 2 + 1)), "P2", 0, "11", "7");
}
TEST_F(RemapJudge, JudgesTheNoAdapterPolicy) {
  ids = {5, 5, 5, 5, 5, 5, 5, 5};
  mapping = {-1, -1, -3, kMin};
  expect_accepted(p2_decode(problem, reference::remap(problem)));
  RemapResult wrong = reference::remap(problem);
  wrong.virtual_ids[2] = -1;
  expect_violation(p2_decode(problem, wrong), "P2", 2, "5", "-1");
  problem.no_adapter = NoAdapter::sentinel;
  wrong = reference::remap(problem);
  wrong.virtual_ids[2] = 5;
  expect_violation(p2_decode(problem, wrong), "P2", 2, "a negative id", "5");
  expect_violation(p1_closure(problem, wrong), "P1", 2, "-1", "5");
}
TEST_F(RemapJudge, RefusesAWrongMask) {
  for (const std::size_t t : {0U, 1U, 3U}) {
    RemapResult wrong = right;
    wrong.token_lora_mask[t] ^= 1;
    expect_violation(p2_decode(problem, wrong), "P2", static_cast<std::int64_t>(t), t == 0 ? "1" : "0",
                     t == 0 ? "0" : "1", "token " + std::to_string(t) + " has adapter");
  }
  RemapResult wrong = right;
  wrong.token_lora_mask[2] = 255;
  expect_violation(p2_decode(problem, wrong), "P2", 2, "1", "255");
  wrong.token_lora_mask.pop_back();
  expect_violation(p2_decode(problem, wrong), "P2", -1, "4", "3");
  expect_violation(p1_closure(problem, {}), "P1", -1, "8", "0");
}
TEST_F(RemapJudge, JudgesSharedOuterAndItsRoutedSentinels) {
  problem.shared_outer = true;
  right = reference::remap(problem);
  EXPECT_EQ(right.virtual_ids, (Ids{1, -1, -1, -2, 1, 1, -1, kMin}));
  expect_accepted(p1_closure(problem, right));
  expect_violation(p2_decode(problem, with(0, 0)), "P2", 0, "1", "0");
  expect_violation(p1_closure(problem, with(0, 11)), "P1", 0, "in [0, 2)", "11");
  expect_violation(p1_closure(problem, with(1, 1)), "P1", 1, "-1", "1");
  Form routed;
  routed.shared_outer_sentinels = SharedOuterSentinels::routed;
  expect_accepted(p1_closure(problem, with(1, 1), routed));
  expect_violation(p1_closure(problem, with(1, 0), routed), "P1", 1, "-1", "0");
}
TEST_F(RemapJudge, WithoutAdaptersNothingIsComputed) {
  problem.max_loras = 0;
  const RemapResult none{{-1, -1, -1, -2, -1, -1, -1, kMin}, {0, 0, 0, 0}};
  expect_accepted(p1_closure(problem, none));
  expect_accepted(p2_decode(problem, none));
  expect_violation(p1_closure(problem, right), "P1", 0, "-1", "11");
}

TEST(IdsJudge, NeverTruncatesWideIds) {
  const std::vector<std::int64_t> ids{std::int64_t{1} << 32, -(std::int64_t{1} << 32),
                                      (std::int64_t{1} << 40) + 3, 3};
  const Ids mapping{0, 0};
  const RemapProblem problem{
      {ids.data(), IdType::int64, 2, 2, 2}, mapping, 4, 1, false, NoAdapter::base_slot, {}};
  expect_accepted(p1_closure(problem, {{-1, -1, -1, 3}, {1, 1}}));
  expect_violation(p1_closure(problem, {{0, -1, -1, 3}, {1, 1}}), "P1", 0, "-1", "0", "expert 4294967296");
  expect_violation(p1_closure(problem, {{-1, 0, -1, 3}, {1, 1}}), "P1", 1, "-1", "0");
  expect_violation(p1_closure(problem, {{-1, -1, 3, 3}, {1, 1}}), "P1", 2, "-1", "3");
}

TEST(IdsJudge, KnowsTheDeclaredRestrictionsOfIds) {
  const Ids ids{3, 3, -1, 9};
  const IdMatrix matrix = IdMatrix::of(ids, 2);
  const auto within = [&](AcceptedIds accepted, const IdMatrix& of) {
    Form form;
    form.ids = accepted;
    return within_declared_ids(of, {}, 9, form);
  };
  EXPECT_TRUE(within(AcceptedIds::any, matrix));
  EXPECT_TRUE(within(AcceptedIds::at_least_minus_one, matrix));
  EXPECT_FALSE(within(AcceptedIds::minus_one_to_V, matrix));
  EXPECT_FALSE(within(AcceptedIds::distinct_in_token, matrix));
  const Ids foreign{3, -2, -2, 8};
  EXPECT_FALSE(within(AcceptedIds::at_least_minus_one, IdMatrix::of(foreign, 2)));
  EXPECT_TRUE(within(AcceptedIds::distinct_in_token, IdMatrix::of(foreign, 2)));
}

TEST(IdsJudge, AcceptsTheReferenceAndNothingElseOnRandomProblems) {
  int changed = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const RoutingCase c = random_case(seed);
    Random random(seed + 1000);
    DispatchResult local = reference::dispatch(c.dispatch());
    expect_accepted(p1_closure(c.dispatch(), local));
    RemapResult remapped = reference::remap(c.remap());
    expect_accepted(p1_closure(c.remap(), remapped));
    expect_accepted(p2_decode(c.remap(), remapped));
    expect_accepted(p1_closure(c.remap(), remapped, loose()));
    if (c.ids.size() == 0) continue;
    ++changed;
    const std::int64_t slot = random.in(0, c.ids.size() - 1);
    local.local_ids[slot] = other_value(random, local.local_ids[slot]);
    ASSERT_TRUE(p1_closure(c.dispatch(), local)) << "seed " << seed;
    EXPECT_EQ(p1_closure(c.dispatch(), local)->place, slot);
    remapped.virtual_ids[slot] = other_value(random, remapped.virtual_ids[slot]);
    const Verdict first = p1_closure(c.remap(), remapped), second = p2_decode(c.remap(), remapped);
    ASSERT_TRUE(first || second) << "seed " << seed << " slot " << slot;
    EXPECT_EQ((first ? first : second)->place, slot);
  }
  EXPECT_GT(changed, 300);
}

}  // namespace
}  // namespace eplora::contract
