// SPDX-License-Identifier: Apache-2.0
#include "reference/routing/problem.h"

#include <algorithm>
#include <string>

#include "reference/check.h"

namespace eplora {
namespace {

void validate_ids(std::string_view name, const IdMatrix& ids) {
  const std::string prefix(name);
  if (ids.type != IdType::int32 && ids.type != IdType::int64)
    reject(prefix + " dtype", std::to_string(static_cast<int>(ids.type)), "it must be int32 or int64");
  require_in_range(prefix + " rows (T)", ids.rows, 0, kMaxIndex);
  require_in_range(prefix + " columns (K)", ids.cols, 1, kMaxIndex);
  if (ids.row_stride < ids.cols)
    reject(prefix + " row stride", std::to_string(ids.row_stride),
           "it must be at least the number of columns, K=" + std::to_string(ids.cols));
  require_index_range(prefix + " slots", saturating_product(ids.rows, ids.cols),
                      "T=" + std::to_string(ids.rows) + " * K=" + std::to_string(ids.cols));
  require_pointer(name, ids.data, ids.size());
}

void validate_num_tokens(const NumTokens& num_tokens, std::int64_t T) {
  if (num_tokens.kind == NumTokens::Kind::value) require_in_range("num_tokens", num_tokens.value, 0, T);
  if (num_tokens.kind == NumTokens::Kind::pointer) require_pointer("num_tokens", num_tokens.pointer, 1);
}

void validate_mapping(std::span<const std::int32_t> mapping, std::int64_t T) {
  if (static_cast<std::int64_t>(mapping.size()) != T)
    reject("token_lora_mapping length", std::to_string(mapping.size()),
           "it must have one entry per token, T=" + std::to_string(T));
}

void validate_buckets(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels sentinels) {
  require_in_range("block_size (B)", B, 1, kMaxIndex);
  require_in_range("num_buckets (V)", V, 0, kMaxIndex);
  require_index_range("num_buckets + 1", V + 1, "V=" + std::to_string(V));
  align_capacity(n, V, B, sentinels);
}

void validate_virtual_ids(std::int64_t E, std::int64_t L) {
  require_in_range("num_experts (E)", E, 0, kMaxIndex);
  require_in_range("max_loras (L)", L, 0, kMaxIndex);
  require_index_range("virtual experts", saturating_product(E, L),
                      "E=" + std::to_string(E) + " * L=" + std::to_string(L));
}

/// The table's shape is checked here; its entries, on a device perhaps, are data.
void validate_table(std::int64_t num_experts, std::span<const std::int32_t> table,
                    std::span<const std::int32_t> offsets, std::int64_t slot_offset) {
  require_in_range("num_experts (E)", num_experts, 0, kMaxIndex);
  require_in_range("slot_offset", slot_offset, 0, std::int64_t{1} << 62);
  if (offsets.empty()) {
    if (static_cast<std::int64_t>(table.size()) != num_experts)
      reject("dispatch table length", std::to_string(table.size()),
             "it must have one entry per expert, E=" + std::to_string(num_experts));
    return;
  }
  if (static_cast<std::int64_t>(offsets.size()) != num_experts + 1)
    reject("dispatch offsets length", std::to_string(offsets.size()),
           "it must be E + 1 = " + std::to_string(num_experts + 1));
  if (static_cast<std::int64_t>(table.size()) < num_experts)
    reject("dispatch table length", std::to_string(table.size()),
           "with replicas it must hold at least one entry per expert, E=" + std::to_string(num_experts));
}

}  // namespace

std::string_view to_string(IdType type) { return type == IdType::int32 ? "int32" : "int64"; }
std::string_view to_string(NoAdapter policy) {
  return policy == NoAdapter::base_slot ? "base_slot" : "sentinel";
}
std::string_view to_string(Sentinels policy) { return policy == Sentinels::keep ? "keep" : "drop"; }

std::int64_t NumTokens::resolve(std::int64_t T) const {
  switch (kind) {
    case Kind::all:
      return T;
    case Kind::value:
      return value;
    case Kind::pointer:
      return std::clamp<std::int64_t>(*pointer, 0, T);
  }
  return T;
}

std::int64_t align_capacity(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels sentinels) {
  require_in_range("slots (n)", n, 0, kMaxIndex);
  require_in_range("num_buckets (V)", V, 0, kMaxIndex);
  require_in_range("block_size (B)", B, 1, kMaxIndex);
  if (sentinels == Sentinels::drop && V == 0) return 0;
  const std::int64_t buckets = std::min(n, sentinels == Sentinels::keep ? V + 1 : V);
  // n, buckets and B are below 2^31, so the sum is below 2^62 + 2^31.
  const std::int64_t capacity = (n + buckets * (B - 1)) / B * B;
  require_index_range("capacity", capacity,
                      "n=" + std::to_string(n) + ", V=" + std::to_string(V) + ", B=" + std::to_string(B) +
                          ", sentinels=" + std::string(to_string(sentinels)));
  return capacity;
}

void validate(const DispatchProblem& problem) {
  validate_ids("topk_ids", problem.topk_ids);
  validate_table(problem.num_experts, problem.table, problem.offsets, problem.slot_offset);
  validate_num_tokens(problem.num_tokens, problem.topk_ids.rows);
}

void validate(const RemapProblem& problem) {
  validate_ids("topk_ids", problem.topk_ids);
  validate_mapping(problem.token_lora_mapping, problem.topk_ids.rows);
  validate_virtual_ids(problem.num_experts, problem.max_loras);
  validate_num_tokens(problem.num_tokens, problem.topk_ids.rows);
}

void validate(const AlignProblem& problem) {
  validate_ids("ids", problem.ids);
  validate_buckets(problem.ids.size(), problem.num_buckets, problem.block_size, problem.sentinels);
  validate_num_tokens(problem.num_tokens, problem.ids.rows);
}

void validate(const RouteProblem& problem) {
  validate_ids("topk_ids", problem.topk_ids);
  validate_mapping(problem.token_lora_mapping, problem.topk_ids.rows);
  if (!problem.table.empty() || !problem.offsets.empty())
    validate_table(problem.num_experts, problem.table, problem.offsets, problem.slot_offset);
  validate_virtual_ids(problem.num_local_experts, problem.max_loras);
  validate_buckets(problem.topk_ids.size(), problem.num_buckets(), problem.block_size, problem.sentinels);
  validate_num_tokens(problem.num_tokens, problem.topk_ids.rows);
}

void validate_replica_offsets(std::span<const std::int32_t> table, std::span<const std::int32_t> offsets) {
  if (offsets.empty()) return;
  require_in_range("dispatch offsets[0]", offsets[0], 0, 0);
  for (std::size_t e = 1; e < offsets.size(); ++e)
    require_in_range("dispatch offsets[" + std::to_string(e) + "]", offsets[e],
                     std::int64_t{offsets[e - 1]} + 1, static_cast<std::int64_t>(table.size()));
}

}  // namespace eplora
