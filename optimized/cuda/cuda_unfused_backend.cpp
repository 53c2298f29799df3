// SPDX-License-Identifier: Apache-2.0
// Today's four launches in clean code, the in-project baseline. Workspace: virtual ids `[n]`, then
// kernels/align.h's.
#include "kernels/align.h"
#include "kernels/remap.h"
#include "optimized/cuda/arguments.h"
#include "optimized/cuda/check.h"
#include "optimized/cuda/cuda_backend.h"
#include "optimized/cuda/step_backend.h"
#include "optimized/validate_outputs.h"

namespace eplora {
namespace {

std::size_t align_bytes(const kernels::RouteArguments& a) {
  return kernels::align_workspace_bytes(a.num_slots, a.num_buckets);
}

std::size_t virtual_id_bytes(const kernels::RouteArguments& a) {
  return (sizeof(std::int32_t) * a.num_slots + 255) / 256 * 256;
}

class CudaUnfusedBackend final : public cuda::StepBackend {
 public:
  std::string_view name() const override { return "cuda-unfused"; }
  std::string_view description() const override {
    return "remap, count, scatter and sanitise as four CUDA launches, as engines do today";
  }

  using StepBackend::workspace_bytes;
  std::size_t workspace_bytes(const AlignProblem& problem) const override {
    return align_bytes(cuda::arguments_of(problem));
  }
  std::size_t workspace_bytes(const RouteProblem& problem) const override {
    const kernels::RouteArguments arguments = cuda::arguments_of(problem);
    return virtual_id_bytes(arguments) + align_bytes(arguments);
  }

  void align(const AlignProblem& problem, const AlignOutput& output,
             const ExecutionContext& context) override {
    kernels::RouteArguments arguments = cuda::arguments_of(problem);
    validate_outputs(output, arguments.capacity);
    cuda::set_outputs(arguments, output);
    cuda::require_workspace(context, align_bytes(arguments));
    three_launches(arguments, context.workspace, static_cast<cudaStream_t>(context.stream));
  }

  void route(const RouteProblem& problem, const RouteOutput& output,
             const ExecutionContext& context) override {
    kernels::RouteArguments arguments = cuda::arguments_of(problem);
    validate_outputs(problem, output, arguments.capacity);
    cuda::set_outputs(arguments, output.blocks);
    cuda::require_workspace(context, virtual_id_bytes(arguments) + align_bytes(arguments));
    const auto stream = static_cast<cudaStream_t>(context.stream);
    auto* virtual_ids = static_cast<std::int32_t*>(context.workspace);
    EPLORA_CUDA_CHECK(kernels::launch_remap(arguments.source, arguments.dispatch, arguments.remap,
                                            virtual_ids, output.token_lora_mask, stream));
    // From here on ids are virtual, contiguous, and sentinels past num_tokens.
    const auto V = static_cast<std::int32_t>(arguments.num_buckets);
    arguments.source = {virtual_ids,
                        false,
                        0,
                        arguments.source.num_rows,
                        arguments.source.cols,
                        nullptr,
                        arguments.source.num_rows};
    arguments.dispatch = {};
    arguments.remap = {nullptr, V, 1, false, 0, true};
    three_launches(arguments, static_cast<std::byte*>(context.workspace) + virtual_id_bytes(arguments),
                   stream);
  }

 private:
  static void three_launches(const kernels::RouteArguments& arguments, void* workspace, cudaStream_t stream) {
    EPLORA_CUDA_CHECK(kernels::launch_align_count(arguments, workspace, stream));
    EPLORA_CUDA_CHECK(kernels::launch_align_scatter(arguments, workspace, stream));
    EPLORA_CUDA_CHECK(kernels::launch_align_sanitise(arguments, stream));
  }
};

}  // namespace

std::unique_ptr<Backend> make_cuda_unfused_backend() { return std::make_unique<CudaUnfusedBackend>(); }

}  // namespace eplora
