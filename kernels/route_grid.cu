// SPDX-License-Identifier: Apache-2.0
// Route with two grid barriers and slots in registers: the shape of route_medium.cu when blocks x buckets is
// too much for every block to read. Ids are read once.
//
// Phases: load ids, fill, masks | then for every chunk of buckets (one chunk up to about 30 000): lists,
// ranks, counts | BARRIER | owners turn columns into prefixes | BARRIER | scan of the owners | gather the own
// prefixes, place.
//
// Versions: 1 as it stands here.
#include <algorithm>

#include "kernels/columns.cuh"

namespace eplora::kernels {
namespace {

constexpr std::uint32_t kThreads = 1024;

template <int kItems>
__global__ void __launch_bounds__(kThreads, 1)
    route_grid(const RouteArguments a, const ColumnMatrix<std::uint16_t> m, const std::uint32_t chunk) {
  extern __shared__ std::uint32_t shared[];
  __shared__ std::uint32_t warp_sums[2][32];
  __shared__ std::uint32_t owner_start[kThreads];
  __shared__ std::int32_t staged[kStagedExperts];
  constexpr std::uint32_t kRounds = kThreads / 32 * kItems;
  const SlotLists lists{shared, shared + chunk, shared + 2 * chunk, shared + 2 * chunk + kRounds * 32};
  const std::uint32_t V = a.num_buckets;

  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const std::uint32_t window_begin = min(a.num_slots, a.shares.slots_each * blockIdx.x);
  const std::uint32_t window_end = min(a.num_slots, window_begin + a.shares.slots_each);
  const std::uint32_t first = window_begin + warp * 32 * kItems + lane;
  const std::int32_t tokens = real_tokens(a.source);
  LoadedSlots<kItems> slots;
  load_slots<kItems>(a, first, 32, window_end, static_cast<std::uint32_t>(tokens) * a.source.cols.value,
                     slots);
  const StagedTable staging(a.dispatch, staged);
  fill_share(a, own_share(a));
  const std::int32_t* table = staging.store(a.dispatch);
  __syncthreads();
  std::uint32_t bucket[kItems], rank[kItems];
  to_buckets<kItems>(a, table, first, 32, window_end, slots, bucket);

  std::uint32_t carry = 0;  // blocks of output in earlier chunks
  for (std::uint32_t low = 0; low <= V; low += chunk) {
    const std::uint32_t columns = min(chunk, V + 1 - low);
#pragma unroll 1
    for (std::uint32_t b = threadIdx.x; b < chunk; b += kThreads) {
      lists.heads[b] = kNoNode;
      lists.counts[b] = 0;
    }
    __syncthreads();
    push_nodes<kItems>(a, bucket, low, low + columns, lists, rank);
    __syncthreads();
    const std::uint32_t sentinels = a.keep_sentinels ? sentinel_count(lists, kRounds) : 0;
    // The stride is a multiple of 8: two counts are one aligned word.
    auto* row = reinterpret_cast<std::uint32_t*>(m.counts + std::size_t{blockIdx.x} * m.stride);
#pragma unroll 1
    for (std::uint32_t w = threadIdx.x; 2 * w < columns; w += kThreads) {
      const std::uint32_t first_count = low + 2 * w == V ? sentinels : lists.counts[2 * w];
      const std::uint32_t second_count = low + 2 * w + 1 == V ? sentinels : lists.counts[2 * w + 1];
      row[w] = second_count << 16 | first_count;
    }
    finish_ranks<kItems>(a, bucket, low, low + columns, lists, rank);
    cooperative_groups::this_grid().sync();
    prefix_columns<true>(a, m, columns, shared, warp_sums[0]);
    cooperative_groups::this_grid().sync();
    std::uint32_t prefix[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      prefix[i] = bucket[i] >= low && bucket[i] < low + columns
                      ? __ldcg(m.prefix + std::size_t{blockIdx.x} * m.stride + (bucket[i] - low))
                      : 0;
    const std::uint32_t total = scan_owners(a, m, carry, owner_start, warp_sums[1]);
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      if (bucket[i] >= low && bucket[i] < low + columns)
        place_slot(a, owner_start[(bucket[i] - low) >> m.columns_log2] + prefix[i] + rank[i], first + 32 * i,
                   bucket[i]);
    carry += total;
  }
  write_masks<kItems>(a, first, 32, window_end, slots);
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *a.num_tokens_post_padded = static_cast<std::int32_t>(carry * a.block_size.value);
}

std::uint32_t* aligned(void* workspace) {
  return reinterpret_cast<std::uint32_t*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
}

template <int kItems>
cudaError_t launch(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                   cudaStream_t stream) {
  const auto kernel = route_grid<kItems>;
  const std::size_t bytes = route_grid_shared_bytes(shape);
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
      error != cudaSuccess)
    return error;
  const std::size_t cells = std::size_t{shape.blocks} * shape.chunk_buckets;
  std::uint32_t* base = aligned(workspace);
  const ColumnMatrix<std::uint16_t> matrix{reinterpret_cast<std::uint16_t*>(base + cells + shape.blocks),
                                           base, base + cells, shape.chunk_buckets, shape.columns_log2};
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.blocks);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, with_shares(arguments, shape.blocks, kThreads, 0), matrix,
                            shape.chunk_buckets);
}

}  // namespace

std::size_t route_grid_shared_bytes(const TwoBarrierShape& shape) {
  const std::size_t lists =
      2 * std::size_t{shape.chunk_buckets} + std::size_t{list_words(kThreads, shape.items)};
  return sizeof(std::uint32_t) * std::max(lists, column_words(shape.blocks, shape.columns_log2));
}

std::size_t route_two_barrier_workspace_bytes(const TwoBarrierShape& shape) {
  return 256 + sizeof(std::uint32_t) * (2 * std::size_t{shape.blocks} * shape.chunk_buckets + shape.blocks);
}

cudaError_t launch_route_grid(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                              cudaStream_t stream) {
  switch (shape.items) {
    case 1:
      return launch<1>(arguments, shape, workspace, stream);
    case 2:
      return launch<2>(arguments, shape, workspace, stream);
    case 4:
      return launch<4>(arguments, shape, workspace, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace eplora::kernels
