// SPDX-License-Identifier: Apache-2.0
// Bugs of align: ids to blocks.
#include <algorithm>
#include <vector>

#include "property_tests/mutants/mutants.h"
#include "reference/routing/align.h"

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
      if (last - first > 1) std::rotate(first, first + 1 + calls_ % (last - first - 1), last);
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

/// The id of the fused shared expert, which stands behind the routed ones, is not counted in.
struct SharedExpertLost : Mutated<SharedExpertLost> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    write(align_changed(p, [&](std::int64_t id) { return id == p.num_buckets - 1 ? -1 : id; }), out);
  }
};

/// Block labels are running numbers of blocks.
struct RunningLabels : Mutated<RunningLabels> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    AlignResult result = reference::align(p);
    for (std::int32_t b = 0; b < result.num_tokens_post_padded / p.block_size; ++b)
      if (result.expert_ids[b] >= 0) result.expert_ids[b] = b;
    write(result, out);
  }
};

/// The branch for small batches counts ids past the end with the sentinels, but never scatters them.
struct BranchesDiffer : Mutated<BranchesDiffer> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext& context) override {
    if (p.ids.size() >= 1024) return ReferenceBackend::align(p, out, context);
    AlignResult result = reference::align(p);
    const auto n = static_cast<std::int32_t>(p.ids.size());
    for (std::int32_t& slot : result.sorted_token_ids)
      if (slot < n && p.ids.at(slot / p.ids.cols, slot % p.ids.cols) >= p.num_buckets) slot = n;
    write(result, out);
  }
};

/// A signed id is tested from above alone: every negative one counts as expert 0.
struct LowerBound : Mutated<LowerBound> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    write(align_changed(p, [](std::int64_t id) { return std::max<std::int64_t>(id, 0); }), out);
  }
};

/// A batch of sentinels alone, as a profiling run has it, is sorted as if they were experts.
struct AllSentinels : Mutated<AllSentinels> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext& context) override {
    bool any = false;
    for (std::int64_t t = 0; t < p.ids.rows; ++t)
      for (std::int64_t k = 0; k < p.ids.cols; ++k) any |= p.ids.at(t, k) >= 0;
    if (any) return ReferenceBackend::align(p, out, context);
    write(align_changed(p, [](std::int64_t) { return 0; }), out);
  }
};

/// The counter of id -1 is the word in front of the array.
struct NeighbourWritten : Mutated<NeighbourWritten> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::align(p, out, context);
    for (std::int64_t t = 0; t < p.num_tokens.resolve(p.ids.rows); ++t)
      for (std::int64_t k = 0; k < p.ids.cols; ++k)
        if (p.ids.at(t, k) == -1) out.expert_ids[-1] = 1;
  }
};

/// Lanes past a bucket's end load slot 0 instead of the pad value.
struct FillerZero : Mutated<FillerZero> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    AlignResult result = reference::align(p);
    for (std::int32_t i = 0; i < result.num_tokens_post_padded; ++i)
      if (result.sorted_token_ids[i] >= p.ids.size()) result.sorted_token_ids[i] = 0;
    write(result, out);
  }
};

/// The prefix sum has one thread a bucket and one block: what comes after the 1024th is lost.
struct OneBlockScan : Mutated<OneBlockScan> {
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    write(align_changed(p, [](std::int64_t id) { return id < 1024 ? id : -1; }), out);
  }
};

}  // namespace

std::vector<Mutant> align_mutants() {
  return {
      mutant<ClampToLast>("clamp-to-last", "huggingface/transformers#45621",
                          "align clamps ids past the end, so they count as the last expert"),
      mutant<AlignNegIndex>("align-neg-index", "sgl-project/sglang#24171",
                            "align indexes its offsets with raw ids, so -1 wraps to the last expert"),
      mutant<AlignOneBranch>("align-one-branch", "sgl-project/sglang#23178",
                             "align's branch for large batches tests only the upper bound of an id",
                             {{"T", 1024}, {"K", 32}}),
      mutant<ExpertIdsPad>("expert-ids-pad", "vllm-project/vllm#35161",
                           "align labels unused blocks 0 instead of -1", {{"T", 2}, {"K", 2}, {"B", 2}}),
      mutant<UnwrittenTail>("unwritten-tail", "vllm-project/vllm#40131",
                            "align leaves sorted_token_ids unwritten past the used prefix",
                            {{"T", 2}, {"K", 2}, {"B", 2}}),
      mutant<AlignOrder>("align-order", "vllm-project/vllm#52532",
                         "align orders the slots of a bucket by thread arrival",
                         {{"T", 2}, {"K", 2}, {"B", 2}}),
      mutant<DropsTokens>("xpu-drops-tokens", "vllm-project/vllm-xpu-kernels#453",
                          "align scatters only the first slot of each block; counts and labels are right",
                          {{"T", 2}, {"K", 2}, {"B", 2}}),
      mutant<TokenForSlot>("reverse-map-drop", "flashinfer-ai/flashinfer#2629",
                           "align stores the token's index where the slot's is expected", {{"K", 2}}),
      mutant<SharedExpertLost>("fused-shared-E", "vllm-project/vllm#51632",
                               "align does not count the fused shared expert, the last id"),
      mutant<RunningLabels>("aiter-block-ids", "ROCm/aiter#2478",
                            "align labels blocks with running numbers instead of experts",
                            {{"T", 2}, {"K", 2}, {"V", 2}}),
      mutant<BranchesDiffer>("invalid-id-uniform", "sgl-project/sglang#12701",
                             "align's branch for small batches never scatters ids past the end"),
      mutant<LowerBound>("aiter-lower-bound", "ROCm/aiter#4827",
                         "align tests ids from above alone: negative ones count as expert 0"),
      mutant<AllSentinels>("aiter-sentinel", "vllm-project/vllm#57036",
                           "align sorts a batch of sentinels alone as if they were expert 0"),
      mutant<NeighbourWritten>("xpu-lower-bound", "vllm-project/vllm-xpu-kernels#572",
                               "align counts -1 in the word in front of its array"),
      mutant<FillerZero>("offs-fill-0", "vllm-project/vllm#32279", "align pads with slot 0 instead of n",
                         {{"B", 2}}),
      mutant<OneBlockScan>("align-E1024", "vllm-project/vllm#21079",
                           "align's prefix sum ends after 1024 buckets", {{"V", 1025}}),
  };
}

}  // namespace eplora::suite
