// SPDX-License-Identifier: Apache-2.0
// What the Thrust sources need from whichever compiler reads them: the marker of functions that run on both
// sides, and scratch memory of the policy's own system (the host's heap, or a GPU's memory in stream order).
#pragma once

#include <thrust/memory.h>

#include <algorithm>
#include <cstdint>
#include <new>

#if defined(__CUDACC__)
#define EPLORA_HD __host__ __device__
#else
#define EPLORA_HD
#endif

namespace eplora::on_thrust {

/// `count` uninitialised elements, taken from the execution policy and returned to it.
template <class T, class Policy>
class Scratch {
 public:
  Scratch(const Policy& policy, std::int64_t count)
      : policy_(policy), count_(std::max<std::int64_t>(count, 1)) {
    const auto buffer = thrust::get_temporary_buffer<T>(policy_, count_);
    data_ = buffer.first.get();
    if (data_ == nullptr || buffer.second < count_) {
      if (data_ != nullptr) thrust::return_temporary_buffer(policy_, buffer.first, buffer.second);
      throw std::bad_alloc();
    }
  }
  ~Scratch() { thrust::return_temporary_buffer(policy_, thrust::pointer<T, Policy>(data_), count_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return data_; }

 private:
  Policy policy_;
  std::int64_t count_;
  T* data_ = nullptr;
};

}  // namespace eplora::on_thrust
