// SPDX-License-Identifier: Apache-2.0
// Dispatch, remap, align and route: one small case each, worked out by hand from the contract's sections 3
// to 5.
#include <gtest/gtest.h>

#include <chrono>
#include <limits>

#include "reference/check.h"
#include "reference/layout/placement.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"
#include "reference/routing/route.h"

namespace eplora {
namespace {

using Ids = std::vector<std::int32_t>;
constexpr std::int32_t kMin = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t kMax = std::numeric_limits<std::int32_t>::max();

TEST(Dispatch, TranslatesOwnedIdsAndNothingElse) {
  const Ids table = {-1, -1, 0, 1};  // this rank owns experts 2 and 3
  const Ids ids = {2, 3, 0, -1, -7, 4, kMax, kMin};
  EXPECT_EQ(reference::dispatch({IdMatrix::of(ids, 2), 4, table, {}, 0, {}}).local_ids,
            (Ids{0, 1, -1, -1, -7, -1, -1, kMin}));
}

TEST(Dispatch, ReplicasTakeTurnsByTheSlotOfTheWholeBatch) {
  const DispatchTable table = Placement::table(1, {{0}, {0}}).dispatch_table(1);
  const Ids ids = {0, 0, 0, 0};
  EXPECT_EQ(reference::dispatch({IdMatrix::of(ids, 2), 1, table.local_ids, table.offsets, 0, {}}).local_ids,
            (Ids{-1, 0, -1, 0}));
  EXPECT_EQ(reference::dispatch({IdMatrix::of(ids, 2), 1, table.local_ids, table.offsets, 3, {}}).local_ids,
            (Ids{0, -1, 0, -1}));
}

TEST(Dispatch, NeverTruncatesAnInt64) {
  const std::vector<std::int64_t> ids = {(std::int64_t{1} << 32) + 1, -(std::int64_t{1} << 40), 1};
  const Ids table = {-1, 0};
  EXPECT_EQ(reference::dispatch({{ids.data(), IdType::int64, 1, 3, 3}, 2, table, {}, 0, {}}).local_ids,
            (Ids{-1, -1, 0}));
}

TEST(Remap, FollowsTheTableOfCases) {
  const Ids ids = {3, -1, -2, 8, 0, 7, 5, 2};
  const Ids mapping = {1, 0, -1, 2};  // adapter 2 does not exist: L = 2
  const RemapResult result =
      reference::remap({IdMatrix::of(ids, 2), mapping, 8, 2, false, NoAdapter::base_slot, {}});
  EXPECT_EQ(result.virtual_ids, (Ids{11, -1, -2, -1, 0, 7, -1, -1}));
  EXPECT_EQ(result.token_lora_mask, (std::vector<std::uint8_t>{1, 1, 0, 0}));
}

TEST(Remap, TheSentinelPolicyLeavesTokensWithoutAdapterOut) {
  const Ids ids = {3, -5}, mapping = {-1};
  EXPECT_EQ(
      reference::remap({IdMatrix::of(ids, 2), mapping, 8, 2, false, NoAdapter::sentinel, {}}).virtual_ids,
      (Ids{-1, -5}));
}

TEST(Remap, SharedOuterWeightsHaveOneBucketPerAdapter) {
  const Ids ids = {3, 7, 2, -1}, mapping = {1, -1};
  EXPECT_EQ(
      reference::remap({IdMatrix::of(ids, 2), mapping, 8, 2, true, NoAdapter::base_slot, {}}).virtual_ids,
      (Ids{1, 1, 0, -1}));
}

TEST(Remap, WithNoAdapterSlotsEverythingIsASentinel) {
  const Ids ids = {3, -4}, mapping = {-1};
  EXPECT_EQ(
      reference::remap({IdMatrix::of(ids, 2), mapping, 8, 0, false, NoAdapter::base_slot, {}}).virtual_ids,
      (Ids{-1, -4}));
}

TEST(Remap, RowsPastNumTokensAreSentinelRows) {
  const Ids ids = {3, 4}, mapping = {0, 0};
  const std::int32_t real = 1, too_many = 9, negative = -3;
  const auto remap = [&](NumTokens rows) {
    return reference::remap({IdMatrix::of(ids, 1), mapping, 8, 1, false, NoAdapter::base_slot, rows})
        .virtual_ids;
  };
  EXPECT_EQ(remap(NumTokens::of(1)), (Ids{3, -1}));
  EXPECT_EQ(remap(NumTokens::at(&real)), (Ids{3, -1}));
  EXPECT_EQ(remap(NumTokens::at(&too_many)), (Ids{3, 4}));
  EXPECT_EQ(remap(NumTokens::at(&negative)), (Ids{-1, -1}));
  EXPECT_THROW(remap(NumTokens::of(3)), InvalidArgument);
}

TEST(Align, SortsIntoPaddedBucketsWithTheSentinelsLast) {
  const Ids ids = {2, -1, 0, 2, 3, 2};  // V = 3: id 3 is invalid
  const AlignResult result = reference::align({IdMatrix::of(ids, 2), 3, 2, Sentinels::keep, {}});
  EXPECT_EQ(result.num_tokens_post_padded, 8);
  EXPECT_EQ(result.sorted_token_ids, (Ids{2, 6, 0, 3, 5, 6, 1, 4, 6, 6}));  // capacity (6 + 4*1)/2*2 = 10
  EXPECT_EQ(result.expert_ids, (Ids{0, 2, 2, -1, -1}));
}

TEST(Align, DroppedSentinelsGetNoPlaceAtAll) {
  const Ids ids = {2, -1, 0, 2, 3, 2};
  const AlignResult result = reference::align({IdMatrix::of(ids, 2), 3, 2, Sentinels::drop, {}});
  EXPECT_EQ(result.num_tokens_post_padded, 6);
  EXPECT_EQ(result.sorted_token_ids, (Ids{2, 6, 0, 3, 5, 6, 6, 6}));
  EXPECT_EQ(result.expert_ids, (Ids{0, 2, 2, -1}));
}

TEST(Align, CapacityIsReachedBySomeInput) {
  const Ids ids = {0, 1, -1};  // every bucket and the sentinel bucket hold one slot
  const AlignResult result = reference::align({IdMatrix::of(ids, 1), 2, 5, Sentinels::keep, {}});
  EXPECT_EQ(result.num_tokens_post_padded, 15);
  EXPECT_EQ(align_capacity(3, 2, 5, Sentinels::keep), 15);
  EXPECT_EQ(align_capacity(2, 1, 16, Sentinels::keep), 32);
  EXPECT_EQ(align_capacity(7, 0, 4, Sentinels::drop), 0);
  EXPECT_EQ(align_capacity(0, 9, 4, Sentinels::keep), 0);
}

TEST(Align, AMillionSlotsIntoFourThousandBucketsTakeLinearTime) {
  Ids ids(1 << 20);
  std::uint32_t state = 1;
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>((state = state * 1664525U + 1013904223U) >> 20);
  const auto start = std::chrono::steady_clock::now();
  const AlignResult result = reference::align({IdMatrix::of(ids, 8), 4097, 64, Sentinels::keep, {}});
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_GE(result.num_tokens_post_padded, 1 << 20);
  RecordProperty("seconds", std::to_string(elapsed.count()));  // recorded, never a reason to fail
}

TEST(Route, IsTheThreeStepsInOne) {
  const Ids ids = {2, 0, 3, -2, 1, 9}, mapping = {1, 0, -1}, table = {-1, -1, 0, 1};
  RouteProblem problem;
  problem.topk_ids = IdMatrix::of(ids, 2);
  problem.token_lora_mapping = mapping;
  problem.num_experts = 4;
  problem.table = table;
  problem.num_local_experts = 2;
  problem.max_loras = 2;
  problem.block_size = 2;
  const RouteResult result = reference::route(problem);
  // local ids {0,-1, 1,-2, -1,-1} -> virtual {2,-1, 1,-2, -1,-1}
  EXPECT_EQ(result.blocks.expert_ids, (Ids{1, 2, -1, -1, -1}));
  EXPECT_EQ(result.blocks.sorted_token_ids, (Ids{2, 6, 0, 6, 1, 3, 4, 5, 6, 6}));
  EXPECT_EQ(result.blocks.num_tokens_post_padded, 8);
  EXPECT_EQ(result.token_lora_mask, (std::vector<std::uint8_t>{1, 1, 0}));
}

}  // namespace
}  // namespace eplora
