// SPDX-License-Identifier: Apache-2.0
// The LoRA delta as kernels compute it: blocks of slots with one label each, weights read from the adapter
// buffers, the result added in place (contract, section 7). The label of a block is a virtual expert v = e +
// l*E_local.
#pragma once

#include <span>

#include "reference/lora/buffers.h"
#include "reference/lora/moe_layer.h"

namespace eplora::reference {

/// Routings of one batch on one rank. For shared-outer weights A and B of a projection follow different
/// routings: the shared tensor needs V = L, the per-expert one V = E_local*L. Otherwise both point to the
/// same.
struct DeltaRouting {
  const RouteResult* per_expert = nullptr;    ///< V = E_local * L
  const RouteResult* shared_outer = nullptr;  ///< V = L; only read when the buffers are shared-outer
  std::int32_t block_size = 1;
  std::int64_t top_k = 1;
};

/// `out [n, c*i] += m_t * scale * B (A x_t)`, half h of a slot's row where the buffers' form has it; `x [T,
/// H]`. Slots in blocks labelled -1, filler (>= n) and tokens without adapter are left alone, bit for bit.
template <class Scalar>
void add_gate_up_delta(const LoraBuffers& buffers, std::size_t layer, const DeltaRouting& routing,
                       const Matrix<Scalar>& x, Matrix<Scalar>& out);

/// `out [n, H] += m_t * w_s * scale * B (A a_s)`; `a [n, i]` is the activation, `topk_weights [n]`.
template <class Scalar>
void add_down_delta(const LoraBuffers& buffers, std::size_t layer, const DeltaRouting& routing,
                    std::span<const float> topk_weights, const Matrix<Scalar>& a, Matrix<Scalar>& out);

extern template void add_gate_up_delta<float>(const LoraBuffers&, std::size_t, const DeltaRouting&,
                                              const Matrix<float>&, Matrix<float>&);
extern template void add_gate_up_delta<double>(const LoraBuffers&, std::size_t, const DeltaRouting&,
                                               const Matrix<double>&, Matrix<double>&);
extern template void add_down_delta<float>(const LoraBuffers&, std::size_t, const DeltaRouting&,
                                           std::span<const float>, const Matrix<float>&, Matrix<float>&);
extern template void add_down_delta<double>(const LoraBuffers&, std::size_t, const DeltaRouting&,
                                            std::span<const float>, const Matrix<double>&, Matrix<double>&);

}  // namespace eplora::reference
