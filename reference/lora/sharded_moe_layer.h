// SPDX-License-Identifier: Apache-2.0
// The MoE layer as a cluster computes it: every rank takes its tokens, routes them (dispatch, remap, align),
// computes its experts' and its intermediate slice's share from blocks and buffers, and the shares are
// recombined (contract, sections 2 and 7). The steps under test are arguments, so the same driver proves the
// reference, a backend, or a new layout.
#pragma once

#include <functional>
#include <vector>

#include "reference/layout/layout.h"
#include "reference/lora/buffers.h"
#include "reference/lora/moe_layer.h"
#include "reference/lora/slice.h"
#include "reference/routing/route.h"

namespace eplora::reference {

/// The implementation under test; the reference's own by default.
struct LayerSteps {
  std::function<RouteResult(const RouteProblem&)> route = reference::route;
  std::function<void(const SliceProblem&, const BufferView&)> slice = reference::slice;
};

struct ShardedLayerOptions {
  std::int64_t max_lora_rank = 0;  ///< R; 0 = the largest rank of the adapters
  DType buffer_dtype = DType::f32;
  std::int32_t block_size = 16;
  NoAdapter no_adapter = NoAdapter::base_slot;
  Sentinels sentinels = Sentinels::keep;
};

/// Partial output of one rank: `[token_range(rank).size(), H]`, exactly 0 when the rank owns no expert.
template <class Scalar>
Matrix<Scalar> moe_layer_on_rank(const MoeLayerProblem& problem, const Layout& layout, std::int32_t rank,
                                 const ShardedLayerOptions& options = {}, const LayerSteps& steps = {});

/// Sum over axes that shard experts or intermediate, concatenation over axes that shard tokens, the first
/// copy over replicated axes. `partials[rank]`, all ranks; the result is `[T, H]`.
template <class Scalar>
Matrix<Scalar> recombine(const Layout& layout, std::int64_t num_tokens,
                         const std::vector<Matrix<Scalar>>& partials);

/// All ranks, then `recombine`.
template <class Scalar>
Matrix<Scalar> sharded_moe_layer(const MoeLayerProblem& problem, const Layout& layout,
                                 const ShardedLayerOptions& options = {}, const LayerSteps& steps = {});

#define EPLORA_EXTERN(S)                                                                              \
  extern template Matrix<S> moe_layer_on_rank<S>(const MoeLayerProblem&, const Layout&, std::int32_t, \
                                                 const ShardedLayerOptions&, const LayerSteps&);      \
  extern template Matrix<S> recombine<S>(const Layout&, std::int64_t, const std::vector<Matrix<S>>&); \
  extern template Matrix<S> sharded_moe_layer<S>(const MoeLayerProblem&, const Layout&,               \
                                                 const ShardedLayerOptions&, const LayerSteps&);
EPLORA_EXTERN(float)
EPLORA_EXTERN(double)
#undef EPLORA_EXTERN

}  // namespace eplora::reference
