// SPDX-License-Identifier: Apache-2.0
// Problems for the GPU tests, of a size that the caller chooses exactly: ids in patterns that kernels find
// hard, and every option of route and align. Case number i always is the same case, and consecutive numbers
// go through patterns and options, so that a short run of numbers visits all of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reference/routing/problem.h"

namespace eplora::gpu {

enum class Pattern : std::uint8_t {
  uniform,
  zipf,
  one_bucket,
  all_sentinels,
  mostly_sentinels,
  ascending,
  descending,
  alternating,  ///< between two buckets
  outside,      ///< half of the ids below -1 or not below E
  wide          ///< int64, a third of the ids beyond int32
};
inline constexpr int kPatterns = 10;
std::string_view to_string(Pattern pattern);

/// Owns the arrays of one route problem, or of one align problem where `align_only`.
struct GpuCase {
  bool align_only = false, wide = false, shared_outer = false, base_slot = true, keep = true;
  std::int64_t T = 0, K = 1, row_stride = 1, slot_offset = 0;
  std::int32_t num_experts = 0, num_local_experts = 0, max_loras = 0, num_buckets = 0, block_size = 1;
  NumTokens::Kind rows = NumTokens::Kind::all;
  std::int32_t num_tokens = 0;
  std::vector<std::int32_t> ids32, mapping, table, offsets;
  std::vector<std::int64_t> ids64;
  Pattern pattern = Pattern::uniform;

  /// Views into this case; host memory.
  RouteProblem route() const;
  AlignProblem align() const;
  std::int64_t n() const { return T * K; }
  std::int64_t V() const { return num_buckets; }
  Sentinels sentinels() const { return keep ? Sentinels::keep : Sentinels::drop; }
  std::int64_t capacity() const { return align_capacity(n(), V(), block_size, sentinels()); }
  /// All of it in one line but the arrays, for messages.
  std::string text() const;
};

/// What the specification says; only `blocks` where `align_only`.
RouteResult expected(const GpuCase& c);

/// Case `number` of exactly `n` slots and `V` buckets.
GpuCase make_case(std::int64_t n, std::int64_t V, std::uint64_t number);

/// The same with all rows real, ids and adapters in their ranges, nothing optional: for large sizes.
GpuCase plain_case(std::int64_t n, std::int64_t V, std::int32_t block_size, Pattern pattern);

/// A plain case of int32 ids behind a dispatch table that owns every other expert of twice as many: with it
/// and `plain_case` the kernels' instances for usual calls (kernels/plain.cuh) are reached.
GpuCase dispatched_case(std::int64_t n, std::int64_t V, std::int32_t block_size, Pattern pattern);

/// The first difference in words; empty when all bytes are equal.
std::string first_difference(const RouteResult& got, const RouteResult& want);

}  // namespace eplora::gpu
