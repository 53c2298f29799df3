// SPDX-License-Identifier: Apache-2.0
// Policies are passed explicitly; the macro only keeps Thrust's headers from pulling in the CUDA runtime in
// this file.
#define THRUST_DEVICE_SYSTEM THRUST_DEVICE_SYSTEM_TBB

#include "optimized/thrust/thrust_host_backend.h"

#include <thrust/system/cpp/execution_policy.h>
#include <thrust/system/tbb/execution_policy.h>
#include <thrust/version.h>

#include <algorithm>

#include "optimized/thrust/routing.h"
#include "optimized/thrust/slicing.h"
#include "optimized/validate_outputs.h"

namespace eplora {
namespace {

template <class Run>
void with_policy(std::int64_t work, const Run& run) {
  if (work >= kThrustHostParallelFrom)
    run(thrust::tbb::par);
  else
    run(thrust::cpp::par);
}

class ThrustHostBackend final : public Backend {
 public:
  ThrustHostBackend()
      : description_("Thrust " + std::to_string(THRUST_MAJOR_VERSION) + "." +
                     std::to_string(THRUST_MINOR_VERSION) + "." + std::to_string(THRUST_SUBMINOR_VERSION) +
                     " on TBB, from the " + thrust_host_origin()) {}

  std::string_view name() const override { return "thrust-host"; }
  std::string_view description() const override { return description_; }

  void dispatch(const DispatchProblem& problem, const DispatchOutput& output,
                const ExecutionContext&) override {
    validate(problem);
    validate_replica_offsets(problem.table, problem.offsets);
    validate_outputs(problem, output);
    with_policy(problem.topk_ids.size(),
                [&](const auto& policy) { on_thrust::dispatch(policy, problem, output); });
  }

  void remap(const RemapProblem& problem, const RemapOutput& output, const ExecutionContext&) override {
    validate(problem);
    validate_outputs(problem, output);
    with_policy(problem.topk_ids.size(),
                [&](const auto& policy) { on_thrust::remap(policy, problem, output); });
  }

  void align(const AlignProblem& problem, const AlignOutput& output, const ExecutionContext&) override {
    validate(problem);
    const std::int64_t n = problem.ids.size(), V = problem.num_buckets;
    const std::int64_t capacity = align_capacity(n, V, problem.block_size, problem.sentinels);
    validate_outputs(output, capacity);
    with_policy(n + V, [&](const auto& policy) { on_thrust::align(policy, problem, capacity, output); });
  }

  void route(const RouteProblem& problem, const RouteOutput& output, const ExecutionContext&) override {
    validate(problem);
    validate_replica_offsets(problem.table, problem.offsets);
    const std::int64_t n = problem.topk_ids.size(), V = problem.num_buckets();
    const std::int64_t capacity = align_capacity(n, V, problem.block_size, problem.sentinels);
    validate_outputs(problem, output, capacity);
    with_policy(n + V, [&](const auto& policy) { on_thrust::route(policy, problem, capacity, output); });
  }

  void slice(const SliceProblem& problem, const BufferView& buffers, const ExecutionContext&) override {
    validate(problem);
    validate_outputs(problem, buffers);
    std::int64_t largest = 0;
    for (BufferTensor tensor : kBufferTensors)
      largest = std::max(largest, problem.shape->slot_elements(tensor));
    with_policy(largest, [&](const auto& policy) {
      on_thrust::slice(policy, problem, problem.local_experts.data(), buffers);
    });
  }

 private:
  std::string description_;
};

}  // namespace

std::unique_ptr<Backend> make_thrust_host_backend() { return std::make_unique<ThrustHostBackend>(); }

int thrust_host_version() { return THRUST_VERSION; }

std::string thrust_host_origin() { return EPLORA_THRUST_ORIGIN; }

}  // namespace eplora
