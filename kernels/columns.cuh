// SPDX-License-Identifier: Apache-2.0
// What happens between the two grid barriers: block j owns 2^q neighbouring columns (buckets) of the matrix
// `counts [blocks, stride]`. It turns each column into exclusive sums over the blocks, adds where the bucket
// starts among the owner's own buckets, and publishes the blocks of output that its buckets need altogether.
// After the second barrier a slot's place is  B * (sum of the owners before) + prefix[block, bucket] + its
// rank inside the block.
#pragma once

#include <cooperative_groups.h>

#include "kernels/list_rank.cuh"

namespace eplora::kernels {

/// Words of shared memory for the owner's tile `[blocks, 2^q + 1]` and its column totals.
constexpr __host__ __device__ std::size_t column_words(std::uint32_t blocks, std::uint32_t columns_log2) {
  return std::size_t{blocks} * ((1u << columns_log2) + 1) + (2u << columns_log2);
}

/// The workspace of a two-barrier kernel.
template <typename Count>
struct ColumnMatrix {
  Count* counts;              ///< `[blocks, stride]`
  std::uint32_t* prefix;      ///< `[blocks, stride]`
  std::uint32_t* owner_size;  ///< `[blocks]`, in output blocks
  std::uint32_t stride, columns_log2;
};

/// `kSparse`: only cells whose count is not zero get a prefix. `columns` in use; every thread of the block
/// calls. `tile` is `column_words` words of shared memory.
template <bool kSparse, typename Count>
__device__ void prefix_columns(const RouteArguments& a, const ColumnMatrix<Count>& m, std::uint32_t columns,
                               std::uint32_t* tile, std::uint32_t* warp_sums) {
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const std::uint32_t owned = 1u << m.columns_log2, pitch = owned + 1, rows = gridDim.x;
  const std::uint32_t low = blockIdx.x << m.columns_log2;
  const std::uint32_t width = low < columns ? min(owned, columns - low) : 0;
  std::uint32_t* totals = tile + std::size_t{rows} * pitch;
  std::uint32_t* counts_below = totals + owned;  // of all rows
  if (width == 0) {                              // the same for all threads
    if (threadIdx.x == 0) __stcg(m.owner_size + blockIdx.x, 0u);
    return;
  }
  // The block's threads are a multiple of the columns owned: a thread stays in its column.
  const std::uint32_t my_column = threadIdx.x & (owned - 1), my_row = threadIdx.x >> m.columns_log2;
  const std::uint32_t row_step = blockDim.x >> m.columns_log2;
  if (my_column < width) {
    const Count* count = m.counts + std::size_t{my_row} * m.stride + low + my_column;
    constexpr std::uint32_t kBatch = 8;  // loads in flight; a store between two loads would order them
#pragma unroll 1
    for (std::uint32_t row = my_row; row < rows; row += kBatch * row_step) {
      std::uint32_t batch[kBatch];
#pragma unroll
      for (std::uint32_t j = 0; j < kBatch; ++j, count += std::size_t{row_step} * m.stride)
        batch[j] = row + j * row_step < rows ? *count : 0;
#pragma unroll
      for (std::uint32_t j = 0; j < kBatch; ++j)
        if (row + j * row_step < rows) tile[(row + j * row_step) * pitch + my_column] = batch[j];
    }
  }
  __syncthreads();
  // A warp a column, 32 rows at a time; the odd pitch keeps the lanes in different banks.
#pragma unroll 1
  for (std::uint32_t column = warp; column < width; column += warps) {
    std::uint32_t sum = 0;
#pragma unroll 1
    for (std::uint32_t first = 0; first < rows; first += 32) {
      const std::uint32_t row = first + lane;
      const std::uint32_t count = row < rows ? tile[row * pitch + column] : 0;
      const std::uint32_t inclusive = warp_inclusive_scan(count);
      if (row < rows) tile[row * pitch + column] = sum + inclusive - count;
      sum += __shfl_sync(kFullWarp, inclusive, 31);
    }
    if (lane == 0) totals[column] = sum;
  }
  __syncthreads();
  // kMaxColumns <= the block's threads: one column a thread.
  const std::uint32_t blocks = threadIdx.x < width ? blocks_of(a, totals[threadIdx.x]) : 0;
  std::uint32_t size;
  const std::uint32_t start = block_exclusive_scan(blocks, warp_sums, size);
  if (threadIdx.x < width) {
    counts_below[threadIdx.x] = totals[threadIdx.x];
    totals[threadIdx.x] = start * a.block_size.value;
  }
  if (threadIdx.x == 0) __stcg(m.owner_size + blockIdx.x, size);
  __syncthreads();
  if (my_column >= width) return;
  const std::uint32_t start_of_column = totals[my_column];
  std::uint32_t* out = m.prefix + std::size_t{my_row} * m.stride + low + my_column;
#pragma unroll 1
  for (std::uint32_t row = my_row; row < rows; row += row_step, out += std::size_t{row_step} * m.stride) {
    const std::uint32_t prefix = tile[row * pitch + my_column];
    const std::uint32_t next = row + 1 < rows ? tile[(row + 1) * pitch + my_column] : counts_below[my_column];
    if (!kSparse || prefix != next) *out = prefix + start_of_column;
  }
}

/// After the second barrier: `owner_start[j]` = first output entry of owner j's buckets, counted from `carry`
/// blocks; returns the blocks of all owners. At most one owner a thread. Ends with a __syncthreads().
template <typename Count>
__device__ std::uint32_t scan_owners(const RouteArguments& a, const ColumnMatrix<Count>& m,
                                     std::uint32_t carry, std::uint32_t* owner_start,
                                     std::uint32_t* warp_sums) {
  const std::uint32_t size = threadIdx.x < gridDim.x ? __ldcg(m.owner_size + threadIdx.x) : 0;
  std::uint32_t total;
  const std::uint32_t start = block_exclusive_scan(size, warp_sums, total);
  if (threadIdx.x < gridDim.x) owner_start[threadIdx.x] = (carry + start) * a.block_size.value;
  __syncthreads();
  return total;
}

}  // namespace eplora::kernels
