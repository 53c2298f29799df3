// SPDX-License-Identifier: Apache-2.0
// The unfused align. `count`: block 0 walks over all slots in tiles of 1024, ranks them with lists
// (list_rank.cuh) on top of the running bucket sizes, then scans the padded sizes and labels the blocks; the
// other blocks fill. `scatter`: every slot to start + rank. `sanitise`: label V becomes -1.
#include <algorithm>

#include "kernels/align.h"
#include "kernels/launch.h"
#include "kernels/list_rank.cuh"

namespace eplora::kernels {
namespace {

constexpr std::uint32_t kThreads = 1024, kFillBlocks = 31;
constexpr std::uint32_t kSharedBuckets = 16384;  // above it heads and counts live in the workspace

struct Workspace {
  std::uint32_t *ranks, *starts, *heads, *counts;  // [n], [V + 1], [V], [V + 1]
};

Workspace split(void* workspace, std::uint32_t num_slots, std::uint32_t num_buckets) {
  auto* base =
      reinterpret_cast<std::uint32_t*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
  std::uint32_t* starts = base + num_slots;
  std::uint32_t* heads = starts + num_buckets + 1;
  return {base, starts, heads, heads + num_buckets};
}

__device__ std::uint32_t slot_bucket(const RouteArguments& a, std::uint32_t slot, std::uint32_t real_slots) {
  LoadedSlots<1> slots;
  load_slots<1>(a, slot, 32, a.num_slots, real_slots, slots);
  std::uint32_t bucket[1];
  to_buckets<1>(a, a.dispatch.table, slot, 32, a.num_slots, slots, bucket);
  return bucket[0];
}

__global__ void __launch_bounds__(kThreads, 1)
    count_kernel(const RouteArguments a, const Workspace w, bool in_shared) {
  extern __shared__ std::uint32_t shared[];
  __shared__ std::uint32_t warp_sums[32], nodes[kThreads], sentinels[kThreads / 32];
  if (blockIdx.x > 0) {
    const auto capacity = static_cast<std::uint32_t>(a.capacity), fillers = gridDim.x - 1;
    const std::uint32_t each = (capacity + fillers - 1) / fillers,
                        first = min(capacity, each * (blockIdx.x - 1));
    fill_range(a.sorted_token_ids, first, min(capacity, first + each), static_cast<std::int32_t>(a.num_slots),
               threadIdx.x, kThreads);
    return;
  }
  const std::uint32_t V = a.num_buckets;
  const SlotLists lists{in_shared ? shared : w.heads, nullptr, nodes, sentinels};
  std::uint32_t* counts = in_shared ? shared + V : w.counts;
  for (std::uint32_t b = threadIdx.x; b <= V; b += kThreads) {
    if (b < V) lists.heads[b] = kNoNode;
    counts[b] = 0;
  }
  __syncthreads();
  const std::uint32_t real_slots = static_cast<std::uint32_t>(real_tokens(a.source)) * a.source.cols.value;
  std::uint32_t sentinels_before = 0;
  std::uint32_t next = slot_bucket(a, threadIdx.x, real_slots);
  for (std::uint32_t tile = 0; tile < a.num_slots; tile += kThreads) {
    const std::uint32_t slot = tile + threadIdx.x, bucket[1] = {next};
    next = slot_bucket(a, slot + kThreads, real_slots);
    std::uint32_t rank[1];
    push_nodes<1>(a, bucket, 0, V, lists, rank);
    const bool leader = rank[0] >> 16 == threadIdx.x && bucket[0] < V;  // the slot that pushed a node
    __syncthreads();
    finish_ranks<1>(a, bucket, 0, V, lists, rank);
    if (bucket[0] < V) rank[0] += counts[bucket[0]];
    if (bucket[0] == V) rank[0] += sentinels_before;
    if (slot < a.num_slots) w.ranks[slot] = rank[0];
    if (a.keep_sentinels) sentinels_before += sentinel_count(lists.sentinels, kThreads / 32);
    __syncthreads();
    if (leader) {
      atomicAdd(counts + bucket[0], nodes[threadIdx.x] & 0xFFFFu);
      lists.heads[bucket[0]] = kNoNode;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) counts[V] = sentinels_before;
  __syncthreads();

  const std::uint32_t each = (V + kThreads) / kThreads | 1u;
  const std::uint32_t begin = min(V + 1, threadIdx.x * each), end = min(V + 1, begin + each);
  std::uint32_t own = 0, total;
  for (std::uint32_t b = begin; b < end; ++b) own += blocks_of(a, counts[b]);
  std::uint32_t start = block_exclusive_scan(own, warp_sums, total);
  for (std::uint32_t b = begin; b < end; ++b) {
    w.starts[b] = start;
    start += blocks_of(a, counts[b]);
  }
  if (threadIdx.x == 0) *a.num_tokens_post_padded = static_cast<std::int32_t>(total * a.block_size.value);
  __syncthreads();
  const std::int64_t blocks = a.capacity / a.block_size.value;
  for (std::int64_t block = threadIdx.x; block < blocks; block += kThreads) {
    std::uint32_t low = 0,
                  high = V;  // the last bucket that starts at or before the block; empty ones share a start
    while (low < high) {
      const std::uint32_t middle = low + (high - low + 1) / 2;
      if (w.starts[middle] <= block)
        low = middle;
      else
        high = middle - 1;
    }
    a.expert_ids[block] = static_cast<std::int32_t>(low);
  }
}

__global__ void scatter_kernel(const RouteArguments a, const Workspace w) {
  const std::uint32_t real_slots = static_cast<std::uint32_t>(real_tokens(a.source)) * a.source.cols.value;
  for (std::uint32_t slot = blockIdx.x * blockDim.x + threadIdx.x; slot < a.num_slots;
       slot += gridDim.x * blockDim.x) {
    const std::uint32_t bucket = slot_bucket(a, slot, real_slots);
    if (bucket != kNoBucket)
      a.sorted_token_ids[w.starts[bucket] * a.block_size.value + w.ranks[slot]] =
          static_cast<std::int32_t>(slot);
  }
}

__global__ void sanitise_kernel(const RouteArguments a) {
  const std::int64_t blocks = a.capacity / a.block_size.value;
  for (std::int64_t block = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; block < blocks;
       block += std::int64_t{gridDim.x} * blockDim.x)
    if (a.expert_ids[block] >= static_cast<std::int32_t>(a.num_buckets) ||
        block * a.block_size.value >= *a.num_tokens_post_padded)
      a.expert_ids[block] = -1;
}

std::uint32_t blocks_for(std::int64_t elements) {
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>((elements + 255) / 256, 1, 4096));
}

}  // namespace

std::size_t align_workspace_bytes(std::uint32_t num_slots, std::uint32_t num_buckets) {
  return 256 + sizeof(std::uint32_t) * (std::size_t{num_slots} + 3 * std::size_t{num_buckets} + 2);
}

cudaError_t launch_align_count(const RouteArguments& arguments, void* workspace, cudaStream_t stream) {
  const bool in_shared = arguments.num_buckets <= kSharedBuckets;
  const std::size_t bytes =
      in_shared ? sizeof(std::uint32_t) * (2 * std::size_t{arguments.num_buckets} + 1) : 0;
  if (const cudaError_t error = allow_shared_memory<count_kernel>(); error != cudaSuccess) return error;
  count_kernel<<<1 + kFillBlocks, kThreads, bytes, stream>>>(
      arguments, split(workspace, arguments.num_slots, arguments.num_buckets), in_shared);
  return cudaGetLastError();
}

cudaError_t launch_align_scatter(const RouteArguments& arguments, void* workspace, cudaStream_t stream) {
  scatter_kernel<<<blocks_for(arguments.num_slots), 256, 0, stream>>>(
      arguments, split(workspace, arguments.num_slots, arguments.num_buckets));
  return cudaGetLastError();
}

cudaError_t launch_align_sanitise(const RouteArguments& arguments, cudaStream_t stream) {
  sanitise_kernel<<<blocks_for(arguments.capacity / arguments.block_size.value), 256, 0, stream>>>(arguments);
  return cudaGetLastError();
}

}  // namespace eplora::kernels
