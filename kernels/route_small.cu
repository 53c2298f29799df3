// SPDX-License-Identifier: Apache-2.0
// Route for few slots, without any barrier between blocks: every block computes the whole order and writes
// the share of the outputs that is its own. Reading a few thousand ids more than once is cheaper than
// talking.
//
// Phases of `route_small`: clear, load ids, fill the own share, stage the table | buckets, count, enter the
// table | ranks, where buckets begin, place the slots that fall into the own share. `route_pairs` replaces
// all of that by comparing all pairs, so that nothing is sized by the number of buckets.
//
// Versions: 1 all-pairs and lists: 3.0 us at 64 x 8 / 512. 2 a table for buckets of up to eight slots. 3 bits
// for the occupied buckets instead of a scan, instances for the plain call (benchmarks/NOTES.md).
#include <algorithm>

#include "kernels/launch.h"
#include "kernels/occupied.cuh"
#include "kernels/plain.cuh"
#include "kernels/slot_table.cuh"

namespace eplora::kernels {
namespace {

__global__ void __launch_bounds__(kMaxPairsSlots) route_pairs(const RouteArguments a) {
  __shared__ alignas(16) std::uint32_t key[kMaxPairsSlots];
  __shared__ alignas(16) std::uint32_t blocks_from[kMaxPairsSlots];  // of a bucket, at its first slot; else 0
  const std::uint32_t slot = threadIdx.x, padded = (a.num_slots + 3) / 4 * 4;
  begin_call();
  const std::int32_t tokens = real_tokens(a.source);
  LoadedSlots<1> slots;
  load_slots<1>(a, slot, 32, a.num_slots, static_cast<std::uint32_t>(tokens) * a.source.cols.value, slots);
  const Share share = own_share(a);
  fill_share(a, share);

  std::uint32_t buckets[1];
  to_buckets<1>(a, a.dispatch.table, slot, 32, a.num_slots, slots, buckets);
  const std::uint32_t bucket = buckets[0];
  key[slot] = bucket;
  __syncthreads();

  std::uint32_t rank = 0, count = 0;
  if (bucket != kNoBucket)
#pragma unroll 1
    for (std::uint32_t j = 0; j < padded; j += 4) {
      const uint4 k = *reinterpret_cast<const uint4*>(key + j);
      const std::uint32_t keys[4] = {k.x, k.y, k.z, k.w};
#pragma unroll
      for (std::uint32_t q = 0; q < 4; ++q) {
        count += keys[q] == bucket;
        rank += keys[q] == bucket && j + q < slot;
      }
    }
  blocks_from[slot] = rank == 0 ? blocks_of(a, count) : 0;
  __syncthreads();

  std::uint32_t start = 0, total = 0;
#pragma unroll 1
  for (std::uint32_t j = 0; j < padded; j += 4) {
    const uint4 k = *reinterpret_cast<const uint4*>(key + j);
    const uint4 b = *reinterpret_cast<const uint4*>(blocks_from + j);
    start += (k.x < bucket ? b.x : 0) + (k.y < bucket ? b.y : 0) + (k.z < bucket ? b.z : 0) +
             (k.w < bucket ? b.w : 0);
    total += b.x + b.y + b.z + b.w;
  }
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *a.num_tokens_post_padded = static_cast<std::int32_t>(total * a.block_size.value);
  const std::uint32_t position = start * a.block_size.value + rank;
  if (bucket != kNoBucket && position >= share.first_block * a.block_size.value &&
      position < share.last_block * a.block_size.value)
    place_slot(a, position, slot, bucket);
  if (blockIdx.x == 0) write_masks<1>(a, slot, 32, a.num_slots, slots);
}

/// A slot that has a place, if that lies in this thread block's share.
__device__ void place_in_share(const RouteArguments& a, const Share& share, std::uint32_t position,
                               std::uint32_t slot, std::uint32_t bucket) {
  if (bucket != kNoBucket && position >= share.first_block * a.block_size.value &&
      position < share.last_block * a.block_size.value)
    place_slot(a, position, slot, bucket);
}

/// Adds to every slot's `start` what the long buckets below its own take; returns what all of them take.
template <int kItems>
__device__ std::uint32_t add_long_buckets(const RouteArguments& a, const std::uint32_t (&bucket)[kItems],
                                          const std::uint32_t (&rank)[kItems], const std::uint32_t* counts,
                                          OccupiedBuckets& occupied, std::uint32_t (&start)[kItems]) {
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    if (bucket[i] < a.num_buckets && rank[i] == a.block_size.value)
      occupied.add_long(bucket[i], blocks_of(a, counts[bucket[i]]) - 1);
  __syncthreads();
  std::uint32_t all = 0;
#pragma unroll 1
  for (std::uint32_t j = 0; j < occupied.num_long; ++j) {
    const std::uint32_t long_bucket = occupied.long_bucket[j], extra = occupied.long_extra[j];
    all += extra;
#pragma unroll
    for (int i = 0; i < kItems; ++i) start[i] += long_bucket < bucket[i] ? extra : 0;
  }
  return all;
}

/// Filler and labels -1 in the share; a kernel of a kind knows that the outputs stand on 16 bytes.
template <CallKind kKind>
__device__ void fill_own_share(const RouteArguments& a, const Share& share) {
  if constexpr (kKind == CallKind::general) return fill_share(a, share);
  const std::uint32_t quads = a.block_size.value / 4;
  const auto n = static_cast<std::int32_t>(a.num_slots);
  auto* entries = reinterpret_cast<int4*>(a.sorted_token_ids);
#pragma unroll 1
  for (std::uint32_t q = share.first_block * quads + threadIdx.x; q < share.last_block * quads;
       q += blockDim.x)
    entries[q] = make_int4(n, n, n, n);
#pragma unroll 1
  for (std::uint32_t b = share.first_block + (blockDim.x - 1 - threadIdx.x); b < share.last_block;
       b += blockDim.x)
    a.expert_ids[b] = -1;
}

/// `kWords`: where buckets begin is found by occupied.cuh with so many words a lane, 0: by a scan over all
/// buckets.
template <int kItems, CallKind kKind, std::uint32_t kWords>
__global__ void __launch_bounds__(1024, 1) route_small(const RouteArguments given, const bool has_table) {
  extern __shared__ uint4 shared[];
  __shared__ std::uint32_t warp_sums[32], sentinel_counts[32 * kItems];
  __shared__ std::int32_t staged[kStagedExperts];
  __shared__ OccupiedBuckets occupied;
  const RouteArguments a = as_kind<kKind>(given);
  const std::uint32_t rounds = blockDim.x / 32 * kItems, columns = (a.num_buckets + 3) / 4 * 4;
  auto* counts = reinterpret_cast<std::uint32_t*>(shared);
  const SlotRanks ranks{counts, sentinel_counts, counts + columns, kWords > 0 || has_table};

  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const std::uint32_t first = warp * 32 * kItems + lane;
  clear_ranks(ranks, columns);
  if constexpr (kWords > 0) occupied.clear();
  begin_call();
  const std::int32_t tokens = real_tokens(a.source);
  LoadedSlots<kItems> slots;
  load_slots<kItems>(a, first, 32, a.num_slots, static_cast<std::uint32_t>(tokens) * a.source.cols.value,
                     slots);
  const StagedTable staging(a.dispatch, staged);
  const Share share = own_share(a);
  fill_own_share<kKind>(a, share);
  const std::int32_t* table = staging.store(a.dispatch);
  __syncthreads();

  std::uint32_t bucket[kItems], rank[kItems];
  to_buckets<kItems>(a, table, first, 32, a.num_slots, slots, bucket);
  const bool crowded =
      __syncthreads_or(enter_slots<kItems>(a, bucket, 0, a.num_buckets, ranks, rank, [&](std::uint32_t b) {
        if constexpr (kWords > 0) occupied.add(b);
      }));
  slot_ranks<kItems>(a, bucket, 0, a.num_buckets, ranks, crowded, rank);

  std::uint32_t total;  // output blocks before the sentinels'
  if constexpr (kWords > 0) {
    const OccupiedScan<kWords> scan(occupied);
    std::uint32_t start[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) start[i] = scan.below(occupied, bucket[i]);
    total = scan.total;
    if (crowded) {
      total += add_long_buckets<kItems>(a, bucket, rank, counts, occupied, start);
#pragma unroll
      for (int i = 0; i < kItems; ++i)
        place_in_share(a, share,
                       (bucket[i] == a.num_buckets ? total : start[i]) * a.block_size.value + rank[i],
                       first + 32 * i, bucket[i]);
    } else {  // a block a bucket, which its first slot labels
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        const bool sentinel = bucket[i] == a.num_buckets;
        const std::uint32_t position = (sentinel ? total : start[i]) * a.block_size.value + rank[i];
        if (bucket[i] == kNoBucket || position < share.first_block * a.block_size.value ||
            position >= share.last_block * a.block_size.value)
          continue;
        a.sorted_token_ids[position] = static_cast<std::int32_t>(first + 32 * i);
        if (rank[i] == 0 && !sentinel) a.expert_ids[start[i]] = static_cast<std::int32_t>(bucket[i]);
      }
    }
  } else {
    // An odd number of consecutive buckets a thread: no bank conflicts, one scan for any V.
    const std::uint32_t begin = min(a.num_buckets, threadIdx.x * a.shares.buckets_each);
    const std::uint32_t end = min(a.num_buckets, begin + a.shares.buckets_each);
    std::uint32_t own = 0;
#pragma unroll 4
    for (std::uint32_t b = begin; b < end; ++b) own += blocks_of(a, counts[b]);
    std::uint32_t start = block_exclusive_scan(own, warp_sums, total);
    std::uint32_t* starts = ranks.memory;  // every rank was read before the scan's barrier
#pragma unroll 4
    for (std::uint32_t b = begin; b < end; ++b) {
      starts[b] = start * a.block_size.value;
      start += blocks_of(a, counts[b]);
    }
    __syncthreads();
    const std::uint32_t sentinel_start = total * a.block_size.value;
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      if (bucket[i] != kNoBucket)
        place_in_share(a, share, (bucket[i] == a.num_buckets ? sentinel_start : starts[bucket[i]]) + rank[i],
                       first + 32 * i, bucket[i]);
  }
  if (blockIdx.x == 0) write_masks<kItems>(a, first, 32, a.num_slots, slots);
  if (blockIdx.x == 0 && warp == 0) {
    const std::uint32_t sentinels = a.keep_sentinels ? sentinel_count(sentinel_counts, rounds) : 0;
    if (lane == 0)
      *a.num_tokens_post_padded =
          static_cast<std::int32_t>((total + blocks_of(a, sentinels)) * a.block_size.value);
  }
}

/// Buckets up to which the table of slot_table.cuh is used.
constexpr std::uint32_t kTableBuckets = 8192;

template <int kItems, CallKind kKind, std::uint32_t kWords>
cudaError_t launch_kernel(const RouteArguments& arguments, std::uint32_t blocks, std::uint32_t threads,
                          cudaStream_t stream) {
  const std::size_t bytes = route_small_shared_bytes(arguments.num_buckets, threads, kItems);
  if (const cudaError_t error = allow_shared_memory<route_small<kItems, kKind, kWords>>();
      error != cudaSuccess)
    return error;
  return launch_early({blocks, threads, bytes, stream}, route_small<kItems, kKind, kWords>,
                      with_shares(arguments, blocks, threads, arguments.num_buckets),
                      arguments.num_buckets <= kTableBuckets);
}

template <int kItems, std::uint32_t kWords>
cudaError_t launch_kind(const RouteArguments& arguments, std::uint32_t blocks, std::uint32_t threads,
                        cudaStream_t stream) {
  return launch_for_kind(arguments, [&](auto kind) {
    return launch_kernel<kItems, kind.value, kWords>(arguments, blocks, threads, stream);
  });
}

template <int kItems>
cudaError_t launch_small(const RouteArguments& arguments, std::uint32_t blocks, std::uint32_t threads,
                         cudaStream_t stream) {
  // A block size of at least kRoom: a bucket that the table holds needs one output block.
  if (arguments.num_buckets > kOccupiedBuckets || arguments.block_size.value < kRoom ||
      arguments.num_slots / arguments.block_size.value > kMostLong)
    return launch_kernel<kItems, CallKind::general, 0>(arguments, blocks, threads, stream);
  return arguments.num_buckets <= 1024 ? launch_kind<kItems, 1>(arguments, blocks, threads, stream)
                                       : launch_kind<kItems, 4>(arguments, blocks, threads, stream);
}

}  // namespace

cudaError_t launch_route_pairs(const RouteArguments& arguments, std::uint32_t blocks, cudaStream_t stream) {
  const std::uint32_t threads = std::max(64u, (arguments.num_slots + 31) / 32 * 32);
  return launch_early({blocks, threads, 0, stream}, route_pairs, with_shares(arguments, blocks, threads, 0));
}

std::size_t route_small_shared_bytes(std::uint32_t buckets, std::uint32_t threads, std::uint32_t items) {
  const std::uint32_t columns = (buckets + 3) / 4 * 4;
  return sizeof(std::uint32_t) * (columns + rank_words(columns, threads, items, buckets <= kTableBuckets));
}

cudaError_t launch_route_small(const RouteArguments& arguments, std::uint32_t blocks, std::uint32_t threads,
                               std::uint32_t items, cudaStream_t stream) {
  switch (items) {
    case 1:
      return launch_small<1>(arguments, blocks, threads, stream);
    case 2:
      return launch_small<2>(arguments, blocks, threads, stream);
    case 4:
      return launch_small<4>(arguments, blocks, threads, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace eplora::kernels
