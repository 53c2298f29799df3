// SPDX-License-Identifier: Apache-2.0
// Route with one barrier: each block takes a contiguous window of slots, keeps them in registers with their
// ranks inside the block, publishes how many it has of every bucket, and after the barrier reads everybody's
// counts. The barrier is that of one thread-block cluster (up to 16 blocks, sm_90) or of a cooperative grid;
// the code is the same.
//
// Phases: load ids, fill filler and labels, masks | lists | ranks, counts to the matrix [blocks, V + 1] |
// BARRIER | sum the matrix's columns: before this block, and over all | scan of padded totals | place.
//
// Versions: 1 as it stands here. Filling everything before the barrier hides behind the loads and saves all
// reasoning about who pads what.
#include <cooperative_groups.h>

#include <algorithm>

#include "kernels/list_rank.cuh"

namespace eplora::kernels {
namespace {

constexpr std::uint32_t kThreads = 1024, kBatch = 8;

constexpr __host__ __device__ std::uint32_t row_words(std::uint32_t buckets) {
  return (buckets + 1 + 1) / 2;
}  // two counts a word

template <bool kCluster>
__device__ void barrier() {
  if constexpr (kCluster) {
#if __CUDA_ARCH__ >= 900
    cooperative_groups::this_cluster().sync();
#else
    __trap();  // The plan never asks for clusters below sm_90.
#endif
  } else {
    cooperative_groups::this_grid().sync();
  }
}

template <int kItems, bool kCluster>
__global__ void __launch_bounds__(kThreads, 1)
    route_medium(const RouteArguments a, std::uint32_t* matrix, const Divisor by_words,
                 const std::uint32_t splits) {
  extern __shared__ std::uint32_t shared[];
  __shared__ std::uint32_t warp_sums[32];
  std::uint32_t* cursor = shared;
  const auto take = [&](std::uint32_t words) { return cursor += words, cursor - words; };
  constexpr std::uint32_t kRounds = kThreads / 32 * kItems;
  const std::uint32_t words = by_words.value, columns = 2 * words, V = a.num_buckets;
  auto* staged = reinterpret_cast<std::int32_t*>(take(kStagedExperts));
  std::uint32_t* totals = take(columns);
  const SlotLists lists{take(columns), take(kRounds * 32), take(kRounds)};
  std::uint32_t* before = lists.heads;  // after the lists are done with

  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const std::uint32_t window_begin = min(a.num_slots, a.shares.slots_each * blockIdx.x);
  const std::uint32_t window_end = min(a.num_slots, window_begin + a.shares.slots_each);
  const std::uint32_t first = window_begin + warp * 32 * kItems + lane;
  const std::int32_t tokens = real_tokens(a.source);
  std::int64_t id[kItems];
  std::int32_t adapter[kItems];
  load_slots<kItems>(a, first, window_end, static_cast<std::uint32_t>(tokens) * a.source.cols.value, id,
                     adapter);
  const std::int32_t* table = stage_table(a.dispatch, staged);
  for (std::uint32_t b = threadIdx.x; b < columns; b += kThreads) {
    lists.heads[b] = kNoNode;
    totals[b] = 0;
  }
  fill_share(a, own_share(a));
  write_masks(a, tokens);
  __syncthreads();

  std::uint32_t bucket[kItems], rank[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    bucket[i] =
        first + 32 * i < window_end ? bucket_of(a, table, id[i], adapter[i], first + 32 * i) : kNoBucket;
  push_nodes<kItems>(a, bucket, 0, V, lists, rank);
  __syncthreads();
  finish_ranks<kItems>(a, bucket, 0, V, lists, rank);
  const std::uint32_t sentinels = a.keep_sentinels ? sentinel_count(lists, kRounds) : 0;
  for (std::uint32_t w = threadIdx.x; w < words; w += kThreads) {
    const std::uint32_t low = 2 * w < V ? list_count(lists, lists.heads[2 * w]) : sentinels;
    const std::uint32_t high = 2 * w + 1 < V    ? list_count(lists, lists.heads[2 * w + 1])
                               : 2 * w + 1 == V ? sentinels
                                                : 0;
    __stcg(matrix + std::size_t{blockIdx.x} * words + w, high << 16 | low);
  }
  __syncthreads();
  for (std::uint32_t b = threadIdx.x; b < columns; b += kThreads) before[b] = 0;
  barrier<kCluster>();

  // Sum the columns, two a word; `splits` threads share a word's rows, kBatch loads in flight each. A block
  // has at most 4096 slots, all blocks of a sum may have more than 65535: unpack before adding.
  for (std::uint32_t unit = threadIdx.x; unit < words * splits; unit += kThreads) {
    const std::uint32_t split = divide(unit, by_words), w = unit - split * words;
    std::uint32_t all_low = 0, all_high = 0, before_low = 0, before_high = 0;
    for (std::uint32_t first_row = split; first_row < gridDim.x; first_row += kBatch * splits) {
      std::uint32_t counts[kBatch];
#pragma unroll
      for (std::uint32_t j = 0; j < kBatch; ++j) {
        const std::uint32_t row = first_row + j * splits;
        counts[j] = row < gridDim.x ? matrix[std::size_t{row} * words + w] : 0;
      }
#pragma unroll
      for (std::uint32_t j = 0; j < kBatch; ++j) {
        const std::uint32_t low = counts[j] & 0xFFFFu, high = counts[j] >> 16;
        const bool earlier = first_row + j * splits < blockIdx.x;
        all_low += low;
        all_high += high;
        before_low += earlier ? low : 0;
        before_high += earlier ? high : 0;
      }
    }
    atomicAdd(totals + 2 * w, all_low);
    atomicAdd(totals + 2 * w + 1, all_high);
    atomicAdd(before + 2 * w, before_low);
    atomicAdd(before + 2 * w + 1, before_high);
  }
  __syncthreads();

  const std::uint32_t begin = min(columns, threadIdx.x * a.shares.buckets_each);
  const std::uint32_t end = min(columns, begin + a.shares.buckets_each);
  std::uint32_t own = 0, total;
  for (std::uint32_t b = begin; b < end; ++b) own += blocks_of(a, totals[b]);
  std::uint32_t start = block_exclusive_scan(own, warp_sums, total);
  for (std::uint32_t b = begin; b < end; ++b) {
    before[b] += start * a.block_size.value;
    start += blocks_of(a, totals[b]);
  }
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *a.num_tokens_post_padded = static_cast<std::int32_t>(total * a.block_size.value);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    if (bucket[i] != kNoBucket) place_slot(a, before[bucket[i]] + rank[i], first + 32 * i, bucket[i]);
}

template <int kItems, bool kCluster>
cudaError_t launch(const RouteArguments& arguments, std::uint32_t blocks, void* workspace,
                   cudaStream_t stream) {
  const auto kernel = route_medium<kItems, kCluster>;
  const std::size_t bytes = route_medium_shared_bytes(arguments.num_buckets, kItems);
  cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error == cudaSuccess && kCluster)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attribute{};
  if (kCluster) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = blocks;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  } else {
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  auto* matrix =
      reinterpret_cast<std::uint32_t*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
  const std::uint32_t words = row_words(arguments.num_buckets);
  return cudaLaunchKernelEx(&config, kernel, with_shares(arguments, blocks, kThreads), matrix,
                            Divisor::of(words), std::max(1u, kThreads / words));
}

}  // namespace

std::size_t route_medium_shared_bytes(std::uint32_t buckets, std::uint32_t items) {
  return sizeof(std::uint32_t) *
         (kStagedExperts + 4 * std::size_t{row_words(buckets)} + list_words(kThreads, items));
}

std::size_t route_medium_workspace_bytes(std::uint32_t buckets, std::uint32_t blocks) {
  return 256 + sizeof(std::uint32_t) * std::size_t{row_words(buckets)} * blocks;
}

cudaError_t launch_route_medium(const RouteArguments& arguments, std::uint32_t blocks, std::uint32_t items,
                                bool cluster, void* workspace, cudaStream_t stream) {
  switch (items) {
    case 1:
      return cluster ? launch<1, true>(arguments, blocks, workspace, stream)
                     : launch<1, false>(arguments, blocks, workspace, stream);
    case 2:
      return cluster ? launch<2, true>(arguments, blocks, workspace, stream)
                     : launch<2, false>(arguments, blocks, workspace, stream);
    case 4:
      return cluster ? launch<4, true>(arguments, blocks, workspace, stream)
                     : launch<4, false>(arguments, blocks, workspace, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace eplora::kernels
