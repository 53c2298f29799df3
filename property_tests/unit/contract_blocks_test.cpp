// SPDX-License-Identifier: Apache-2.0
// The judges' own tests, P3 to P6: blocks broken in exactly the way a property names are refused, and the
// sentence names the slot, entry or block, the expected and the found value; right blocks are accepted, in
// every declared form.
#include "reference/contract/blocks.h"

#include "property_tests/unit/contract_expect.h"
#include "property_tests/unit/contract_routing_cases.h"
#include "reference/routing/align.h"
#include "reference/routing/route.h"

namespace eplora::contract {
namespace {

using Ids = std::vector<std::int32_t>;
constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();

/// Four tokens, top-2, V=4, B=2. Bucket 0 holds slots 0, 3, 5; bucket 2 holds 1, 7; bucket 3 holds 4; slots 2
/// (id -1) and 6 (id 5) are sentinels.
struct BlocksJudge : testing::Test {
  Ids ids{0, 2, -1, 0, 3, 0, 5, 2};
  AlignProblem problem{IdMatrix::of(ids, 2), 4, 2, Sentinels::keep, {}};
  //                 block 0  1     2     3     4     tail
  AlignResult right{{0, 3, 5, 8, 1, 7, 4, 8, 2, 6, 8, 8}, {0, 0, 2, 3, -1, -1}, 10};
  Form form;

  AlignResult entry(std::size_t at, std::int32_t value) const { return entries({{at, value}}); }
  AlignResult entries(const std::vector<std::pair<std::size_t, std::int32_t>>& changes) const {
    AlignResult wrong = right;
    for (const auto& [at, value] : changes) wrong.sorted_token_ids[at] = value;
    return wrong;
  }
  AlignResult label(std::size_t block, std::int32_t value) const {
    AlignResult wrong = right;
    wrong.expert_ids[block] = value;
    return wrong;
  }
  AlignResult used(std::int32_t value) const {
    AlignResult wrong = right;
    wrong.num_tokens_post_padded = value;
    return wrong;
  }
  Verdict p3(const AlignResult& result) const { return p3_partition(problem, result, form); }
  Verdict p4(const AlignResult& result) const { return p4_filler(problem, result, form); }
  Verdict p5(const AlignResult& result, std::int64_t capacity = 12) const {
    return p5_bounds(problem, result, capacity, form);
  }
  Verdict p6(const AlignResult& result) const { return p6_labels(problem, result, form); }
};

TEST_F(BlocksJudge, AcceptsTheHandWorkedResult) {
  EXPECT_EQ(reference::align(problem), right);
  expect_accepted(judge_blocks(problem, right, 12));
}

TEST_F(BlocksJudge, P3RefusesASlotTwice) {
  expect_violation(p3(entry(3, 3)), "P3", 3, "1", "2 (entries 1 and 3)");
}
TEST_F(BlocksJudge, P3RefusesAMissingSlot) {
  expect_violation(p3(entry(4, 8)), "P3", 1, "once in a block labelled 2", "nowhere",
                   "slot 1 (token 0, k 1) has id 2");
  expect_violation(p3(entry(8, 8)), "P3", 2, "once in a block labelled -1", "nowhere", "id -1, a sentinel");
}
TEST_F(BlocksJudge, P3RefusesASlotInAForeignBlock) {
  expect_violation(p3(entries({{2, 8}, {7, 5}})), "P3", 5, "0", "3",
                   "slot 5 (token 2, k 1) has id 0; it stands in a block labelled 3");
  expect_violation(p3(label(2, 3)), "P3", 1, "2", "3", "labelled 3");
}
TEST_F(BlocksJudge, P3RefusesASentinelInAnExpertsBlock) {
  expect_violation(p3(entries({{7, 2}, {8, 8}})), "P3", 2, "-1", "3", "id -1, a sentinel");
  expect_violation(p3(entries({{7, 6}, {9, 8}})), "P3", 6, "-1", "3", "id 5, invalid for V=4");
}
TEST_F(BlocksJudge, P3RefusesAPlacedSentinelUnderDrop) {
  problem.sentinels = Sentinels::drop;
  expect_violation(p3(right), "P3", 2, "none", "entry 8 (block 4)");
  problem.sentinels = Sentinels::keep;
  form.sentinel = SentinelPlace::drop;
  expect_violation(p3(right), "P3", 2, "none", "entry 8");
}
TEST_F(BlocksJudge, P3RefusesAnUnstableOrderUnlessDeclared) {
  const AlignResult swapped = entries({{0, 3}, {1, 0}});
  expect_violation(p3(swapped), "P3", 0, "before slot 3", "after it", "order = stable");
  expect_violation(p3(entries({{1, 5}, {2, 3}})), "P3", 3, "before slot 5",
                   "entry 2 (block 1)");  // across blocks
  for (const Order order : {Order::free, Order::nondeterministic}) {
    form.order = order;
    expect_accepted(judge_blocks(problem, swapped, 12, form));
    expect_violation(p3(entries({{0, 4}, {6, 0}})), "P3", 4, "3",
                     "0");  // the order inside a bucket, nothing else
  }
}
TEST_F(BlocksJudge, P3RefusesBucketsOutOfOrderInEveryForm) {
  const AlignResult swapped{{0, 3, 5, 8, 4, 8, 1, 7, 2, 6, 8, 8}, {0, 0, 3, 2, -1, -1}, 10};
  expect_violation(p3(swapped), "P3", 3, "ascending", "3 before 2",
                   "block 3 is labelled 2, block 2 before it 3");
  form.order = Order::free;
  expect_violation(p3(swapped), "P3", 3, "ascending", "3 before 2");
}
TEST_F(BlocksJudge, P3RefusesAnUndeclaredPlaceOfTheSentinelBucket) {
  const AlignResult first{{2, 6, 0, 3, 5, 8, 1, 7, 4, 8, 8, 8}, {-1, 0, 0, 2, 3, -1}, 10};
  expect_violation(p3(first), "P3", 1, "sentinel bucket last", "-1 before 0");
  form.sentinel = SentinelPlace::first;
  expect_accepted(judge_blocks(problem, first, 12, form));
  expect_violation(p3(right), "P3", 4, "sentinel bucket first", "3 before -1");
}

TEST_F(BlocksJudge, P4RefusesFillerBelowN) {
  expect_violation(p4(entry(3, -7)), "P4", 3, "n=8", "-7", "entry 3 (block 1)");
  expect_violation(p4(entry(10, 3)), "P4", 10, "n=8", "3", "past num_tokens_post_padded=10");
  expect_violation(p4(entry(11, -1)), "P4", 11, "n=8", "-1");
}
TEST_F(BlocksJudge, P4RefusesFillerThatIsNotNUnlessOnlyThatIsPromised) {
  expect_violation(p4(entry(3, 9)), "P4", 3, "n=8", "9");
  expect_violation(p4(entry(11, kMax)), "P4", 11, "n=8", std::to_string(kMax));
  form.canonical_values = false;
  expect_accepted(p4(entries({{3, 9}, {11, kMax}})));
  expect_accepted(p4(label(5, -2)));
  expect_violation(p4(entry(3, -1)), "P4", 3, "at least n=8", "-1");
  expect_violation(p4(label(5, 0)), "P4", 5, "a negative label", "0");
}
TEST_F(BlocksJudge, P4RefusesFillerBeforeASlotOfItsBucket) {
  const AlignResult early = entries({{2, 8}, {3, 5}});
  expect_violation(p4(early), "P4", 2, "a slot of the bucket", "8", "before slot 5");
  form.order = Order::free;
  expect_accepted(judge_blocks(problem, early, 12, form));
}
TEST_F(BlocksJudge, P4RefusesALabelPastThePrefixUnlessTheTailIsUnwritten) {
  expect_violation(p4(label(5, 0)), "P4", 5, "-1", "0", "5 used blocks");
  expect_violation(p4(label(5, -2)), "P4", 5, "-1", "-2");
  form.tail = Tail::unwritten;
  AlignResult garbage = label(5, 17);
  garbage.sorted_token_ids[10] = 3;
  garbage.sorted_token_ids[11] = -99;
  expect_accepted(judge_blocks(problem, garbage, 12, form));
  expect_violation(p4(entry(3, -7)), "P4", 3, "n=8", "-7");  // the prefix is written
}

TEST_F(BlocksJudge, P5RefusesAWrongLengthOfThePrefix) {
  expect_violation(p5(used(12)), "P5", -1, "10", "12", "2 sentinel slots kept");
  expect_violation(p5(used(8)), "P5", -1, "10", "8");
  expect_violation(p5(used(9)), "P5", -1, "a multiple of B=2", "9");
  expect_violation(p5(used(14)), "P5", -1, "at most the reported capacity 12", "14");
  expect_violation(p5(used(-2)), "P5", -1, "at least 0", "-2");
  expect_violation(p5(used(kMax)), "P5", -1, "at most the reported capacity 12", std::to_string(kMax));
}
TEST_F(BlocksJudge, P5CountsSentinelsAsTheProblemAndTheFormSay) {
  problem.sentinels = Sentinels::drop;
  expect_accepted(judge_blocks(problem, reference::align(problem), 12));  // capacity (8 + 4*1)/2*2
  expect_violation(p5(right), "P5", -1, "8", "10", "2 sentinel slots to be dropped");
}
TEST_F(BlocksJudge, P5RefusesAnotherCapacityAndArraysTooShortForIt) {
  expect_violation(p5(right, 14), "P5", -1, "12", "14", "capacity reported for n=8, V=4, B=2");
  AlignResult wrong = right;
  wrong.sorted_token_ids.pop_back();
  expect_violation(p5(wrong), "P5", -1, "12", "11", "length of sorted_token_ids");
  wrong = right;
  wrong.expert_ids.push_back(-1);
  expect_violation(p5(wrong), "P5", -1, "6", "7", "length of expert_ids");
  form.order =
      Order::free;  // a form of its own may have a capacity of its own, but must hold what it says it used
  expect_accepted(p5(right, 14));
  wrong.sorted_token_ids.resize(9);
  expect_violation(p5(wrong), "P5", -1, "at most the length of sorted_token_ids, 9", "10");
  wrong = right;
  wrong.expert_ids.resize(4);
  expect_violation(p5(wrong), "P5", -1, "at most the length of expert_ids, 4", "5");
}

TEST_F(BlocksJudge, P6RefusesABlockNobodyAskedFor) {
  expect_violation(p6(label(1, 1)), "P6", 1, "0", "at least 1", "labelled 1, a bucket with 0 slots");
  expect_violation(p6(label(4, 3)), "P6", 4, "1", "at least 2", "labelled 3, a bucket with 1 slot ");
}
TEST_F(BlocksJudge, P6RefusesALabelOffByOne) {
  expect_violation(p6(label(2, 3)), "P6", 3, "1", "at least 2");
  expect_violation(p6(label(3, 4)), "P6", 3, "-1 or a bucket in [0, 4)", "4");
}
TEST_F(BlocksJudge, P6RefusesLabelsThatAreNone) {
  expect_violation(p6(label(4, -2)), "P6", 4, "-1 or a bucket", "-2");
  expect_violation(p6(label(0, kMax)), "P6", 0, "-1 or a bucket", std::to_string(kMax));
  expect_violation(p6(label(2, -1)), "P6", 2, "1", "0", "labelled 2, a bucket with 2 slots");
}
TEST_F(BlocksJudge, P6RefusesSentinelBlocksThatAreTooMany) {
  AlignResult wrong = right;
  wrong.num_tokens_post_padded = 12;
  expect_violation(p6(wrong), "P6", 5, "1", "2", "labelled -1 for 2 sentinel slots");
  problem.sentinels = Sentinels::drop;
  expect_violation(p6(right), "P6", 4, "0", "1", "to be dropped");
}

TEST_F(BlocksJudge, AcceptsForeignExpertsWithBucketsOfTheirOwn) {
  form.sentinel = SentinelPlace::per_foreign_expert;
  const AlignResult own{{2, 8, 0, 3, 5, 8, 1, 7, 6, 8, 4, 8}, {-1, 0, 0, 2, -1, 3}, 12};
  expect_accepted(judge_blocks(problem, own, 14, form));
  expect_accepted(judge_blocks(problem, right, 12, form));
  AlignResult wrong = own;
  wrong.sorted_token_ids[8] = 8;
  expect_violation(judge_blocks(problem, wrong, 14, form), "P3", 6, "once in a block labelled -1", "nowhere");
  wrong = {{8, 8, 2, 8, 0, 3, 5, 8, 1, 7, 6, 8, 4, 8}, {-1, -1, 0, 0, 2, -1, 3}, 14};
  expect_violation(judge_blocks(problem, wrong, 14, form), "P5", -1, "10 to 12", "14");
  wrong = own;
  wrong.expert_ids[3] = 3, wrong.expert_ids[5] = 2;
  std::swap(wrong.sorted_token_ids[6], wrong.sorted_token_ids[10]);
  std::swap(wrong.sorted_token_ids[7], wrong.sorted_token_ids[11]);
  expect_violation(judge_blocks(problem, wrong, 14, form), "P3", 5, "ascending", "3 before 2");
}

TEST_F(BlocksJudge, AsksNothingAboutIdsThatAFormDoesNotAccept) {
  form.ids = AcceptedIds::minus_one_to_V;  // slot 6 has id 5
  expect_accepted(judge_blocks(problem, used(8), 12, form));
  ids[6] = -1;
  expect_violation(judge_blocks(problem, used(8), 12, form), "P5", -1, "10", "8");
}

TEST_F(BlocksJudge, PaddingRowsAreSentinelsWhateverStandsThere) {
  problem.num_tokens = NumTokens::of(2);
  ids.resize(4);  // rows 2 and 3 do not exist
  ids.shrink_to_fit();
  problem.ids.data = ids.data();
  const AlignResult padded{{0, 3, 1, 8, 2, 4, 5, 6, 7, 8, 8, 8}, {0, 2, -1, -1, -1, -1}, 10};
  expect_accepted(judge_blocks(problem, padded, 12));
  expect_violation(p3({{0, 3, 1, 5, 2, 4, 8, 6, 7, 8, 8, 8}, {0, 2, -1, -1, -1, -1}, 10}), "P3", 5, "-1", "2",
                   "in a padding row");
}

}  // namespace
}  // namespace eplora::contract
