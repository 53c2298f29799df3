// SPDX-License-Identifier: Apache-2.0
// The problems and results of the integer half of the project: dispatch, remap, align, route. The same
// structs are used by the reference, by every backend and by the judges; whoever knows one knows all. A
// problem is a view - it owns nothing and its pointers live in the memory of whoever computes - a result owns
// host memory, and an output is where a backend writes. Letters are the contract's: T tokens, K experts per
// token, n = T*K slots (slot s = t*K + k), E experts, L adapters, V buckets, B block size.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace eplora {

enum class IdType : std::uint8_t { int32, int64 };
enum class NoAdapter : std::uint8_t { base_slot, sentinel };
enum class Sentinels : std::uint8_t { keep, drop };

std::string_view to_string(IdType type);
std::string_view to_string(NoAdapter policy);
std::string_view to_string(Sentinels policy);

/// A matrix of ids `[rows, cols]`, int32 or int64, unit column stride, `row_stride >= cols` elements between
/// rows. Only the element's alignment is assumed.
struct IdMatrix {
  const void* data = nullptr;
  IdType type = IdType::int32;
  std::int64_t rows = 0;
  std::int64_t cols = 1;
  std::int64_t row_stride = 1;

  std::int64_t size() const { return rows * cols; }
  /// Host memory only.
  std::int64_t at(std::int64_t row, std::int64_t col) const {
    const std::int64_t i = row * row_stride + col;
    return type == IdType::int32 ? static_cast<const std::int32_t*>(data)[i]
                                 : static_cast<const std::int64_t*>(data)[i];
  }
  /// A contiguous int32 matrix over existing memory.
  static IdMatrix of(std::span<const std::int32_t> ids, std::int64_t cols) {
    return {ids.data(), IdType::int32, static_cast<std::int64_t>(ids.size()) / cols, cols, cols};
  }
};

/// How many rows of a padded batch are real (contract, section 1): all of them, a host value in `[0, T]`, or
/// one int32 in the computing side's memory, read when the operation runs and clamped to `[0, T]`. The other
/// rows are sentinel rows: neither ids nor mapping are read there.
struct NumTokens {
  enum class Kind : std::uint8_t { all, value, pointer } kind = Kind::all;
  std::int32_t value = 0;
  const std::int32_t* pointer = nullptr;

  static NumTokens of(std::int32_t value) { return {Kind::value, value, nullptr}; }
  static NumTokens at(const std::int32_t* pointer) { return {Kind::pointer, 0, pointer}; }
  /// Real rows out of `T`; host memory only.
  std::int64_t resolve(std::int64_t T) const;
};

/// Global id -> local id on one EP rank (contract, section 3).
struct DispatchProblem {
  IdMatrix topk_ids;                    ///< `[T, K]` global ids
  std::int32_t num_experts = 0;         ///< E of the model
  std::span<const std::int32_t> table;  ///< local id or negative: `[E]`, or `[offsets[E]]` with replicas
  std::span<const std::int32_t>
      offsets;                   ///< empty, or `[E+1]`: replicas of e are table[offsets[e] .. offsets[e+1])
  std::int64_t slot_offset = 0;  ///< index of this problem's slot 0 in the batch all EP ranks share
  NumTokens num_tokens;
};
struct DispatchOutput {
  std::int32_t* local_ids = nullptr;  ///< `[T, K]` contiguous
};
struct DispatchResult {
  std::vector<std::int32_t> local_ids;
  bool operator==(const DispatchResult&) const = default;
};

/// (expert, adapter) -> virtual expert (contract, section 4).
struct RemapProblem {
  IdMatrix topk_ids;                                 ///< `[T, K]`; after dispatch these are local ids
  std::span<const std::int32_t> token_lora_mapping;  ///< `[T]`, adapter index or negative
  std::int32_t num_experts = 0;                      ///< E of the ids at hand (after dispatch: E_local)
  std::int32_t max_loras = 0;                        ///< L
  bool shared_outer = false;                         ///< virtual id is the adapter alone
  NoAdapter no_adapter = NoAdapter::base_slot;
  NumTokens num_tokens;
};
struct RemapOutput {
  std::int32_t* virtual_ids = nullptr;      ///< `[T, K]` contiguous
  std::uint8_t* token_lora_mask = nullptr;  ///< `[T]`
};
struct RemapResult {
  std::vector<std::int32_t> virtual_ids;
  std::vector<std::uint8_t> token_lora_mask;
  bool operator==(const RemapResult&) const = default;
};

/// Ids -> blocks (contract, section 5).
struct AlignProblem {
  IdMatrix ids;                  ///< n ids as `[T, K]`; slot s = t*K + k
  std::int32_t num_buckets = 0;  ///< V
  std::int32_t block_size = 1;   ///< B
  Sentinels sentinels = Sentinels::keep;
  NumTokens num_tokens;
};
struct AlignOutput {
  std::int32_t* sorted_token_ids = nullptr;        ///< `[capacity]`
  std::int32_t* expert_ids = nullptr;              ///< `[capacity / B]`
  std::int32_t* num_tokens_post_padded = nullptr;  ///< `[1]`
};
struct AlignResult {
  std::vector<std::int32_t> sorted_token_ids;
  std::vector<std::int32_t> expert_ids;
  std::int32_t num_tokens_post_padded = 0;
  bool operator==(const AlignResult&) const = default;
};

/// dispatch, remap and align in one step (contract, section 5). With an empty `table` ids are local already
/// (`num_local_experts` is their E, `num_experts` is not read).
struct RouteProblem {
  IdMatrix topk_ids;                                 ///< `[T, K]` global ids
  std::span<const std::int32_t> token_lora_mapping;  ///< `[T]`
  std::int32_t num_experts = 0;                      ///< E of the model
  std::span<const std::int32_t> table;               ///< as in DispatchProblem; empty = no dispatch
  std::span<const std::int32_t> offsets;             ///< as in DispatchProblem
  std::int64_t slot_offset = 0;
  std::int32_t num_local_experts = 0;  ///< E_local
  std::int32_t max_loras = 0;          ///< L
  bool shared_outer = false;
  NoAdapter no_adapter = NoAdapter::base_slot;
  std::int32_t block_size = 1;  ///< B
  Sentinels sentinels = Sentinels::keep;
  NumTokens num_tokens;

  /// V: `num_local_experts * max_loras`, shared-outer `max_loras`.
  std::int64_t num_buckets() const {
    return shared_outer ? max_loras : std::int64_t{num_local_experts} * max_loras;
  }
};
struct RouteOutput {
  AlignOutput blocks;
  std::uint8_t* token_lora_mask = nullptr;  ///< `[T]`
};
struct RouteResult {
  AlignResult blocks;
  std::vector<std::uint8_t> token_lora_mask;
  bool operator==(const RouteResult&) const = default;
};

/// Length of `sorted_token_ids` that align may need for `n` slots (contract, section 5): reached by some
/// input, exceeded by none. The one function that producers and consumers call. Throws when the result
/// exceeds 2^31-1.
std::int64_t align_capacity(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels sentinels);

/// Shapes, sizes, strides, null pointers, policies (contract, section 8). Host-side checks only: values in
/// the arrays are data and never errors; arrays that live on a device are not read. Throws `InvalidArgument`.
void validate(const DispatchProblem& problem);
void validate(const RemapProblem& problem);
void validate(const AlignProblem& problem);
void validate(const RouteProblem& problem);

/// The one check that reads an array (host memory): `offsets` start at 0, give every expert at least one
/// replica and end inside `table`. `Placement::dispatch_table` always passes it.
void validate_replica_offsets(std::span<const std::int32_t> table, std::span<const std::int32_t> offsets);

}  // namespace eplora
