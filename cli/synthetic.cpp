// SPDX-License-Identifier: Apache-2.0
// Synthetic routing: what a router might have chosen, from a seed alone.
#include <algorithm>
#include <numeric>

#include "cli/compare.h"
#include "reference/check.h"

namespace eplora {

std::uint64_t random_bits(std::uint64_t seed, std::uint64_t place) {  // SplitMix64 (Steele, Lea, Flood 2014)
  std::uint64_t z = seed * 0xD1342543DE82EF95U + (place + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

std::vector<std::int32_t> random_topk_ids(std::uint64_t seed, std::int64_t num_tokens,
                                          std::int32_t num_experts, std::int32_t top_k) {
  require_in_range("top_k", top_k, 1, num_experts);
  std::vector<std::int32_t> deck(num_experts), ids;
  std::iota(deck.begin(), deck.end(), 0);
  ids.reserve(static_cast<std::size_t>(num_tokens) * top_k);
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    for (std::int32_t k = 0; k < top_k; ++k) {  // the first K cards of a shuffle
      const std::uint64_t bits = random_bits(seed, static_cast<std::uint64_t>(t) * top_k + k);
      std::swap(deck[k],
                deck[k + static_cast<std::int32_t>(bits % static_cast<std::uint64_t>(num_experts - k))]);
      ids.push_back(deck[k]);
    }
  }
  return ids;
}

std::vector<std::int32_t> random_lora_mapping(std::uint64_t seed, std::int64_t num_tokens,
                                              std::int32_t max_loras) {
  std::vector<std::int32_t> mapping(static_cast<std::size_t>(num_tokens));
  for (std::size_t t = 0; t < mapping.size(); ++t)
    mapping[t] =
        static_cast<std::int32_t>(random_bits(~seed, t) % (static_cast<std::uint64_t>(max_loras) + 1)) - 1;
  return mapping;
}

}  // namespace eplora
