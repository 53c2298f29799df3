// SPDX-License-Identifier: Apache-2.0
#include "reference/routing/dispatch.h"

#include <limits>

namespace eplora::reference {
namespace {

constexpr std::int32_t kSentinel = -1;

std::int32_t dispatch_id(const DispatchProblem& problem, std::int64_t id, std::int64_t slot) {
  if (id < std::numeric_limits<std::int32_t>::min()) return kSentinel;  // no int32 can hold it
  if (id < 0) return static_cast<std::int32_t>(id);
  if (id >= problem.num_experts) return kSentinel;  // tested before the table is read
  std::int64_t entry = id;
  if (!problem.offsets.empty()) {
    const std::int64_t replicas = problem.offsets[id + 1] - problem.offsets[id];
    entry = problem.offsets[id] + (problem.slot_offset + slot) % replicas;
  }
  const std::int32_t local_id = problem.table[entry];
  return local_id < 0 ? kSentinel : local_id;
}

}  // namespace

DispatchResult dispatch(const DispatchProblem& problem) {
  validate(problem);
  validate_replica_offsets(problem.table, problem.offsets);
  const IdMatrix& ids = problem.topk_ids;
  const std::int64_t num_tokens = problem.num_tokens.resolve(ids.rows);
  DispatchResult result{std::vector<std::int32_t>(ids.size(), kSentinel)};
  for (std::int64_t t = 0; t < num_tokens; ++t)
    for (std::int64_t k = 0; k < ids.cols; ++k) {
      const std::int64_t slot = t * ids.cols + k;
      result.local_ids[slot] = dispatch_id(problem, ids.at(t, k), slot);
    }
  return result;
}

}  // namespace eplora::reference
