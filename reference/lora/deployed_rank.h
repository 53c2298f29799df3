// SPDX-License-Identifier: Apache-2.0
// One rank of a deployed MoE layer: what it loads (base weights and adapters in the class's form, padding
// included) and how its ids are routed. Internal to the driver in deployed_moe_layer.cpp.
#pragma once

#include <vector>

#include "reference/check.h"
#include "reference/lora/deployed_moe_layer.h"

namespace eplora::reference {

/// The rank's rows of the batch with ids as its dispatch takes them.
struct RankBatch {
  std::int64_t T = 0, K = 1, first_token = 0;  ///< K counts fused shared experts too
  std::vector<std::int32_t> ids;               ///< `[T, K]`
  std::vector<std::int32_t> mapping;           ///< `[T]`
  std::vector<float> weights;                  ///< `[T, K]`
  bool physical = false;                       ///< ids name replicas, not experts

  std::int64_t n() const { return T * K; }
};
RankBatch rank_batch(const DeployedProblem& problem, const ClassPlan& plan, std::int32_t rank);

/// Blocks over (local expert, adapter), or with `shared_outer` over adapters alone.
RouteProblem rank_route(const RankBatch& batch, const ClassPlan& plan, std::int32_t rank,
                        std::span<const std::int32_t> mapping, std::int32_t max_loras, bool shared_outer,
                        const ShardedLayerOptions& options);

/// A rank's base weights. w = columns with padding, c halves.
struct RankBase {
  std::vector<float> gate_up;  ///< `[E_local, c*w, H]` in the plan's base form
  std::vector<float> down;     ///< `[E_local, H, w]`
};
RankBase rank_base(const DeployedProblem& problem, const ClassPlan& plan, std::int32_t rank);

/// A rank's adapters, cut by `steps.slice`; in the plan's lora form. Whole in H and R: the driver reads the
/// rank's rows of them.
struct RankLora {
  std::int64_t outer = 1, local = 0;  ///< E_a, E_b
  std::vector<float> gate_up_A;       ///< `[L, E_a, c, R, H]`
  std::vector<float> gate_up_B;       ///< `[L, E_b, c*w, R]`
  std::vector<float> down_A;          ///< `[L, E_b, R, w]`
  std::vector<float> down_B;          ///< `[L, E_a, H, R]`
  std::vector<float> scale;           ///< `[2, L]`
};
RankLora rank_lora(const DeployedProblem& problem, const ClassPlan& plan, std::int32_t rank, std::int64_t R,
                   DType dtype, const LayerSteps& steps);

/// The rank's row of a vector with one entry an EP rank; throws where the plan names none.
template <class T>
const T& of_ep_rank(const std::vector<T>& rows, const ClassPlan& plan, std::int32_t rank) {
  require_in_range("ep_rank of rank " + std::to_string(rank), plan.ranks[rank].place.ep_rank, 0,
                   static_cast<std::int64_t>(rows.size()) - 1);
  return rows[plan.ranks[rank].place.ep_rank];
}

}  // namespace eplora::reference
