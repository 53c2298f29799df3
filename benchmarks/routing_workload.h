// SPDX-License-Identifier: Apache-2.0
// Route, remap and align as workloads. Inputs come from (shape, pattern, set) alone; the hash of a set's
// inputs is over these arrays one after another, int32 each:
//   route   topk_ids [T, K], token_lora_mapping [T], dispatch table [E] where ep > 1
//   remap   topk_ids [T, K] after dispatch, token_lora_mapping [T]
//   align   ids [T, K] after remap
// and the hash of its outputs over
//   route   sorted_token_ids [capacity], expert_ids [capacity/B], num_tokens_post_padded [1], all int32, then
//           token_lora_mask [T] uint8
//   remap   virtual_ids [T, K] int32, token_lora_mask [T] uint8
//   align   as route without the mask.
// The bytes that a call must move are exactly these arrays, each once.
#pragma once

#include "benchmarks/shapes.h"
#include "benchmarks/workload.h"

namespace eplora::bench {

/// Input sets that a graph rotates over: eight, or fewer of the largest, so that what a call reads and writes
/// is not what the last one left in the cache.
int rotating_sets(const RoutingShape& shape);

/// Refuses shapes that are none (a file may say anything). Throws `InvalidArgument`.
void validate(const RoutingShape& shape);

/// Makes inputs, results and hashes of the first `sets` sets, on all cores. `suite` is not `slice`.
std::unique_ptr<Workload> make_routing_workload(Suite suite, const RoutingShape& shape, Pattern pattern,
                                                int sets);

/// Of one set alone, without keeping it.
PartDigests routing_digests(Suite suite, const RoutingShape& shape, Pattern pattern, int set);

/// Bytes that a call must move.
std::int64_t routing_bytes(Suite suite, const RoutingShape& shape);

}  // namespace eplora::bench
