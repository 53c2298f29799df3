// SPDX-License-Identifier: Apache-2.0
// What both CUDA backends share: dispatch and remap as single kernels, slicing in one launch (cuda_slice.h).
#pragma once

#include "optimized/backend.h"
#include "optimized/cuda/cuda_slice.h"

namespace eplora::cuda {

class StepBackend : public Backend {
 public:
  MemorySpace memory_space() const override { return MemorySpace::cuda; }

  using Backend::workspace_bytes;
  std::size_t workspace_bytes(const SliceProblem& problem) const override {
    return slice_workspace_bytes(problem);
  }
  void dispatch(const DispatchProblem& problem, const DispatchOutput& output,
                const ExecutionContext& context) override;
  void remap(const RemapProblem& problem, const RemapOutput& output,
             const ExecutionContext& context) override;
  void slice(const SliceProblem& problem, const BufferView& buffers,
             const ExecutionContext& context) override;
};

}  // namespace eplora::cuda
