// SPDX-License-Identifier: Apache-2.0
// The delta of one projection as a problem of raw arrays: what a kernel that applies adapters to activations
// gets (contract, section 7). Pointers live in the memory of whoever computes. Letters: T tokens, K experts
// per token, n = T*K slots, E the rank's experts, L adapters, V = E*L labels, B block size, H hidden size, i
// this rank's intermediate size, R the buffers' rank, c = 2 gated, 1 not.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "reference/lora/adapter.h"
#include "reference/lora/dtype.h"

namespace eplora {

enum class DeltaProjection : std::uint8_t { gate_up, down };
std::string_view to_string(DeltaProjection projection);

/// Blocks as align left them (contract, section 5). Entries >= n are filler, blocks with a negative label are
/// no adapter's, and nothing behind `num_tokens_post_padded` is read.
struct DeltaBlocks {
  const std::int32_t* sorted_token_ids = nullptr;        ///< `[capacity]`
  std::int64_t capacity = 0;                             ///< a multiple of B
  const std::int32_t* expert_ids = nullptr;              ///< `[capacity / B]`
  const std::int32_t* num_tokens_post_padded = nullptr;  ///< `[1]`
};

/// Rows of activations, unit column stride.
struct ActivationMatrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0, cols = 0;
  std::int64_t row_stride = 0;  ///< elements, >= cols
};

struct DeltaProblem {
  DeltaProjection projection = DeltaProjection::gate_up;
  /// The buffers of one layer, row-major and contiguous: gate_up `A [L, E_a, c, R, H]`, `B [L, E, c*i, R]` in
  /// `form`; down `A [L, E, R, i]`, `B [L, E_a, H, R]`. E_a is E, or 1 when shared-outer.
  const void *A = nullptr, *B = nullptr;
  DType dtype = DType::f32;                                      ///< of A and B
  const float* scale = nullptr;                                  ///< `[L]`: this layer's, this module's
  std::int32_t max_loras = 0;                                    ///< L
  std::int64_t max_lora_rank = 1, hidden = 1, intermediate = 1;  ///< R, H, i
  std::int32_t num_local_experts = 0;                            ///< E
  bool gated = true, shared_outer = false;
  GateUpForm form = GateUpForm::stacked;

  std::int64_t num_tokens = 0, top_k = 1;  ///< T, K: slot s is of token s / K
  std::int32_t block_size = 1;             ///< B
  DeltaBlocks per_expert;                  ///< labels `e + l*E`
  DeltaBlocks shared;                      ///< labels `l`; read only when shared-outer, for the outer tensor
  std::span<const std::uint8_t> token_lora_mask;  ///< `[T]`: 0 = the token has no adapter
  std::span<const float> topk_weights;            ///< `[n]`; read for down only
  ActivationMatrix input;                         ///< gate_up: x `[T, H]`; down: the activation `[n, i]`

  std::int64_t slots() const { return num_tokens * top_k; }
  std::int64_t halves() const { return gated ? 2 : 1; }
  std::int64_t outer_experts() const { return shared_outer ? 1 : num_local_experts; }
  /// Whether A (else B) is the tensor that shared-outer adapters hold once.
  bool A_is_outer() const { return projection == DeltaProjection::gate_up; }
  std::int64_t output_columns() const {
    return projection == DeltaProjection::gate_up ? halves() * intermediate : hidden;
  }
  std::int64_t input_rows() const { return projection == DeltaProjection::gate_up ? num_tokens : slots(); }
  std::int64_t input_columns() const {
    return projection == DeltaProjection::gate_up ? hidden : intermediate;
  }
  /// Tiles of A or B: `L * experts` of them, label v of the routing that the tensor follows is tile v.
  std::int64_t A_tiles() const;
  std::int64_t B_tiles() const;
  std::int64_t A_tile_elements() const;
  std::int64_t B_tile_elements() const;
  const DeltaBlocks& A_blocks() const { return shared_outer && A_is_outer() ? shared : per_expert; }
  const DeltaBlocks& B_blocks() const { return shared_outer && !A_is_outer() ? shared : per_expert; }
};

/// Added to in place: a row whose slot stands in no block with a label, or whose token has no adapter, keeps
/// its bits.
struct DeltaOutput {
  float* data = nullptr;  ///< `[n, output_columns]`
  std::int64_t row_stride = 0;
};
struct DeltaResult {
  std::vector<float> output;  ///< `[n, output_columns]` contiguous
};

/// Shapes, sizes, strides, null pointers, enumerations. Reads no array. Throws `InvalidArgument`.
void validate(const DeltaProblem& problem);
void validate_outputs(const DeltaProblem& problem, const DeltaOutput& output);

namespace reference {
/// In float32 throughout, host memory. Throws `InvalidArgument` before anything is written, also for blocks
/// that align never makes: a used prefix past the capacity, a label past V.
void delta(const DeltaProblem& problem, const DeltaOutput& output);
}  // namespace reference

}  // namespace eplora
