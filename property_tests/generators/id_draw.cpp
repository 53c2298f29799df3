// SPDX-License-Identifier: Apache-2.0
// How ids, mappings and sizes are drawn: a pattern for the batch, then each value from the pattern and a hash
// of its place.
#include <algorithm>
#include <limits>

#include "property_tests/generators/id_batch.h"

namespace eplora::suite {
namespace {

constexpr std::int64_t kInt32Min = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kInt64Min = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();

/// How the ids of a batch are distributed.
enum class Pattern {
  valid,
  as_dispatched,
  mixed,
  all_sentinel,
  one_expert,
  last_expert,
  hot_experts,
  hostile
};

/// Distinct ids are a promise about valid ones: any sentinel is taken.
bool takes_one_sentinel(contract::AcceptedIds accepted) {
  return accepted == contract::AcceptedIds::at_least_minus_one ||
         accepted == contract::AcceptedIds::minus_one_to_V;
}

std::int64_t sentinel(std::uint64_t bits, contract::AcceptedIds accepted, IdType type) {
  if (takes_one_sentinel(accepted)) return -1;
  switch (below(bits, type == IdType::int64 ? 10 : 7)) {
    case 0:
    case 1:
    case 2:
      return -1;
    case 3:
      return -2;
    case 4:
      return kInt32Min;
    case 5:
      return -3 - below(bits * 3, 1000);
    case 6:
      return kInt32Min + 1 + below(bits * 3, 9);
    case 7:
      return kInt32Min - 1;
    case 8:
      return -(std::int64_t{1} << 32) + below(bits * 3, 8);  // truncates to a small valid id
    default:
      return kInt64Min + below(bits * 3, 3);
  }
}

std::int64_t invalid(std::uint64_t bits, std::int64_t E, contract::AcceptedIds accepted, IdType type) {
  if (accepted == contract::AcceptedIds::minus_one_to_V) return -1;
  switch (below(bits, type == IdType::int64 ? 9 : 6)) {
    case 0:
    case 1:
      return E;
    case 2:
      return std::min(E + 1 + below(bits * 3, 16), kInt32Max);
    case 3:
      return std::min(2 * E + below(bits * 3, 4096), kInt32Max);
    case 4:
      return kInt32Max;
    case 5:
      return kInt32Max - below(bits * 3, 5);
    case 6:
      return kInt32Max + 1 + below(bits * 3, 4);
    case 7:
      return (std::int64_t{1} << 32) + below(bits * 3, std::max<std::int64_t>(E, 1));
    default:
      return kInt64Max - below(bits * 3, 2);
  }
}

std::int64_t draw_id(Pattern pattern, std::uint64_t bits, std::int64_t E, std::int64_t favourite,
                     contract::AcceptedIds accepted, IdType type) {
  const std::uint64_t more = hash_at(bits, 1);
  const std::int64_t roll = below(bits, 100);
  if (E == 0) return roll < 60 ? sentinel(more, accepted, type) : invalid(more, E, accepted, type);
  const std::int64_t valid = below(more, E);
  switch (pattern) {
    case Pattern::valid:
      return valid;
    case Pattern::as_dispatched:
      return roll < 70 ? -1 : valid;
    case Pattern::mixed:
      return roll < 60   ? valid
             : roll < 85 ? sentinel(more, accepted, type)
                         : invalid(more, E, accepted, type);
    case Pattern::all_sentinel:
      return sentinel(more, accepted, type);
    case Pattern::one_expert:
      return favourite;
    case Pattern::last_expert:
      return roll < 60 ? E - 1 : roll < 85 ? -1 : valid;
    case Pattern::hot_experts:
      return roll < 70 ? favourite : roll < 90 ? valid : -1;
    case Pattern::hostile:
      return roll < 20   ? valid
             : roll < 60 ? sentinel(more, accepted, type)
                         : invalid(more, E, accepted, type);
  }
  return valid;
}

/// Makes the valid ids of a token distinct, as a router's are; what cannot be made distinct becomes -1.
void make_distinct(IdBatch& batch, std::int64_t E) {
  for (std::int64_t t = 0; t < batch.T; ++t)
    for (std::int64_t k = 0; k < batch.K; ++k) {
      std::int64_t& id = batch.ids[t * batch.K + k];
      const auto row = batch.ids.begin() + t * batch.K;
      for (std::int64_t tries = 0; id >= 0 && std::find(row, row + k, id) != row + k; ++tries)
        id = tries < E && id < E ? (id + 1) % E : -1;
    }
}

}  // namespace

std::int32_t draw_experts(Draw& draw, std::int32_t most) {
  static const std::vector<std::int32_t> kCounts = {1,  2,  3,  4,  5,   7,   8,   13,  16,  31,  32,
                                                    60, 61, 64, 97, 127, 128, 160, 256, 257, 384, 512};
  std::int32_t count =
      draw.percent(70) ? draw.one_of(kCounts) : static_cast<std::int32_t>(draw.log_uniform(1, 512));
  while (count > most) count = (count + 1) / 2;
  return std::max(count, std::int32_t{1});
}

std::int32_t draw_adapters(Draw& draw) {
  if (draw.percent(4)) return 0;
  if (draw.percent(10)) return 32;
  return static_cast<std::int32_t>(draw.log_uniform(1, 32));
}

std::int32_t draw_block_size(Draw& draw, std::int64_t n, std::int64_t V) {
  std::int64_t B =
      draw.percent(50) ? draw.one_of<std::int64_t>({1, 8, 16, 32, 64, 128, 256}) : draw.in(1, 256);
  while (B > 1 && align_capacity(n, V, B, Sentinels::keep) > kMostCapacity) B = (B + 1) / 2;
  return static_cast<std::int32_t>(B);
}

IdBatch draw_ids(Draw& draw, int size, std::int64_t E, contract::AcceptedIds accepted,
                 std::int64_t most_slots) {
  IdBatch batch;
  const double reach = std::log(static_cast<double>(most_slots)) * (0.3 + 0.007 * size);
  const auto most = static_cast<std::int64_t>(std::exp(reach));
  const std::int64_t n =
      draw.percent(2) ? 0 : draw.log_uniform(1, std::clamp<std::int64_t>(most, 1, most_slots));
  batch.K = draw.percent(40) ? 1 : draw.one_of<std::int64_t>({2, 3, 4, 6, 8, 10, 22});
  batch.T = n == 0 ? 0 : std::max<std::int64_t>(n / batch.K, 1);
  batch.type = draw.percent(30) ? IdType::int64 : IdType::int32;
  batch.row_stride = batch.K + (draw.percent(25) ? draw.in(1, 7) : 0);
  const auto pattern = static_cast<Pattern>(draw.in(0, static_cast<int>(Pattern::hostile)));
  const std::int64_t favourite = E > 0 ? draw.in(0, E - 1) : 0;
  const std::uint64_t seed = draw.bits();
  batch.ids.resize(batch.n());
  for (std::int64_t s = 0; s < batch.n(); ++s)
    batch.ids[s] = draw_id(pattern, hash_at(seed, s), E, favourite, accepted, batch.type);
  if (accepted == contract::AcceptedIds::distinct_in_token || draw.percent(30)) make_distinct(batch, E);
  if (draw.percent(30)) {
    const bool by_pointer = draw.percent(60);
    batch.num_tokens_kind = by_pointer ? NumTokens::Kind::pointer : NumTokens::Kind::value;
    batch.num_tokens = static_cast<std::int32_t>(draw.in(0, batch.T));
    if (by_pointer && draw.percent(25))
      batch.num_tokens =
          static_cast<std::int32_t>(draw.one_of<std::int64_t>({-1, kInt32Min, batch.T + 1, kInt32Max}));
  }
  return batch;
}

std::vector<std::int32_t> draw_mapping(Draw& draw, std::int64_t T, std::int32_t L) {
  std::vector<std::int32_t> mapping(T);
  const int pattern = static_cast<int>(draw.in(0, 4));
  const auto favourite = static_cast<std::int32_t>(L > 0 ? draw.in(0, L - 1) : 0);
  const std::uint64_t seed = draw.bits();
  for (std::int64_t t = 0; t < T; ++t) {
    const std::uint64_t bits = hash_at(seed, t);
    const std::int64_t roll = below(bits, 100);
    const auto valid = static_cast<std::int32_t>(below(hash_at(bits, 1), std::max(L, 1)));
    if (L == 0 || pattern == 0) {
      mapping[t] = roll < 80 || L == 0 ? -1 : valid;
    } else if (pattern == 1) {
      mapping[t] = favourite;
    } else if (pattern == 2) {
      mapping[t] = roll < 25 ? -1 : valid;
    } else if (pattern == 3) {
      mapping[t] = valid;
    } else {
      mapping[t] = roll < 40   ? valid
                   : roll < 55 ? -1
                   : roll < 62 ? -2
                   : roll < 68 ? std::numeric_limits<std::int32_t>::min()
                   : roll < 82 ? L
                   : roll < 92 ? L + 1 + static_cast<std::int32_t>(below(bits * 3, 100))
                               : std::numeric_limits<std::int32_t>::max();
    }
  }
  return mapping;
}

}  // namespace eplora::suite
