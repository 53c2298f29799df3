// SPDX-License-Identifier: Apache-2.0
// What a launch function does before a launch whose shared memory is decided at run time.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>

namespace eplora::kernels {

/// Lets launches of `kernel` use all the shared memory that a block of the current device can have. The limit
/// belongs to the kernel, not to the launch: setting it to what one launch needs would take it from another
/// thread's launch that needs more and comes next.
template <auto kKernel>
cudaError_t allow_shared_memory() {
  static std::atomic<std::uint64_t> allowed{0};  // a bit a device
  int device = 0, bytes = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  const std::uint64_t bit = std::uint64_t{1} << (device & 63);
  if ((allowed.load(std::memory_order_acquire) & bit) != 0 && device < 64) return cudaSuccess;
  cudaFuncAttributes attributes{};
  error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kKernel));
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess)
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kKernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 bytes - static_cast<int>(attributes.sharedSizeBytes));
  if (error == cudaSuccess) allowed.fetch_or(bit, std::memory_order_release);
  return error;
}

}  // namespace eplora::kernels
