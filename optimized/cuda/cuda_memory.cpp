// SPDX-License-Identifier: Apache-2.0
#include "optimized/cuda/cuda_memory.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string_view>

#include "optimized/cuda/check.h"
#include "optimized/cuda/cuda_backend.h"
#include "reference/check.h"

namespace eplora::cuda {
namespace {

// Regions come in powers of two. Larger ones than the last class are rare: they are not kept.
constexpr int kSmallestClass = 18, kLargestClass = 26;
constexpr std::size_t kLargestPooled = std::size_t{1} << kLargestClass;

/// A fault of a kernel (an illegal address, say) is reported by every later call: the context is lost, and
/// only a new process gets another. Any other error is the call's own.
void check_device(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  if (const cudaError_t still = cudaDeviceSynchronize(); still != cudaSuccess)
    throw_device_lost({still, std::string("the device faulted: ") + cudaGetErrorName(still) + " (" +
                                  cudaGetErrorString(still) + "), seen by " + call});
  throw CudaError(error, call, __FILE__, __LINE__);
}
#define EPLORA_CHECK_DEVICE(call) check_device((call), #call)

void* device_allocation(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, std::max<std::size_t>(bytes, 1));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw std::bad_alloc();
  }
  check_device(error, "cudaMalloc");
  return memory;
}

void device_release(void* memory) noexcept {
  if (cudaFree(memory) != cudaSuccess) cudaGetLastError();  // the call that failed has said so
}

std::byte* pinned(std::size_t bytes) {
  void* memory = nullptr;
  EPLORA_CUDA_CHECK(cudaMallocHost(&memory, bytes));
  return static_cast<std::byte*>(memory);
}

/// What one thread works with: a stream, and the regions that wait to be used again.
struct Lane {
  cudaStream_t stream = nullptr;
  std::array<std::vector<Region>, kLargestClass + 1> free;

  Lane() { EPLORA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
};

/// Lanes of threads that have ended serve new ones. None is destroyed: they outlive the CUDA context's end at
/// exit.
class Lanes {
 public:
  std::unique_ptr<Lane> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Lane>();
    std::unique_ptr<Lane> lane = std::move(idle_.back());
    idle_.pop_back();
    return lane;
  }
  void put_back(std::unique_ptr<Lane> lane) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(lane));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Lane>> idle_;
};

Lane& lane() {
  static auto* const lanes = new Lanes;
  struct Holder {
    std::unique_ptr<Lane> lane = lanes->take();
    ~Holder() { lanes->put_back(std::move(lane)); }
  };
  thread_local Holder holder;
  return *holder.lane;
}

class DeviceMemory : public MemoryAccess {
 public:
  DeviceMemory() {
    if (const std::string reason = cuda_unavailable(); !reason.empty())
      throw BackendUnavailable("memory of the space 'cuda' cannot be reached: " + reason);
    // Thrust takes its scratch from the device's own pool; it keeps what it has, too.
    int device = 0;
    cudaMemPool_t pool = nullptr;
    EPLORA_CUDA_CHECK(cudaGetDevice(&device));
    EPLORA_CUDA_CHECK(cudaDeviceGetDefaultMemPool(&pool, device));
    std::uint64_t keep_all = UINT64_MAX;
    EPLORA_CUDA_CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_all));
  }

  void* allocate(std::size_t bytes) override { return device_allocation(bytes); }
  void release(void* memory) noexcept override { device_release(memory); }
  void copy_to(void* to, const void* host, std::size_t bytes) override {
    if (bytes > 0) EPLORA_CHECK_DEVICE(cudaMemcpy(to, host, bytes, cudaMemcpyHostToDevice));
  }
  void copy_from(void* host, const void* from, std::size_t bytes) override {
    if (bytes > 0) EPLORA_CHECK_DEVICE(cudaMemcpy(host, from, bytes, cudaMemcpyDeviceToHost));
  }

  Region acquire(std::size_t bytes) override {
    if (bytes > kLargestPooled) return pageable_region(bytes);
    const int size_class = class_of(bytes);
    std::vector<Region>& free = lane().free[static_cast<std::size_t>(size_class)];
    if (free.empty()) {
      const std::size_t size = std::size_t{1} << size_class;
      return {static_cast<std::byte*>(device_allocation(size)), pinned(size), pinned(size), size};
    }
    const Region region = free.back();
    free.pop_back();
    return region;
  }
  void give_back(const Region& region) noexcept override {
    if (region.bytes > kLargestPooled) return release_pageable(region);
    try {
      lane().free[static_cast<std::size_t>(class_of(region.bytes))].push_back(region);
    } catch (const std::bad_alloc&) {  // the region is lost, nothing else
    }
  }

  void upload(const Region& region, std::size_t begin, std::size_t end) override {
    if (begin < end)
      EPLORA_CHECK_DEVICE(cudaMemcpyAsync(region.memory + begin, region.expected + begin, end - begin,
                                          cudaMemcpyHostToDevice, lane().stream));
  }
  void download(const Region& region, std::size_t begin, std::size_t end) override {
    if (begin < end)
      EPLORA_CHECK_DEVICE(cudaMemcpyAsync(region.found + begin, region.memory + begin, end - begin,
                                          cudaMemcpyDeviceToHost, lane().stream));
  }
  void synchronize() override { EPLORA_CHECK_DEVICE(cudaStreamSynchronize(lane().stream)); }
  void* stream() override { return lane().stream; }

 protected:
  static Region pageable_region(std::size_t bytes) {
    auto expected = std::make_unique_for_overwrite<std::byte[]>(bytes),
         found = std::make_unique_for_overwrite<std::byte[]>(bytes);
    auto* const memory = static_cast<std::byte*>(device_allocation(bytes));
    return {memory, expected.release(), found.release(), bytes};
  }
  static void release_pageable(const Region& region) noexcept {
    device_release(region.memory);
    delete[] region.expected;
    delete[] region.found;
  }

 private:
  static int class_of(std::size_t bytes) {
    return std::max(kSmallestClass, static_cast<int>(std::bit_width(std::max<std::size_t>(bytes, 1) - 1)));
  }
};

/// Under compute-sanitizer.
class WatchedMemory final : public DeviceMemory {
 public:
  Region acquire(std::size_t bytes) override { return pageable_region(bytes); }
  void give_back(const Region& region) noexcept override { release_pageable(region); }
  bool watched() const override { return true; }
};

std::unique_ptr<MemoryAccess> make_memory() {
  const char* const set = std::getenv("EPLORA_POOL");
  const std::string_view pool = set == nullptr ? "on" : set;
  if (pool == "off") return std::make_unique<WatchedMemory>();
  if (pool != "on") reject("EPLORA_POOL", std::string(pool), "on or off");
  return std::make_unique<DeviceMemory>();
}

}  // namespace

MemoryAccess& device_memory() {
  static auto* const memory = make_memory().release();  // outlives the CUDA context's end at exit
  return *memory;
}

}  // namespace eplora::cuda
