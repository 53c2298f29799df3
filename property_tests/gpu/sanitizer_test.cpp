// SPDX-License-Identifier: Apache-2.0
// A reduced set for compute-sanitizer: every tier with one item a thread and with more, in one block and in a
// few, every step kernel, slicing, on problems as small as each can be. Racecheck follows every access to
// shared memory, so sizes matter; without a tool all of it takes a few seconds.
// Run with EPLORA_POOL=off, where every buffer is an allocation of its own.
#include <array>

#include "optimized/guarded_run.h"
#include "property_tests/generators/random_slice.h"
#include "property_tests/gpu/gpu_test.h"
#include "reference/lora/slice.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"

namespace eplora::gpu {
namespace {

class Sanitizer : public GpuTest {
 protected:
  bool judge_slice(Backend& backend, std::uint64_t seed) {
    const RandomSlice c(seed);
    LoraBuffers want(c.shape, 0xCD), got(c.shape, 0xCD);
    reference::slice(c.problem, want.view());
    GuardedRun(backend, kPoisons[seed % 2]).slice(c.problem, got);
    return count("slice, seed " + std::to_string(seed), same_bytes(got, want) ? "" : "the buffers differ");
  }

  bool judge_steps(Backend& backend, const GpuCase& c) {
    const RouteProblem p = c.route();
    const GuardedRun run(backend, kPoisons[1]);
    const RemapProblem remap{p.topk_ids,     p.token_lora_mapping, p.num_local_experts, p.max_loras,
                             p.shared_outer, p.no_adapter,         p.num_tokens};
    bool go_on = count("remap, " + c.text(), run.remap(remap) == reference::remap(remap) ? "" : "differs");
    if (p.table.empty()) return go_on;
    const DispatchProblem dispatch{p.topk_ids, p.num_experts, p.table,
                                   p.offsets,  p.slot_offset, p.num_tokens};
    return count("dispatch, " + c.text(),
                 run.dispatch(dispatch) == reference::dispatch(dispatch) ? "" : "differs") &&
           go_on;
  }
};

TEST_F(Sanitizer, everyTierOnOneItemAThread) {
  constexpr std::array<std::uint32_t, 2> kBlocks = {1, 3};
  for (const auto& [n, V, number] :
       {std::tuple{33, 20, 100}, std::tuple{200, 70, 203}, std::tuple{200, 9, 314}}) {
    const GpuCase c = make_case(n, V, static_cast<std::uint64_t>(number));
    if (!judge_tiers(c, expected(c), kBlocks)) return;
  }
}

TEST_F(Sanitizer, everyTierOnSeveralItemsAThread) {
  constexpr std::array<std::uint32_t, 1> kBlocks = {1};
  const GpuCase c = make_case(1400, 40, 400);
  judge_tiers(c, expected(c), kBlocks);
}

TEST_F(Sanitizer, everyTierOnUsualCalls) {
  constexpr std::array<std::uint32_t, 2> kBlocks = {1, 2};
  for (const std::int64_t V : {48, 1040})  // few enough for one word of bits a lane, and more
    for (const Pattern pattern : {Pattern::uniform, Pattern::one_bucket})
      for (const auto make : {plain_case, dispatched_case}) {
        const GpuCase c = make(200, V, 8, pattern);
        if (!judge_tiers(c, expected(c), kBlocks)) return;
      }
}

TEST_F(Sanitizer, twoTilesOfTheLargestTier) {
  const GpuCase c = plain_case(9000, 64, 16, Pattern::zipf);
  const RouteResult want = expected(c);
  for (const cuda::RoutePlan& plan :
       cuda::plans_of_tier(kAllTiers.back(), size_of(c.n(), c.V(), c.capacity()), device(), 1))
    judge(*make_plan_backend(plan), c, want, kPoisons[1]);
}

TEST_F(Sanitizer, everyStepKernel) {
  const auto cuda = make_backend("cuda"), unfused = make_backend("cuda-unfused");
  for (std::uint64_t number = 500; number < 512; ++number) {
    GpuCase c = make_case(120, 60, number);
    if (c.align_only) continue;
    if (!judge_steps(*cuda, c) || !judge(*unfused, c, expected(c), kPoisons[number % 2])) return;
  }
}

TEST_F(Sanitizer, slicing) {
  const auto backend = make_backend("cuda");
  for (std::uint64_t seed = 20; seed < 40; ++seed)
    if (!judge_slice(*backend, seed)) return;
}

TEST_F(Sanitizer, thrust) {
  const auto backend = make_backend("thrust-cuda");
  const GpuCase c = make_case(60, 20, 603);
  judge(*backend, c, expected(c), kPoisons[1]);
  judge_slice(*backend, 21);
}

}  // namespace
}  // namespace eplora::gpu
