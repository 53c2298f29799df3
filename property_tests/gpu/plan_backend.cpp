// SPDX-License-Identifier: Apache-2.0
#include "property_tests/gpu/plan_backend.h"

#include <regex>

#include "optimized/cuda/arguments.h"
#include "reference/check.h"

namespace eplora::gpu {
namespace {

class PlanBackend final : public Backend {
 public:
  explicit PlanBackend(const cuda::RoutePlan& plan)
      : plan_(plan), name_("cuda (" + cuda::to_string(plan) + ")") {}

  std::string_view name() const override { return name_; }
  std::string_view description() const override { return "one route kernel"; }
  MemorySpace memory_space() const override { return MemorySpace::cuda; }
  bool supports(Operation operation) const override {
    return operation == Operation::align || operation == Operation::route;
  }
  using Backend::workspace_bytes;
  std::size_t workspace_bytes(const AlignProblem&) const override { return plan_.workspace_bytes; }
  std::size_t workspace_bytes(const RouteProblem&) const override { return plan_.workspace_bytes; }

  void align(const AlignProblem& problem, const AlignOutput& output,
             const ExecutionContext& context) override {
    run(cuda::arguments_of(problem), output, context);
  }
  void route(const RouteProblem& problem, const RouteOutput& output,
             const ExecutionContext& context) override {
    kernels::RouteArguments arguments = cuda::arguments_of(problem);
    arguments.token_lora_mask = output.token_lora_mask;
    run(arguments, output.blocks, context);
  }
  void dispatch(const DispatchProblem&, const DispatchOutput&, const ExecutionContext&) override { refuse(); }
  void remap(const RemapProblem&, const RemapOutput&, const ExecutionContext&) override { refuse(); }
  void slice(const SliceProblem&, const BufferView&, const ExecutionContext&) override { refuse(); }

 private:
  [[noreturn]] static void refuse() { reject("operation", "not one of a plan's", "align or route"); }

  void run(kernels::RouteArguments arguments, const AlignOutput& output,
           const ExecutionContext& context) const {
    cuda::set_outputs(arguments, output);
    cuda::require_workspace(context, plan_.workspace_bytes);
    cuda::run_route(arguments, plan_, context.workspace, static_cast<cudaStream_t>(context.stream));
  }

  cuda::RoutePlan plan_;
  std::string name_;
};

}  // namespace

std::unique_ptr<Backend> make_plan_backend(const cuda::RoutePlan& plan) {
  return std::make_unique<PlanBackend>(plan);
}

cuda::RouteSize size_of(std::int64_t n, std::int64_t V, std::int64_t capacity) {
  return {static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(V), capacity};
}

std::string kind_of(const cuda::RoutePlan& plan) {
  static const std::regex kLoops(" (items|columns)=[0-9]+");
  const std::string text = cuda::to_string(plan);
  std::string kind(cuda::to_string(plan.tier));
  for (std::sregex_iterator at(text.begin(), text.end(), kLoops), end; at != end; ++at) kind += at->str();
  return kind;
}

}  // namespace eplora::gpu
