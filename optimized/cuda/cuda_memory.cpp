// SPDX-License-Identifier: Apache-2.0
#include "optimized/cuda/cuda_memory.h"

#include <cstdint>
#include <new>

#include "optimized/cuda/check.h"
#include "optimized/cuda/cuda_backend.h"

namespace eplora::cuda {
namespace {

class DeviceMemory final : public MemoryAccess {
 public:
  DeviceMemory() {
    if (const std::string reason = cuda_unavailable(); !reason.empty())
      throw BackendUnavailable("memory of the space 'cuda' cannot be reached: " + reason);
    int device = 0;
    cudaMemPool_t pool = nullptr;
    EPLORA_CUDA_CHECK(cudaGetDevice(&device));
    EPLORA_CUDA_CHECK(cudaDeviceGetDefaultMemPool(&pool, device));
    std::uint64_t keep_all = UINT64_MAX;
    EPLORA_CUDA_CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_all));
  }

  void* allocate(std::size_t bytes) override {
    void* memory = nullptr;
    const cudaError_t error = cudaMallocAsync(&memory, bytes == 0 ? 1 : bytes, nullptr);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw std::bad_alloc();
    }
    EPLORA_CUDA_CHECK(error);
    return memory;
  }

  void release(void* memory) noexcept override {
    if (cudaFreeAsync(memory, nullptr) != cudaSuccess)
      cudaGetLastError();  // the call that failed has said so
  }

  void copy_to(void* to, const void* host, std::size_t bytes) override {
    if (bytes > 0) EPLORA_CUDA_CHECK(cudaMemcpy(to, host, bytes, cudaMemcpyHostToDevice));
  }

  void copy_from(void* host, const void* from, std::size_t bytes) override {
    if (bytes > 0) EPLORA_CUDA_CHECK(cudaMemcpy(host, from, bytes, cudaMemcpyDeviceToHost));
  }

  void synchronize() override { EPLORA_CUDA_CHECK(cudaDeviceSynchronize()); }
};

}  // namespace

MemoryAccess& device_memory() {
  static DeviceMemory memory;
  return memory;
}

}  // namespace eplora::cuda
