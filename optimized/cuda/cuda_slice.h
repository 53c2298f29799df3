// SPDX-License-Identifier: Apache-2.0
// Slicing on the GPU, host side: from an adapter's views and a rank's buffers to the descriptors of
// kernels/slice.h, and the one launch that serves them all. Views that are one stretch of memory become one
// line, interlocked halves one half, and the widest unit that alignment and strides allow is chosen, tensor
// by tensor.
//
// A table that fits into the kernel's parameters travels there, and the call may be captured into a graph. A
// larger one (about 56 layers and more) goes through pinned host memory and the workspace, in stream order,
// without waiting for the device; such a call refuses to be captured, as a replay would find the pinned
// memory reused.
#pragma once

#include <vector>

#include "kernels/slice.h"
#include "optimized/backend.h"

namespace eplora::cuda {

struct SlicePlan {
  std::vector<kernels::SliceTensor> tensors;
  std::vector<std::int32_t> experts;  ///< `[max(E_local, 1)]`
  std::uint32_t tiles = 0;            ///< blocks of the launch; 0 = nothing to write

  std::size_t table_bytes() const;
};

/// Nothing is read or written through the problem's device pointers. The problem must be valid.
SlicePlan plan_slice(const SliceProblem& problem, const BufferView& buffers);

/// Of the problem's shapes alone (P17); 0 where the table fits into the parameters.
std::size_t slice_workspace_bytes(const SliceProblem& problem);

/// Validates, then enqueues one launch on the context's stream. `problem.local_experts` is host memory, the
/// adapter's data and the buffers are device memory. Throws `InvalidArgument`, `CudaError`.
void slice(const SliceProblem& problem, const BufferView& buffers, const ExecutionContext& context);

}  // namespace eplora::cuda
