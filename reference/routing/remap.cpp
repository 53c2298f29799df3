// SPDX-License-Identifier: Apache-2.0
#include "reference/routing/remap.h"

#include <limits>

namespace eplora::reference {
namespace {

constexpr std::int32_t kSentinel = -1;

std::int32_t virtual_id(const RemapProblem& problem, std::int64_t e, std::int64_t l) {
  if (e < std::numeric_limits<std::int32_t>::min()) return kSentinel;  // no int32 can hold it
  if (e < 0) return static_cast<std::int32_t>(e);
  if (e >= problem.num_experts || l >= problem.max_loras) return kSentinel;
  if (l >= 0) return static_cast<std::int32_t>(problem.shared_outer ? l : e + l * problem.num_experts);
  // A token without adapter: by default it rides in adapter 0's bucket and the consumer masks the add.
  if (problem.no_adapter == NoAdapter::sentinel || problem.max_loras == 0) return kSentinel;
  return problem.shared_outer ? 0 : static_cast<std::int32_t>(e);
}

}  // namespace

RemapResult remap(const RemapProblem& problem) {
  validate(problem);
  const IdMatrix& ids = problem.topk_ids;
  const std::int64_t num_tokens = problem.num_tokens.resolve(ids.rows);
  RemapResult result{std::vector<std::int32_t>(ids.size(), kSentinel),
                     std::vector<std::uint8_t>(ids.rows, 0)};
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    const std::int32_t l = problem.token_lora_mapping[t];
    result.token_lora_mask[t] = 0 <= l && l < problem.max_loras;
    for (std::int64_t k = 0; k < ids.cols; ++k)
      result.virtual_ids[t * ids.cols + k] = virtual_id(problem, ids.at(t, k), l);
  }
  return result;
}

}  // namespace eplora::reference
