// SPDX-License-Identifier: Apache-2.0
#include "optimized/thrust/thrust_cuda_backend.h"

#include <thrust/system/cuda/execution_policy.h>
#include <thrust/version.h>

#include <cstddef>
#include <string>

#include "optimized/cuda/arguments.h"
#include "optimized/cuda/check.h"
#include "optimized/thrust/routing.h"
#include "optimized/thrust/slicing.h"
#include "optimized/validate_outputs.h"

namespace eplora {
namespace {

/// Stream-ordered device memory in the form that Thrust asks of an allocator.
struct StreamMemory {
  using value_type = std::byte;
  cudaStream_t stream;

  std::byte* allocate(std::ptrdiff_t bytes) {
    void* memory = nullptr;
    EPLORA_CUDA_CHECK(cudaMallocAsync(&memory, bytes > 0 ? static_cast<std::size_t>(bytes) : 1, stream));
    return static_cast<std::byte*>(memory);
  }
  void deallocate(std::byte* memory, std::size_t) {
    if (cudaFreeAsync(memory, stream) != cudaSuccess) cudaGetLastError();  // also runs in destructors
  }
};

/// Runs `run(policy)` on the context's stream; Thrust's own errors leave as `CudaError` does, with the
/// operation's name.
template <class Run>
void with_policy(const char* operation, const ExecutionContext& context, const Run& run) {
  StreamMemory memory{static_cast<cudaStream_t>(context.stream)};
  try {
    run(thrust::cuda::par_nosync(memory).on(memory.stream));
  } catch (const thrust::system_error& error) {
    throw cuda::CudaError(static_cast<cudaError_t>(error.code().value()), operation, __FILE__, __LINE__);
  }
  EPLORA_CUDA_CHECK(cudaGetLastError());
}

class ThrustCudaBackend final : public Backend {
 public:
  ThrustCudaBackend() { EPLORA_CUDA_CHECK(cudaFree(nullptr)); }

  std::string_view name() const override { return "thrust-cuda"; }
  std::string_view description() const override { return description_; }
  MemorySpace memory_space() const override { return MemorySpace::cuda; }

  using Backend::workspace_bytes;
  /// The rank's expert ids on the device.
  std::size_t workspace_bytes(const SliceProblem& problem) const override {
    return problem.local_experts.size() * sizeof(std::int32_t);
  }

  void dispatch(const DispatchProblem& problem, const DispatchOutput& output,
                const ExecutionContext& context) override {
    validate(problem);
    validate_outputs(problem, output);
    with_policy("thrust dispatch", context,
                [&](const auto& policy) { on_thrust::dispatch(policy, problem, output); });
  }

  void remap(const RemapProblem& problem, const RemapOutput& output,
             const ExecutionContext& context) override {
    validate(problem);
    validate_outputs(problem, output);
    with_policy("thrust remap", context,
                [&](const auto& policy) { on_thrust::remap(policy, problem, output); });
  }

  void align(const AlignProblem& problem, const AlignOutput& output,
             const ExecutionContext& context) override {
    validate(problem);
    const std::int64_t capacity =
        align_capacity(problem.ids.size(), problem.num_buckets, problem.block_size, problem.sentinels);
    validate_outputs(output, capacity);
    with_policy("thrust align", context,
                [&](const auto& policy) { on_thrust::align(policy, problem, capacity, output); });
  }

  void route(const RouteProblem& problem, const RouteOutput& output,
             const ExecutionContext& context) override {
    validate(problem);
    const std::int64_t capacity =
        align_capacity(problem.topk_ids.size(), problem.num_buckets(), problem.block_size, problem.sentinels);
    validate_outputs(problem, output, capacity);
    with_policy("thrust route", context,
                [&](const auto& policy) { on_thrust::route(policy, problem, capacity, output); });
  }

  void slice(const SliceProblem& problem, const BufferView& buffers,
             const ExecutionContext& context) override {
    validate(problem);
    validate_outputs(problem, buffers);
    cuda::require_workspace(context, workspace_bytes(problem));
    auto* const experts = static_cast<std::int32_t*>(context.workspace);
    if (!problem.local_experts.empty())
      EPLORA_CUDA_CHECK(cudaMemcpyAsync(experts, problem.local_experts.data(), workspace_bytes(problem),
                                        cudaMemcpyHostToDevice, static_cast<cudaStream_t>(context.stream)));
    with_policy("thrust slice", context,
                [&](const auto& policy) { on_thrust::slice(policy, problem, experts, buffers); });
  }

 private:
  std::string description_ =
      "Thrust " + std::to_string(THRUST_MAJOR_VERSION) + "." + std::to_string(THRUST_MINOR_VERSION) + "." +
      std::to_string(THRUST_SUBMINOR_VERSION) + " on the GPU, the sources of thrust-host";
};

}  // namespace

std::unique_ptr<Backend> make_thrust_cuda_backend() { return std::make_unique<ThrustCudaBackend>(); }

}  // namespace eplora
