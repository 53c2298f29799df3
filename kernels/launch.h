// SPDX-License-Identifier: Apache-2.0
// What the launch functions share: shared memory that is decided at run time, and the kinds of launch.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>
#include <utility>

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

/// Since sm_90 a kernel may be launched while the one before it on the stream still runs, as soon as all
/// blocks of that one have allowed it or ended. `begin_call` (block.cuh) then waits until it has ended and
/// its writes can be seen. A kernel in front or behind that knows nothing of this is waited for, or waits, as
/// ever. Not for cooperative launches: blocks that wait here would hold multiprocessors that somebody's grid
/// barrier needs.
inline bool has_early_launch() {
  static std::atomic<std::uint64_t> known{0}, early{0};  // a bit a device
  int device = 0, major = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= 64) return false;
  const std::uint64_t bit = std::uint64_t{1} << device;
  if ((known.load(std::memory_order_acquire) & bit) == 0) {
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess)
      return false;
    if (major >= 9) early.fetch_or(bit, std::memory_order_relaxed);
    known.fetch_or(bit, std::memory_order_release);
  }
  return (early.load(std::memory_order_relaxed) & bit) != 0;
}

/// How big a launch is.
struct LaunchSize {
  std::uint32_t blocks, threads;
  std::size_t shared_bytes;
  cudaStream_t stream;
};

template <typename... Parameters, typename... Arguments>
cudaError_t launch_with(const LaunchSize& size, cudaLaunchAttribute* attribute, void (*kernel)(Parameters...),
                        Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(size.blocks);
  config.blockDim = dim3(size.threads);
  config.dynamicSmemBytes = size.shared_bytes;
  config.stream = size.stream;
  config.attrs = attribute;
  config.numAttrs = attribute != nullptr ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

/// A kernel that calls `begin_call`.
template <typename... Parameters, typename... Arguments>
cudaError_t launch_early(const LaunchSize& size, void (*kernel)(Parameters...), Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return launch_with(size, has_early_launch() ? &attribute : nullptr, kernel,
                     std::forward<Arguments>(arguments)...);
}

/// A kernel with a grid barrier: all blocks are resident at once.
template <typename... Parameters, typename... Arguments>
cudaError_t launch_cooperative(const LaunchSize& size, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  return launch_with(size, &attribute, kernel, std::forward<Arguments>(arguments)...);
}

/// A kernel with a cluster's barrier: all blocks are one cluster.
template <typename... Parameters, typename... Arguments>
cudaError_t launch_cluster(const LaunchSize& size, void (*kernel)(Parameters...), Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = size.blocks;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  return launch_with(size, &attribute, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace eplora::kernels
