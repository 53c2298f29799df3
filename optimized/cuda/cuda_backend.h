// SPDX-License-Identifier: Apache-2.0
// The backend `cuda`: dispatch, remap and align fused in one launch (kernels/route.h), and each of them
// alone. Problems, outputs, workspace live in device memory; `ExecutionContext::stream` is a cudaStream_t.
// Calls only enqueue: they do not allocate, synchronise or read device memory, and may be captured into CUDA
// graphs.
#pragma once

#include <memory>

#include "optimized/backend.h"

namespace eplora {

/// For the current device. Throws `cuda::CudaError` where there is none.
std::unique_ptr<Backend> make_cuda_backend();

/// The same steps as today's engines run them, four launches: remap (with dispatch), count and label,
/// scatter, sanitise. The outputs are the canonical bytes all the same.
std::unique_ptr<Backend> make_cuda_unfused_backend();

/// Why CUDA backends cannot run on this machine; empty = they can.
std::string cuda_unavailable();

}  // namespace eplora
