// SPDX-License-Identifier: Apache-2.0
#include "optimized/cuda/step_backend.h"

#include "kernels/dispatch.h"
#include "kernels/remap.h"
#include "optimized/cuda/arguments.h"
#include "optimized/cuda/check.h"
#include "optimized/cuda/cuda_backend.h"
#include "optimized/validate_outputs.h"

namespace eplora {

std::string cuda_unavailable() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return std::string("no usable CUDA device: ") + cudaGetErrorString(error);
  }
  return count > 0 ? std::string() : "no CUDA device";
}

namespace cuda {

void StepBackend::dispatch(const DispatchProblem& problem, const DispatchOutput& output,
                           const ExecutionContext& context) {
  validate(problem);
  validate_outputs(problem, output);
  EPLORA_CUDA_CHECK(kernels::launch_dispatch(
      id_source(problem.topk_ids, problem.num_tokens),
      dispatch_table(problem.table, problem.offsets, problem.num_experts, problem.slot_offset),
      output.local_ids, static_cast<cudaStream_t>(context.stream)));
}

void StepBackend::remap(const RemapProblem& problem, const RemapOutput& output,
                        const ExecutionContext& context) {
  validate(problem);
  validate_outputs(problem, output);
  EPLORA_CUDA_CHECK(kernels::launch_remap(id_source(problem.topk_ids, problem.num_tokens), {},
                                          remap_rule(problem), output.virtual_ids, output.token_lora_mask,
                                          static_cast<cudaStream_t>(context.stream)));
}

void StepBackend::slice(const SliceProblem& problem, const BufferView& buffers,
                        const ExecutionContext& context) {
  cuda::slice(problem, buffers, context);
}

}  // namespace cuda
}  // namespace eplora
