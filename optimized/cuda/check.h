// SPDX-License-Identifier: Apache-2.0
// How CUDA errors leave this project: one exception whose sentence holds the call, the place, the error's
// name and text.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace eplora::cuda {

struct CudaError : std::runtime_error {
  CudaError(cudaError_t error, const char* call, const char* file, int line)
      : std::runtime_error(std::string(call) + " at " + file + ":" + std::to_string(line) +
                           " failed: " + cudaGetErrorName(error) + " (" + cudaGetErrorString(error) + ")"),
        code(error) {}
  cudaError_t code;
};

inline void check(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // a launch error that is not sticky must not be reported by the next call
  throw CudaError(error, call, file, line);
}

}  // namespace eplora::cuda

/// Throws `eplora::cuda::CudaError` unless `call` returns cudaSuccess. Kernel launches return theirs.
#define EPLORA_CUDA_CHECK(call) ::eplora::cuda::check((call), #call, __FILE__, __LINE__)
