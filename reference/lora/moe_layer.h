// SPDX-License-Identifier: Apache-2.0
// The MoE layer with LoRA, whole and unsharded: the formula of the contract's section 7, token by token, with
// no routing machinery at all. It is what every sharded run must reproduce.
//   y_t = sum_k w_tk * (D + dD)_e ( silu((G + dG)_e x_t) * ((U + dU)_e x_t) ),   e = topk_ids[t,k]
#pragma once

#include <Eigen/Core>
#include <span>
#include <vector>

#include "reference/lora/adapter.h"
#include "reference/routing/problem.h"

namespace eplora::reference {

template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Unsharded base weights, float32, contiguous (views).
struct BaseWeights {
  std::span<const float> gate_up_proj;  ///< `[E, c*I, H]`, rows in `geometry.form`
  std::span<const float> down_proj;     ///< `[E, H, I]`
};

/// One batch through one MoE layer.
struct MoeLayerProblem {
  MoeGeometry geometry;
  BaseWeights base;
  std::vector<const AdapterLayer*> adapters;  ///< `[L]`, null = an empty slot
  IdMatrix topk_ids;                          ///< `[T, K]` global ids; sentinels and invalid ids add nothing
  std::span<const float> topk_weights;        ///< `[T, K]`
  std::span<const std::int32_t> token_lora_mapping;  ///< `[T]`
  std::span<const float> hidden_states;              ///< `[T, H]`
};

/// Throws `InvalidArgument` naming what does not fit.
void validate(const MoeLayerProblem& problem);

/// Activation: gated `silu(gate) * up`; not gated `relu(x)^2` (the non-gated models' squared ReLU).
/// Output `[T, H]`, computed in `Scalar` (float or double) throughout.
template <class Scalar>
Matrix<Scalar> moe_layer(const MoeLayerProblem& problem);

extern template Matrix<float> moe_layer<float>(const MoeLayerProblem&);
extern template Matrix<double> moe_layer<double>(const MoeLayerProblem&);

}  // namespace eplora::reference
