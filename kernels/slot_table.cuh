// SPDX-License-Identifier: Apache-2.0
// Stable ranks of a block's slots inside their buckets where buckets are small, the usual case: a bucket has
// room for eight slots in shared memory. A slot enters at the place that an atomic counter gives it, in order
// of arrival; its rank is how many of the bucket's slots are earlier ones, which does not depend on arrival.
// A bucket of more slots makes the block fall back to lists (list_rank.cuh), which serve any skew; the
// counts are exact in both cases and are ready first, so that they can be published meanwhile.
#pragma once

#include "kernels/list_rank.cuh"

namespace eplora::kernels {

inline constexpr std::uint32_t kRoom = 8;  ///< slots of a bucket in the table: 16 bytes

struct SlotRanks {
  std::uint32_t* counts;     ///< `[buckets]` slots of the block in every bucket but the sentinels'
  std::uint32_t* sentinels;  ///< `[rounds]` of 32 consecutive slots
  std::uint32_t* memory;     ///< `rank_words`: the table's entries, or heads and nodes of the lists
  bool has_table;
};

/// Words of `memory`; 16-byte aligned. `table`: room for the table, not for lists alone.
constexpr std::size_t rank_words(std::uint32_t buckets, std::uint32_t threads, std::uint32_t items,
                                 bool table) {
  const std::size_t lists = std::size_t{buckets} + std::size_t{threads} * items;
  const std::size_t entries = table ? std::size_t{buckets} * (kRoom / 2) : 0;
  return ((lists > entries ? lists : entries) + 3) / 4 * 4;
}

inline __device__ SlotLists lists_of(const SlotRanks& ranks, std::uint32_t buckets, bool counted) {
  return {ranks.memory, counted ? nullptr : ranks.counts, ranks.memory + buckets, ranks.sentinels};
}

/// Clears what `enter_slots` needs cleared, for `buckets` buckets, a multiple of 4; a __syncthreads()
/// follows.
inline __device__ void clear_ranks(const SlotRanks& ranks, std::uint32_t buckets) {
#pragma unroll 1
  for (std::uint32_t v = threadIdx.x; v < buckets / 4; v += blockDim.x) {
    reinterpret_cast<uint4*>(ranks.counts)[v] = make_uint4(0, 0, 0, 0);
    if (!ranks.has_table)
      reinterpret_cast<uint4*>(ranks.memory)[v] = make_uint4(kNoNode, kNoNode, kNoNode, kNoNode);
  }
}

/// What else may want to know that a bucket has its first slot.
struct Unnoted {
  __device__ void operator()(std::uint32_t) const {}
};

/// Counts the slots of buckets in [low, high) and enters them in the table, or in lists where there is none.
/// Needs `clear_ranks` before and a `__syncthreads_or` of the result after: true = the ranks come from lists.
/// `note` is told of each bucket that the table finds occupied, at least once.
template <int kItems, typename Note = Unnoted>
__device__ bool enter_slots(const RouteArguments& a, const std::uint32_t (&bucket)[kItems], std::uint32_t low,
                            std::uint32_t high, const SlotRanks& ranks, std::uint32_t (&rank)[kItems],
                            const Note& note = {}) {
  if (!ranks.has_table) {
    push_nodes<kItems>(a, bucket, low, high, lists_of(ranks, high - low, false), rank);
    return true;
  }
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  auto* entries = reinterpret_cast<std::uint16_t*>(ranks.memory);
  bool crowded = false;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const std::uint32_t round = warp * kItems + i;
    const unsigned sentinels = __ballot_sync(kFullWarp, bucket[i] == a.num_buckets);
    if (lane == 0) ranks.sentinels[round] = __popc(sentinels);
    bool real = bucket[i] >= low && bucket[i] < high && bucket[i] != a.num_buckets;
    // Many slots of a warp in one bucket are added together: equal addresses take turns.
    const unsigned reals = __ballot_sync(kFullWarp, real);
    const std::uint32_t leader = reals == 0 ? 0 : __ffs(reals) - 1;
    const std::uint32_t leaders = __shfl_sync(kFullWarp, bucket[i], leader);
    const bool same = real && bucket[i] == leaders;
    const std::uint32_t group = __popc(__ballot_sync(kFullWarp, same));
    if (group > kRoom) {
      crowded = true;
      if (lane == leader) {
        atomicAdd(ranks.counts + (bucket[i] - low), group);
        note(bucket[i]);
      }
      real &= !same;
    }
    if (real) {
      const std::uint32_t arrival = atomicAdd(ranks.counts + (bucket[i] - low), 1u);
      if (arrival == 0) note(bucket[i]);
      if (arrival >= kRoom)
        crowded = true;
      else
        entries[(bucket[i] - low) * kRoom + arrival] = static_cast<std::uint16_t>(round * 32 + lane);
    }
  }
  return crowded;
}

/// What `enter_slots` and the ranks need of a warp without slots.
template <int kItems>
__device__ void no_slots(std::uint32_t (&bucket)[kItems], const SlotRanks& ranks) {
#pragma unroll
  for (int i = 0; i < kItems; ++i) bucket[i] = kNoBucket;
  if ((threadIdx.x & 31) < kItems) ranks.sentinels[(threadIdx.x >> 5) * kItems + (threadIdx.x & 31)] = 0;
}

/// Ranks inside the block of buckets in [low, high) and of sentinels, after `enter_slots`; `crowded` is the
/// same for all threads. The memory of the ranks is free after the next __syncthreads().
template <int kItems>
__device__ void slot_ranks(const RouteArguments& a, const std::uint32_t (&bucket)[kItems], std::uint32_t low,
                           std::uint32_t high, const SlotRanks& ranks, bool crowded,
                           std::uint32_t (&rank)[kItems]) {
  if (crowded) {
    const SlotLists lists = lists_of(ranks, high - low, true);
    if (ranks.has_table) {
#pragma unroll 1
      for (std::uint32_t b = threadIdx.x; b < high - low; b += blockDim.x) lists.heads[b] = kNoNode;
      __syncthreads();
      push_nodes<kItems>(a, bucket, low, high, lists, rank);
      __syncthreads();
    }
    finish_ranks<kItems>(a, bucket, low, high, lists, rank);
    return;
  }
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    rank[i] = 0;
    if (bucket[i] < low || bucket[i] >= high || bucket[i] == a.num_buckets) continue;
    const std::uint32_t count = ranks.counts[bucket[i] - low];
    if (count == 1) continue;
    const uint4 entries = reinterpret_cast<const uint4*>(ranks.memory)[bucket[i] - low];
    const std::uint32_t words[4] = {entries.x, entries.y, entries.z, entries.w};
    const std::uint32_t own = (warp * kItems + i) * 32 + lane;
#pragma unroll
    for (std::uint32_t j = 0; j < kRoom; ++j) {
      const std::uint32_t other = j % 2 == 0 ? words[j / 2] & 0xFFFFu : words[j / 2] >> 16;
      rank[i] += j < count && other < own;
    }
  }
  sentinel_ranks<kItems>(a, bucket, ranks.sentinels, rank);
}

}  // namespace eplora::kernels
