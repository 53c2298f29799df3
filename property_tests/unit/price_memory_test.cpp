// SPDX-License-Identifier: Apache-2.0
// Bytes of memory and counts of slots against counting one element, one slot at a time.
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "property_tests/unit/price_cases.h"
#include "reference/layout/presets.h"
#include "reference/price/memory.h"
#include "reference/price/routing_load.h"

namespace eplora::price_test {
namespace {

struct Counted {
  RankMemory memory;
  /// One element at a time; `of` are the sums it belongs to.
  void add(std::int64_t bytes, std::initializer_list<std::int64_t RankMemory::*> of) {
    for (const auto sum : of) memory.*sum += bytes;
  }
};

void count_layer(const Case& test, const LayerClass& c, const Stand& at, Counted& out) {
  const std::int64_t H = test.model.hidden, R = test.options.adapters.max_lora_rank;
  const std::int64_t halves = test.model.gated ? 2 : 1;
  const ElementBytes& bytes = test.options.bytes;
  const std::vector<bool> real = columns_are_real(c, at, test.model.intermediate);
  const auto& lists = c.layout.placement.experts_of_rank();
  std::set<std::int32_t> seen;  // experts that stand before this place
  for (std::int32_t q = 0; q < at.ep; ++q) seen.insert(lists[q].begin(), lists[q].end());
  for (const std::int32_t e : lists[at.ep]) {
    const bool fused = e >= test.model.num_experts;
    const bool again = !seen.insert(e).second && !fused;
    for (std::int64_t matrix = 0; matrix < halves + 1; ++matrix)
      for (const bool of_model : real)
        for (std::int64_t h = 0; h < H; ++h) {
          out.add(bytes.weights, {fused ? &RankMemory::shared_weights : &RankMemory::routed_weights});
          if (again) out.add(bytes.weights, {&RankMemory::replicas});
          if (!of_model) out.add(bytes.weights, {&RankMemory::padding});
        }
  }
  const SharedExpertsSpec& shared = c.spec.shared_experts;
  const std::int64_t wide = shared.intermediate == 0 ? test.model.intermediate : shared.intermediate;
  if (shared.kind == SharedExpertsKind::replicated || shared.kind == SharedExpertsKind::sharded)
    for (std::int64_t j = 0; j < shared.count; ++j)
      for (std::int64_t q = 0; q < wide; ++q) {
        const std::int64_t parts = at.digits.parts(shared.axes);
        if (shared.kind == SharedExpertsKind::sharded && q * parts / wide != at.digits.index(shared.axes))
          continue;
        out.add((halves + 1) * H * bytes.weights, {&RankMemory::shared_weights});
      }
  const std::vector<std::int64_t> hidden_part = part_of_item(H, at.digits.parts(c.spec.sharding.hidden));
  const std::vector<std::int64_t> rank_part = part_of_item(R, at.digits.parts(c.spec.sharding.lora_rank));
  const auto mine = [&](const std::vector<std::int64_t>& part, const std::vector<std::string>& axes) {
    return std::count(part.begin(), part.end(), at.digits.index(axes));
  };
  for (std::int32_t l = 0; l < test.options.adapters.max_loras; ++l) {
    const auto element = [&](bool of_model) {  // of adapter l; the first one stands for what a load brings
      out.add(bytes.adapters, {&RankMemory::adapter_buffers});
      if (l == 0 && of_model) out.add(bytes.adapters, {&RankMemory::one_adapter});
      if (!of_model) out.add(bytes.adapters, {&RankMemory::padding});
    };
    out.add(4, {&RankMemory::adapter_buffers});  // scale of gate_up
    out.add(4, {&RankMemory::adapter_buffers});  // scale of down
    const std::size_t outer = c.spec.shared_outer ? 1 : lists[at.ep].size();
    for (std::size_t x = 0; x < outer; ++x) {
      for (std::int64_t i = 0; i < halves * H * mine(rank_part, c.spec.sharding.lora_rank); ++i)
        element(true);
      for (std::int64_t i = 0; i < R * mine(hidden_part, c.spec.sharding.hidden); ++i) element(true);
    }
    for (std::size_t x = 0; x < lists[at.ep].size(); ++x)
      for (const bool of_model : real)
        for (std::int64_t i = 0; i < (halves + 1) * R; ++i)  // gate_up B's rows and down A's column
          element(of_model);
  }
}

TEST(PriceMemory, EqualsCountingElementsOverRandomDeployments) {
  int with_padding = 0, with_replicas = 0, with_stages = 0, with_shared = 0, with_adapters = 0;
  for (std::uint64_t seed = 1; seed <= 600; ++seed) {
    const Case test = random_case(seed);
    SCOPED_TRACE(test.name());
    const std::vector<RankMemory> got =
        memory_of_ranks(test.deployment, test.model, test.options.bytes, test.options.adapters);
    ASSERT_EQ(static_cast<std::int32_t>(got.size()), test.deployment.num_ranks);
    for (std::int32_t rank = 0; rank < test.deployment.num_ranks; ++rank) {
      Counted want;
      for (const LayerClass& c : test.deployment.classes) {
        const Stand at(test.deployment, c, rank);
        for (const std::int64_t stage : part_of_item(test.model.moe_layers.size(), at.stages))
          if (stage == at.stage) count_layer(test, c, at, want);
        with_stages += at.stages > 1;
      }
      ASSERT_EQ(got[rank].routed_weights, want.memory.routed_weights) << "rank " << rank;
      ASSERT_EQ(got[rank].shared_weights, want.memory.shared_weights) << "rank " << rank;
      ASSERT_EQ(got[rank].adapter_buffers, want.memory.adapter_buffers) << "rank " << rank;
      ASSERT_EQ(got[rank].one_adapter, want.memory.one_adapter) << "rank " << rank;
      ASSERT_EQ(got[rank].replicas, want.memory.replicas) << "rank " << rank;
      ASSERT_EQ(got[rank].padding, want.memory.padding) << "rank " << rank;
      with_padding += want.memory.padding > 0;
      with_replicas += want.memory.replicas > 0;
      with_shared += want.memory.shared_weights > 0;
      with_adapters += want.memory.adapter_buffers > 0;
    }
  }
  for (const int count : {with_padding, with_replicas, with_stages, with_shared, with_adapters})
    EXPECT_GT(count, 100);  // the cases meet what they are for
}

TEST(PriceMemory, BytesThatNeedMoreThanSixtyTwoBitsAreRefused) {
  const Deployment one =
      make_deployment(deployment_of(sglang_layout({1, 1, 1}, 384, PlacementKind::linear), "one rank"));
  PricedModel model{384, 8, 7168, 2048, true, std::vector<std::int32_t>(60)};
  std::iota(model.moe_layers.begin(), model.moe_layers.end(), 1);
  constexpr std::int32_t L = 1 << 16;
  constexpr std::int64_t R = 1 << 15;
  const std::int64_t elements = std::int64_t{60} * 384 * 3 * (7168 + 2048);
  const RankMemory fits = memory_of_ranks(one, model, {2, 2, 2}, {L, R}).front();
  EXPECT_EQ(fits.adapter_buffers, L * (elements * R * 2 + 60 * 8));
  EXPECT_THROW(memory_of_ranks(one, model, {2, 2, 2}, {L, 2 * R}), InvalidArgument);
  EXPECT_THROW(memory_of_ranks(one, model, {2, 4, 2}, {L, R}), InvalidArgument);
}

TEST(PriceLoad, EqualsCountingSlotsOverRandomDeployments) {
  int with_replicas = 0, with_lora = 0;
  for (std::uint64_t seed = 1; seed <= 600; ++seed) {
    const Case test = random_case(seed);
    SCOPED_TRACE(test.name());
    const LayerClass& c = test.deployment.classes.front();
    const RoutingTrace trace = widened(test, c);
    const std::int32_t L = test.options.adapters.max_loras;
    const std::int64_t B = test.options.block_size;
    const ClassLoad got = routing_load(test.deployment, c, trace, L, B);
    std::int64_t total = 0, most = 0;
    for (std::int32_t rank = 0; rank < test.deployment.num_ranks; ++rank) {
      const Stand at(test.deployment, c, rank);
      const auto shard = part_of_item(trace.num_tokens, at.shards);
      const auto home = part_of_item(trace.num_tokens, at.homes);
      std::map<std::int32_t, std::int64_t> base;
      std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> lora;
      RankLoad want;
      std::int64_t nowhere = 0;
      for (std::int64_t t = 0; t < trace.num_tokens; ++t)
        for (std::int32_t k = 0; k < trace.top_k; ++k) {
          const auto [q, local] =
              server_of(c, trace.topk_ids[t * trace.top_k + k], t, k, trace.top_k, home[t]);
          nowhere += q < 0;
          if (shard[t] != at.shard || q != at.ep) continue;
          ++want.slots;
          ++base[local];
          const std::int32_t l = trace.token_lora_mapping.empty() ? -1 : trace.token_lora_mapping[t];
          want.adapter_slots += l >= 0 && l < L;
          if (L > 0 && l < L) ++lora[{local, std::max(l, 0)}];
        }
      ASSERT_EQ(got.unrouted_slots, nowhere);
      std::int64_t base_rows = 0, lora_rows = 0;
      for (const auto& [local, count] : base)
        for (std::int64_t left = count; left > 0; left -= B, base_rows += B) ++want.blocks;
      for (const auto& [bucket, count] : lora) {
        want.lora_slots += count;
        for (std::int64_t left = count; left > 0; left -= B, lora_rows += B) ++want.lora_blocks;
      }
      want.experts_used = static_cast<std::int64_t>(base.size());
      want.virtual_experts_used = static_cast<std::int64_t>(lora.size());
      ASSERT_EQ(got.ranks[rank], want) << "rank " << rank;
      ASSERT_EQ(got.ranks[rank].padding(B), base_rows - want.slots);
      ASSERT_EQ(got.ranks[rank].lora_padding(B), lora_rows - want.lora_slots);
      total += want.slots;
      most = std::max(most, want.slots);
      with_lora += want.lora_blocks > 0;
    }
    with_replicas += c.layout.placement.has_replicas();
    if (total > 0)
      ASSERT_DOUBLE_EQ(got.imbalance(),
                       static_cast<double>(most * test.deployment.num_ranks) / static_cast<double>(total));
    else
      ASSERT_EQ(got.imbalance(), 1.0);
  }
  EXPECT_GT(with_replicas, 50);
  EXPECT_GT(with_lora, 500);
}

}  // namespace
}  // namespace eplora::price_test
