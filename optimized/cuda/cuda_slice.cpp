// SPDX-License-Identifier: Apache-2.0
#include "optimized/cuda/cuda_slice.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "optimized/cuda/arguments.h"
#include "optimized/cuda/check.h"
#include "optimized/validate_outputs.h"
#include "reference/check.h"

namespace eplora::cuda {
namespace {

/// Pinned host memory for tables on their way to the device. A buffer is free again once the copy out of it
/// is done; there are as many as copies were ever under way at once. Kept until the process ends.
class PinnedTables {
 public:
  void copy(void* to, const SlicePlan& plan, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    Buffer& buffer = free_buffer(plan.table_bytes());
    const std::size_t tensor_bytes = plan.tensors.size() * sizeof(kernels::SliceTensor);
    if (!plan.tensors.empty()) std::memcpy(buffer.memory, plan.tensors.data(), tensor_bytes);
    if (!plan.experts.empty())
      std::memcpy(buffer.memory + tensor_bytes, plan.experts.data(),
                  plan.experts.size() * sizeof(std::int32_t));
    EPLORA_CUDA_CHECK(cudaMemcpyAsync(to, buffer.memory, plan.table_bytes(), cudaMemcpyHostToDevice, stream));
    EPLORA_CUDA_CHECK(cudaEventRecord(buffer.copied, stream));
  }

 private:
  struct Buffer {
    std::byte* memory;
    std::size_t bytes;
    cudaEvent_t copied;
    int device;
  };

  Buffer& free_buffer(std::size_t bytes) {
    int device = 0;
    EPLORA_CUDA_CHECK(cudaGetDevice(&device));
    for (Buffer& buffer : buffers_)
      if (buffer.device == device && buffer.bytes >= bytes && cudaEventQuery(buffer.copied) == cudaSuccess)
        return buffer;
    Buffer buffer{nullptr, bytes, nullptr, device};
    EPLORA_CUDA_CHECK(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming));
    EPLORA_CUDA_CHECK(cudaMallocHost(reinterpret_cast<void**>(&buffer.memory), bytes));
    return buffers_.emplace_back(buffer);
  }

  std::mutex mutex_;
  std::vector<Buffer> buffers_;
};

kernels::SliceInlineTable inline_table(const SlicePlan& plan) {
  kernels::SliceInlineTable table{static_cast<std::uint32_t>(plan.tensors.size()), {}};
  const std::size_t tensor_bytes = plan.tensors.size() * sizeof(kernels::SliceTensor);
  if (!plan.tensors.empty()) std::memcpy(table.bytes, plan.tensors.data(), tensor_bytes);
  if (!plan.experts.empty())
    std::memcpy(table.bytes + tensor_bytes, plan.experts.data(), plan.experts.size() * sizeof(std::int32_t));
  return table;
}

}  // namespace

std::size_t slice_workspace_bytes(const SliceProblem& problem) {
  require_pointer("buffer shape", problem.shape, 1);
  const auto experts = static_cast<std::size_t>(std::max<std::int64_t>(problem.shape->local_experts, 1));
  const std::size_t bytes =
      problem.shape->layers.size() * kBufferTensors.size() * sizeof(kernels::SliceTensor) +
      experts * sizeof(std::int32_t);
  return bytes <= kernels::SliceInlineTable::kBytes ? 0 : bytes;
}

void slice(const SliceProblem& problem, const BufferView& buffers, const ExecutionContext& context) {
  validate(problem);
  validate_outputs(problem, buffers);
  const std::size_t workspace_bytes = slice_workspace_bytes(problem);
  require_workspace(context, workspace_bytes);
  const SlicePlan plan = plan_slice(problem, buffers);
  if (plan.tiles == 0) return;
  const auto stream = static_cast<cudaStream_t>(context.stream);
  if (workspace_bytes == 0) {
    EPLORA_CUDA_CHECK(kernels::launch_slice(inline_table(plan), plan.tiles, stream));
    return;
  }
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  EPLORA_CUDA_CHECK(cudaStreamIsCapturing(stream, &capturing));
  if (capturing != cudaStreamCaptureStatusNone)
    reject("stream", "being captured",
           "a slicing whose table of " + std::to_string(workspace_bytes) +
               " bytes exceeds the kernel parameters' " + std::to_string(kernels::SliceInlineTable::kBytes) +
               " cannot be captured");
  static auto* const pinned = new PinnedTables;  // outlives the CUDA context's end at exit
  pinned->copy(context.workspace, plan, stream);
  const auto* const tensors = static_cast<const kernels::SliceTensor*>(context.workspace);
  EPLORA_CUDA_CHECK(kernels::launch_slice(
      kernels::SliceTable{tensors, reinterpret_cast<const std::int32_t*>(tensors + plan.tensors.size()),
                          static_cast<std::uint32_t>(plan.tensors.size())},
      plan.tiles, stream));
}

}  // namespace eplora::cuda
