// SPDX-License-Identifier: Apache-2.0
// The ids of a batch as a case holds them: values, the type and stride they will have in memory, and how the
// batch is padded. `IdStorage` lays them out as a problem's view wants them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "property_tests/generators/case.h"
#include "property_tests/generators/draw.h"
#include "reference/contract/form.h"
#include "reference/routing/problem.h"

namespace eplora::suite {

struct IdBatch {
  IdType type = IdType::int32;
  std::int64_t T = 0, K = 1, row_stride = 1;
  std::vector<std::int64_t> ids;  ///< `[T*K]`
  NumTokens::Kind num_tokens_kind = NumTokens::Kind::all;
  std::int32_t num_tokens = 0;  ///< value: in [0, T]; pointer: anything
  bool operator==(const IdBatch&) const = default;

  std::int64_t n() const { return T * K; }
  /// Rows that are real.
  std::int64_t real_rows() const;
};

/// The batch in memory, off the natural alignment by one element; columns past K and the entry in front hold
/// ids that would be noticed if they were read.
class IdStorage {
 public:
  explicit IdStorage(const IdBatch& batch);
  IdStorage(const IdStorage&) = delete;
  IdStorage& operator=(const IdStorage&) = delete;
  IdMatrix matrix() const { return matrix_; }
  NumTokens num_tokens() const;

 private:
  std::vector<std::int32_t> ids32_;
  std::vector<std::int64_t> ids64_;
  IdMatrix matrix_;
  NumTokens::Kind kind_;
  std::int32_t num_tokens_;
};

/// Ids in and around `[0, E)` in one of many patterns. `size` in [0, 100] bounds the slots, up to
/// `most_slots`. `accepted` is what the backend declares to take.
IdBatch draw_ids(Draw& draw, int size, std::int64_t E, contract::AcceptedIds accepted,
                 std::int64_t most_slots = 20'000);
/// `[T]` adapter indices around `[0, L)` with tokens that have none.
std::vector<std::int32_t> draw_mapping(Draw& draw, std::int64_t T, std::int32_t L);
/// Expert counts: 1, small, primes, powers of two, those of real models, and their neighbours.
std::int32_t draw_experts(Draw& draw, std::int32_t most);
std::int32_t draw_adapters(Draw& draw);
/// Any value in [1, 256], made smaller until the capacity for (n, V) stays within `kMostCapacity`.
std::int32_t draw_block_size(Draw& draw, std::int64_t n, std::int64_t V);
inline constexpr std::int64_t kMostCapacity = 300'000;

/// Removes token rows [begin, end).
void erase_tokens(IdBatch& batch, std::int64_t begin, std::int64_t end);
void erase_tokens(std::vector<std::int32_t>& per_token, std::int64_t begin, std::int64_t end);
/// Ranges worth removing: halves, quarters, ..., single tokens; the larger first.
std::vector<std::pair<std::int64_t, std::int64_t>> token_ranges(std::int64_t T);
/// Simpler batches with the same T: fewer columns, plain memory, no padding, simpler ids (valid ones towards
/// 0 when `E` allows, sentinels towards -1, invalid ones towards E).
Shrinks<IdBatch> simpler_ids(const IdBatch& batch, std::int64_t E);
/// Simpler mappings of the same length: all 0, towards 0 and -1.
Shrinks<std::vector<std::int32_t>> simpler_mapping(const std::vector<std::int32_t>& mapping, std::int32_t L);
/// The same batch in a smaller id space: valid ids to the nearest valid one, invalid ones to the first
/// invalid one.
void narrow_ids(IdBatch& batch, std::int64_t E, std::int64_t smaller);
void narrow_mapping(std::vector<std::int32_t>& mapping, std::int32_t L, std::int32_t smaller);
/// Simpler sizes: low, halves, two and one less.
std::vector<std::int64_t> towards(std::int64_t low, std::int64_t value);

void add_labels(const IdBatch& batch, std::int64_t E, Labels& labels);
void add_mapping_labels(const std::vector<std::int32_t>& mapping, std::int32_t L, Labels& labels);
/// "ids=[0 -1 | 3 2]" or a count when long.
std::string show_ids(const IdBatch& batch);
template <class Int>
std::string show_list(const std::vector<Int>& values, std::size_t most = 24);

nlohmann::json batch_json(const IdBatch& batch);
/// Throws `InvalidArgument` when shape and values do not fit together.
IdBatch batch_from_json(const nlohmann::json& json);

}  // namespace eplora::suite
