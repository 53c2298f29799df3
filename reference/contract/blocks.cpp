// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/blocks.h"

#include <vector>

#include "reference/contract/blocks_reading.h"
#include "reference/contract/ids.h"

namespace eplora::contract {
namespace {

Verdict judge_all(const BlockReading& reading, const AlignResult& result, std::int64_t reported_capacity,
                  const Form& form) {
  if (auto bad = judge_bounds(reading, result, reported_capacity, form)) return bad;
  if (auto bad = judge_labels(reading, result, form)) return bad;
  if (auto bad = judge_partition(reading, result)) return bad;
  if (auto bad = judge_order(reading, result, form)) return bad;
  return judge_filler(reading, result, form);
}

/// `shared_outer_sentinels = routed`: the adapter's bucket whatever the expert.
std::int64_t routed_bucket(const RemapProblem& problem, std::int64_t slot) {
  const std::int64_t t = slot / problem.topk_ids.cols;
  if (t >= problem.num_tokens.resolve(problem.topk_ids.rows)) return -1;
  const std::int64_t l = problem.token_lora_mapping[t], L = problem.max_loras;
  if (l >= 0) return l < L ? l : -1;
  return L > 0 && problem.no_adapter == NoAdapter::base_slot ? 0 : -1;
}

bool asked(const AlignProblem& problem, const Form& form) {
  return within_declared_ids(problem.ids, problem.num_tokens, problem.num_buckets, form);
}

}  // namespace

Verdict p3_partition(const AlignProblem& problem, const AlignResult& result, const Form& form) {
  if (!asked(problem, form)) return std::nullopt;
  const BlockReading reading(problem, form);
  if (auto bad = unreadable("P3", reading, result)) return bad;
  if (auto bad = judge_partition(reading, result)) return bad;
  return judge_order(reading, result, form);
}

Verdict p4_filler(const AlignProblem& problem, const AlignResult& result, const Form& form) {
  if (!asked(problem, form)) return std::nullopt;
  const BlockReading reading(problem, form);
  if (auto bad = unreadable("P4", reading, result)) return bad;
  return judge_filler(reading, result, form);
}

Verdict p5_bounds(const AlignProblem& problem, const AlignResult& result, std::int64_t reported_capacity,
                  const Form& form) {
  if (!asked(problem, form)) return std::nullopt;
  return judge_bounds(BlockReading(problem, form), result, reported_capacity, form);
}

Verdict p6_labels(const AlignProblem& problem, const AlignResult& result, const Form& form) {
  if (!asked(problem, form)) return std::nullopt;
  const BlockReading reading(problem, form);
  if (auto bad = unreadable("P6", reading, result)) return bad;
  return judge_labels(reading, result, form);
}

Verdict judge_blocks(const AlignProblem& problem, const AlignResult& result, std::int64_t reported_capacity,
                     const Form& form) {
  if (!asked(problem, form)) return std::nullopt;
  return judge_all(BlockReading(problem, form), result, reported_capacity, form);
}

Verdict judge_route(const RouteProblem& problem, const RouteResult& result, std::int64_t reported_capacity,
                    const Form& form) {
  const IdMatrix& ids = problem.topk_ids;
  const std::int64_t n = ids.size();
  // Section 3, then section 4, slot by slot.
  std::vector<std::int32_t> local_ids, virtual_ids(n);
  RemapProblem remap{ids,
                     problem.token_lora_mapping,
                     problem.num_local_experts,
                     problem.max_loras,
                     problem.shared_outer,
                     problem.no_adapter,
                     problem.num_tokens};
  if (!problem.table.empty() || !problem.offsets.empty()) {
    const DispatchProblem dispatch{
        ids, problem.num_experts, problem.table, problem.offsets, problem.slot_offset, problem.num_tokens};
    local_ids.resize(n);
    for (std::int64_t s = 0; s < n; ++s) local_ids[s] = static_cast<std::int32_t>(dispatched_id(dispatch, s));
    remap.topk_ids = IdMatrix::of(local_ids, ids.cols);
  }
  const bool routed = problem.shared_outer && form.shared_outer_sentinels == SharedOuterSentinels::routed;
  for (std::int64_t s = 0; s < n; ++s)
    virtual_ids[s] = static_cast<std::int32_t>(routed ? routed_bucket(remap, s) : remapped_id(remap, s));
  const AlignProblem align{IdMatrix::of(virtual_ids, ids.cols),
                           static_cast<std::int32_t>(problem.num_buckets()), problem.block_size,
                           problem.sentinels, problem.num_tokens};
  const BlockReading reading(align, form, problem.shared_outer ? 0 : problem.num_local_experts);
  if (auto bad = judge_all(reading, result.blocks, reported_capacity, form)) return bad;
  return judge_mask(remap, result.token_lora_mask);
}

}  // namespace eplora::contract
