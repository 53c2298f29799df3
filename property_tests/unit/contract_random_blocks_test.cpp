// SPDX-License-Identifier: Apache-2.0
// The judges' own tests on random problems, P3 to P6 and route: the reference is accepted in every declared
// form, no other result is accepted in the canonical one, and garbage is refused without a crash.
#include "property_tests/unit/contract_expect.h"
#include "property_tests/unit/contract_routing_cases.h"
#include "reference/contract/blocks.h"
#include "reference/routing/align.h"
#include "reference/routing/route.h"

namespace eplora::contract {
namespace {

constexpr int kCases = 400;

std::int64_t capacity_of(const AlignProblem& problem) {
  return align_capacity(problem.ids.size(), problem.num_buckets, problem.block_size, problem.sentinels);
}

/// The canonical result in another form. `own_foreign_blocks` gives every sentinel slot a block.
struct Reshaped {
  AlignResult result;
  std::int64_t capacity;
};
Reshaped reshape(const AlignProblem& problem, const AlignResult& canonical, const Form& form,
                 Random& random) {
  const std::int64_t B = problem.block_size, n = problem.ids.size();
  std::vector<std::pair<std::int32_t, std::vector<std::int32_t>>> blocks, foreign, all;
  for (std::int64_t block = 0; block < canonical.num_tokens_post_padded / B; ++block) {
    const auto begin = canonical.sorted_token_ids.begin() + block * B;
    (canonical.expert_ids[block] < 0 ? foreign : blocks)
        .push_back({canonical.expert_ids[block], std::vector<std::int32_t>(begin, begin + B)});
  }
  if (form.sentinel == SentinelPlace::drop) foreign.clear();
  if (form.sentinel == SentinelPlace::per_foreign_expert) {
    std::vector<std::pair<std::int32_t, std::vector<std::int32_t>>> own;
    for (const auto& block : foreign)
      for (const std::int32_t slot : block.second) {
        if (slot >= n) continue;
        own.push_back({-1, std::vector<std::int32_t>(B, static_cast<std::int32_t>(n))});
        own.back().second[0] = slot;
      }
    foreign = own;
    all = blocks;
    for (const auto& block : foreign)
      all.insert(all.begin() + random.in(0, static_cast<std::int64_t>(all.size())), block);
  } else if (form.sentinel == SentinelPlace::first) {
    all = foreign;
    all.insert(all.end(), blocks.begin(), blocks.end());
  } else {
    all = blocks;
    all.insert(all.end(), foreign.begin(), foreign.end());
  }
  AlignResult result;
  for (const auto& [label, slots] : all) {
    result.expert_ids.push_back(label);
    result.sorted_token_ids.insert(result.sorted_token_ids.end(), slots.begin(), slots.end());
  }
  const auto used = static_cast<std::int64_t>(result.sorted_token_ids.size());
  result.num_tokens_post_padded = static_cast<std::int32_t>(used);
  if (form.order != Order::stable)  // shuffle inside each bucket, filler included
    for (std::int64_t begin = 0, end = 0; begin < used; begin = end) {
      const bool alone =
          form.sentinel == SentinelPlace::per_foreign_expert && result.expert_ids[begin / B] < 0;
      for (end = begin + B;
           end < used && !alone && result.expert_ids[end / B] == result.expert_ids[begin / B];)
        end += B;
      for (std::int64_t i = end - 1; i > begin; --i)
        std::swap(result.sorted_token_ids[i], result.sorted_token_ids[random.in(begin, i)]);
    }
  if (!form.canonical_values)
    for (std::int32_t& value : result.sorted_token_ids)
      if (value >= n) value = static_cast<std::int32_t>(n + random.in(0, 99));
  const std::int64_t capacity = std::max(used, capacity_of(problem));
  for (std::int64_t i = used; i < capacity; ++i)
    result.sorted_token_ids.push_back(form.tail == Tail::written
                                          ? static_cast<std::int32_t>(n)
                                          : static_cast<std::int32_t>(random.in(-9, n)));
  for (std::int64_t i = used / B; i < capacity / B; ++i)
    result.expert_ids.push_back(form.tail == Tail::written ? -1
                                                           : static_cast<std::int32_t>(random.in(-9, 30)));
  return {result, capacity};
}

TEST(RandomBlocks, TheReferenceIsAcceptedInEveryDeclaredForm) {
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const RoutingCase c = random_case(seed);
    const AlignProblem problem = c.align();
    const AlignResult right = reference::align(problem);
    Random random(seed);
    const Verdict verdict = judge_blocks(problem, right, capacity_of(problem));
    ASSERT_FALSE(verdict) << "seed " << seed << ": " << verdict->sentence;
    for (const SentinelPlace place :
         {SentinelPlace::last, SentinelPlace::first, SentinelPlace::drop, SentinelPlace::per_foreign_expert})
      for (const Order order : {Order::stable, Order::free, Order::nondeterministic})
        for (const Tail tail : {Tail::written, Tail::unwritten})
          for (const bool canonical_values : {true, false}) {
            Form form;
            form.sentinel = place, form.order = order, form.tail = tail,
            form.canonical_values = canonical_values;
            const Reshaped other = reshape(problem, right, form, random);
            const Verdict accepted = judge_blocks(problem, other.result, other.capacity, form);
            ASSERT_FALSE(accepted) << "seed " << seed << ", " << to_string(form) << ": "
                                   << accepted->sentence;
          }
  }
}

TEST(RandomBlocks, AnUndeclaredFormIsRefused) {
  int refused[4] = {};
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const RoutingCase c = random_case(seed);
    const AlignProblem problem = c.align();
    const AlignResult right = reference::align(problem);
    Random random(seed);
    Form forms[4];
    forms[0].sentinel = SentinelPlace::first;
    forms[1].sentinel = SentinelPlace::drop;
    forms[2].order = Order::free;
    forms[3].tail = Tail::unwritten;
    for (int i = 0; i < 4; ++i) {
      const Reshaped other = reshape(problem, right, forms[i], random);
      const bool same = other.result == right;
      EXPECT_EQ(judge_blocks(problem, other.result, other.capacity).has_value(), !same) << "seed " << seed;
      refused[i] += !same;
    }
  }
  for (const int count : refused) EXPECT_GT(count, kCases / 8);
}

/// The canonical form is unique: a result that differs from it in one value is refused.
TEST(RandomBlocks, OneChangedValueIsRefused) {
  int tried = 0;
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const RoutingCase c = random_case(seed);
    const AlignProblem problem = c.align();
    const AlignResult right = reference::align(problem);
    Random random(seed + 7);
    for (int i = 0; i < 20 && !right.sorted_token_ids.empty(); ++i) {
      AlignResult wrong = right;
      std::vector<std::int32_t>& array = random.one_in(3) ? wrong.expert_ids : wrong.sorted_token_ids;
      std::int32_t& value = random.one_in(8)
                                ? wrong.num_tokens_post_padded
                                : array[random.in(0, static_cast<std::int64_t>(array.size()) - 1)];
      value = other_value(random, value);
      ASSERT_TRUE(judge_blocks(problem, wrong, capacity_of(problem))) << "seed " << seed << ", change " << i;
      ++tried;
    }
  }
  EXPECT_GT(tried, kCases * 10);
}

TEST(RandomBlocks, TwoSwappedEntriesAreRefused) {
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const RoutingCase c = random_case(seed);
    const AlignProblem problem = c.align();
    AlignResult wrong = reference::align(problem);
    if (wrong.sorted_token_ids.empty()) continue;
    Random random(seed + 11);
    const std::int64_t last = static_cast<std::int64_t>(wrong.sorted_token_ids.size()) - 1;
    std::swap(wrong.sorted_token_ids[random.in(0, last)], wrong.sorted_token_ids[random.in(0, last)]);
    EXPECT_EQ(judge_blocks(problem, wrong, capacity_of(problem)).has_value(),
              wrong != reference::align(problem));
  }
}

TEST(RandomBlocks, GarbageIsRefusedWithoutACrash) {
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const RoutingCase c = random_case(seed);
    const AlignProblem problem = c.align();
    if (problem.ids.size() == 0) continue;
    Random random(seed + 13);
    AlignResult garbage;
    garbage.sorted_token_ids.resize(random.one_in(2) ? capacity_of(problem) : random.in(0, 40));
    garbage.expert_ids.resize(random.one_in(2) ? capacity_of(problem) / problem.block_size
                                               : random.in(0, 40));
    for (auto* array : {&garbage.sorted_token_ids, &garbage.expert_ids})
      for (std::int32_t& value : *array)
        value = other_value(random, static_cast<std::int32_t>(random.in(-20, 50)));
    const bool plausible = random.one_in(2);
    garbage.num_tokens_post_padded = plausible
                                         ? reference::align(problem).num_tokens_post_padded
                                         : other_value(random, static_cast<std::int32_t>(random.in(-99, 99)));
    for (const SentinelPlace place : {SentinelPlace::last, SentinelPlace::first, SentinelPlace::drop,
                                      SentinelPlace::per_foreign_expert}) {
      Form form;
      form.sentinel = place;
      p3_partition(problem, garbage, form);
      p4_filler(problem, garbage, form);
      p5_bounds(problem, garbage, random.in(-9, 99), form);
      p6_labels(problem, garbage, form);
    }
    EXPECT_TRUE(judge_blocks(problem, garbage, capacity_of(problem)) || garbage == reference::align(problem));
    EXPECT_TRUE(judge_blocks(problem, {}, capacity_of(problem)) ||
                reference::align(problem) == AlignResult{});
  }
}

TEST(RandomRoute, TheReferenceIsAcceptedAndOneChangedValueIsNot) {
  int tried = 0;
  for (std::uint64_t seed = 0; seed < kCases; ++seed) {
    const RoutingCase c = random_case(seed);
    const RouteProblem problem = c.route();
    const RouteResult right = reference::route(problem);
    const std::int64_t capacity =
        align_capacity(problem.topk_ids.size(), problem.num_buckets(), problem.block_size, problem.sentinels);
    const Verdict verdict = judge_route(problem, right, capacity);
    ASSERT_FALSE(verdict) << "seed " << seed << ": " << verdict->sentence;
    Random random(seed + 17);
    RouteResult wrong = right;
    if (!wrong.token_lora_mask.empty()) {
      wrong.token_lora_mask[random.in(0, static_cast<std::int64_t>(wrong.token_lora_mask.size()) - 1)] ^= 1;
      ASSERT_TRUE(judge_route(problem, wrong, capacity)) << "seed " << seed;
      ++tried;
    }
    wrong = right;
    if (wrong.blocks.expert_ids.empty()) continue;
    std::int32_t& value = random.one_in(2)
                              ? wrong.blocks.expert_ids[0]
                              : wrong.blocks.sorted_token_ids[random.in(
                                    0, static_cast<std::int64_t>(wrong.blocks.sorted_token_ids.size()) - 1)];
    value = other_value(random, value);
    ASSERT_TRUE(judge_route(problem, wrong, capacity)) << "seed " << seed;
  }
  EXPECT_GT(tried, kCases / 2);
}

TEST(RouteJudge, NamesExpertAndAdapterOfASlotInTheWrongBlock) {
  const std::vector<std::int32_t> ids{1, 0, 3, 2}, mapping{1, 0}, table{-1, -1, 0, 1};
  RouteProblem problem;
  problem.topk_ids = IdMatrix::of(ids, 2);
  problem.token_lora_mapping = mapping;
  problem.num_experts = 4, problem.table = table, problem.num_local_experts = 2;
  problem.max_loras = 2, problem.block_size = 1;
  RouteResult wrong =
      reference::route(problem);  // slot 2 -> expert 1 of adapter 0, slot 3 -> expert 0 of adapter 0
  EXPECT_EQ(wrong.blocks.sorted_token_ids, (std::vector<std::int32_t>{3, 2, 0, 1}));
  std::swap(wrong.blocks.sorted_token_ids[0], wrong.blocks.sorted_token_ids[1]);
  expect_violation(judge_route(problem, wrong, 4), "P3", 2, "1", "0",
                   "slot 2 (token 1, k 0) has id 1 = expert 1, adapter 0; it stands in a block labelled 0");
  wrong = reference::route(problem);
  wrong.token_lora_mask[1] = 0;
  expect_violation(judge_route(problem, wrong, 4), "P2", 1, "1", "0", "token 1");
}

TEST(RouteJudge, ASharedOuterRoutingMayRouteSentinelsIfItDeclaresSo) {
  const std::vector<std::int32_t> ids{-1, 0}, mapping{1};
  RouteProblem problem;
  problem.topk_ids = IdMatrix::of(ids, 2);
  problem.token_lora_mapping = mapping;
  problem.num_local_experts = 1, problem.max_loras = 2, problem.block_size = 2, problem.shared_outer = true;
  const RouteResult routed{{{0, 1, 2, 2}, {1, -1}, 2}, {1}};
  const RouteResult ours = reference::route(problem);
  Form form;
  expect_accepted(judge_route(problem, ours, 4, form));
  expect_violation(judge_route(problem, routed, 4, form), "P5", -1, "4", "2");
  form.shared_outer_sentinels = SharedOuterSentinels::routed;
  expect_accepted(judge_route(problem, routed, 4, form));
  expect_violation(judge_route(problem, ours, 4, form), "P5", -1, "2", "4");
}

}  // namespace
}  // namespace eplora::contract
