// SPDX-License-Identifier: Apache-2.0
// Where buckets begin when few of them need more than one output block: a bit says that a bucket has slots,
// and a bucket's first output block is the number of bits below its own, plus what the long buckets below it
// need beyond one block each. Every warp counts bits for itself, so no barrier is spent on a scan.
#pragma once

#include "kernels/list_rank.cuh"

namespace eplora::kernels {

inline constexpr std::uint32_t kOccupiedBuckets = 4096;
inline constexpr std::uint32_t kMostLong = 128;  ///< buckets of more than one output block

/// In shared memory.
struct OccupiedBuckets {
  uint4 bits[kOccupiedBuckets / 128];
  std::uint32_t num_long, long_bucket[kMostLong], long_extra[kMostLong];  ///< blocks beyond the first

  __device__ void clear() {
    if (threadIdx.x < kOccupiedBuckets / 128) bits[threadIdx.x] = make_uint4(0, 0, 0, 0);
    if (threadIdx.x == 0) num_long = 0;
  }
  __device__ void add(std::uint32_t bucket) {
    atomicOr(reinterpret_cast<std::uint32_t*>(bits) + (bucket >> 5), 1u << (bucket & 31));
  }
  /// The slot of rank B of a bucket says that it is long. A __syncthreads() follows.
  __device__ void add_long(std::uint32_t bucket, std::uint32_t extra) {
    const std::uint32_t at = atomicAdd(&num_long, 1u);
    long_bucket[at] = bucket;
    long_extra[at] = extra;
  }
};

/// A warp's view of the bits. `kWords` of 32 a lane: 1 up to 1024 buckets, else 4.
template <std::uint32_t kWords>
struct OccupiedScan {
  static_assert(kWords == 1 || kWords == 4);
  std::uint32_t before = 0;  ///< of the lane
  std::uint32_t total = 0;

  __device__ explicit OccupiedScan(const OccupiedBuckets& occupied) {
    const unsigned lane = threadIdx.x & 31;
    std::uint32_t own;
    if constexpr (kWords == 1) {
      own = __popc(reinterpret_cast<const std::uint32_t*>(occupied.bits)[lane]);
    } else {
      const uint4 mine = occupied.bits[lane];
      own = __popc(mine.x) + __popc(mine.y) + __popc(mine.z) + __popc(mine.w);
    }
    std::uint32_t inclusive = own;
#pragma unroll
    for (unsigned step = 1; step < 32; step *= 2) {
      const std::uint32_t below = __shfl_up_sync(kFullWarp, inclusive, step);
      if (lane >= step) inclusive += below;
    }
    before = inclusive - own;
    total = __shfl_sync(kFullWarp, inclusive, 31);
  }

  /// Occupied buckets below `bucket`; all lanes call, with any number where they have no bucket.
  __device__ std::uint32_t below(const OccupiedBuckets& occupied, std::uint32_t bucket) const {
    const std::uint32_t lower = (1u << (bucket & 31)) - 1, word = bucket >> 5;
    if constexpr (kWords == 1) {
      const std::uint32_t bits = reinterpret_cast<const std::uint32_t*>(occupied.bits)[word & 31];
      return __shfl_sync(kFullWarp, before, word & 31) + __popc(bits & lower);
    } else {
      const std::uint32_t group = word >> 2 & 31;
      const uint4 words = occupied.bits[group];
      const auto part = [&](std::uint32_t bits, std::uint32_t k) {
        return static_cast<std::uint32_t>(__popc(k < (word & 3) ? bits : k == (word & 3) ? bits & lower : 0));
      };
      return __shfl_sync(kFullWarp, before, group) + part(words.x, 0) + part(words.y, 1) + part(words.z, 2) +
             part(words.w, 3);
    }
  }
};

}  // namespace eplora::kernels
