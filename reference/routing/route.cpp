// SPDX-License-Identifier: Apache-2.0
#include "reference/routing/route.h"

#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"

namespace eplora::reference {

RouteResult route(const RouteProblem& problem) {
  validate(problem);
  DispatchResult dispatched;
  IdMatrix local_ids = problem.topk_ids;
  if (!problem.table.empty() || !problem.offsets.empty()) {
    dispatched = dispatch({problem.topk_ids, problem.num_experts, problem.table, problem.offsets,
                           problem.slot_offset, problem.num_tokens});
    local_ids = IdMatrix::of(dispatched.local_ids, problem.topk_ids.cols);
  }
  RemapResult remapped =
      remap({local_ids, problem.token_lora_mapping, problem.num_local_experts, problem.max_loras,
             problem.shared_outer, problem.no_adapter, problem.num_tokens});
  RouteResult result;
  result.blocks = align({IdMatrix::of(remapped.virtual_ids, problem.topk_ids.cols),
                         static_cast<std::int32_t>(problem.num_buckets()), problem.block_size,
                         problem.sentinels, problem.num_tokens});
  result.token_lora_mask = std::move(remapped.token_lora_mask);
  return result;
}

}  // namespace eplora::reference
