// SPDX-License-Identifier: Apache-2.0
// Bytes that stay in a rank's memory: expert weights, shared experts, adapter buffers, summed over the layers
// of its pipeline stage. With c = 2 gated, 1 not; X = experts on the rank (replicas and fused shared experts
// included); w = its columns, padding included; R' = its rows of gate_up A, H' = its rows of down B; E_a = X,
// or 1 when shared-outer; L adapters of rank R:
//   weights of a layer      X * (c + 1) * H * w
//   buffers of a layer      L * (E_a*c*R'*H + X*c*w*R + X*R*w + E_a*H'*R)   elements, and 2*L float32 scales
//   one adapter of rank R   the same for L = 1, without padding columns and scales: what a load brings
// (contract, section 6; the whole adapter where nothing is fully sharded, R' = R and H' = H).
#pragma once

#include "reference/price/priced_model.h"

namespace eplora {

/// Bytes. `replicas` and `padding` are parts of the numbers above them, not additions.
struct RankMemory {
  std::int64_t routed_weights = 0;   ///< routed experts, replicas and padding included
  std::int64_t shared_weights = 0;   ///< shared experts: replicated, sharded or fused (padding included)
  std::int64_t adapter_buffers = 0;  ///< four tensors and the scales
  std::int64_t one_adapter = 0;  ///< weights of one adapter of rank R on the rank, no padding; 0 for L = 0
  std::int64_t replicas = 0;     ///< of routed_weights: experts whose first replica stands elsewhere
  std::int64_t padding = 0;      ///< of all three: zero columns
  /// What stays there; `one_adapter` is what a load brings into it.
  std::int64_t total() const { return routed_weights + shared_weights + adapter_buffers; }
  bool operator==(const RankMemory&) const = default;
};

/// `[num_ranks]`. Throws `InvalidArgument` as `validate_price` does.
std::vector<RankMemory> memory_of_ranks(const Deployment& deployment, const PricedModel& model,
                                        const ElementBytes& bytes, const AdapterSizes& adapters);

}  // namespace eplora
