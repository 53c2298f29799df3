// SPDX-License-Identifier: Apache-2.0
#include "optimized/cuda/cuda_backend.h"

#include "optimized/cuda/arguments.h"
#include "optimized/cuda/route_plan.h"
#include "optimized/cuda/step_backend.h"
#include "optimized/validate_outputs.h"

namespace eplora {
namespace {

class CudaBackend final : public cuda::StepBackend {
 public:
  std::string_view name() const override { return "cuda"; }
  std::string_view description() const override {
    return "dispatch, remap and align fused in one CUDA launch";
  }

  using StepBackend::workspace_bytes;
  std::size_t workspace_bytes(const AlignProblem& problem) const override {
    return plan(cuda::arguments_of(problem)).workspace_bytes;
  }
  std::size_t workspace_bytes(const RouteProblem& problem) const override {
    return plan(cuda::arguments_of(problem)).workspace_bytes;
  }

  void align(const AlignProblem& problem, const AlignOutput& output,
             const ExecutionContext& context) override {
    kernels::RouteArguments arguments = cuda::arguments_of(problem);
    validate_outputs(output, arguments.capacity);
    run(arguments, output, context);
  }

  void route(const RouteProblem& problem, const RouteOutput& output,
             const ExecutionContext& context) override {
    kernels::RouteArguments arguments = cuda::arguments_of(problem);
    validate_outputs(problem, output, arguments.capacity);
    arguments.token_lora_mask = output.token_lora_mask;
    run(arguments, output.blocks, context);
  }

 private:
  cuda::RoutePlan plan(const kernels::RouteArguments& arguments) const {
    return cuda::plan_route({arguments.num_slots, arguments.num_buckets, arguments.capacity}, device_);
  }

  void run(kernels::RouteArguments& arguments, const AlignOutput& output,
           const ExecutionContext& context) const {
    const cuda::RoutePlan chosen = plan(arguments);
    cuda::set_outputs(arguments, output);
    cuda::require_workspace(context, chosen.workspace_bytes);
    cuda::run_route(arguments, chosen, context.workspace, static_cast<cudaStream_t>(context.stream));
  }

  cuda::DeviceInfo device_ = cuda::DeviceInfo::current();
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend() { return std::make_unique<CudaBackend>(); }

}  // namespace eplora
