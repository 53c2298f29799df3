// SPDX-License-Identifier: Apache-2.0
// What happens around the two grid barriers: block j owns 2^q neighbouring columns (buckets) of the matrix
// `counts [blocks, stride]`. Between the barriers it turns each column into exclusive sums over the blocks,
// adds where the bucket starts among the owner's own buckets, and publishes the blocks of output that its
// buckets need altogether. After the second barrier a slot's place is  B * (sum of the owners before) +
// prefix[block, bucket] + its rank inside the block, and the owner writes what no slot writes: the labels of
// its buckets' output blocks and the filler behind their last slots.
#pragma once

#include <cooperative_groups.h>

#include "kernels/list_rank.cuh"

namespace eplora::kernels {

/// Words of shared memory for the owner's tile `[blocks, 2^q + 1]` and its columns' totals and starts.
constexpr __host__ __device__ std::size_t column_words(std::uint32_t blocks, std::uint32_t columns_log2) {
  return std::size_t{blocks} * ((1u << columns_log2) + 1) + (2u << columns_log2);
}

/// The workspace of a two-barrier kernel. Rows are aligned to 16 bytes: the stride is a multiple of 8.
template <typename Count>
struct ColumnMatrix {
  Count* counts;              ///< `[blocks, stride]`
  std::uint32_t* prefix;      ///< `[blocks, stride]`
  std::uint32_t* owner_size;  ///< `[blocks]`, in output blocks
  std::uint32_t stride, columns_log2;
};

/// The columns of one owner, in shared memory, as they stand after `prefix_columns`.
struct OwnedColumns {
  std::uint32_t low = 0, width = 0;  ///< columns [low, low + width)
  std::uint32_t* totals = nullptr;   ///< `[width]` slots
  std::uint32_t* starts = nullptr;   ///< `[width]` output blocks before the column's, among the owner's
};

inline constexpr std::uint32_t kFewRows = 5;  ///< rows a lane up to which a column is summed in registers

/// 16 bytes of counts, unpacked.
template <typename Count>
struct CountVector {
  static constexpr std::uint32_t kLog2 = sizeof(Count) == 2 ? 3 : 2, kCounts = 1u << kLog2;
  uint4 raw = {0, 0, 0, 0};

  __device__ std::uint32_t operator[](std::uint32_t k) const {
    const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    if constexpr (sizeof(Count) == 4) return words[k];
    return k % 2 == 0 ? words[k / 2] & 0xFFFFu : words[k / 2] >> 16;
  }
};

/// Turns the counts of a column, rows [first_row, last_row) of the lane, at most five of them, into exclusive
/// sums; every count is read once. Returns the column's total in the last lane.
inline __device__ std::uint32_t sum_few_rows(std::uint32_t* cell, std::uint32_t pitch,
                                             std::uint32_t rows_of_lane) {
  std::uint32_t count[kFewRows], sum = 0;
#pragma unroll
  for (std::uint32_t j = 0; j < kFewRows; ++j) {
    count[j] = j < rows_of_lane ? cell[j * pitch] : 0;
    sum += count[j];
  }
  const std::uint32_t inclusive = warp_inclusive_scan(sum);
  std::uint32_t running = inclusive - sum;
#pragma unroll
  for (std::uint32_t j = 0; j < kFewRows; ++j) {
    if (j < rows_of_lane) cell[j * pitch] = running;
    running += count[j];
  }
  return inclusive;
}

/// `sparse`: only cells whose count is not zero get a prefix. `columns` in use; every thread of the block
/// calls. `tile` is `column_words` words of shared memory. `kMany`: for blocks that own more columns than
/// they have warps; the other cases lose 3% when they share its code.
template <bool kMany = false, typename Count>
__device__ OwnedColumns prefix_columns(const RouteArguments& a, const ColumnMatrix<Count>& m, bool sparse,
                                       std::uint32_t columns, std::uint32_t* tile, std::uint32_t* warp_sums) {
  using Vector = CountVector<Count>;
  const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const std::uint32_t owned = 1u << m.columns_log2, pitch = owned + 1, rows = gridDim.x;
  OwnedColumns own;
  own.low = blockIdx.x << m.columns_log2;
  own.width = own.low < columns ? min(owned, columns - own.low) : 0;
  own.totals = tile + std::size_t{rows} * pitch;
  own.starts = own.totals + owned;
  if (own.width == 0) {  // the same for all threads
    if (threadIdx.x == 0) __stcg(m.owner_size + blockIdx.x, 0u);
    return own;
  }
  if (owned <= 64) {  // 16 bytes a load
    const std::uint32_t in_row = owned >> Vector::kLog2, in_row_log2 = m.columns_log2 - Vector::kLog2;
    constexpr std::uint32_t kFlight = 2;  // loads in flight; a store between two loads would order them
#pragma unroll 1
    for (std::uint32_t first = threadIdx.x; first < rows << in_row_log2; first += kFlight * blockDim.x) {
      Vector vectors[kFlight];
#pragma unroll
      for (std::uint32_t j = 0; j < kFlight; ++j) {
        const std::uint32_t unit = first + j * blockDim.x, row = unit >> in_row_log2;
        const std::uint32_t column = own.low + ((unit & (in_row - 1)) << Vector::kLog2);
        if (row < rows && column < m.stride)
          vectors[j].raw =
              __ldcg(reinterpret_cast<const uint4*>(m.counts + std::size_t{row} * m.stride + column));
      }
#pragma unroll
      for (std::uint32_t j = 0; j < kFlight; ++j) {
        const std::uint32_t unit = first + j * blockDim.x, row = unit >> in_row_log2;
        if (row >= rows) break;
        std::uint32_t* cell = tile + row * pitch + ((unit & (in_row - 1)) << Vector::kLog2);
#pragma unroll
        for (std::uint32_t k = 0; k < Vector::kCounts; ++k) cell[k] = vectors[j][k];
      }
    }
  } else {  // a column a thread: so many words a row would all fall into the same banks
    const std::uint32_t my_column = threadIdx.x & (owned - 1), row_step = blockDim.x >> m.columns_log2;
    constexpr std::uint32_t kFlight = 8;
#pragma unroll 1
    for (std::uint32_t first = threadIdx.x >> m.columns_log2; first < rows; first += kFlight * row_step) {
      Count batch[kFlight];
#pragma unroll
      for (std::uint32_t j = 0; j < kFlight; ++j) {
        const std::uint32_t row = first + j * row_step;
        batch[j] = row < rows && my_column < own.width
                       ? __ldcg(m.counts + std::size_t{row} * m.stride + own.low + my_column)
                       : Count{0};
      }
#pragma unroll
      for (std::uint32_t j = 0; j < kFlight; ++j)
        if (const std::uint32_t row = first + j * row_step; row < rows)
          tile[row * pitch + my_column] = batch[j];
    }
  }
  __syncthreads();
  // A warp a column, neighbouring rows a lane; an odd number of them and the odd pitch keep the lanes in
  // different banks.
  const std::uint32_t each = (rows + 31) / 32 | 1u;
  const std::uint32_t first_row = min(rows, lane * each), last_row = min(rows, first_row + each);
#pragma unroll 1
  for (std::uint32_t column = warp; column < own.width; column += warps) {
    if constexpr (kMany)
      if (each <= kFewRows) {
        const std::uint32_t total =
            sum_few_rows(tile + first_row * pitch + column, pitch, last_row - first_row);
        if (lane == 31) own.totals[column] = total;
        continue;
      }
    std::uint32_t sum = 0;
#pragma unroll 4
    for (std::uint32_t row = first_row; row < last_row; ++row) sum += tile[row * pitch + column];
    const std::uint32_t inclusive = warp_inclusive_scan(sum);
    std::uint32_t running = inclusive - sum;
#pragma unroll 4
    for (std::uint32_t row = first_row; row < last_row; ++row) {
      const std::uint32_t count = tile[row * pitch + column];
      tile[row * pitch + column] = running;
      running += count;
    }
    if (lane == 31) own.totals[column] = inclusive;
  }
  __syncthreads();
  // kMaxColumns <= the block's threads: one column a thread.
  const std::uint32_t blocks = threadIdx.x < own.width ? blocks_of(a, own.totals[threadIdx.x]) : 0;
  std::uint32_t size;
  const std::uint32_t start = block_exclusive_scan(blocks, warp_sums, size);
  if (threadIdx.x < own.width) own.starts[threadIdx.x] = start;
  if (threadIdx.x == 0) __stcg(m.owner_size + blockIdx.x, size);
  __syncthreads();
  if constexpr (kMany)
    if (sparse) {  // a column a thread
      const std::uint32_t column = threadIdx.x & (owned - 1), row_step = blockDim.x >> m.columns_log2;
      if (column >= own.width) return own;
      const std::uint32_t start = own.starts[column] * a.block_size.value;
      std::uint32_t row = threadIdx.x >> m.columns_log2;
      const std::uint32_t* cell = tile + row * pitch + column;
      std::uint32_t* prefix = m.prefix + std::size_t{row} * m.stride + own.low + column;
#pragma unroll 4
      for (; row < rows; row += row_step) {
        const std::uint32_t value = cell[0], next = row + 1 < rows ? cell[pitch] : own.totals[column];
        if (value != next) __stcg(prefix, value + start);
        cell += row_step * pitch;
        prefix += std::size_t{row_step} * m.stride;
      }
      return own;
    }
  if (sparse) {
#pragma unroll 4
    for (std::uint32_t unit = threadIdx.x; unit < rows << m.columns_log2; unit += blockDim.x) {
      const std::uint32_t row = unit >> m.columns_log2, column = unit & (owned - 1);
      if (column >= own.width) continue;
      const std::uint32_t prefix = tile[row * pitch + column];
      const std::uint32_t next = row + 1 < rows ? tile[(row + 1) * pitch + column] : own.totals[column];
      if (prefix != next)
        __stcg(m.prefix + std::size_t{row} * m.stride + own.low + column,
               prefix + own.starts[column] * a.block_size.value);
    }
    return own;
  }
#pragma unroll 2
  for (std::uint32_t unit = threadIdx.x; unit < rows << (m.columns_log2 - 2); unit += blockDim.x) {
    const std::uint32_t row = unit >> (m.columns_log2 - 2), column = 4 * (unit & (owned / 4 - 1));
    if (own.low + column >= m.stride) continue;  // columns that are not in use get garbage that nobody reads
    const std::uint32_t *prefix = tile + row * pitch + column, *starts = own.starts + column;
    const std::uint32_t B = a.block_size.value;
    __stcg(reinterpret_cast<uint4*>(m.prefix + std::size_t{row} * m.stride + own.low + column),
           make_uint4(prefix[0] + starts[0] * B, prefix[1] + starts[1] * B, prefix[2] + starts[2] * B,
                      prefix[3] + starts[3] * B));
  }
  return own;
}

/// After the second barrier: `owner_start[j]` = first output entry of owner j's buckets, counted from `carry`
/// blocks; returns the blocks of all owners. At most one owner a thread; `size` is the thread's owner's, read
/// by `owner_size`. Ends with a __syncthreads().
template <typename Count>
__device__ std::uint32_t owner_size(const ColumnMatrix<Count>& m) {
  return threadIdx.x < gridDim.x ? __ldcg(m.owner_size + threadIdx.x) : 0;
}
inline __device__ std::uint32_t scan_owners(const RouteArguments& a, std::uint32_t size, std::uint32_t carry,
                                            std::uint32_t* owner_start, std::uint32_t* warp_sums) {
  std::uint32_t total;
  const std::uint32_t start = block_exclusive_scan(size, warp_sums, total);
  if (threadIdx.x < gridDim.x) owner_start[threadIdx.x] = (carry + start) * a.block_size.value;
  __syncthreads();
  return total;
}

/// Columns `first`, `first + step`, ... below `end`, with their totals and where they start, in output
/// blocks.
struct FinishedColumns {
  const std::uint32_t *totals, *starts;
  std::uint32_t end, first, step;
};

/// Labels and filler of columns; column c is bucket `first_bucket + c` and begins at output block
/// `first_block + starts[c]`. `kLanes`, 8 to 32, a column, except where that would take them long.
template <std::uint32_t kLanes = 32>
__device__ void finish_columns(const RouteArguments& a, const FinishedColumns& columns,
                               std::uint32_t first_block, std::uint32_t first_bucket) {
  constexpr std::uint32_t kLong = 1024;
  const std::uint32_t B = a.block_size.value;
  const auto is_long = [&](std::uint32_t column) {
    const std::uint32_t count = columns.totals[column], blocks = blocks_of(a, count);
    return blocks > kLong || blocks * B - count > kLong;
  };
  const auto finish = [&](std::uint32_t column, std::uint32_t thread, std::uint32_t threads) {
    const std::uint32_t count = columns.totals[column], blocks = blocks_of(a, count);
    const std::uint32_t block = first_block + columns.starts[column], bucket = first_bucket + column;
    fill_range(a.expert_ids, block, block + blocks,
               bucket == a.num_buckets ? -1 : static_cast<std::int32_t>(bucket), thread, threads);
    fill_range(a.sorted_token_ids, block * B + count, (block + blocks) * B,
               static_cast<std::int32_t>(a.num_slots), thread, threads);
  };
  const unsigned lane = threadIdx.x & 31;
  bool any_long = false;
#pragma unroll 1
  for (std::uint32_t c = columns.first + threadIdx.x / kLanes * columns.step; c < columns.end;
       c += blockDim.x / kLanes * columns.step) {
    if (is_long(c))
      any_long = true;
    else
      finish(c, lane % kLanes, kLanes);
  }
  if (!__syncthreads_or(any_long)) return;
#pragma unroll 1
  for (std::uint32_t c = columns.first; c < columns.end; c += 32 * columns.step) {
    const std::uint32_t mine = c + lane * columns.step;
    unsigned rest = __ballot_sync(kFullWarp, mine < columns.end && is_long(mine));
#pragma unroll 1
    for (; rest != 0; rest &= rest - 1) finish(c + (__ffs(rest) - 1) * columns.step, threadIdx.x, blockDim.x);
  }
}

/// Behind the last of `blocks` output blocks; all thread blocks share it.
inline __device__ void fill_tail(const RouteArguments& a, std::uint32_t blocks) {
  const std::uint32_t thread = blockIdx.x * blockDim.x + threadIdx.x, threads = gridDim.x * blockDim.x;
  fill_range(a.sorted_token_ids, blocks * a.block_size.value, static_cast<std::uint32_t>(a.capacity),
             static_cast<std::int32_t>(a.num_slots), thread, threads);
  fill_range(a.expert_ids, blocks, a.shares.output_blocks, -1, thread, threads);
}

}  // namespace eplora::kernels
