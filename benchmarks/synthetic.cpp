// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/synthetic.h"

#include <algorithm>
#include <numeric>
#include <span>

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

std::uint64_t zipf_weight(std::uint64_t rank) {
  using Wide = unsigned __int128;
  const Wide sixth = Wide{rank} * rank * rank * rank * rank * rank;
  const Wide limit = (Wide{1} << 100) / sixth;
  std::uint64_t low = 0, high = std::uint64_t{1} << 20;  // low^5 <= limit, and high^5 too where rank is 1
  while (low < high) {
    const std::uint64_t middle = (low + high + 1) / 2;
    if (Wide{middle} * middle * middle * middle * middle <= limit)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

std::vector<std::int32_t> zipf_topk_ids(std::uint64_t seed, std::int64_t num_tokens, std::int32_t num_experts,
                                        std::int32_t top_k) {
  require_in_range("num_experts", num_experts, 1, 1 << 20);
  require_in_range("top_k", top_k, 1, num_experts);
  constexpr int kDraws = 32;  // a draw that hits an expert of the same token is repeated, this often at most
  const std::vector<std::int32_t> expert_of_rank =
      random_topk_ids(seed ^ 0x5A495046, 1, num_experts, num_experts);
  std::vector<std::uint64_t> below(num_experts);  // weights of the ranks up to and with this one
  std::uint64_t total = 0;                        // at least the weight of rank 1
  for (std::int32_t rank = 0; rank < num_experts; ++rank)
    below[rank] = total += zipf_weight(static_cast<std::uint64_t>(rank) + 1);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(num_tokens) * top_k);
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    const std::size_t first = slot - slot % top_k;
    const auto chosen = std::span(ids).subspan(first, slot - first);
    const auto taken = [&](std::int32_t expert) { return std::ranges::find(chosen, expert) != chosen.end(); };
    std::int32_t expert = 0;
    for (int draw = 0; draw < kDraws; ++draw) {
      const std::uint64_t ticket =
          random_bits(seed, slot * kDraws + draw) % std::max<std::uint64_t>(total, 1);
      expert = expert_of_rank[std::upper_bound(below.begin(), below.end(), ticket) - below.begin()];
      if (!taken(expert)) break;
    }
    while (taken(expert)) expert = (expert + 1) % num_experts;
    ids[slot] = expert;
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
