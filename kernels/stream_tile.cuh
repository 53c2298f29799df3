// SPDX-License-Identifier: Apache-2.0
// A tile of the stream kernel: up to 2^15 neighbouring slots, sorted by bucket in a block's shared memory.
//
// A tile is sorted by counting: buckets are counted and scanned, every slot takes the next place of its
// bucket with an atomic, and when it is written its place among the few slots of its bucket, which stand
// there in order of arrival, is found by comparing it with them. A bucket of many slots would take that long;
// its slots get their ranks from votes instead, with private counters for every warp, so that skew costs a
// constant.
#pragma once

#include "kernels/list_rank.cuh"

namespace eplora::kernels::stream {

inline constexpr std::uint32_t kThreads = kStreamThreads, kWarps = kThreads / 32;
inline constexpr std::uint32_t kOutside = 0xFFFFu;  // no column: a chunk has at most 2^13
inline constexpr int kBatch = 4;                    // loads in flight a thread
inline constexpr std::uint32_t kHeavyBits = 8,
                               kHeavy = 1u << kHeavyBits;  // at most so many heavy buckets a tile
inline constexpr std::uint32_t kHeavyWords = kWarps * kHeavy / 2;

struct Tile {
  std::uint16_t* keys;     ///< `[tile]` column of a slot
  std::uint16_t* arrived;  ///< `[tile]` slots by bucket, within it in order of arrival; 4-byte aligned
  std::uint16_t* votes;    ///< `[tile]` ranks of heavy buckets' slots, while they are voted on
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
inline __device__ unsigned equal_lanes(bool inside, std::uint32_t index) {
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
inline __device__ void count_sentinels(std::uint32_t mine, std::uint32_t column, std::uint32_t* counts) {
  const std::uint32_t all = __reduce_add_sync(kFullWarp, mine);
  if ((threadIdx.x & 31) == 0 && all != 0 && column != kOutside) atomicAdd(counts + column, all);
}

/// Counts the slots [begin, end) of every column of the chunk, and notes their columns in `keys` unless it is
/// null. Four neighbouring slots a load where `a.shares.quads` says so: they are of one token, and all of
/// them are real or none.
inline __device__ void count_slots(const RouteArguments& a, const std::int32_t* table, std::uint32_t begin,
                                   std::uint32_t end, std::uint32_t real_slots, const Chunk& chunk,
                                   bool masks, std::uint16_t* keys, std::uint32_t* counts) {
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
inline __device__ void place_heavy(std::uint32_t slots, const Tile& tile) {
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
    if (index != 0) tile.votes[slot] = static_cast<std::uint16_t>(earlier + place);
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
      tile.arrived[tile.local[key] + counter[index - 1] + tile.votes[slot]] =
          static_cast<std::uint16_t>(slot);
  }
}

/// Sorts a counted tile of `slots` slots into `arrived`; returns how many of them are in the chunk.
inline __device__ std::uint32_t sort_tile(std::uint32_t slots, const Tile& tile, std::uint32_t* warp_sums,
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
  const bool any_heavy = *num_heavy != 0;
#pragma unroll 4
  for (std::uint32_t slot = threadIdx.x; slot < slots; slot += kThreads) {
    const std::uint32_t key = tile.keys[slot];
    if (key != kOutside && !(any_heavy && tile.cursor[key] >= 1u << 16))
      tile.arrived[atomicAdd(tile.cursor + key, 1u)] = static_cast<std::uint16_t>(slot);
  }
  if (any_heavy) place_heavy(slots, tile);
  __syncthreads();
  return total;
}

/// How many of the slots `arrived[first, last)`, at least one, are smaller than `slot`. Two a word: 2^15 - 1
/// + slot - other has its top bit set where the other is smaller, and never borrows. A neighbour bucket's
/// slot in the first or the last word is made the largest of all.
inline __device__ std::uint32_t smaller_slots(const std::uint16_t* arrived, std::uint32_t first,
                                              std::uint32_t last, std::uint32_t slot) {
  constexpr std::uint32_t kLow = 0x7FFF, kHigh = kLow << 16;
  const auto* pairs = reinterpret_cast<const std::uint32_t*>(arrived);
  const std::uint32_t bound = (slot + kLow) * 0x10001u, begin = first >> 1, end = (last - 1) >> 1;
  const auto smaller = [&](std::uint32_t pair) { return (bound - pair) >> 15 & 0x10001u; };
  const std::uint32_t before = first & 1 ? kLow : 0, behind = last & 1 ? kHigh : 0;
  const std::uint32_t last_pair = (pairs[end] | behind) & (kHigh | 0xFFFFu);  // may lie behind all slots
  std::uint32_t sum = smaller(last_pair | (begin == end ? before : 0));
  if (begin != end) sum += smaller(pairs[begin] | before);
#pragma unroll 4
  for (std::uint32_t w = begin + 1; w < end; ++w) sum += smaller(pairs[w]);
  return (sum & 0xFFFFu) + (sum >> 16);
}

/// The place in the sorted tile of `slot`, which arrived at `i`; `first` and `last` are its bucket's.
inline __device__ std::uint32_t sorted_place(const Tile& tile, bool any_heavy, std::uint32_t i,
                                             std::uint32_t slot, std::uint32_t key, std::uint32_t first,
                                             std::uint32_t last) {
  if (last - first == 1 || (any_heavy && tile.cursor[key] >= 1u << 16)) return i;
  return first + smaller_slots(tile.arrived, first, last, slot);
}

}  // namespace eplora::kernels::stream
