// SPDX-License-Identifier: Apache-2.0
// What both CUDA backends share: dispatch and remap as single kernels.
#pragma once

#include "optimized/backend.h"

namespace eplora::cuda {

class StepBackend : public Backend {
 public:
  MemorySpace memory_space() const override { return MemorySpace::cuda; }
  bool supports(Operation operation) const override { return operation != Operation::slice; }

  using Backend::workspace_bytes;
  void dispatch(const DispatchProblem& problem, const DispatchOutput& output,
                const ExecutionContext& context) override;
  void remap(const RemapProblem& problem, const RemapOutput& output,
             const ExecutionContext& context) override;
  /// Throws `InvalidArgument`: these backends do not slice.
  void slice(const SliceProblem& problem, const BufferView& buffers,
             const ExecutionContext& context) override;
};

}  // namespace eplora::cuda
