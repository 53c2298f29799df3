// SPDX-License-Identifier: Apache-2.0
// Bugs of dispatch, remap and align that engines shipped and fixed. Each overrides one operation of the
// reference and is wrong in one way.
#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "property_tests/mutants/mutants.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"

namespace eplora::suite {
namespace {

void write(const AlignResult& result, const AlignOutput& output) {
  std::copy(result.sorted_token_ids.begin(), result.sorted_token_ids.end(), output.sorted_token_ids);
  std::copy(result.expert_ids.begin(), result.expert_ids.end(), output.expert_ids);
  *output.num_tokens_post_padded = result.num_tokens_post_padded;
}

/// Ids as int32, contiguous, each through `change`; rows past num_tokens stay sentinels.
template <class Change>
AlignResult align_changed(const AlignProblem& p, Change change) {
  std::vector<std::int32_t> ids(p.ids.size(), -1);
  const std::int64_t V = p.num_buckets;
  for (std::int64_t t = 0; t < p.num_tokens.resolve(p.ids.rows); ++t)
    for (std::int64_t k = 0; k < p.ids.cols; ++k) {
      const std::int64_t id = change(p.ids.at(t, k));
      ids[t * p.ids.cols + k] = 0 <= id && id < V ? static_cast<std::int32_t>(id) : -1;
    }
  AlignProblem changed = p;
  changed.ids = IdMatrix::of(ids, p.ids.cols);
  changed.num_tokens = {};
  return reference::align(changed);
}

/// A negative id goes through the affine map like any other.
struct RemapNeg : Mutated<RemapNeg> {
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::remap(p, out, context);
    if (p.shared_outer) return;
    for (std::int64_t t = 0; t < p.num_tokens.resolve(p.topk_ids.rows); ++t)
      for (std::int64_t k = 0; k < p.topk_ids.cols; ++k) {
        const std::int64_t id = p.topk_ids.at(t, k), l = p.token_lora_mapping[t];
        if (id < 0 && id > -1000 && 0 <= l && l < p.max_loras)
          out.virtual_ids[t * p.topk_ids.cols + k] = static_cast<std::int32_t>(id + l * p.num_experts);
      }
  }
};

/// An id past the experts goes through the affine map and names an expert of the next adapter.
struct UpperBoundId : Mutated<UpperBoundId> {
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::remap(p, out, context);
    if (p.shared_outer) return;
    for (std::int64_t t = 0; t < p.num_tokens.resolve(p.topk_ids.rows); ++t)
      for (std::int64_t k = 0; k < p.topk_ids.cols; ++k) {
        const std::int64_t id = p.topk_ids.at(t, k), l = p.token_lora_mapping[t];
        if (id >= p.num_experts && id < 2 * p.num_experts && 0 <= l && l < p.max_loras)
          out.virtual_ids[t * p.topk_ids.cols + k] = static_cast<std::int32_t>(id + l * p.num_experts);
      }
  }
};

/// Element offsets are computed in 32 bits.
struct Int32Offsets : Mutated<Int32Offsets> {
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& context) override {
    if (p.topk_ids.type != IdType::int32 || p.topk_ids.rows == 0)
      return ReferenceBackend::remap(p, out, context);
    const auto* data = static_cast<const std::int32_t*>(p.topk_ids.data);
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < p.topk_ids.rows; ++t)
      for (std::int64_t k = 0; k < p.topk_ids.cols; ++k)
        ids.push_back(data[static_cast<std::int32_t>(t * p.topk_ids.row_stride + k)]);
    RemapProblem wrong = p;
    wrong.topk_ids = IdMatrix::of(ids, p.topk_ids.cols);
    ReferenceBackend::remap(wrong, out, context);
  }
};

/// The rank's first expert is subtracted by the host and once more by the kernel.
struct DoubleOffset : Mutated<DoubleOffset> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    if (!p.offsets.empty()) return;
    const auto first = std::find_if(p.table.begin(), p.table.end(), [](std::int32_t id) { return id >= 0; });
    const auto offset = static_cast<std::int32_t>(first - p.table.begin());
    for (std::int64_t s = 0; s < p.topk_ids.size(); ++s)
      if (out.local_ids[s] >= 0) out.local_ids[s] = std::max(out.local_ids[s] - offset, -1);
  }
};

/// Rows past the real ones keep whatever ids the receive buffer held.
struct StalePadding : Mutated<StalePadding> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    DispatchProblem wrong = p;
    wrong.num_tokens = {};
    ReferenceBackend::dispatch(wrong, out, context);
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

/// `table[id]` with id = -1 reads the last entry.
struct ExpertMapWrap : Mutated<ExpertMapWrap> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    for (std::int64_t t = 0; t < p.num_tokens.resolve(p.topk_ids.rows); ++t)
      for (std::int64_t k = 0; k < p.topk_ids.cols; ++k)
        if (p.topk_ids.at(t, k) == -1 && !p.table.empty())
          out.local_ids[t * p.topk_ids.cols + k] = std::max(p.table.back(), -1);
  }
};

/// Ids past the end are clamped, so they count as the last bucket.
struct ClampToLast : Mutated<ClampToLast> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    write(align_changed(p, [&](std::int64_t id) { return std::min<std::int64_t>(id, p.num_buckets - 1); }),
          out);
  }
};

/// A table indexed with a raw negative id wraps around to the end.
struct AlignNegIndex : Mutated<AlignNegIndex> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    write(align_changed(p, [&](std::int64_t id) { return id < 0 ? p.num_buckets + id : id; }), out);
  }
};

/// The branch for large batches tests only the upper bound: a negative id lands in the first bucket.
struct AlignOneBranch : Mutated<AlignOneBranch> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext& context) override {
    if (p.ids.size() < 1024) return ReferenceBackend::align(p, out, context);
    write(align_changed(p, [](std::int64_t id) { return std::max<std::int64_t>(id, 0); }), out);
  }
};

/// Unused labels are filled with 0 and look like expert 0.
struct ExpertIdsPad : Mutated<ExpertIdsPad> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    AlignResult result = reference::align(p);
    std::fill(result.expert_ids.begin() + result.num_tokens_post_padded / p.block_size,
              result.expert_ids.end(), 0);
    write(result, out);
  }
};

/// Entries past the used prefix are left as they were found.
struct UnwrittenTail : Mutated<UnwrittenTail> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    AlignResult result = reference::align(p);
    result.sorted_token_ids.resize(result.num_tokens_post_padded);
    write(result, out);
  }
};

/// Slots of a bucket stand in the order in which threads happened to arrive.
struct AlignOrder : Mutated<AlignOrder> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    AlignResult result = reference::align(p);
    ++calls_;
    for (std::int64_t b = 0; b < result.num_tokens_post_padded / p.block_size; ++b) {
      const auto first = result.sorted_token_ids.begin() + b * p.block_size;
      const auto last = std::find(first, first + p.block_size, static_cast<std::int32_t>(p.ids.size()));
      if (last != first) std::rotate(first, first + calls_ % (last - first), last);
    }
    write(result, out);
  }
  std::int64_t calls_ = 0;
};

/// Counts and labels are right, but only the first slot of each block is scattered.
struct DropsTokens : Mutated<DropsTokens> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    AlignResult result = reference::align(p);
    for (std::size_t i = 0; i < result.sorted_token_ids.size(); ++i)
      if (i % p.block_size != 0) result.sorted_token_ids[i] = static_cast<std::int32_t>(p.ids.size());
    write(result, out);
  }
};

/// The token's index stands where the slot's should: right only for K = 1.
struct TokenForSlot : Mutated<TokenForSlot> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    AlignResult result = reference::align(p);
    for (std::int32_t& slot : result.sorted_token_ids)
      if (slot < p.ids.size()) slot = static_cast<std::int32_t>(slot / p.ids.cols);
    write(result, out);
  }
};

}  // namespace

std::vector<Mutant> routing_mutants() {
  return {
      mutant<RemapNeg>(
          "remap-neg", "sgl-project/sglang#24171",
          "remap puts -1 through the affine map: it becomes the last expert of the adapter before"),
      mutant<UpperBoundId>("upper-bound-id", "sgl-project/sglang#40240",
                           "remap rejects negative ids only: id E becomes expert 0 of the next adapter"),
      mutant<Int32Offsets>("int32", "vllm-project/vllm#34507", "remap computes element offsets in 32 bits"),
      mutant<DoubleOffset>("double-offset", "flashinfer-ai/flashinfer#3547",
                           "dispatch subtracts the rank's first expert twice"),
      mutant<StalePadding>("a2a-padding", "sgl-project/sglang#24850",
                           "dispatch passes on the stale ids of rows past num_tokens"),
      mutant<ExpertMapWrap>("expert-map-wrap", "vllm-project/vllm#46408",
                            "dispatch reads the table's last entry for id -1"),
      mutant<ClampToLast>("clamp-to-last", "huggingface/transformers#45621",
                          "align clamps ids past the end, so they count as the last expert"),
      mutant<AlignNegIndex>("align-neg-index", "sgl-project/sglang#24171",
                            "align indexes its offsets with raw ids, so -1 wraps to the last expert"),
      mutant<AlignOneBranch>("align-one-branch", "sgl-project/sglang#23178",
                             "align's branch for large batches tests only the upper bound of an id"),
      mutant<ExpertIdsPad>("expert-ids-pad", "vllm-project/vllm#35161",
                           "align labels unused blocks 0 instead of -1"),
      mutant<UnwrittenTail>("unwritten-tail", "vllm-project/vllm#40131",
                            "align leaves sorted_token_ids unwritten past the used prefix"),
      mutant<AlignOrder>("align-order", "vllm-project/vllm#52532",
                         "align orders the slots of a bucket by thread arrival"),
      mutant<AlignMaxLoras>("align-max-loras", "vllm-project/vllm#40131",
                            "route leaves the last adapter's blocks unlabelled"),
      mutant<DropsTokens>("xpu-drops-tokens", "vllm-project/vllm-xpu-kernels#453",
                          "align scatters only the first slot of each block; counts and labels are right"),
      mutant<TokenForSlot>("reverse-map-drop", "flashinfer-ai/flashinfer#2629",
                           "align stores the token's index where the slot's is expected"),
  };
}

}  // namespace eplora::suite
