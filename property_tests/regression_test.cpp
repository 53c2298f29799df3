// SPDX-License-Identifier: Apache-2.0
// The regression tests of the fix that this project grew from (sentinels under expert parallelism through the
// virtual experts of MoE-LoRA, sgl-project/sglang#24171), on every backend that can run here. Expectations
// are worked out by hand from the contract.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "optimized/guarded_run.h"
#include "reference/layout/presets.h"

namespace eplora {
namespace {

class Sentinels24171 : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend = make_backend(GetParam());
  GuardedRun run{*backend};

  RemapResult remap(const std::vector<std::int32_t>& ids, std::int64_t top_k,
                    const std::vector<std::int32_t>& mapping, std::int32_t num_experts,
                    std::int32_t max_loras) const {
    return run.remap(
        {IdMatrix::of(ids, top_k), mapping, num_experts, max_loras, false, NoAdapter::base_slot, {}});
  }
  AlignResult align(const std::vector<std::int32_t>& ids, std::int32_t num_buckets,
                    std::int32_t block_size) const {
    return run.align({IdMatrix::of(ids, 1), num_buckets, block_size, Sentinels::keep, {}});
  }
};

/// Slots in used blocks labelled `label`, in order.
std::vector<std::int32_t> slots_under(const AlignResult& result, std::int32_t label, std::int32_t block_size,
                                      std::int32_t n) {
  std::vector<std::int32_t> slots;
  for (std::int32_t i = 0; i < result.num_tokens_post_padded; ++i)
    if (result.expert_ids[i / block_size] == label && result.sorted_token_ids[i] < n)
      slots.push_back(result.sorted_token_ids[i]);
  return slots;
}

using Ids = std::vector<std::int32_t>;

TEST_P(Sentinels24171, NegativeSentinelsArePreservedMinusOneAndMinusTwoMixed) {
  // 16 experts, 4 adapters, top-2: adapter 3 would have turned -1 into 47 and -2 into 46.
  const RemapResult result = remap({-1, 5, 3, -2, -1, -2, 15, -1}, 2, {0, 1, 2, 3}, 16, 4);
  EXPECT_EQ(result.virtual_ids, (Ids{-1, 5, 19, -2, -1, -2, 63, -1}));
  EXPECT_EQ(result.token_lora_mask, (std::vector<std::uint8_t>{1, 1, 1, 1}));
}

TEST_P(Sentinels24171, PositiveIdsAreRemapped) {
  const RemapResult result = remap({0, 15, 7, 8, 1, 14, 0, 15}, 2, {0, 1, 2, 3}, 16, 4);
  EXPECT_EQ(result.virtual_ids, (Ids{0, 15, 23, 24, 33, 46, 48, 63}));
}

TEST_P(Sentinels24171, TokenWithoutAdapterKeepsItsBaseIdAndAFalseMask) {
  const RemapResult result = remap({3, -1, 4, 5}, 2, {-1, 2}, 16, 4);
  EXPECT_EQ(result.virtual_ids, (Ids{3, -1, 36, 37}));
  EXPECT_EQ(result.token_lora_mask, (std::vector<std::uint8_t>{0, 1}));
}

TEST_P(Sentinels24171, AllValidIdsAlignAsBefore) {
  const AlignResult result = align({2, 0, 1, 2, 0, 2}, 3, 2);
  EXPECT_EQ(result.num_tokens_post_padded, 8);
  EXPECT_EQ(slots_under(result, 0, 2, 6), (Ids{1, 4}));
  EXPECT_EQ(slots_under(result, 1, 2, 6), (Ids{2}));
  EXPECT_EQ(slots_under(result, 2, 2, 6), (Ids{0, 3, 5}));
  EXPECT_EQ(slots_under(result, -1, 2, 6), Ids{});
  EXPECT_EQ((Ids{result.expert_ids.begin(), result.expert_ids.begin() + 4}), (Ids{0, 1, 2, 2}));
}

TEST_P(Sentinels24171, NegativeIdsGoToTheSentinelBucket) {
  const AlignResult result = align({0, -2, 3, -1}, 8, 16);
  EXPECT_EQ(result.num_tokens_post_padded, 48);
  EXPECT_EQ(slots_under(result, 0, 16, 4), (Ids{0}));
  EXPECT_EQ(slots_under(result, 3, 16, 4), (Ids{2}));
  EXPECT_EQ(slots_under(result, -1, 16, 4), (Ids{1, 3}));
  EXPECT_EQ((Ids{result.expert_ids.begin(), result.expert_ids.begin() + 3}), (Ids{0, 3, -1}));
}

TEST_P(Sentinels24171, IdsPastTheLastExpertGoToTheSentinelBucket) {
  const AlignResult result = align({0, 100, 50, 7, 1, 200}, 8, 16);
  EXPECT_EQ(result.num_tokens_post_padded, 64);
  EXPECT_EQ((Ids{result.expert_ids.begin(), result.expert_ids.begin() + 4}), (Ids{0, 1, 7, -1}));
  EXPECT_EQ(slots_under(result, -1, 16, 6), (Ids{1, 2, 5}));
}

TEST_P(Sentinels24171, MixedInvalidIdsAtFifteenHundredExperts) {
  const std::int32_t n = 4096, V = 1500, B = 64;
  Ids ids(n), sentinels;
  for (std::int32_t s = 0; s < n; ++s) {
    ids[s] = s % 7 == 0 ? -1 : s % 11 == 0 ? 3000 : s % 13 == 0 ? V : s % 17 == 0 ? -2 : s * 31 % V;
    if (ids[s] < 0 || ids[s] >= V) sentinels.push_back(s);
  }
  const AlignResult result = align(ids, V, B);
  EXPECT_EQ(slots_under(result, -1, B, n), sentinels);
  std::int32_t blocks = (static_cast<std::int32_t>(sentinels.size()) + B - 1) / B;
  for (std::int32_t v = 0; v < V; ++v) {
    Ids expected;
    for (std::int32_t s = 0; s < n; ++s)
      if (ids[s] == v) expected.push_back(s);
    ASSERT_EQ(slots_under(result, v, B, n), expected) << "bucket " << v;
    blocks += (static_cast<std::int32_t>(expected.size()) + B - 1) / B;
  }
  EXPECT_EQ(result.num_tokens_post_padded, blocks * B);
}

TEST_P(Sentinels24171, EmptyInput) {
  const RemapResult remapped = remap({}, 8, {}, 16, 4);
  EXPECT_TRUE(remapped.virtual_ids.empty());
  EXPECT_TRUE(remapped.token_lora_mask.empty());
  const AlignResult aligned = align({}, 64, 16);
  EXPECT_EQ(aligned.num_tokens_post_padded, 0);
  EXPECT_TRUE(aligned.sorted_token_ids.empty());
}

/// tp=4, ep=2: moe_tp=2, so the columns of ranks 0..3 are those of MoE-TP rank 0, 1, 0, 1. The outer rank
/// would have left nothing to cut on ranks 2 and 3.
TEST_P(Sentinels24171, MoeTpRankIsUsedForSlicingAtTpFourEpTwo) {
  const Layout layout = backend->layout(sglang_layout({.tp = 4, .ep = 2}, 4));
  const MoeGeometry geometry{4, 1, 6, true, GateUpForm::stacked, false};  // E=4, H=1, I=6
  std::vector<float> A(4, 1.0F), gate_B(24), up_B(24), down_A(24), down_B(4, 1.0F);
  for (int e = 0; e < 4; ++e)
    for (int column = 0; column < 6; ++column) {
      const int place = e * 6 + column;
      gate_B[place] = static_cast<float>(100 + e * 10 + column);
      up_B[place] = static_cast<float>(200 + e * 10 + column);
      down_A[place] = static_cast<float>(300 + e * 10 + column);
    }
  const auto tensor = [](const std::vector<float>& data, std::int64_t rows, std::int64_t cols) {
    return StridedTensor{data.data(), DType::f32, 4, rows, cols, rows * cols, cols, 1};
  };
  Adapter adapter;
  adapter.layers[0].gate_up = {LoraPair{tensor(A, 1, 1), tensor(gate_B, 6, 1)},
                               LoraPair{tensor(A, 1, 1), tensor(up_B, 6, 1)}};
  adapter.layers[0].down = {tensor(down_A, 1, 6), tensor(down_B, 1, 1)};
  const std::int32_t moe_tp_rank[] = {0, 1, 0, 1};
  for (std::int32_t rank = 0; rank < 4; ++rank) {
    const std::vector<std::int32_t>& experts = layout.local_experts(rank);
    ASSERT_EQ(experts, rank < 2 ? (Ids{0, 1}) : (Ids{2, 3}));
    LoraBuffers buffers(buffer_shape(geometry, layout.place(rank), 2, {BufferLayer{0}}, 1, 1, DType::f32),
                        0xA5);
    run.slice({geometry, layout.place(rank), experts, &adapter, &buffers.shape(), 0}, buffers);
    for (int e = 0; e < 2; ++e)
      for (int q = 0; q < 3; ++q) {
        const auto cut = static_cast<float>(experts[e] * 10 + moe_tp_rank[rank] * 3 + q);
        EXPECT_EQ(buffers.at(0, BufferTensor::gate_up_B, 0, e * 6 + q), 100 + cut) << "rank " << rank;
        EXPECT_EQ(buffers.at(0, BufferTensor::gate_up_B, 0, e * 6 + 3 + q), 200 + cut) << "rank " << rank;
        EXPECT_EQ(buffers.at(0, BufferTensor::down_A, 0, e * 3 + q), 300 + cut) << "rank " << rank;
      }
  }
}

std::vector<std::string> names_of_available_backends() {
  std::vector<std::string> names;
  for (const auto& backend : available_backends()) names.emplace_back(backend->name());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Every, Sentinels24171, testing::ValuesIn(names_of_available_backends()),
                         [](const testing::TestParamInfo<std::string>& which) {
                           std::string name = which.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace eplora
