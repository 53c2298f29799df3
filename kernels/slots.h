// SPDX-License-Identifier: Apache-2.0
// What a kernel needs to know to turn a routed slot into its bucket: plain pointers and sizes, filled in by
// the caller. The rules are the contract's sections 3 (dispatch), 4 (remap) and 5 (the sentinel bucket).
#pragma once

#include <cstdint>

namespace eplora::kernels {

/// Division of x in [0, 2^31) by a fixed divisor d in [1, 2^31) as one multiplication (round-up method: with
/// l = ceil(log2 d), floor(2x * ceil(2^(31 + l) / d) / 2^32 / 2^l) = floor(x / d) for all x < 2^31).
struct Divisor {
  std::uint32_t value = 1, multiplier = 1u << 31, shift = 0;

  static Divisor of(std::int64_t divisor) {
    std::uint32_t log2 = 0;
    while ((std::int64_t{1} << log2) < divisor) ++log2;
    const std::uint64_t power = std::uint64_t{1} << (31 + log2);
    const auto d = static_cast<std::uint64_t>(divisor);
    return {static_cast<std::uint32_t>(d), static_cast<std::uint32_t>((power + d - 1) / d), log2};
  }
};

/// Where ids stand: `[T, K]` int32 or int64 (`wide`), unit column stride. Rows `t >= num_tokens` are never
/// read.
struct IdSource {
  const void* ids = nullptr;
  bool wide = false;
  std::int64_t row_gap = 0;                          ///< row stride - K, elements
  std::int32_t num_rows = 0;                         ///< T
  Divisor cols;                                      ///< K
  const std::int32_t* num_tokens_pointer = nullptr;  ///< device int32, clamped to [0, T]; or
  std::int32_t num_tokens = 0;                       ///< the value (T where all rows are real)
};

/// Global id -> local id; `table` null = ids are local already.
struct DispatchTable {
  const std::int32_t* table = nullptr;
  const std::int32_t* offsets = nullptr;  ///< replicas of e: table[offsets[e] .. offsets[e + 1])
  std::int32_t num_experts = 0;           ///< E of the model
  std::int64_t slot_offset = 0;
};

/// (expert, adapter) -> virtual expert; `mapping` null = no adapters, the bucket is the id itself.
struct RemapRule {
  const std::int32_t* mapping = nullptr;  ///< `[T]`
  std::int32_t num_experts = 0;           ///< E of the ids after dispatch
  std::int32_t max_loras = 1;             ///< L
  bool shared_outer = false;
  std::int32_t adapter_stride = 0;  ///< buckets from one adapter to the next: num_experts, shared-outer 1
  bool base_slot = true;            ///< a token without adapter rides in adapter 0's bucket
};

}  // namespace eplora::kernels
