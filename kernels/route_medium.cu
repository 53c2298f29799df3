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

constexpr std::uint32_t kThreads = 1024, kBatch = 6;

/// 16-byte vectors of 8 counts in a row of the matrix.
constexpr std::uint32_t row_vectors(std::uint32_t buckets) { return (buckets + 1 + 7) / 8; }

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
    route_medium(const RouteArguments a, uint4* matrix, const Divisor by_vectors,
                 const std::uint32_t splits) {
  extern __shared__ std::uint32_t shared[];
  __shared__ std::uint32_t warp_sums[32];
  std::uint32_t* cursor = shared;
  const auto take = [&](std::uint32_t words) { return cursor += words, cursor - words; };
  constexpr std::uint32_t kRounds = kThreads / 32 * kItems;
  const std::uint32_t vectors = by_vectors.value, columns = 8 * vectors, V = a.num_buckets;
  auto* staged = reinterpret_cast<std::int32_t*>(take(kStagedExperts));
  const SlotLists lists{take(columns), take(columns), take(kRounds * 32), take(kRounds)};
  // After the lists are done with: bucket b of the sums stands at b % 8 * vectors + b / 8, free of bank
  // conflicts.
  std::uint32_t *before = lists.heads, *totals = lists.counts;
  const auto at = [&](std::uint32_t b) { return (b & 7) * vectors + (b >> 3); };

  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const std::uint32_t window_begin = min(a.num_slots, a.shares.slots_each * blockIdx.x);
  const std::uint32_t window_end = min(a.num_slots, window_begin + a.shares.slots_each);
  const std::uint32_t first = window_begin + warp * 32 * kItems + lane;
  const std::int32_t tokens = real_tokens(a.source);
  LoadedSlots<kItems> slots;
  load_slots<kItems>(a, first, 32, window_end, static_cast<std::uint32_t>(tokens) * a.source.cols.value,
                     slots);
  const StagedTable staging(a.dispatch, staged);
#pragma unroll 1
  for (std::uint32_t b = threadIdx.x; b < columns; b += kThreads) {
    lists.heads[b] = kNoNode;
    lists.counts[b] = 0;
  }
  fill_share(a, own_share(a));
  const std::int32_t* table = staging.store(a.dispatch);
  __syncthreads();

  std::uint32_t bucket[kItems], rank[kItems];
  to_buckets<kItems>(a, table, first, 32, window_end, slots, bucket);
  push_nodes<kItems>(a, bucket, 0, V, lists, rank);
  __syncthreads();
  const std::uint32_t sentinels = a.keep_sentinels ? sentinel_count(lists, kRounds) : 0;
  auto* row = reinterpret_cast<std::uint32_t*>(matrix + std::size_t{blockIdx.x} * vectors);
#pragma unroll 1
  for (std::uint32_t w = threadIdx.x; w < columns / 2; w += kThreads) {
    const std::uint32_t low = 2 * w == V ? sentinels : lists.counts[2 * w];
    const std::uint32_t high = 2 * w + 1 == V ? sentinels : lists.counts[2 * w + 1];
    row[w] = high << 16 | low;
  }
  finish_ranks<kItems>(a, bucket, 0, V, lists, rank);
  __syncthreads();
#pragma unroll 1
  for (std::uint32_t b = threadIdx.x; b < columns; b += kThreads) before[b] = totals[b] = 0;
  barrier<kCluster>();

  // Sum the columns, eight a vector; `splits` threads share a vector's rows, kBatch loads in flight each.
  // Every block starts with its own row, so that not all want the same one. A block has at most 4096 slots,
  // all blocks of a sum may have more than 65535: unpack before adding.
#pragma unroll 1
  for (std::uint32_t unit = threadIdx.x; unit < vectors * splits; unit += kThreads) {
    const std::uint32_t split = divide(unit, by_vectors), v = unit - split * vectors;
    std::uint32_t all[8] = {}, earlier[8] = {};
#pragma unroll 1
    for (std::uint32_t first_row = split; first_row < gridDim.x; first_row += kBatch * splits) {
      uint4 counts[kBatch];
#pragma unroll
      for (std::uint32_t j = 0; j < kBatch; ++j) {
        const std::uint32_t turn = first_row + j * splits, other = turn + blockIdx.x;
        counts[j] = make_uint4(0, 0, 0, 0);
        if (turn < gridDim.x)
          counts[j] = matrix[std::size_t{other < gridDim.x ? other : other - gridDim.x} * vectors + v];
      }
#pragma unroll
      for (std::uint32_t j = 0; j < kBatch; ++j) {
        const bool is_earlier = first_row + j * splits + blockIdx.x >= gridDim.x;
        const std::uint32_t pairs[4] = {counts[j].x, counts[j].y, counts[j].z, counts[j].w};
#pragma unroll
        for (std::uint32_t q = 0; q < 8; ++q) {
          const std::uint32_t count = q % 2 == 0 ? pairs[q / 2] & 0xFFFFu : pairs[q / 2] >> 16;
          all[q] += count;
          earlier[q] += is_earlier ? count : 0;
        }
      }
    }
#pragma unroll
    for (std::uint32_t q = 0; q < 8; ++q) {
      atomicAdd(totals + q * vectors + v, all[q]);
      atomicAdd(before + q * vectors + v, earlier[q]);
    }
  }
  __syncthreads();

  const std::uint32_t begin = min(columns, threadIdx.x * a.shares.buckets_each);
  const std::uint32_t end = min(columns, begin + a.shares.buckets_each);
  std::uint32_t own = 0, total;
#pragma unroll 1
  for (std::uint32_t b = begin; b < end; ++b) own += blocks_of(a, totals[at(b)]);
  std::uint32_t start = block_exclusive_scan(own, warp_sums, total);
#pragma unroll 1
  for (std::uint32_t b = begin; b < end; ++b) {
    before[at(b)] += start * a.block_size.value;
    start += blocks_of(a, totals[at(b)]);
  }
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *a.num_tokens_post_padded = static_cast<std::int32_t>(total * a.block_size.value);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    if (bucket[i] != kNoBucket) place_slot(a, before[at(bucket[i])] + rank[i], first + 32 * i, bucket[i]);
  write_masks<kItems>(a, first, 32, window_end, slots);
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
  auto* matrix = reinterpret_cast<uint4*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
  const std::uint32_t vectors = row_vectors(arguments.num_buckets);
  return cudaLaunchKernelEx(&config, kernel, with_shares(arguments, blocks, kThreads, 8 * vectors), matrix,
                            Divisor::of(vectors), std::clamp(kThreads / vectors, 1u, blocks));
}

}  // namespace

std::size_t route_medium_shared_bytes(std::uint32_t buckets, std::uint32_t items) {
  return sizeof(std::uint32_t) *
         (kStagedExperts + 16 * std::size_t{row_vectors(buckets)} + list_words(kThreads, items));
}

std::size_t route_medium_workspace_bytes(std::uint32_t buckets, std::uint32_t blocks) {
  return 256 + sizeof(uint4) * std::size_t{row_vectors(buckets)} * blocks;
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
