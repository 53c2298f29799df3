// SPDX-License-Identifier: Apache-2.0
// Two things every thread block here does: an exclusive scan over its threads and the fill of an int32 range
// that may start at any element.
#pragma once

#include <cstdint>

namespace eplora::kernels {

inline constexpr unsigned kFullWarp = 0xFFFFFFFFu;

/// The next kernel may be launched, and everything that came before this one is over (launch.h). Before it no
/// global memory is touched.
inline __device__ void begin_call() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

inline __device__ unsigned lanes_below() {
  unsigned mask;
  asm("mov.u32 %0, %%lanemask_lt;" : "=r"(mask));
  return mask;
}

inline __device__ std::uint32_t warp_inclusive_scan(std::uint32_t x) {
  const unsigned lane = threadIdx.x & 31;
  if (__all_sync(kFullWarp, x <= 1))  // one vote instead of five shuffles, and the usual case
    return __popc(__ballot_sync(kFullWarp, x) & (lanes_below() | 1u << lane));
#pragma unroll
  for (unsigned step = 1; step < 32; step *= 2) {
    const std::uint32_t below = __shfl_up_sync(kFullWarp, x, step);
    if (lane >= step) x += below;
  }
  return x;
}

/// Exclusive sum over the block's threads and the block's total. `warp_sums` is 32 words of shared memory
/// that nobody else touches between this call's barrier and the caller's next one. Contains exactly one
/// __syncthreads().
inline __device__ std::uint32_t block_exclusive_scan(std::uint32_t x, std::uint32_t* warp_sums,
                                                     std::uint32_t& total) {
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const std::uint32_t inclusive = warp_inclusive_scan(x);
  if (lane == 31) warp_sums[warp] = inclusive;
  __syncthreads();
  const std::uint32_t sum = lane < warps ? warp_sums[lane] : 0;
  total = __reduce_add_sync(kFullWarp, sum);
  return __reduce_add_sync(kFullWarp, lane < warp ? sum : 0) + inclusive - x;
}

/// Writes `value` to `range[begin, end)` with `num_threads` threads, 16 bytes at a time where the address
/// allows.
inline __device__ void fill_range(std::int32_t* range, std::uint32_t begin, std::uint32_t end,
                                  std::int32_t value, std::uint32_t thread, std::uint32_t num_threads) {
  if (begin >= end) return;
  const auto misaligned = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(range) >> 2);
  if ((((misaligned + begin) | (misaligned + end)) & 3u) == 0) {  // the usual case, kept short
    const auto vector = make_int4(value, value, value, value);
    auto* vectors = reinterpret_cast<int4*>(range + begin);
#pragma unroll 1
    for (std::uint32_t i = thread; i < (end - begin) / 4; i += num_threads) vectors[i] = vector;
    return;
  }
  std::int32_t* first = range + begin;
  const std::uint32_t count = end - begin;
  const std::uint32_t head =
      min(count, -static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(first) >> 2) & 3u);
  const std::uint32_t quads = (count - head) / 4;
  if (thread < head) first[thread] = value;
  auto* vectors = reinterpret_cast<int4*>(first + head);
#pragma unroll 1
  for (std::uint32_t i = thread; i < quads; i += num_threads)
    vectors[i] = make_int4(value, value, value, value);
  const std::uint32_t tail = head + quads * 4 + thread;
  if (thread < 4 && tail < count) first[tail] = value;
}

}  // namespace eplora::kernels
