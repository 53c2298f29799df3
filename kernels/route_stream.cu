// SPDX-License-Identifier: Apache-2.0
// Route for many slots: persistent blocks over contiguous windows, cut into tiles that are sorted in shared
// memory before they are written, so that neighbouring lanes write neighbouring addresses. Between the two
// grid barriers it is columns.cuh. A window of one tile, up to about 32 000 slots, is read once and sorted
// while the first barrier is on its way; a longer one is counted first and read again tile by tile.
//
// A tile is sorted by counting: buckets are counted and scanned, every slot takes the next place of its
// bucket with an atomic, and then the few slots of a bucket that stand there in order of arrival are put in
// ascending order by comparing them with each other. A bucket of many slots would take that long; its slots
// get their ranks from votes instead, with private counters for every warp, so that skew costs a constant.
//
// Phases, for every chunk of buckets (one up to about 4100): count | publish | ARRIVE | sort | WAIT | owners
// | BARRIER | starts of the own buckets; owners' labels and filler | write the tile [or: count, sort, write,
// move the starts; repeat] | at the end the tail.
//
// Versions: 1 ranks by votes for all, everything filled before the first barrier: 33.8 us for 1M slots, 103
// for 4.2M. 2 as it stands here (benchmarks/NOTES.md).
#include <algorithm>
#include <utility>

#include "kernels/columns.cuh"
#include "kernels/launch.h"

namespace eplora::kernels {
namespace {

constexpr std::uint32_t kThreads = kStreamThreads, kWarps = kThreads / 32;
constexpr std::uint32_t kOutside = 0xFFFFu;                         // no column: a chunk has at most 2^13
constexpr int kBatch = 4;                                           // loads in flight a thread
constexpr std::uint32_t kHeavyBits = 8, kHeavy = 1u << kHeavyBits;  // at most so many heavy buckets a tile
constexpr std::uint32_t kHeavyWords = kWarps * kHeavy / 2;

struct Tile {
  std::uint16_t* keys;     ///< `[tile]` column of a slot
  std::uint16_t* arrived;  ///< `[tile]` slots by bucket, within it in order of arrival
  std::uint16_t* order;    ///< `[tile]` slots by bucket, ascending
  std::uint32_t*
      cursor;  ///< `[stride]` counts, then a bucket's next place, heavy index + 1 in the upper half
  std::uint32_t* starts;  ///< `[stride]` where the block's next slot of a bucket goes
  std::uint16_t* local;   ///< `[stride + 1]` where a bucket begins in the tile
  std::uint16_t* heavy;   ///< `[kWarps, kHeavy]` counters of heavy buckets; may share memory with `starts`
  std::uint32_t stride;
};

struct Chunk {
  std::uint32_t low, columns;
  __device__ std::uint32_t column(std::uint32_t bucket) const {
    return bucket >= low && bucket - low < columns ? bucket - low : kOutside;
  }
};

/// The lanes of the same heavy bucket as this one; one vote a bit. match_any would take 12 cycles a distinct
/// value.
__device__ unsigned equal_lanes(bool inside, std::uint32_t index) {
  unsigned peers = __ballot_sync(kFullWarp, inside);
#pragma unroll
  for (std::uint32_t bit = 0; bit < kHeavyBits; ++bit) {
    // Four instructions a bit; the compiler makes seven of the same in C++.
    asm volatile(
        "{ .reg .pred set; .reg .b32 one, votes;\n"
        "  and.b32 one, %1, %2;\n"
        "  setp.ne.u32 set, one, 0;\n"
        "  vote.sync.ballot.b32 votes, set, 0xffffffff;\n"
        "  @!set not.b32 votes, votes;\n"
        "  and.b32 %0, %0, votes; }\n"
        : "+r"(peers)
        : "r"(index), "r"(1u << bit));
  }
  return peers;
}

/// Adds the sentinels of a warp's slots together; `column` kOutside = not in this chunk.
__device__ void count_sentinels(std::uint32_t mine, std::uint32_t column, std::uint32_t* counts) {
  const std::uint32_t all = __reduce_add_sync(kFullWarp, mine);
  if ((threadIdx.x & 31) == 0 && all != 0 && column != kOutside) atomicAdd(counts + column, all);
}

/// Counts the slots [begin, end) of every column of the chunk, and notes their columns in `keys` unless it is
/// null. Four neighbouring slots a load where `a.shares.quads` says so: they are of one token, and all of
/// them are real or none.
__device__ void count_slots(const RouteArguments& a, const std::int32_t* table, std::uint32_t begin,
                            std::uint32_t end, std::uint32_t real_slots, const Chunk& chunk, bool masks,
                            std::uint16_t* keys, std::uint32_t* counts) {
  const std::uint32_t sentinel_column = chunk.column(a.num_buckets);
  if (a.shares.quads) {
    const auto* ids = static_cast<const int4*>(a.source.ids);
    const std::uint32_t limit = min(end, real_slots);
    constexpr int kFlight = 2;
#pragma unroll 1
    for (std::uint32_t base = begin; base < end; base += 4 * kFlight * kThreads) {
      int4 four[kFlight];
      std::int32_t adapter[kFlight];
      std::uint32_t token[kFlight];
#pragma unroll
      for (int j = 0; j < kFlight; ++j) {
        const std::uint32_t slot = base + 4 * (j * kThreads + threadIdx.x);
        token[j] = divide(min(slot, end), a.source.cols);
        four[j] = make_int4(-1, -1, -1, -1);
        adapter[j] = a.remap.mapping != nullptr ? -1 : 0;
        if (slot < limit) {
          four[j] = __ldg(ids + slot / 4);
          if (a.remap.mapping != nullptr) adapter[j] = __ldg(a.remap.mapping + token[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < kFlight; ++j) {
        const std::uint32_t slot = base + 4 * (j * kThreads + threadIdx.x);
        const bool inside = slot < end;
        if (masks && inside && a.token_lora_mask != nullptr && token[j] * a.source.cols.value == slot)
          a.token_lora_mask[token[j]] = lora_mask(a.remap, adapter[j]);
        const std::int32_t ids_of[4] = {four[j].x, four[j].y, four[j].z, four[j].w};
        std::uint32_t column[4], sentinels = 0;
#pragma unroll
        for (std::uint32_t k = 0; k < 4; ++k) {
          const std::int32_t id =
              a.dispatch.table != nullptr ? dispatch_id(a.dispatch, table, ids_of[k], slot + k) : ids_of[k];
          const std::int32_t virtual_expert = virtual_id(a.remap, id, adapter[j]);
          column[k] = a.keep_sentinels ? sentinel_column : kOutside;
          if (virtual_expert >= 0) {
            column[k] = chunk.column(static_cast<std::uint32_t>(virtual_expert));
            if (inside && column[k] != kOutside) atomicAdd(counts + column[k], 1u);
          } else {
            sentinels += inside;
          }
        }
        if (keys != nullptr && inside)
          *reinterpret_cast<uint2*>(keys + (slot - begin)) =
              make_uint2(column[1] << 16 | column[0], column[3] << 16 | column[2]);
        if (a.keep_sentinels) count_sentinels(sentinels, sentinel_column, counts);
      }
    }
    return;
  }
#pragma unroll 1
  for (std::uint64_t base = begin; base < end;
       base += kThreads * kBatch) {  // the same rounds for all threads
    const std::uint32_t first = static_cast<std::uint32_t>(base) + threadIdx.x;
    LoadedSlots<kBatch> slots;
    load_slots<kBatch>(a, first, kThreads, end, real_slots, slots);
    if (masks) write_masks<kBatch>(a, first, kThreads, end, slots);
    std::uint32_t bucket[kBatch], sentinels = 0;
    to_buckets<kBatch>(a, table, first, kThreads, end, slots, bucket);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const std::uint32_t column = bucket[i] == kNoBucket ? kOutside : chunk.column(bucket[i]);
      if (bucket[i] == a.num_buckets)
        ++sentinels;
      else if (column != kOutside)
        atomicAdd(counts + column, 1u);
      if (keys != nullptr && first + kThreads * i < end)
        keys[first + kThreads * i - begin] = static_cast<std::uint16_t>(column);
    }
    count_sentinels(sentinels, sentinel_column, counts);
  }
}

/// Ranks of the slots of heavy buckets by votes: warp w takes the w-th part of the tile in order, first to
/// count, then to place.
__device__ void place_heavy(std::uint32_t slots, const Tile& tile) {
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  auto* words = reinterpret_cast<std::uint32_t*>(tile.heavy);
#pragma unroll 4
  for (std::uint32_t w = threadIdx.x; w < kHeavyWords; w += kThreads) words[w] = 0;
  __syncthreads();
  const std::uint32_t part = (slots + kThreads - 1) / kThreads * 32;
  const std::uint32_t from = min(slots, warp * part), to = min(slots, from + part);
  std::uint16_t* counter = tile.heavy + warp * kHeavy;
#pragma unroll 2
  for (std::uint32_t base = from; base < to; base += 32) {
    const std::uint32_t slot = base + lane, key = slot < to ? tile.keys[slot] : kOutside;
    const std::uint32_t index = key != kOutside ? tile.cursor[key] >> 16 : 0;
    const unsigned peers = equal_lanes(index != 0, index - 1);
    const std::uint32_t place = __popc(peers & lanes_below());
    const std::uint32_t earlier = index != 0 ? counter[index - 1] : 0;
    __syncwarp();
    if (index != 0 && place == 0)
      counter[index - 1] = static_cast<std::uint16_t>(earlier + static_cast<std::uint32_t>(__popc(peers)));
    if (index != 0) tile.order[slot] = static_cast<std::uint16_t>(earlier + place);
    __syncwarp();
  }
  __syncthreads();
  if (threadIdx.x < kHeavy / 2) {
    std::uint32_t sum = 0;  // two 16-bit sums; a tile has at most 2^15 slots
#pragma unroll 8
    for (std::uint32_t row = 0; row < kWarps; ++row) {
      const std::uint32_t count = words[row * (kHeavy / 2) + threadIdx.x];
      words[row * (kHeavy / 2) + threadIdx.x] = sum;
      sum += count;
    }
  }
  __syncthreads();
#pragma unroll 2
  for (std::uint32_t slot = from + lane; slot < to; slot += 32) {
    const std::uint32_t key = tile.keys[slot];
    const std::uint32_t index = key != kOutside ? tile.cursor[key] >> 16 : 0;
    if (index != 0)
      tile.arrived[tile.local[key] + counter[index - 1] + tile.order[slot]] =
          static_cast<std::uint16_t>(slot);
  }
}

/// Sorts a counted tile of `slots` slots into `order`; returns how many of them are in the chunk.
__device__ std::uint32_t sort_tile(std::uint32_t slots, const Tile& tile, std::uint32_t* warp_sums,
                                   std::uint32_t* num_heavy) {
  if (threadIdx.x == 0) *num_heavy = 0;
  const std::uint32_t each = (tile.stride + kThreads - 1) / kThreads | 1u;
  const std::uint32_t from = min(tile.stride, threadIdx.x * each), to = min(tile.stride, from + each);
  std::uint32_t sum = 0, total;
#pragma unroll 4
  for (std::uint32_t c = from; c < to; ++c) sum += tile.cursor[c];
  std::uint32_t start = block_exclusive_scan(sum, warp_sums, total);
  const std::uint32_t light = max(32u, slots / kHeavy);  // fewer than kHeavy buckets can have more
#pragma unroll 4
  for (std::uint32_t c = from; c < to; ++c) {
    const std::uint32_t count = tile.cursor[c];
    tile.local[c] = static_cast<std::uint16_t>(start);
    tile.cursor[c] = start;
    if (count > light) tile.cursor[c] = start | (atomicAdd(num_heavy, 1u) + 1) << 16;
    start += count;
  }
  if (threadIdx.x == 0) tile.local[tile.stride] = static_cast<std::uint16_t>(total);
  __syncthreads();
#pragma unroll 4
  for (std::uint32_t slot = threadIdx.x; slot < slots; slot += kThreads) {
    const std::uint32_t key = tile.keys[slot];
    if (key != kOutside && tile.cursor[key] < 1u << 16)
      tile.arrived[atomicAdd(tile.cursor + key, 1u)] = static_cast<std::uint16_t>(slot);
  }
  if (*num_heavy != 0) place_heavy(slots, tile);
  __syncthreads();
#pragma unroll 2
  for (std::uint32_t i = threadIdx.x; i < total; i += kThreads) {
    const std::uint32_t slot = tile.arrived[i], key = tile.keys[slot];
    const std::uint32_t first = tile.local[key], last = tile.local[key + 1];
    std::uint32_t place = i;
    if (last - first > 1 && tile.cursor[key] < 1u << 16) {
      place = first;
#pragma unroll 4
      for (std::uint32_t j = first; j < last; ++j) place += tile.arrived[j] < slot;
    }
    tile.order[place] = static_cast<std::uint16_t>(slot);
  }
  __syncthreads();
  return total;
}

__device__ void clear(std::uint32_t* words, std::uint32_t count) {
#pragma unroll 1
  for (std::uint32_t w = threadIdx.x; w < count; w += kThreads) words[w] = 0;
}

/// `kOneTile`: every block's window is one tile.
template <bool kOneTile, typename Count>
__global__ void __launch_bounds__(kThreads, 1)
    route_stream(const RouteArguments a, const ColumnMatrix<Count> m, const std::uint32_t tile_slots,
                 const std::uint32_t region_words) {
  extern __shared__ uint4 shared[];
  __shared__ std::uint32_t warp_sums[32], num_heavy;
  // One region serves, in this order: the staged dispatch table, `arrived`, the owners' columns, and where
  // the owners start. With more tiles `arrived` is used after all that, too.
  auto* region = reinterpret_cast<std::uint32_t*>(shared);
  std::uint32_t* rest = region + region_words;
  Tile tile;
  tile.stride = m.stride;
  tile.arrived = reinterpret_cast<std::uint16_t*>(region);
  tile.keys = reinterpret_cast<std::uint16_t*>(rest);
  tile.order = tile.keys + tile_slots;
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
#pragma unroll 4
      for (std::uint32_t i = threadIdx.x; i < count; i += kThreads) {
        const std::uint32_t slot = tile.order[i], key = tile.keys[slot];
        a.sorted_token_ids[tile.starts[key] + i - (kOneTile ? 0 : tile.local[key])] =
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
        // The table stands where `arrived` will be: staged again for each tile.
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

template <bool kOneTile, typename Count>
cudaError_t launch(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                   cudaStream_t stream) {
  const auto kernel = route_stream<kOneTile, Count>;
  const std::size_t bytes = route_stream_shared_bytes(shape);
  if (const cudaError_t error = allow_shared_memory<route_stream<kOneTile, Count>>(); error != cudaSuccess)
    return error;
  const std::size_t cells = std::size_t{shape.blocks} * shape.chunk_buckets;
  auto* base =
      reinterpret_cast<std::uint32_t*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
  const ColumnMatrix<Count> matrix{reinterpret_cast<Count*>(base + cells), base, base + 2 * cells,
                                   shape.chunk_buckets, shape.columns_log2};
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
  RouteArguments shared = with_shares(arguments, shape.blocks, kThreads, 0);
  shared.shares.slots_each = route_stream_window(arguments.num_slots, shape.blocks);
  shared.shares.quads = has_quads(arguments.source);
  return cudaLaunchKernelEx(&config, kernel, shared, matrix, shape.tile_slots,
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
  return shape.one_tile ? launch<true, std::uint16_t>(arguments, shape, workspace, stream)
                        : launch<false, std::uint32_t>(arguments, shape, workspace, stream);
}

}  // namespace eplora::kernels
