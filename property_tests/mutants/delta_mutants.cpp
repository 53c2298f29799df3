// SPDX-License-Identifier: Apache-2.0
// Bugs of the delta: kernels that walk blocks and add what the adapters give.
#include <algorithm>
#include <cmath>
#include <vector>

#include "property_tests/mutants/mutants.h"

namespace eplora::suite {
namespace {

/// `body(slot, label)` for the entries of the used prefix, filler included.
template <class Body>
void for_each_entry(const DeltaProblem& p, const DeltaBlocks& blocks, Body body) {
  for (std::int32_t i = 0; i < *blocks.num_tokens_post_padded; ++i)
    body(blocks.sorted_token_ids[i], blocks.expert_ids[i / p.block_size]);
}

/// The grid has a place for each adapter, and the tokens without one take the first: the last adapter's
/// blocks are never visited.
struct GridMaxLoras : Mutated<GridMaxLoras> {
  void delta(const DeltaProblem& p, const DeltaOutput& out, const ExecutionContext& context) override {
    const auto& mask = p.token_lora_mask;
    if (std::find(mask.begin(), mask.end(), 0) == mask.end()) return ReferenceBackend::delta(p, out, context);
    DeltaProblem wrong = p;
    std::vector<std::int32_t> labels(
        p.per_expert.expert_ids,
        p.per_expert.expert_ids + *p.per_expert.num_tokens_post_padded / p.block_size);
    for (std::int32_t& label : labels)
      if (label >= (p.max_loras - 1) * p.num_local_experts) label = -1;
    labels.push_back(-1);
    wrong.per_expert.expert_ids = labels.data();
    ReferenceBackend::delta(wrong, out, context);
  }
};

/// Blocks that are skipped clear their rows, which hold what others added.
struct ZeroWrite : Mutated<ZeroWrite> {
  void delta(const DeltaProblem& p, const DeltaOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::delta(p, out, context);
    for_each_entry(p, p.per_expert, [&](std::int64_t slot, std::int32_t label) {
      if (label < 0 && slot < p.slots())
        std::fill_n(out.data + slot * out.row_stride, p.output_columns(), 0.0F);
    });
  }
};

/// Rows of slots that no block computes are summed all the same, from a workspace that nobody wrote.
struct UnwrittenSum : Mutated<UnwrittenSum> {
  std::size_t workspace_bytes(const DeltaProblem&) const override { return sizeof(float); }
  void delta(const DeltaProblem& p, const DeltaOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::delta(p, out, context);
    for_each_entry(p, p.per_expert, [&](std::int64_t slot, std::int32_t label) {
      if (label < 0 && slot < p.slots())
        out.data[slot * out.row_stride] += *static_cast<const float*>(context.workspace);
    });
  }
};

/// Validity is checked block by block: a filler row is clamped to the last slot, which gets its delta again.
struct PadRows : Mutated<PadRows> {
  void delta(const DeltaProblem& p, const DeltaOutput& out, const ExecutionContext& context) override {
    std::vector<std::int32_t> entries;
    for_each_entry(p, p.B_blocks(), [&](std::int64_t slot, std::int32_t) {
      entries.push_back(static_cast<std::int32_t>(std::min(slot, p.slots() - 1)));
    });
    entries.push_back(0);
    DeltaProblem wrong = p;
    (p.shared_outer && !p.A_is_outer() ? wrong.shared : wrong.per_expert).sorted_token_ids = entries.data();
    ReferenceBackend::delta(wrong, out, context);
  }
};

/// Partial sums are added in the order of arrival: the last bit differs from run to run.
struct SplitK : Mutated<SplitK> {
  void delta(const DeltaProblem& p, const DeltaOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::delta(p, out, context);
    late_ = !late_;
    for_each_entry(p, p.per_expert, [&](std::int64_t slot, std::int32_t label) {
      if (!late_ || label < 0 || slot >= p.slots() || p.token_lora_mask[slot / p.top_k] == 0) return;
      float& value = out.data[slot * out.row_stride];
      value = std::nextafter(value, INFINITY);
    });
  }
  bool late_ = false;
};

}  // namespace

std::vector<Mutant> delta_mutants() {
  return {
      mutant<GridMaxLoras>("grid-max-loras", "vllm-project/vllm#32277",
                           "delta skips the last adapter where a token has none", {{"T", 2}}),
      mutant<ZeroWrite>("zero-write-race", "sgl-project/sglang#30485",
                        "delta clears the rows of blocks that it skips"),
      mutant<UnwrittenSum>("unwritten-sum", "vllm-project/vllm#46408",
                           "delta adds workspace that nobody wrote to slots that it skips"),
      mutant<PadRows>("aiter-pad-rows", "ROCm/aiter#2644", "delta takes filler rows for the last slot",
                      {{"B", 2}}),
      mutant<SplitK>("split-k-noise", "sgl-project/sglang#38337",
                     "delta's partial sums arrive in another order from run to run"),
  };
}

}  // namespace eplora::suite
