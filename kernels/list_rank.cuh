// SPDX-License-Identifier: Apache-2.0
// Stable ranks of a block's slots inside their buckets, at a cost that follows the slots and not warps x
// buckets.
//
// A warp holds 32 consecutive slots a round. Lanes with the same bucket find each other (match_any); the
// first of them pushes one node (round, how many) on the bucket's list in shared memory. A slot's rank is its
// place among its peers plus the counts of the nodes of earlier rounds. The list's order depends on who came
// first, the sum does not. Slots of the sentinel bucket, which may be most of them, are counted by ballots
// and never touch a list.
#pragma once

#include "kernels/block.cuh"
#include "kernels/route.h"
#include "kernels/slots.cuh"

namespace eplora::kernels {

inline constexpr std::uint32_t kNoBucket = 0xFFFFFFFFu;  ///< past the window, or a sentinel that is dropped
inline constexpr std::uint32_t kNoNode = 0xFFFFu;
inline constexpr int kMinGroup = 4;  ///< fewer slots of a bucket in a warp push a node each

struct SlotLists {
  std::uint32_t* heads;      ///< `[buckets]`, kNoNode when empty
  std::uint32_t* counts;     ///< `[buckets]` or null; slots of the block in every bucket but the sentinels'
  std::uint32_t* nodes;      ///< `[rounds * 32]`: next << 16 | count; node id = round * 32 + first lane
  std::uint32_t* sentinels;  ///< `[rounds]`
};

/// What is read of the slots `first + step * i` of a thread.
template <int kItems>
struct LoadedSlots {
  RawId id[kItems];
  std::int32_t adapter[kItems];
  std::uint32_t token[kItems];
};

/// All loads are in flight before the first use. Sentinel rows (`slot >= real_slots`) read nothing.
template <int kItems>
__device__ __forceinline__ void load_slots(const RouteArguments& a, std::uint32_t first, std::uint32_t step,
                                           std::uint32_t end, std::uint32_t real_slots,
                                           LoadedSlots<kItems>& slots) {
  const std::uint32_t limit = min(end, real_slots);
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    slots.token[i] = divide(first + step * i, a.source.cols);
    slots.id[i] = {};
    slots.adapter[i] = a.remap.mapping != nullptr ? -1 : 0;
  }
  if (a.source.wide) {
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      if (first + step * i < limit)
        slots.id[i] = load_wide_id(a.source, id_index(a.source, first + step * i, slots.token[i]));
  } else {
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      if (first + step * i < limit)
        slots.id[i].low = load_narrow_id(a.source, id_index(a.source, first + step * i, slots.token[i]));
  }
  if (a.remap.mapping != nullptr) {
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      if (first + step * i < limit) slots.adapter[i] = __ldcg(a.remap.mapping + slots.token[i]);
  }
}

/// The buckets of loaded slots: [0, V), V for a sentinel, kNoBucket for a dropped one or none (`slot >=
/// end`).
template <int kItems>
__device__ __forceinline__ void to_buckets(const RouteArguments& a, const std::int32_t* table,
                                           std::uint32_t first, std::uint32_t step, std::uint32_t end,
                                           const LoadedSlots<kItems>& slots,
                                           std::uint32_t (&bucket)[kItems]) {
  std::int32_t id[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) id[i] = slots.id[i].low;
  if (a.source.wide) {
#pragma unroll
    for (int i = 0; i < kItems; ++i) id[i] = narrow(slots.id[i]);
  }
  if (a.dispatch.table != nullptr) {
#pragma unroll
    for (int i = 0; i < kItems; ++i) id[i] = dispatch_id(a.dispatch, table, id[i], first + step * i);
  }
  const std::uint32_t sentinel = a.keep_sentinels ? a.num_buckets : kNoBucket;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const std::int32_t virtual_expert = virtual_id(a.remap, id[i], slots.adapter[i]);
    bucket[i] = virtual_expert >= 0 ? static_cast<std::uint32_t>(virtual_expert) : sentinel;
    bucket[i] = first + step * i < end ? bucket[i] : kNoBucket;
  }
}

/// The masks of the tokens whose first column is among the slots; a sentinel row has adapter -1, so its mask
/// is 0.
template <int kItems>
__device__ void write_masks(const RouteArguments& a, std::uint32_t first, std::uint32_t step,
                            std::uint32_t end, const LoadedSlots<kItems>& slots) {
  if (a.token_lora_mask == nullptr) return;
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    if (first + step * i < end && slots.token[i] * a.source.cols.value == first + step * i)
      a.token_lora_mask[slots.token[i]] = lora_mask(a.remap, slots.adapter[i]);
}

/// Pushes the nodes of buckets in [low, high); `rank` becomes node id << 16 | place among the node's slots.
/// Needs empty heads before and a __syncthreads() after. Lanes that agree with the first one form a node
/// together, then those that agree with the first of the rest, as long as that pays (a skewed batch); the
/// others push a node of one slot each. A warp-wide match_any would give every group one node, but takes 12
/// cycles a distinct value.
template <int kItems>
__device__ void push_nodes(const RouteArguments& a, const std::uint32_t (&bucket)[kItems], std::uint32_t low,
                           std::uint32_t high, const SlotLists& lists, std::uint32_t (&rank)[kItems]) {
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  // All the warp's slots in one bucket, as when a batch repeats one token: one node for all its rounds.
  if constexpr (kItems > 1) {
    bool same = true;
    const std::uint32_t only = __shfl_sync(kFullWarp, bucket[0], 0);
#pragma unroll
    for (int i = 0; i < kItems; ++i) same &= bucket[i] == only;
    if (__all_sync(kFullWarp, same) && only >= low && only < high && only != a.num_buckets) {
      const std::uint32_t node = warp * kItems * 32;
#pragma unroll
      for (int i = 0; i < kItems; ++i) rank[i] = node << 16 | (32 * i + lane);
      if (lane < kItems) lists.sentinels[warp * kItems + lane] = 0;
      if (lane == 0) {
        lists.nodes[node] = atomicExch(lists.heads + (only - low), node) << 16 | 32 * kItems;
        if (lists.counts != nullptr) atomicAdd(lists.counts + (only - low), 32u * kItems);
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const std::uint32_t round = warp * kItems + i;
    const unsigned sentinels = __ballot_sync(kFullWarp, bucket[i] == a.num_buckets);
    if (lane == 0) lists.sentinels[round] = __popc(sentinels);
    const bool real = bucket[i] >= low && bucket[i] < high && bucket[i] != a.num_buckets;
    std::uint32_t node = round * 32 + lane, place = 0, count = 1;
    unsigned rest = __ballot_sync(kFullWarp, real);
#pragma unroll 1
    while (rest != 0) {
      const std::uint32_t leader = __ffs(rest) - 1;
      const std::uint32_t shared_bucket = __shfl_sync(kFullWarp, bucket[i], leader);
      const bool same = real && bucket[i] == shared_bucket;
      const unsigned peers = __ballot_sync(kFullWarp, same);
      if (__popc(peers) < kMinGroup) break;
      if (same) {
        node = round * 32 + leader;
        place = __popc(peers & lanes_below());
        count = __popc(peers);
      }
      rest &= ~peers;
    }
    rank[i] = node << 16 | place;
    if (real && place == 0) {
      const std::uint32_t next = atomicExch(lists.heads + (bucket[i] - low), node);
      lists.nodes[node] = next << 16 | count;
      if (lists.counts != nullptr) atomicAdd(lists.counts + (bucket[i] - low), count);
    }
  }
}

/// Ranks of the sentinels, from the rounds' counts.
template <int kItems>
__device__ void sentinel_ranks(const RouteArguments& a, const std::uint32_t (&bucket)[kItems],
                               const std::uint32_t* sentinels, std::uint32_t (&rank)[kItems]) {
  if (!a.keep_sentinels) return;
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  unsigned mine[kItems], any = 0;
#pragma unroll
  for (int i = 0; i < kItems; ++i) any |= mine[i] = __ballot_sync(kFullWarp, bucket[i] == a.num_buckets);
  if (any == 0) return;
  std::uint32_t earlier = 0;
#pragma unroll 1
  for (std::uint32_t round = lane; round < warp * kItems; round += 32) earlier += sentinels[round];
  earlier = __reduce_add_sync(kFullWarp, earlier);
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    if (bucket[i] == a.num_buckets) rank[i] = earlier + __popc(mine[i] & lanes_below());
    earlier += __popc(mine[i]);
  }
}

/// Turns what `push_nodes` left into ranks inside the block.
template <int kItems>
__device__ void finish_ranks(const RouteArguments& a, const std::uint32_t (&bucket)[kItems],
                             std::uint32_t low, std::uint32_t high, const SlotLists& lists,
                             std::uint32_t (&rank)[kItems]) {
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const std::uint32_t own = rank[i] >> 16;
    rank[i] &= 0xFFFFu;
    if (bucket[i] < low || bucket[i] >= high || bucket[i] == a.num_buckets) continue;
    std::uint32_t node = lists.heads[bucket[i] - low];
#pragma unroll 1
    while (node != kNoNode) {
      const std::uint32_t entry = lists.nodes[node];
      if (node < own) rank[i] += entry & 0xFFFFu;
      node = entry >> 16;
    }
  }
  sentinel_ranks<kItems>(a, bucket, lists.sentinels, rank);
}

/// Sentinels among the block's slots; the answer stands in every lane.
inline __device__ std::uint32_t sentinel_count(const std::uint32_t* sentinels, std::uint32_t rounds) {
  std::uint32_t count = 0;
#pragma unroll 1
  for (std::uint32_t round = threadIdx.x & 31; round < rounds; round += 32) count += sentinels[round];
  return __reduce_add_sync(kFullWarp, count);
}

/// Puts a slot at its place; the slot that opens a block writes the block's label.
inline __device__ void place_slot(const RouteArguments& a, std::uint32_t position, std::uint32_t slot,
                                  std::uint32_t bucket) {
  a.sorted_token_ids[position] = static_cast<std::int32_t>(slot);
  const std::uint32_t block = divide(position, a.block_size);
  if (block * a.block_size.value == position && bucket != a.num_buckets)
    a.expert_ids[block] = static_cast<std::int32_t>(bucket);
}

/// What no slot writes: filler and labels -1 in this thread block's share of the outputs, whole output
/// blocks.
struct Share {
  std::uint32_t first_block, last_block;
};

inline __device__ Share own_share(const RouteArguments& a) {
  const std::uint32_t all = a.shares.output_blocks, each = a.shares.output_blocks_each;
  const std::uint32_t first = min(all, each * blockIdx.x);  // each * blocks < all + blocks < 2^32
  return {first, min(all, first + each)};
}

inline __device__ void fill_share(const RouteArguments& a, const Share& share) {
  const std::uint32_t B = a.block_size.value;
  fill_range(a.sorted_token_ids, share.first_block * B, share.last_block * B,
             static_cast<std::int32_t>(a.num_slots), threadIdx.x, blockDim.x);
  fill_range(a.expert_ids, share.first_block, share.last_block, -1, threadIdx.x, blockDim.x);
}

/// A small dispatch table is copied into shared memory, in two steps so that the read is in flight while
/// other things are done; it may be used after the caller's next barrier. A large one is read where it is.
struct StagedTable {
  std::int32_t* staged;
  std::int32_t own = -1;
  bool used = false;

  __device__ StagedTable(const DispatchTable& d, std::int32_t* memory) : staged(memory) {
    used = d.table != nullptr && d.offsets == nullptr &&
           d.num_experts <= static_cast<std::int32_t>(kStagedExperts);
    if (used && static_cast<std::int32_t>(threadIdx.x) < d.num_experts) own = __ldcg(d.table + threadIdx.x);
  }
  __device__ const std::int32_t* store(const DispatchTable& d) const {
    if (!used) return d.table;
    const auto experts = static_cast<std::uint32_t>(d.num_experts);
    if (threadIdx.x < experts) staged[threadIdx.x] = own;
#pragma unroll 1
    for (std::uint32_t e = threadIdx.x + blockDim.x; e < experts; e += blockDim.x)
      staged[e] = __ldcg(d.table + e);
    return staged;
  }
};

inline __device__ std::uint32_t blocks_of(const RouteArguments& a, std::uint32_t count) {
  // count <= n < 2^31 and B < 2^31, so count + B - 1 fits in 32 bits but not always below 2^31.
  return count == 0 ? 0 : divide(count - 1, a.block_size) + 1;
}

}  // namespace eplora::kernels
