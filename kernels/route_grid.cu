// SPDX-License-Identifier: Apache-2.0
// Route with two grid barriers and slots in registers: the shape of route_medium.cu when blocks x buckets is
// too much for every block to read. Ids are read once.
//
// Phases: load ids | then for every chunk of buckets (one chunk up to about 26 000): count, enter the table |
// publish counts | ARRIVE | ranks, masks | WAIT | owners turn columns into prefixes | BARRIER | scan of the
// owners, gather the own prefixes | place; the owners' labels and filler | at the end the tail.
//
// Versions: 1 lists, everything filled before the first barrier: 15.8 us at 32768 x 8 / 2048. 2 as it stands
// here (benchmarks/NOTES.md).
#include <algorithm>
#include <utility>

#include "kernels/columns.cuh"
#include "kernels/launch.h"
#include "kernels/plain.cuh"
#include "kernels/slot_table.cuh"

namespace eplora::kernels {
namespace {

constexpr std::uint32_t kThreads = 1024;

/// `kMany`: a block owns more columns than it has warps.
template <int kItems, bool kMany, CallKind kKind>
__global__ void __launch_bounds__(kThreads, 1)
    route_grid(const RouteArguments given, const ColumnMatrix<std::uint16_t> m, const std::uint32_t chunk,
               const bool has_table, const bool sparse) {
  const RouteArguments a = as_kind<kKind>(given);
  extern __shared__ uint4 shared[];
  __shared__ std::uint32_t warp_sums[2][32], sentinel_counts[kThreads / 32 * kItems], owner_start[kThreads];
  __shared__ std::int32_t staged[kStagedExperts];
  constexpr std::uint32_t kRounds = kThreads / 32 * kItems;
  auto* counts = reinterpret_cast<std::uint32_t*>(shared);
  const SlotRanks ranks{counts, sentinel_counts, counts + chunk, has_table};
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
  clear_ranks(ranks, chunk);
  const std::int32_t* table = staging.store(a.dispatch);
  __syncthreads();
  std::uint32_t bucket[kItems], rank[kItems];
  const bool has_slots = first - lane < window_end;  // else the warp only helps with what all share
  if (has_slots)
    to_buckets<kItems>(a, table, first, 32, window_end, slots, bucket);
  else
    no_slots<kItems>(bucket, ranks);

  const auto grid = cooperative_groups::this_grid();
  std::uint32_t carry = 0;  // blocks of output in earlier chunks
  for (std::uint32_t low = 0; low <= V; low += chunk) {
    const std::uint32_t columns = min(chunk, V + 1 - low);
    if (low > 0) {
      __syncthreads();
      clear_ranks(ranks, chunk);
      __syncthreads();
    }
    const bool crowded =
        __syncthreads_or(has_slots && enter_slots<kItems>(a, bucket, low, low + columns, ranks, rank));
    const std::uint32_t sentinels = a.keep_sentinels ? sentinel_count(sentinel_counts, kRounds) : 0;
    auto* row = reinterpret_cast<uint2*>(m.counts + std::size_t{blockIdx.x} * m.stride);
#pragma unroll 1
    for (std::uint32_t w = threadIdx.x; w < chunk / 4; w += kThreads) {
      uint4 four = shared[w];
      if (low + 4 * w <= V && low + 4 * w + 4 > V) {
        const std::uint32_t at = V & 3;  // low is a multiple of 8
        four = make_uint4(at == 0 ? sentinels : four.x, at == 1 ? sentinels : four.y,
                          at == 2 ? sentinels : four.z, at == 3 ? sentinels : four.w);
      }
      __stcg(row + w, make_uint2(four.y << 16 | four.x, four.w << 16 | four.z));
    }
    auto token = grid.barrier_arrive();
    if (crowded || has_slots) slot_ranks<kItems>(a, bucket, low, low + columns, ranks, crowded, rank);
    if (low == 0 && has_slots) write_masks<kItems>(a, first, 32, window_end, slots);
    grid.barrier_wait(std::move(token));
    const OwnedColumns own = prefix_columns<kMany>(a, m, sparse, columns, counts, warp_sums[0]);
    grid.sync();
    const std::uint32_t size = owner_size(m);
    std::uint32_t prefix[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      prefix[i] = bucket[i] >= low && bucket[i] < low + columns
                      ? __ldcg(m.prefix + std::size_t{blockIdx.x} * m.stride + (bucket[i] - low))
                      : 0;
    const std::uint32_t total = scan_owners(a, size, carry, owner_start, warp_sums[1]);
#pragma unroll
    for (int i = 0; i < kItems; ++i)
      if (bucket[i] >= low && bucket[i] < low + columns)
        a.sorted_token_ids[owner_start[(bucket[i] - low) >> m.columns_log2] + prefix[i] + rank[i]] =
            static_cast<std::int32_t>(first + 32 * i);
    finish_columns<kMany ? 8 : 32>(a, {own.totals, own.starts, own.width, 0, 1},
                                   divide(owner_start[blockIdx.x], a.block_size), low + own.low);
    carry += total;
  }
  fill_tail(a, carry);
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *a.num_tokens_post_padded = static_cast<std::int32_t>(carry * a.block_size.value);
}

/// Buckets of a chunk up to which the table of slot_table.cuh is used.
constexpr std::uint32_t kTableBuckets = 8192;

std::uint32_t* aligned(void* workspace) {
  return reinterpret_cast<std::uint32_t*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
}

template <int kItems, bool kMany, CallKind kKind>
cudaError_t launch(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                   cudaStream_t stream) {
  const auto kernel = route_grid<kItems, kMany, kKind>;
  const std::size_t bytes = route_grid_shared_bytes(shape);
  if (const cudaError_t error = allow_shared_memory<route_grid<kItems, kMany, kKind>>(); error != cudaSuccess)
    return error;
  const std::size_t cells = std::size_t{shape.blocks} * shape.chunk_buckets;
  std::uint32_t* base = aligned(workspace);
  const ColumnMatrix<std::uint16_t> matrix{reinterpret_cast<std::uint16_t*>(base + cells), base,
                                           base + 2 * cells, shape.chunk_buckets, shape.columns_log2};
  return launch_cooperative({shape.blocks, kThreads, bytes, stream}, kernel,
                            with_shares(arguments, shape.blocks, kThreads, 0), matrix, shape.chunk_buckets,
                            shape.chunk_buckets <= kTableBuckets, arguments.num_slots < cells / 4);
}

template <int kItems>
cudaError_t launch_items(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                         cudaStream_t stream) {
  const bool many = (1u << shape.columns_log2) > kThreads / 32;
  return launch_for_kind(arguments, [&](auto kind) {
    return many ? launch<kItems, true, kind.value>(arguments, shape, workspace, stream)
                : launch<kItems, false, kind.value>(arguments, shape, workspace, stream);
  });
}

}  // namespace

std::size_t route_grid_shared_bytes(const TwoBarrierShape& shape) {
  const std::size_t ranks =
      rank_words(shape.chunk_buckets, kThreads, shape.items, shape.chunk_buckets <= kTableBuckets);
  return sizeof(std::uint32_t) *
         std::max(shape.chunk_buckets + ranks, column_words(shape.blocks, shape.columns_log2));
}

std::size_t route_two_barrier_workspace_bytes(const TwoBarrierShape& shape) {
  return 256 + sizeof(std::uint32_t) * (2 * std::size_t{shape.blocks} * shape.chunk_buckets + shape.blocks);
}

cudaError_t launch_route_grid(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                              cudaStream_t stream) {
  switch (shape.items) {
    case 1:
      return launch_items<1>(arguments, shape, workspace, stream);
    case 2:
      return launch_items<2>(arguments, shape, workspace, stream);
    case 4:
      return launch_items<4>(arguments, shape, workspace, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace eplora::kernels
