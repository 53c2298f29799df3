// SPDX-License-Identifier: Apache-2.0
// The MoE layer as the ranks of a deployment compute it, rank by rank from a `ClassPlan` alone: tokens are
// taken from where they stand, routed to replicas, computed on padded slices in the class's weight form, with
// LoRA cut over columns, hidden rows or the adapter's rank, with shared experts; then summed and gathered
// over the plan's groups, and nothing else. Right plans give the whole layer on every rank (contract,
// sections 2 and 7); wrong ones give what they give.
#pragma once

#include <vector>

#include "reference/layout/class_plan.h"
#include "reference/lora/sharded_moe_layer.h"

namespace eplora::reference {

/// One batch through one layer of a class. The geometry's E counts routed experts; `routed.geometry.form` is
/// how the *whole* base weights stand, a rank's follow the plan's form.
struct DeployedProblem {
  MoeLayerProblem routed;
  /// Shared experts, `[count, c*Is, H]` and `[count, H, Is]`; empty where the class has none. They see every
  /// token with weight 1 and have no adapter.
  BaseWeights shared;
  std::int64_t shared_intermediate = 0;  ///< Is
  std::int64_t layer = 0;                ///< which of the class's layers this is: its stage computes it
};

/// Routed and shared experts of the unsharded layer, `[T, H]`.
template <class Scalar>
Matrix<Scalar> whole_layer(const DeployedProblem& problem);

/// What every rank holds afterwards: `[T, H]`, NaN in rows that its token gather did not bring; `[0, H]` on
/// ranks whose stage lacks the layer. A token that stands on no rank of the stage enters as NaN. Throws
/// `InvalidArgument` where the plan cannot be run at all (an expert that does not exist, rows past the end).
/// `options.max_lora_rank` 0 means the plan's R.
template <class Scalar>
std::vector<Matrix<Scalar>> deployed_moe_layer(const DeployedProblem& problem, const ClassPlan& plan,
                                               const ShardedLayerOptions& options = {},
                                               const LayerSteps& steps = {});

#define EPLORA_EXTERN(S)                                            \
  extern template Matrix<S> whole_layer<S>(const DeployedProblem&); \
  extern template std::vector<Matrix<S>> deployed_moe_layer<S>(     \
      const DeployedProblem&, const ClassPlan&, const ShardedLayerOptions&, const LayerSteps&);
EPLORA_EXTERN(float)
EPLORA_EXTERN(double)
#undef EPLORA_EXTERN

}  // namespace eplora::reference
