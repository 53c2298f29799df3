// SPDX-License-Identifier: Apache-2.0
// Route for many slots: persistent blocks over contiguous windows, cut into tiles that are sorted in shared
// memory before they are written, so that neighbouring lanes write neighbouring addresses. Between the two
// grid barriers it is columns.cuh. A window of one tile, up to about 32 000 slots, is read once and sorted
// while the first barrier is on its way; a longer one is counted first and read again tile by tile.
//
// Phases, for every chunk of up to 2^13 buckets: count | publish | ARRIVE | sort by bucket | WAIT | owners
// | BARRIER | starts of the own buckets; owners' labels and filler | order and write [or: count, sort, write,
// move the starts; repeat] | at the end the tail.
//
// Versions: 1 ranks by votes for all, everything filled before the first barrier: 33.8 us for 1M slots, 103
// for 4.2M. 2 sorted by comparing before the barrier: 28.0 and 59.0. 3 as it stands here
// (benchmarks/NOTES.md).
#include <algorithm>
#include <utility>

#include "kernels/columns.cuh"
#include "kernels/launch.h"
#include "kernels/plain.cuh"
#include "kernels/stream_tile.cuh"

namespace eplora::kernels {
namespace {

using namespace stream;

__device__ void clear(std::uint32_t* words, std::uint32_t count) {
#pragma unroll 1
  for (std::uint32_t w = threadIdx.x; w < count; w += kThreads) words[w] = 0;
}

/// `kOneTile`: every block's window is one tile.
template <bool kOneTile, typename Count, CallKind kKind>
__global__ void __launch_bounds__(kThreads, 1)
    route_stream(const RouteArguments given, const ColumnMatrix<Count> m, const std::uint32_t tile_slots,
                 const std::uint32_t region_words) {
  const RouteArguments a = as_kind<kKind>(given);
  extern __shared__ uint4 shared[];
  __shared__ std::uint32_t warp_sums[32], num_heavy;
  // One region serves, in this order: the staged dispatch table, votes, the owners' columns, and where the
  // owners start. With more tiles votes come after all that, too.
  auto* region = reinterpret_cast<std::uint32_t*>(shared);
  std::uint32_t* rest = region + region_words;
  Tile tile;
  tile.stride = m.stride;
  tile.votes = reinterpret_cast<std::uint16_t*>(region);
  tile.keys = reinterpret_cast<std::uint16_t*>(rest);
  tile.arrived = tile.keys + tile_slots;
  tile.cursor = rest + tile_slots;
  tile.starts = tile.cursor + m.stride;
  tile.heavy = reinterpret_cast<std::uint16_t*>(tile.starts + (kOneTile ? 0 : m.stride));
  tile.local = reinterpret_cast<std::uint16_t*>(
      tile.starts + (kOneTile ? max(m.stride, kHeavyWords) : m.stride + kHeavyWords));
  const std::uint32_t V = a.num_buckets, window = a.shares.slots_each;
  const auto begin =
      static_cast<std::uint32_t>(min(std::uint64_t{a.num_slots}, std::uint64_t{window} * blockIdx.x));
  const std::uint32_t end = min(a.num_slots, begin + window);
  const std::uint32_t real_slots = static_cast<std::uint32_t>(real_tokens(a.source)) * a.source.cols.value;
  const auto grid = cooperative_groups::this_grid();

  std::uint32_t carry = 0;  // blocks of output in earlier chunks
  for (std::uint32_t low = 0; low <= V; low += m.stride) {
    const Chunk chunk{low, min(m.stride, V + 1 - low)};
    Count* counts = m.counts + std::size_t{blockIdx.x} * m.stride;
    const StagedTable staging(a.dispatch, reinterpret_cast<std::int32_t*>(region));
    clear(tile.cursor, m.stride);
    const std::int32_t* table = staging.store(a.dispatch);
    __syncthreads();
    count_slots(a, table, begin, end, real_slots, chunk, low == 0, kOneTile ? tile.keys : nullptr,
                tile.cursor);
    __syncthreads();
    if constexpr (sizeof(Count) == 2) {
#pragma unroll 1
      for (std::uint32_t w = threadIdx.x; w < m.stride / 2; w += kThreads)
        __stcg(reinterpret_cast<std::uint32_t*>(counts) + w,
               tile.cursor[2 * w + 1] << 16 | tile.cursor[2 * w]);
    } else {
#pragma unroll 1
      for (std::uint32_t c = threadIdx.x; c < m.stride; c += kThreads) __stcg(counts + c, tile.cursor[c]);
    }
    auto token = grid.barrier_arrive();
    std::uint32_t in_tile = 0;
    if constexpr (kOneTile) in_tile = sort_tile(end - begin, tile, warp_sums, &num_heavy);
    grid.barrier_wait(std::move(token));
    const OwnedColumns own = prefix_columns(a, m, false, chunk.columns, region, warp_sums);
    grid.sync();

    const std::uint32_t size = owner_size(m);
#pragma unroll 4
    for (std::uint32_t c = threadIdx.x; c < chunk.columns; c += kThreads)
      tile.starts[c] = __ldcg(m.prefix + std::size_t{blockIdx.x} * m.stride + c);
    std::uint32_t* owner_start = region + column_words(gridDim.x, m.columns_log2);
    const std::uint32_t total = scan_owners(a, size, carry, owner_start, warp_sums);
#pragma unroll 4
    for (std::uint32_t c = threadIdx.x; c < chunk.columns; c += kThreads)
      tile.starts[c] += owner_start[c >> m.columns_log2] - (kOneTile ? tile.local[c] : 0);
    finish_columns(a, {own.totals, own.starts, own.width, 0, 1},
                   divide(owner_start[blockIdx.x], a.block_size), low + own.low);
    carry += total;
    __syncthreads();

    const auto write = [&](std::uint32_t from, std::uint32_t count) {
      const bool any_heavy = num_heavy != 0;
#pragma unroll 2
      for (std::uint32_t i = threadIdx.x; i < count; i += kThreads) {
        const std::uint32_t slot = tile.arrived[i], key = tile.keys[slot];
        const std::uint32_t begins = tile.local[key], ends = tile.local[key + 1];
        const std::uint32_t place = sorted_place(tile, any_heavy, i, slot, key, begins, ends);
        a.sorted_token_ids[tile.starts[key] + place - (kOneTile ? 0 : begins)] =
            static_cast<std::int32_t>(from + slot);
      }
      __syncthreads();
    };
    if constexpr (kOneTile) {
      write(begin, in_tile);
    } else {
#pragma unroll 1
      for (std::uint32_t from = begin; from < end; from += min(tile_slots, end - from)) {
        const std::uint32_t slots = min(tile_slots, end - from);
        // The table stands where votes will be: staged again for each tile.
        const StagedTable again(a.dispatch, reinterpret_cast<std::int32_t*>(region));
        clear(tile.cursor, m.stride);
        again.store(a.dispatch);
        __syncthreads();
        count_slots(a, table, from, from + slots, real_slots, chunk, false, tile.keys, tile.cursor);
        __syncthreads();
        write(from, sort_tile(slots, tile, warp_sums, &num_heavy));
#pragma unroll 1
        for (std::uint32_t c = threadIdx.x; c < chunk.columns; c += kThreads)
          tile.starts[c] += tile.local[c + 1] - tile.local[c];
        __syncthreads();
      }
    }
  }
  fill_tail(a, carry);
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *a.num_tokens_post_padded = static_cast<std::int32_t>(carry * a.block_size.value);
}

std::size_t region_words(const TwoBarrierShape& shape) {
  const auto words =
      std::max<std::size_t>({std::size_t{shape.tile_slots} / 2,
                             column_words(shape.blocks, shape.columns_log2) + shape.blocks, kStagedExperts});
  return (words + 3) / 4 * 4;
}

/// Four slots of a token in one load: int32 ids without gaps on a 16-byte boundary, K a multiple of 4.
bool has_quads(const IdSource& source) {
  return !source.wide && source.row_gap == 0 && source.cols.value % 4 == 0 &&
         reinterpret_cast<std::uintptr_t>(source.ids) % 16 == 0;
}

template <bool kOneTile, typename Count, CallKind kKind>
cudaError_t launch(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                   cudaStream_t stream) {
  const auto kernel = route_stream<kOneTile, Count, kKind>;
  const std::size_t bytes = route_stream_shared_bytes(shape);
  if (const cudaError_t error = allow_shared_memory<route_stream<kOneTile, Count, kKind>>();
      error != cudaSuccess)
    return error;
  const std::size_t cells = std::size_t{shape.blocks} * shape.chunk_buckets;
  auto* base =
      reinterpret_cast<std::uint32_t*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
  const ColumnMatrix<Count> matrix{reinterpret_cast<Count*>(base + cells), base, base + 2 * cells,
                                   shape.chunk_buckets, shape.columns_log2};
  RouteArguments shared = with_shares(arguments, shape.blocks, kThreads, 0);
  shared.shares.slots_each = route_stream_window(arguments.num_slots, shape.blocks);
  shared.shares.quads = has_quads(arguments.source);
  return launch_cooperative({shape.blocks, kThreads, bytes, stream}, kernel, shared, matrix, shape.tile_slots,
                            static_cast<std::uint32_t>(region_words(shape)));
}

}  // namespace

std::uint32_t route_stream_window(std::uint32_t slots, std::uint32_t blocks) {
  return (slots / blocks + (slots % blocks != 0) + 3) / 4 * 4;
}

std::size_t route_stream_shared_bytes(const TwoBarrierShape& shape) {
  const std::size_t stride = shape.chunk_buckets;
  const std::size_t starts =
      shape.one_tile ? std::max<std::size_t>(stride, kHeavyWords) : stride + kHeavyWords;
  return sizeof(std::uint32_t) *
         (region_words(shape) + std::size_t{shape.tile_slots} + stride + starts + stride / 2 + 4);
}

cudaError_t launch_route_stream(const RouteArguments& arguments, const TwoBarrierShape& shape,
                                void* workspace, cudaStream_t stream) {
  return launch_for_kind(arguments, [&](auto kind) {
    return shape.one_tile ? launch<true, std::uint16_t, kind.value>(arguments, shape, workspace, stream)
                          : launch<false, std::uint32_t, kind.value>(arguments, shape, workspace, stream);
  });
}

}  // namespace eplora::kernels
