// SPDX-License-Identifier: Apache-2.0
// Bugs of remap: (expert, adapter) to virtual expert, and the mask that says which tokens have an adapter.
#include <algorithm>
#include <vector>

#include "property_tests/mutants/mutants.h"
#include "reference/routing/remap.h"

namespace eplora::suite {
namespace {

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

/// The gathered batch is longer than the local segments, and the mask of what lies past them is never set.
struct ForeignTokens : Mutated<ForeignTokens> {
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext&) override {
    const RemapResult result = reference::remap(p);
    std::copy(result.virtual_ids.begin(), result.virtual_ids.end(), out.virtual_ids);
    std::copy_n(result.token_lora_mask.begin(), p.num_tokens.resolve(p.topk_ids.rows), out.token_lora_mask);
  }
};

/// A batch in which no token has an adapter is not noticed: its first token keeps the adapter of the request
/// before.
struct BaseAffected : Mutated<BaseAffected> {
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::remap(p, out, context);
    const std::int64_t T = p.topk_ids.rows;
    if (T > 0 && std::count(out.token_lora_mask, out.token_lora_mask + T, 1) == 0) out.token_lora_mask[0] = 1;
  }
};

/// In a batch where some tokens have an adapter, those without one are treated as if they had.
struct MixedBatch : Mutated<MixedBatch> {
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::remap(p, out, context);
    const std::int64_t T = p.num_tokens.resolve(p.topk_ids.rows);
    if (std::find(out.token_lora_mask, out.token_lora_mask + T, 1) != out.token_lora_mask + T)
      std::fill_n(out.token_lora_mask, T, std::uint8_t{1});
  }
};

}  // namespace

std::vector<Mutant> remap_mutants() {
  return {
      mutant<RemapNeg>(
          "remap-neg", "sgl-project/sglang#24171",
          "remap puts -1 through the affine map: it becomes the last expert of the adapter before",
          {{"L", 2}}),
      mutant<UpperBoundId>("upper-bound-id", "sgl-project/sglang#40240",
                           "remap rejects negative ids only: id E becomes expert 0 of the next adapter"),
      mutant<Int32Offsets>("int32", "vllm-project/vllm#34507", "remap computes element offsets in 32 bits"),
      mutant<ForeignTokens>("foreign-tokens", "sgl-project/sglang#28566",
                            "remap leaves the mask of rows past the local ones unwritten"),
      mutant<BaseAffected>("base-affected", "vllm-project/vllm#42008",
                           "a batch without adapters keeps an adapter of the batch before"),
      mutant<MixedBatch>("trt-lora-thread", "NVIDIA/TensorRT-LLM#18527",
                         "in a mixed batch the tokens without adapter are masked in", {{"T", 2}}),
  };
}

}  // namespace eplora::suite
