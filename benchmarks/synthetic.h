// SPDX-License-Identifier: Apache-2.0
// Synthetic routing: what a router might have chosen, from a seed alone, by integer arithmetic only, so that
// equal seeds give equal data on every machine and a recorded hash of inputs can be recomputed anywhere.
#pragma once

#include <cstdint>
#include <vector>

namespace eplora {

/// A value in [0, 2^64) for (seed, place): counter-based.
std::uint64_t random_bits(std::uint64_t seed, std::uint64_t place);

/// `[T, K]` distinct experts a token, each equally likely.
std::vector<std::int32_t> random_topk_ids(std::uint64_t seed, std::int64_t num_tokens,
                                          std::int32_t num_experts, std::int32_t top_k);

/// `[T, K]` distinct experts a token, the expert of rank q = 0, 1, ... drawn with a weight of (q+1)^-1.2;
/// which expert has which rank is a shuffle of its own. Needs `num_experts <= 2^20`.
std::vector<std::int32_t> zipf_topk_ids(std::uint64_t seed, std::int64_t num_tokens, std::int32_t num_experts,
                                        std::int32_t top_k);

/// `floor(2^20 / rank^1.2)` for rank >= 1, exactly: the largest w with w^5 rank^6 <= 2^100.
std::uint64_t zipf_weight(std::uint64_t rank);

/// `[T]` adapters in [0, L), or -1 for one token in L + 1.
std::vector<std::int32_t> random_lora_mapping(std::uint64_t seed, std::int64_t num_tokens,
                                              std::int32_t max_loras);

}  // namespace eplora
