// SPDX-License-Identifier: Apache-2.0
// What a trace makes a rank compute in one layer of a class: slots, blocks of B rows, rows of padding, and
// how far the fullest rank is above the mean. Buckets are those of align (contract, section 5) with sentinels
// dropped: one a local expert for the base weights, one a (local expert, adapter) for LoRA.
#pragma once

#include "reference/price/priced_model.h"
#include "reference/price/routing_trace.h"

namespace eplora {

struct RankLoad {
  std::int64_t slots = 0;          ///< served by the rank's experts, of the tokens it computes for
  std::int64_t adapter_slots = 0;  ///< of them, those whose token has an adapter in [0, L)
  std::int64_t blocks = 0;         ///< sum over local experts of ceil(slots of the expert / B)
  std::int64_t lora_blocks =
      0;  ///< the same over virtual experts `e + l*E_local`; tokens without adapter in `e`
  std::int64_t lora_slots = 0;    ///< slots that stand in those blocks (not: tokens with an adapter >= L)
  std::int64_t experts_used = 0;  ///< local experts with at least one slot
  std::int64_t virtual_experts_used = 0;
  /// Rows of blocks that hold no slot.
  std::int64_t padding(std::int64_t block_size) const { return blocks * block_size - slots; }
  std::int64_t lora_padding(std::int64_t block_size) const { return lora_blocks * block_size - lora_slots; }
  bool operator==(const RankLoad&) const = default;
};

struct ClassLoad {
  std::vector<RankLoad> ranks;      ///< `[num_ranks]`; of one layer
  std::int64_t unrouted_slots = 0;  ///< slots whose id no expert has: sentinels and invalid ids
  std::int64_t max_slots = 0;
  double mean_slots = 0.0;  ///< over all ranks
  /// max over mean of slots; 1 when there are none.
  double imbalance() const { return max_slots == 0 ? 1.0 : static_cast<double>(max_slots) / mean_slots; }
};

/// `trace` names ids of the class's placement (fused shared experts have columns of their own). Time O(T*K +
/// buckets); memory O(buckets + ranks), buckets = experts of one token shard * max(1, L). Throws
/// `InvalidArgument` for B < 1, L < 0, more than 2^28 buckets.
ClassLoad routing_load(const Deployment& deployment, const LayerClass& layer_class, const RoutingTrace& trace,
                       std::int32_t max_loras, std::int64_t block_size);

}  // namespace eplora
