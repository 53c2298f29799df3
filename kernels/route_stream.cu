// SPDX-License-Identifier: Apache-2.0
// Route for many slots: persistent blocks over contiguous windows, cut into tiles that are sorted in shared
// memory before they are written, so that neighbouring lanes write neighbouring addresses. Between the two
// grid barriers it is columns.cuh. A window of one tile is read once, a longer one twice (the second time
// mostly from L2).
//
// A tile: warp w holds 32 * kItems consecutive slots and private 16-bit counters of every bucket, so a rank
// needs no atomics and no order between warps: votes find the peers, their first lane moves the counter.
// Then the counters become exclusive sums over warps, the totals an exclusive sum over buckets, and every
// slot has its place in the tile.
//
// Phases, for every chunk of buckets (one up to about 4100): [tile | or histogram of the window], fill |
// BARRIER | owners | BARRIER | starts of the own buckets | write the tile [or: tile, write, move the starts;
// repeat].
//
// Versions: 1 as it stands here.
#include <algorithm>

#include "kernels/columns.cuh"

namespace eplora::kernels {
namespace {

constexpr std::uint32_t kThreads = kStreamThreads, kWarps = kThreads / 32;
constexpr std::uint32_t kOutside = 0xFFFFu;  // no column: a chunk has at most 2^13
constexpr int kBatch = 8;                    // loads in flight a thread

struct Tile {
  std::uint16_t* counters;  ///< `[kWarps, stride]`
  std::uint16_t* order;     ///< `[tile]` slot - tile begin, by bucket
  std::uint16_t* keys;      ///< `[tile]` bucket - low
  std::uint32_t* starts;    ///< `[stride]` where the block's next slot of a bucket goes
  std::uint32_t* local;     ///< `[stride + 1]` exclusive sums of the tile's bucket sizes
  std::uint32_t stride;
};

struct Chunk {
  std::uint32_t low, columns;
  __device__ bool has(std::uint32_t bucket) const { return bucket >= low && bucket - low < columns; }
};

/// The lanes with the same column as this one, among those that are inside; one vote a bit. match_any would
/// take 12 cycles a distinct value.
__device__ unsigned equal_lanes(bool inside, std::uint32_t column) {
  unsigned peers = __ballot_sync(kFullWarp, inside);
#pragma unroll
  for (std::uint32_t bit = 0; bit < kStreamColumnBits; ++bit) {
    // Four instructions a bit; the compiler makes seven of the same in C++.
    asm volatile(
        "{ .reg .pred set; .reg .b32 one, votes;\n"
        "  and.b32 one, %1, %2;\n"
        "  setp.ne.u32 set, one, 0;\n"
        "  vote.sync.ballot.b32 votes, set, 0xffffffff;\n"
        "  @!set not.b32 votes, votes;\n"
        "  and.b32 %0, %0, votes; }\n"
        : "+r"(peers)
        : "r"(column), "r"(1u << bit));
  }
  return peers;
}

/// Buckets of kBatch rounds of 32 slots, `step` apart; also the masks of their tokens, if asked.
__device__ void batch_buckets(const RouteArguments& a, std::uint32_t first, std::uint32_t step,
                              std::uint32_t end, std::uint32_t real_slots, bool masks,
                              std::uint32_t (&bucket)[kBatch]) {
  LoadedSlots<kBatch> slots;
  load_slots<kBatch>(a, first, step, end, real_slots, slots);
  if (masks) write_masks<kBatch>(a, first, step, end, slots);
  to_buckets<kBatch>(a, a.dispatch.table, first, step, end, slots, bucket);
}

/// Sorts slots [begin, end), at most kThreads * kItems, into `order`; returns how many are in the chunk.
template <int kItems>
__device__ std::uint32_t sort_tile(const RouteArguments& a, std::uint32_t begin, std::uint32_t end,
                                   std::uint32_t real_slots, const Chunk& chunk, bool masks, const Tile& tile,
                                   std::uint32_t* warp_sums) {
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const std::uint32_t words = tile.stride / 2;
  auto* pairs = reinterpret_cast<std::uint32_t*>(tile.counters);
#pragma unroll 1
  for (std::uint32_t i = threadIdx.x; i < kWarps * words; i += kThreads) pairs[i] = 0;
  __syncthreads();

  const std::uint32_t own = warp * 32 * kItems + lane;  // in the tile: the thread's slots are own + 32 * i
  // Columns and then ranks inside the warp wait in the arrays that hold the sorted tile later, so that both
  // loops stay loops: unrolled over all items they are longer than the instruction caches.
#pragma unroll 1
  for (int batch = 0; batch < kItems; batch += kBatch) {
    std::uint32_t bucket[kBatch];
    batch_buckets(a, begin + own + 32 * batch, 32, end, real_slots, masks, bucket);
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
      tile.keys[own + 32 * (batch + i)] =
          static_cast<std::uint16_t>(chunk.has(bucket[i]) ? bucket[i] - chunk.low : kOutside);
  }
  std::uint16_t* counter = tile.counters + std::size_t{warp} * tile.stride;
#pragma unroll 4
  for (int i = 0; i < kItems; ++i) {
    const std::uint32_t column = tile.keys[own + 32 * i];
    const bool inside = column != kOutside;
    const unsigned peers = equal_lanes(inside, column);
    const std::uint32_t place = __popc(peers & lanes_below());
    const std::uint32_t earlier = inside ? counter[column] : 0;
    __syncwarp();
    if (inside && place == 0)
      counter[column] = static_cast<std::uint16_t>(earlier + static_cast<std::uint32_t>(__popc(peers)));
    tile.order[own + 32 * i] = static_cast<std::uint16_t>(earlier + place);
    __syncwarp();
  }
  __syncthreads();

#pragma unroll 1
  for (std::uint32_t w = threadIdx.x; w < words; w += kThreads) {
    std::uint32_t sum = 0;  // two 16-bit sums; a tile has at most 16384 slots
#pragma unroll
    for (std::uint32_t row = 0; row < kWarps; ++row) {
      const std::uint32_t count = pairs[row * words + w];
      pairs[row * words + w] = sum;
      sum += count;
    }
    tile.local[2 * w] = sum & 0xFFFFu;
    tile.local[2 * w + 1] = sum >> 16;
  }
  __syncthreads();
  const std::uint32_t each = (tile.stride + kThreads - 1) / kThreads | 1u;
  const std::uint32_t from = min(tile.stride, threadIdx.x * each), to = min(tile.stride, from + each);
  std::uint32_t sum = 0, total;
#pragma unroll 1
  for (std::uint32_t c = from; c < to; ++c) sum += tile.local[c];
  std::uint32_t start = block_exclusive_scan(sum, warp_sums, total);
#pragma unroll 1
  for (std::uint32_t c = from; c < to; ++c) {
    const std::uint32_t count = tile.local[c];
    tile.local[c] = start;
    start += count;
  }
  if (threadIdx.x == 0) tile.local[tile.stride] = total;
  std::uint32_t ranked[kItems];  // rank inside the warp << 16 | column
#pragma unroll
  for (int i = 0; i < kItems; ++i)
    ranked[i] = static_cast<std::uint32_t>(tile.order[own + 32 * i]) << 16 | tile.keys[own + 32 * i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const std::uint32_t column = ranked[i] & 0xFFFFu;
    if (column == kOutside) continue;
    const std::uint32_t place = tile.local[column] + counter[column] + (ranked[i] >> 16);
    tile.order[place] = static_cast<std::uint16_t>(own + 32 * i);
    tile.keys[place] = static_cast<std::uint16_t>(column);
  }
  __syncthreads();
  return total;
}

/// How many slots of the window are in every bucket of the chunk. Lanes that agree with the first add once
/// together.
__device__ void count_window(const RouteArguments& a, std::uint32_t begin, std::uint32_t end,
                             std::uint32_t real_slots, const Chunk& chunk, bool masks,
                             std::uint32_t* counts) {
  const unsigned lane = threadIdx.x & 31;
#pragma unroll 1
  for (std::uint64_t base = begin; base < end;
       base += kThreads * kBatch) {  // the same rounds for all threads
    std::uint32_t bucket[kBatch];
    batch_buckets(a, static_cast<std::uint32_t>(base) + threadIdx.x, kThreads, end, real_slots, masks,
                  bucket);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const bool sentinel = bucket[i] == a.num_buckets, real = chunk.has(bucket[i]) && !sentinel;
      const unsigned sentinels = __ballot_sync(kFullWarp, sentinel), reals = __ballot_sync(kFullWarp, real);
      if (lane == 0 && sentinels != 0 && chunk.has(a.num_buckets))
        atomicAdd(counts + (a.num_buckets - chunk.low), static_cast<std::uint32_t>(__popc(sentinels)));
      const std::uint32_t leader = reals == 0 ? 0 : __ffs(reals) - 1;
      const std::uint32_t shared_bucket = __shfl_sync(kFullWarp, bucket[i], leader);
      const bool same = real && bucket[i] == shared_bucket;
      const unsigned group = __ballot_sync(kFullWarp, same);
      if (real && (!same || lane == leader))
        atomicAdd(counts + (bucket[i] - chunk.low), same ? static_cast<std::uint32_t>(__popc(group)) : 1u);
    }
  }
}

template <int kItems>
__global__ void __launch_bounds__(kThreads, 1)
    route_stream(const RouteArguments a, const ColumnMatrix<std::uint32_t> m,
                 const std::uint32_t overlay_words) {
  extern __shared__ std::uint32_t shared[];
  __shared__ std::uint32_t warp_sums[32];
  constexpr std::uint32_t kTile = kThreads * kItems;
  // The counters' memory also serves the owners' tile and starts: the lives do not overlap.
  std::uint32_t* rest = shared + overlay_words;
  const Tile tile{reinterpret_cast<std::uint16_t*>(shared),
                  reinterpret_cast<std::uint16_t*>(rest),
                  reinterpret_cast<std::uint16_t*>(rest) + kTile,
                  rest + kTile,
                  rest + kTile + m.stride,
                  m.stride};
  const std::uint32_t V = a.num_buckets;
  const std::uint32_t window = a.shares.slots_each;
  const std::uint32_t begin = min(std::uint64_t{a.num_slots}, std::uint64_t{window} * blockIdx.x);
  const std::uint32_t end = min(a.num_slots, begin + window);
  const bool one_tile = window <= kTile;
  const std::int32_t tokens = real_tokens(a.source);
  const std::uint32_t real_slots = static_cast<std::uint32_t>(tokens) * a.source.cols.value;
  fill_share(a, own_share(a));

  std::uint32_t carry = 0;  // blocks of output in earlier chunks
  for (std::uint32_t low = 0; low <= V; low += m.stride) {
    const Chunk chunk{low, min(m.stride, V + 1 - low)};
    std::uint32_t* counts = m.counts + std::size_t{blockIdx.x} * m.stride;
    std::uint32_t in_tile = 0;
    if (one_tile) {
      in_tile = sort_tile<kItems>(a, begin, end, real_slots, chunk, low == 0, tile, warp_sums);
#pragma unroll 1
      for (std::uint32_t c = threadIdx.x; c < chunk.columns; c += kThreads)
        __stcg(counts + c, tile.local[c + 1] - tile.local[c]);
    } else {
#pragma unroll 1
      for (std::uint32_t c = threadIdx.x; c < chunk.columns; c += kThreads) tile.starts[c] = 0;
      __syncthreads();
      count_window(a, begin, end, real_slots, chunk, low == 0, tile.starts);
      __syncthreads();
#pragma unroll 1
      for (std::uint32_t c = threadIdx.x; c < chunk.columns; c += kThreads)
        __stcg(counts + c, tile.starts[c]);
    }
    cooperative_groups::this_grid().sync();
    prefix_columns<false>(a, m, chunk.columns, shared, warp_sums);
    cooperative_groups::this_grid().sync();
    carry += scan_owners(a, m, carry, shared, warp_sums);
#pragma unroll 1
    for (std::uint32_t c = threadIdx.x; c < chunk.columns; c += kThreads)
      tile.starts[c] =
          shared[c >> m.columns_log2] + __ldcg(m.prefix + std::size_t{blockIdx.x} * m.stride + c);
    __syncthreads();
#pragma unroll 1
    for (std::uint32_t from = begin; from < end; from += min(kTile, end - from)) {
      if (!one_tile)
        in_tile =
            sort_tile<kItems>(a, from, min(end, from + kTile), real_slots, chunk, false, tile, warp_sums);
#pragma unroll 4
      for (std::uint32_t i = threadIdx.x; i < in_tile; i += kThreads) {
        const std::uint32_t column = tile.keys[i];
        place_slot(a, tile.starts[column] + i - tile.local[column], from + tile.order[i], low + column);
      }
      __syncthreads();
      if (one_tile) break;
#pragma unroll 1
      for (std::uint32_t c = threadIdx.x; c < chunk.columns; c += kThreads)
        tile.starts[c] += tile.local[c + 1] - tile.local[c];
      __syncthreads();
    }
  }
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *a.num_tokens_post_padded = static_cast<std::int32_t>(carry * a.block_size.value);
}

std::size_t overlay_words(const TwoBarrierShape& shape) {
  const auto words = std::max<std::size_t>({kWarps * std::size_t{shape.chunk_buckets} / 2,
                                            column_words(shape.blocks, shape.columns_log2), shape.blocks});
  return (words + 3) / 4 * 4;
}

template <int kItems>
cudaError_t launch(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                   cudaStream_t stream) {
  const auto kernel = route_stream<kItems>;
  const std::size_t bytes = route_stream_shared_bytes(shape);
  if (const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
      error != cudaSuccess)
    return error;
  const std::size_t cells = std::size_t{shape.blocks} * shape.chunk_buckets;
  auto* base =
      reinterpret_cast<std::uint32_t*>((reinterpret_cast<std::uintptr_t>(workspace) + 255) / 256 * 256);
  const ColumnMatrix<std::uint32_t> matrix{base, base + cells, base + 2 * cells, shape.chunk_buckets,
                                           shape.columns_log2};
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
                            static_cast<std::uint32_t>(overlay_words(shape)));
}

}  // namespace

std::size_t route_stream_shared_bytes(const TwoBarrierShape& shape) {
  return sizeof(std::uint32_t) * (overlay_words(shape) + std::size_t{kThreads} * shape.items +
                                  2 * std::size_t{shape.chunk_buckets} + 4);
}

cudaError_t launch_route_stream(const RouteArguments& arguments, const TwoBarrierShape& shape,
                                void* workspace, cudaStream_t stream) {
  switch (shape.items) {
    case 16:
      return launch<16>(arguments, shape, workspace, stream);
    case 32:
      return launch<32>(arguments, shape, workspace, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace eplora::kernels
