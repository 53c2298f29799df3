// SPDX-License-Identifier: Apache-2.0
// Route with one barrier: each block takes a contiguous window of slots, keeps them in registers with their
// ranks inside the block, publishes how many it has of every bucket, and after the barrier reads everybody's
// counts. The barrier is that of one thread-block cluster (up to 16 blocks, sm_90) or of a cooperative grid;
// the code is the same.
//
// Phases: load ids | count, enter the table | publish counts to the matrix [blocks, V + 1] | ARRIVE | ranks,
// masks | WAIT | sum the matrix's columns: before this block, and over all | scan of padded totals | place;
// labels, filler and the tail, each entry of the outputs written once.
//
// Versions: 1 lists, everything filled before the barrier, sums by atomics: 7.4 us at 2048 x 8 / 512, 8.9 at
// 8192 x 8 / 512. 2 as it stands here (benchmarks/NOTES.md).
#include <cooperative_groups.h>

#include <algorithm>
#include <utility>

#include "kernels/columns.cuh"
#include "kernels/launch.h"
#include "kernels/plain.cuh"
#include "kernels/slot_table.cuh"

namespace eplora::kernels {
namespace {

constexpr std::uint32_t kThreads = 1024, kBatch = 6;

/// 16-byte vectors of 8 counts in a row of the matrix.
constexpr std::uint32_t row_vectors(std::uint32_t buckets) { return (buckets + 1 + 7) / 8; }

/// Buckets up to which the table of slot_table.cuh is used.
constexpr std::uint32_t kTableBuckets = 4096;

/// Partial sums of 8 columns: over all rows and over the earlier ones, in 16-bit halves.
constexpr std::uint32_t kPartialWords = 8;

std::uint32_t splits_of(std::uint32_t buckets, std::uint32_t blocks) {
  return std::clamp(kThreads / row_vectors(buckets), 1u, blocks);
}

template <bool kCluster>
struct Barrier {
  cooperative_groups::grid_group::arrival_token token;

  __device__ void arrive() {
    if constexpr (kCluster) {
#if __CUDA_ARCH__ >= 900
      cooperative_groups::this_cluster().barrier_arrive();
#else
      __trap();  // The plan never asks for clusters below sm_90.
#endif
    } else {
      token = cooperative_groups::this_grid().barrier_arrive();
    }
  }
  __device__ void wait() {
    if constexpr (kCluster) {
#if __CUDA_ARCH__ >= 900
      cooperative_groups::this_cluster().barrier_wait();
#endif
      __syncthreads();  // a cluster's barrier is past when all have arrived, whatever they did since
    } else {
      cooperative_groups::this_grid().barrier_wait(std::move(token));
    }
  }
};

template <int kItems, bool kCluster, CallKind kKind>
__global__ void __launch_bounds__(kThreads, 1)
    route_medium(const RouteArguments given, uint4* matrix, const Divisor by_vectors,
                 const std::uint32_t splits, const bool has_table) {
  const RouteArguments a = as_kind<kKind>(given);
  extern __shared__ uint4 shared[];
  __shared__ std::uint32_t warp_sums[32], sentinel_counts[kThreads / 32 * kItems];
  constexpr std::uint32_t kRounds = kThreads / 32 * kItems;
  const std::uint32_t vectors = by_vectors.value, columns = 8 * vectors, V = a.num_buckets;
  auto* counts = reinterpret_cast<std::uint32_t*>(shared);
  std::uint32_t *before = counts + columns, *region = before + columns + kStagedExperts;
  const SlotRanks ranks{counts, sentinel_counts, region, has_table};

  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const std::uint32_t window_begin = min(a.num_slots, a.shares.slots_each * blockIdx.x);
  const std::uint32_t window_end = min(a.num_slots, window_begin + a.shares.slots_each);
  const std::uint32_t first = window_begin + warp * 32 * kItems + lane;
  const std::int32_t tokens = real_tokens(a.source);
  LoadedSlots<kItems> slots;
  load_slots<kItems>(a, first, 32, window_end, static_cast<std::uint32_t>(tokens) * a.source.cols.value,
                     slots);
  const StagedTable staging(a.dispatch, reinterpret_cast<std::int32_t*>(before + columns));
  clear_ranks(ranks, columns);
  const std::int32_t* table = staging.store(a.dispatch);
  __syncthreads();

  std::uint32_t bucket[kItems], rank[kItems];
  const bool has_slots = first - lane < window_end;  // else the warp only helps with what all share
  bool too_many = false;
  if (has_slots) {
    to_buckets<kItems>(a, table, first, 32, window_end, slots, bucket);
    too_many = enter_slots<kItems>(a, bucket, 0, V, ranks, rank);
  } else {
    no_slots<kItems>(bucket, ranks);
  }
  const bool crowded = __syncthreads_or(too_many);
  auto* row = reinterpret_cast<uint2*>(matrix + std::size_t{blockIdx.x} * vectors);
  const std::uint32_t sentinels = a.keep_sentinels ? sentinel_count(sentinel_counts, kRounds) : 0;
#pragma unroll 1
  for (std::uint32_t w = threadIdx.x; w < columns / 4; w += kThreads) {
    uint4 four = shared[w];
    if (w == V / 4) {
      const std::uint32_t at = V & 3;
      four = make_uint4(at == 0 ? sentinels : four.x, at == 1 ? sentinels : four.y,
                        at == 2 ? sentinels : four.z, at == 3 ? sentinels : four.w);
    }
    __stcg(row + w, make_uint2(four.y << 16 | four.x, four.w << 16 | four.z));
  }
  Barrier<kCluster> barrier;
  barrier.arrive();
  if (crowded || has_slots) slot_ranks<kItems>(a, bucket, 0, V, ranks, crowded, rank);
  if (has_slots) write_masks<kItems>(a, first, 32, window_end, slots);
  barrier.wait();

  // Sum the columns, eight a vector, in 16-bit halves (the plan sees to it that a thread's rows do not
  // overflow them); `splits` threads share a vector's rows. Every block starts with its own row, so that not
  // all want the same one.
  auto* partial = reinterpret_cast<uint4*>(region);  // [splits, vectors, 2]
#pragma unroll 1
  for (std::uint32_t unit = threadIdx.x; unit < vectors * splits; unit += kThreads) {
    const std::uint32_t split = divide(unit, by_vectors), v = unit - split * vectors;
    uint4 all = make_uint4(0, 0, 0, 0), earlier = all;
#pragma unroll 1
    for (std::uint32_t first_row = split; first_row < gridDim.x; first_row += kBatch * splits) {
      uint4 values[kBatch];
#pragma unroll
      for (std::uint32_t j = 0; j < kBatch; ++j) {
        const std::uint32_t turn = first_row + j * splits, other = turn + blockIdx.x;
        values[j] = make_uint4(0, 0, 0, 0);
        if (turn < gridDim.x)
          values[j] =
              __ldcg(matrix + std::size_t{other < gridDim.x ? other : other - gridDim.x} * vectors + v);
      }
#pragma unroll
      for (std::uint32_t j = 0; j < kBatch; ++j) {
        all.x += values[j].x, all.y += values[j].y, all.z += values[j].z, all.w += values[j].w;
        if (first_row + j * splits + blockIdx.x >= gridDim.x)
          earlier.x += values[j].x, earlier.y += values[j].y, earlier.z += values[j].z,
              earlier.w += values[j].w;
      }
    }
    partial[2 * unit] = all;
    partial[2 * unit + 1] = earlier;
  }
  __syncthreads();
  // An odd number of neighbouring columns a thread.
  const auto* halves = reinterpret_cast<const std::uint16_t*>(region);
  const std::uint32_t begin = min(columns, threadIdx.x * a.shares.buckets_each);
  const std::uint32_t end = min(columns, begin + a.shares.buckets_each);
  std::uint32_t own = 0, total;
#pragma unroll 1
  for (std::uint32_t c = begin; c < end; ++c) {
    std::uint32_t all = 0, earlier = 0;
#pragma unroll 4
    for (std::uint32_t split = 0; split < splits; ++split) {
      const std::uint16_t* of = halves + 16 * (split * vectors + (c >> 3)) + (c & 7);
      all += of[0];
      earlier += of[8];
    }
    counts[c] = all;
    before[c] = earlier;
    own += blocks_of(a, all);
  }
  std::uint32_t start = block_exclusive_scan(own, warp_sums, total);
  std::uint32_t* starts = region;  // every partial sum was read before the scan's barrier
#pragma unroll 1
  for (std::uint32_t c = begin; c < end; ++c) {
    starts[c] = start;
    before[c] += start * a.block_size.value;
    start += blocks_of(a, counts[c]);
  }
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *a.num_tokens_post_padded = static_cast<std::int32_t>(total * a.block_size.value);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    if (bucket[i] != kNoBucket)
      a.sorted_token_ids[before[bucket[i]] + rank[i]] = static_cast<std::int32_t>(first + 32 * i);
  // Columns j, j + blocks, ... are block j's to label and to fill up.
  finish_columns(a, {counts, starts, V + 1, blockIdx.x, gridDim.x}, 0, 0);
  fill_tail(a, total);
}

template <int kItems, bool kCluster, CallKind kKind>
cudaError_t launch(const RouteArguments& arguments, std::uint32_t blocks, void* workspace,
                   cudaStream_t stream) {
  const auto kernel = route_medium<kItems, kCluster, kKind>;
  const bool has_table = arguments.num_buckets <= kTableBuckets;
  const std::size_t bytes = route_medium_shared_bytes(arguments.num_buckets, blocks, kItems);
  cudaError_t error = allow_shared_memory<route_medium<kItems, kCluster, kKind>>();
  if (error == cudaSuccess && kCluster)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (error != cudaSuccess) return error;
  auto* matrix = reinterpret_cast<uint4*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
  const std::uint32_t vectors = row_vectors(arguments.num_buckets);
  const LaunchSize size{blocks, kThreads, bytes, stream};
  const auto enqueue = [&](const auto&... rest) {
    return kCluster ? launch_cluster(size, kernel, rest...) : launch_cooperative(size, kernel, rest...);
  };
  return enqueue(with_shares(arguments, blocks, kThreads, 8 * vectors), matrix, Divisor::of(vectors),
                 splits_of(arguments.num_buckets, blocks), has_table);
}

/// The plan never chooses clusters: they make do with the general instance.
template <int kItems, bool kCluster>
cudaError_t launch_kind(const RouteArguments& arguments, std::uint32_t blocks, void* workspace,
                        cudaStream_t stream) {
  if constexpr (kCluster)
    return launch<kItems, true, CallKind::general>(arguments, blocks, workspace, stream);
  return launch_for_kind(arguments, [&](auto kind) {
    return launch<kItems, false, kind.value>(arguments, blocks, workspace, stream);
  });
}

}  // namespace

bool route_medium_serves(std::uint32_t slots, std::uint32_t buckets, std::uint32_t blocks) {
  const std::uint64_t splits = splits_of(buckets, blocks), window = (slots + blocks - 1) / blocks;
  return (blocks + splits - 1) / splits * window <= 0xFFFFu;
}

std::size_t route_medium_shared_bytes(std::uint32_t buckets, std::uint32_t blocks, std::uint32_t items) {
  const std::size_t columns = 8 * std::size_t{row_vectors(buckets)};
  const std::size_t ranks =
      rank_words(static_cast<std::uint32_t>(columns), kThreads, items, buckets <= kTableBuckets);
  const std::size_t partials = kPartialWords * std::size_t{splits_of(buckets, blocks)} * row_vectors(buckets);
  return sizeof(std::uint32_t) * (kStagedExperts + 2 * columns + std::max({ranks, partials, columns}));
}

std::size_t route_medium_workspace_bytes(std::uint32_t buckets, std::uint32_t blocks) {
  return 256 + sizeof(uint4) * std::size_t{row_vectors(buckets)} * blocks;
}

cudaError_t launch_route_medium(const RouteArguments& arguments, std::uint32_t blocks, std::uint32_t items,
                                bool cluster, void* workspace, cudaStream_t stream) {
  switch (items) {
    case 1:
      return cluster ? launch_kind<1, true>(arguments, blocks, workspace, stream)
                     : launch_kind<1, false>(arguments, blocks, workspace, stream);
    case 2:
      return cluster ? launch_kind<2, true>(arguments, blocks, workspace, stream)
                     : launch_kind<2, false>(arguments, blocks, workspace, stream);
    case 4:
      return cluster ? launch_kind<4, true>(arguments, blocks, workspace, stream)
                     : launch_kind<4, false>(arguments, blocks, workspace, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace eplora::kernels
