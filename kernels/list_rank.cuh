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
  std::uint32_t* nodes;      ///< `[rounds * 32]`: next << 16 | count; node id = round * 32 + first lane
  std::uint32_t* sentinels;  ///< `[rounds]`
};

/// Words of shared memory that a block of `threads` needs beside the heads.
constexpr std::uint32_t list_words(std::uint32_t threads, std::uint32_t items) {
  return threads * items + threads / 32 * items;
}

/// Reads ids and adapters of the thread's slots (`first + 32 * i`); all loads are in flight before the first
/// use.
template <int kItems>
__device__ void load_slots(const RouteArguments& a, std::uint32_t first, std::uint32_t end,
                           std::uint32_t real_slots, std::int64_t (&id)[kItems],
                           std::int32_t (&adapter)[kItems]) {
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const std::uint32_t slot = first + 32 * i;
    id[i] = -1;
    adapter[i] = 0;
    if (slot < end && slot < real_slots) {
      const std::uint32_t token = divide(slot, a.source.cols);
      id[i] = raw_id(a.source, token, slot - token * a.source.cols.value);
      if (a.remap.mapping != nullptr) adapter[i] = __ldg(a.remap.mapping + token);
    }
  }
}

/// The bucket of a slot whose id and adapter are at hand: [0, V), V for a sentinel, kNoBucket for a dropped
/// one.
inline __device__ std::uint32_t bucket_of(const RouteArguments& a, const std::int32_t* table,
                                          std::int64_t raw, std::int32_t adapter, std::uint32_t slot) {
  std::int32_t id = narrow(raw);
  if (a.dispatch.table != nullptr) id = dispatch_id(a.dispatch, table, id, slot);
  id = virtual_id(a.remap, id, adapter);
  if (id >= 0) return static_cast<std::uint32_t>(id);
  return a.keep_sentinels ? a.num_buckets : kNoBucket;
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
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const std::uint32_t round = warp * kItems + i;
    const unsigned sentinels = __ballot_sync(kFullWarp, bucket[i] == a.num_buckets);
    if (lane == 0) lists.sentinels[round] = __popc(sentinels);
    const bool real = bucket[i] >= low && bucket[i] < high && bucket[i] != a.num_buckets;
    std::uint32_t node = round * 32 + lane, place = 0, count = 1;
    unsigned rest = __ballot_sync(kFullWarp, real);
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
    }
  }
}

/// Turns what `push_nodes` left into ranks inside the block.
template <int kItems>
__device__ void finish_ranks(const RouteArguments& a, const std::uint32_t (&bucket)[kItems],
                             std::uint32_t low, std::uint32_t high, const SlotLists& lists,
                             std::uint32_t (&rank)[kItems]) {
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const std::uint32_t own = rank[i] >> 16;
    rank[i] &= 0xFFFFu;
    if (bucket[i] < low || bucket[i] >= high || bucket[i] == a.num_buckets) continue;
    std::uint32_t node = lists.heads[bucket[i] - low];
    while (node != kNoNode) {
      const std::uint32_t entry = lists.nodes[node];
      if (node < own) rank[i] += entry & 0xFFFFu;
      node = entry >> 16;
    }
  }
  if (!a.keep_sentinels) return;
  unsigned mine[kItems], any = 0;
#pragma unroll
  for (int i = 0; i < kItems; ++i) any |= mine[i] = __ballot_sync(kFullWarp, bucket[i] == a.num_buckets);
  if (any == 0) return;
  std::uint32_t earlier = 0;
  for (std::uint32_t round = lane; round < warp * kItems; round += 32) earlier += lists.sentinels[round];
  earlier = __reduce_add_sync(kFullWarp, earlier);
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    if (bucket[i] == a.num_buckets) rank[i] = earlier + __popc(mine[i] & lanes_below());
    earlier += __popc(mine[i]);
  }
}

/// How many of the block's slots are in the bucket whose list starts at `node`.
inline __device__ std::uint32_t list_count(const SlotLists& lists, std::uint32_t node) {
  std::uint32_t count = 0;
  while (node != kNoNode) {
    const std::uint32_t entry = lists.nodes[node];
    count += entry & 0xFFFFu;
    node = entry >> 16;
  }
  return count;
}

/// Sentinels among the block's slots; the answer stands in every lane.
inline __device__ std::uint32_t sentinel_count(const SlotLists& lists, std::uint32_t rounds) {
  std::uint32_t count = 0;
  for (std::uint32_t round = threadIdx.x & 31; round < rounds; round += 32) count += lists.sentinels[round];
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

inline __device__ void write_masks(const RouteArguments& a, std::int32_t tokens) {
  if (a.token_lora_mask == nullptr) return;
  const auto rows = static_cast<std::uint32_t>(a.source.num_rows), real = static_cast<std::uint32_t>(tokens);
  for (std::uint32_t t = blockIdx.x * blockDim.x + threadIdx.x; t < rows; t += gridDim.x * blockDim.x)
    a.token_lora_mask[t] = t < real ? lora_mask(a.remap, __ldg(a.remap.mapping + t)) : 0;
}

/// Copies a small table into shared memory (visible after the caller's next barrier); a large one is read
/// where it is.
inline __device__ const std::int32_t* stage_table(const DispatchTable& d, std::int32_t* staged) {
  if (d.table == nullptr || d.offsets != nullptr || d.num_experts > static_cast<std::int32_t>(kStagedExperts))
    return d.table;
  for (std::int32_t e = static_cast<std::int32_t>(threadIdx.x); e < d.num_experts;
       e += static_cast<std::int32_t>(blockDim.x))
    staged[e] = __ldg(d.table + e);
  return staged;
}

inline __device__ std::uint32_t blocks_of(const RouteArguments& a, std::uint32_t count) {
  // count <= n < 2^31 and B < 2^31, so count + B - 1 fits in 32 bits but not always below 2^31.
  return count == 0 ? 0 : divide(count - 1, a.block_size) + 1;
}

}  // namespace eplora::kernels
