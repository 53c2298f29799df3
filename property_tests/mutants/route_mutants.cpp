// SPDX-License-Identifier: Apache-2.0
// Bugs of sizes - two formulas for one length - and of the fused route.
#include <algorithm>
#include <vector>

#include "property_tests/mutants/mutants.h"
#include "reference/routing/align.h"
#include "reference/routing/route.h"

namespace eplora::suite {
namespace {

/// As much of a result as a shorter array takes.
void write_within(const AlignResult& result, std::int64_t capacity, std::int64_t block_size,
                  const AlignOutput& out) {
  const auto most = [](std::int64_t room, const auto& values) {
    return std::min<std::int64_t>(room, std::ssize(values));
  };
  std::copy_n(result.sorted_token_ids.begin(), most(capacity, result.sorted_token_ids), out.sorted_token_ids);
  std::copy_n(result.expert_ids.begin(), most(capacity / block_size, result.expert_ids), out.expert_ids);
  *out.num_tokens_post_padded = result.num_tokens_post_padded;
}

/// A capacity by another formula; what does not fit is not written.
template <class Self>
struct OtherCapacity : Mutated<Self> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    write_within(reference::align(p), this->capacity(p.ids.size(), p.num_buckets, p.block_size, p.sentinels),
                 p.block_size, out);
  }
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext&) override {
    const RouteResult result = reference::route(p);
    write_within(result.blocks, this->capacity(p.topk_ids.size(), p.num_buckets(), p.block_size, p.sentinels),
                 p.block_size, out.blocks);
    std::copy(result.token_lora_mask.begin(), result.token_lora_mask.end(), out.token_lora_mask);
  }
};

/// The sentinel bucket is not counted: its padding has no room.
struct SentinelBucketUncounted : OtherCapacity<SentinelBucketUncounted> {
  std::int64_t capacity(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels) const override {
    return align_capacity(n, V, B, Sentinels::drop);
  }
};

/// Sized for this rank's tokens, used for those gathered from two.
struct LocalTokens : OtherCapacity<LocalTokens> {
  std::int64_t capacity(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels s) const override {
    return align_capacity((n + 1) / 2, V, B, s);
  }
};

/// The host allocates n + (V+1)(B-1) entries; the kernel rounds that up to whole blocks and fills them.
struct RoundedUp : Mutated<RoundedUp> {
  std::int64_t capacity(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels) const override {
    return n + (V + 1) * (B - 1);
  }
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    const std::int64_t B = p.block_size, room = capacity(p.ids.size(), p.num_buckets, B, p.sentinels);
    const AlignResult result = reference::align(p);
    std::fill_n(out.sorted_token_ids, (room + B - 1) / B * B, static_cast<std::int32_t>(p.ids.size()));
    std::fill_n(out.expert_ids, room / B, -1);
    write_within(result, room, B, out);
  }
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext&) override {
    const RouteResult result = reference::route(p);
    const std::int64_t B = p.block_size, room = capacity(p.topk_ids.size(), p.num_buckets(), B, p.sentinels);
    std::fill_n(out.blocks.sorted_token_ids, room, static_cast<std::int32_t>(p.topk_ids.size()));
    std::fill_n(out.blocks.expert_ids, room / B, -1);
    write_within(result.blocks, room, B, out.blocks);
    std::copy(result.token_lora_mask.begin(), result.token_lora_mask.end(), out.token_lora_mask);
  }
};

/// The workspace is sized for decoding, 16 slots, and used for any batch.
struct DecodeWorkspace : Mutated<DecodeWorkspace> {
  static constexpr std::int64_t kDecode = 16;
  std::size_t workspace_bytes(const AlignProblem& p) const override {
    return static_cast<std::size_t>(std::min(p.ids.size(), kDecode)) * sizeof(std::int32_t);
  }
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::align(p, out, context);
    auto* const counts = static_cast<std::int32_t*>(context.workspace);
    for (std::int64_t s = 0; s < std::min(p.ids.size(), 2 * kDecode); ++s) counts[s] = 0;
  }
};

/// The grid has a place for each adapter but one of them is taken by the tokens without adapter: the last
/// adapter's blocks are never labelled.
struct AlignMaxLoras : Mutated<AlignMaxLoras> {
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::route(p, out, context);
    const std::int64_t V = p.num_buckets(), of_one = p.max_loras > 0 ? V / p.max_loras : 0;
    for (std::int64_t b = 0; b < *out.blocks.num_tokens_post_padded / p.block_size; ++b)
      if (p.max_loras > 1 && out.blocks.expert_ids[b] >= V - of_one) out.blocks.expert_ids[b] = -1;
  }
};

/// Virtual ids are computed with the model's experts instead of the rank's.
struct GlobalExperts : Mutated<GlobalExperts> {
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext&) override {
    RouteProblem wrong = p;
    if (!p.table.empty()) wrong.num_local_experts = p.num_experts;
    const RouteResult result = reference::route(wrong);
    const std::int64_t capacity =
        this->capacity(p.topk_ids.size(), p.num_buckets(), p.block_size, p.sentinels);
    std::fill_n(out.blocks.sorted_token_ids, capacity, static_cast<std::int32_t>(p.topk_ids.size()));
    std::fill_n(out.blocks.expert_ids, capacity / p.block_size, -1);
    write_within(result.blocks, capacity, p.block_size, out.blocks);
    std::copy(result.token_lora_mask.begin(), result.token_lora_mask.end(), out.token_lora_mask);
  }
};

/// Expert parallelism is not switched on: no map is passed, ids are taken as they come.
struct NoMap : Mutated<NoMap> {
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext& context) override {
    RouteProblem wrong = p;
    wrong.table = {};
    wrong.offsets = {};
    ReferenceBackend::route(wrong, out, context);
  }
};

/// The graph for all adapters was captured without a base token: where one comes, the grid is one too small.
struct GraphKey : Mutated<GraphKey> {
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::route(p, out, context);
    const std::int64_t T = p.num_tokens.resolve(p.topk_ids.rows);
    const std::int64_t with_adapter = std::count(out.token_lora_mask, out.token_lora_mask + T, 1);
    if (with_adapter == 0 || with_adapter == T) return;
    const std::int64_t V = p.num_buckets(), of_one = p.max_loras > 0 ? V / p.max_loras : 0;
    for (std::int64_t b = 0; b < *out.blocks.num_tokens_post_padded / p.block_size; ++b)
      if (out.blocks.expert_ids[b] >= V - of_one) out.blocks.expert_ids[b] = -1;
  }
};

}  // namespace

std::vector<Mutant> route_mutants() {
  return {
      mutant<AlignMaxLoras>("align-max-loras", "vllm-project/vllm#40131",
                            "route leaves the last adapter's blocks unlabelled", {{"L", 2}}),
      mutant<GraphKey>("graph-key", "vllm-project/vllm#32005",
                       "route leaves the last adapter's blocks unlabelled where a token has no adapter",
                       {{"T", 2}}),
      mutant<GlobalExperts>("nvfp4-global-E", "sgl-project/sglang#24576",
                            "route's adapters stand E of the model apart instead of E of the rank",
                            {{"E", 2}, {"L", 2}, {"ranks", 2}}),
      mutant<NoMap>("marlin-no-map", "sgl-project/sglang#28170",
                    "route passes no map: global ids are used as local", {{"E", 2}, {"ranks", 2}}),
      mutant<SentinelBucketUncounted>("wna16-bounds", "vllm-project/vllm#45496",
                                      "the capacity does not count the sentinel bucket",
                                      {{"T", 2}, {"K", 2}, {"B", 2}}),
      mutant<LocalTokens>("gathered-size", "sgl-project/sglang#29874",
                          "arrays are sized for half of the tokens that come", {{"T", 2}, {"K", 2}}),
      mutant<RoundedUp>("stride-mismatch", "vllm-project/vllm#27311",
                        "the kernel rounds a length up to whole blocks that the host did not",
                        {{"B", 2}, {"V", 2}}),
      mutant<DecodeWorkspace>("trt-graph-scratch", "NVIDIA/TensorRT-LLM#18972",
                              "the workspace is sized for 16 slots and used for all", {{"T", 17}, {"K", 17}}),
  };
}

}  // namespace eplora::suite
