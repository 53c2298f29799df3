// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "optimized/backend.h"
#include "optimized/validate_outputs.h"
#include "reference/lora/slice.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"
#include "reference/routing/route.h"

namespace eplora {
namespace {

void copy_out(const AlignResult& result, const AlignOutput& output) {
  validate_outputs(output, static_cast<std::int64_t>(result.sorted_token_ids.size()));
  std::ranges::copy(result.sorted_token_ids, output.sorted_token_ids);
  std::ranges::copy(result.expert_ids, output.expert_ids);
  *output.num_tokens_post_padded = result.num_tokens_post_padded;
}

}  // namespace

void ReferenceBackend::dispatch(const DispatchProblem& problem, const DispatchOutput& output,
                                const ExecutionContext&) {
  const DispatchResult result = reference::dispatch(problem);
  validate_outputs(problem, output);
  std::ranges::copy(result.local_ids, output.local_ids);
}

void ReferenceBackend::remap(const RemapProblem& problem, const RemapOutput& output,
                             const ExecutionContext&) {
  const RemapResult result = reference::remap(problem);
  validate_outputs(problem, output);
  std::ranges::copy(result.virtual_ids, output.virtual_ids);
  std::ranges::copy(result.token_lora_mask, output.token_lora_mask);
}

void ReferenceBackend::align(const AlignProblem& problem, const AlignOutput& output,
                             const ExecutionContext&) {
  copy_out(reference::align(problem), output);
}

void ReferenceBackend::route(const RouteProblem& problem, const RouteOutput& output,
                             const ExecutionContext&) {
  const RouteResult result = reference::route(problem);
  validate_outputs(problem, output, static_cast<std::int64_t>(result.blocks.sorted_token_ids.size()));
  copy_out(result.blocks, output.blocks);
  std::ranges::copy(result.token_lora_mask, output.token_lora_mask);
}

void ReferenceBackend::slice(const SliceProblem& problem, const BufferView& buffers,
                             const ExecutionContext&) {
  reference::slice(problem, buffers);
}

void ReferenceBackend::delta(const DeltaProblem& problem, const DeltaOutput& output,
                             const ExecutionContext&) {
  reference::delta(problem, output);
}

}  // namespace eplora
