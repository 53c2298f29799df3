// SPDX-License-Identifier: Apache-2.0
// A problem that stays on the device, to be run again and again: inputs copied once, outputs and workspace in
// one stretch that is overwritten between runs and fetched after each. Everything is enqueued; the caller
// waits for the stream.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "optimized/backend.h"
#include "property_tests/generators/random_slice.h"
#include "property_tests/gpu/gpu_case.h"

namespace eplora::gpu {

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void wait() const;

 private:
  cudaStream_t stream_ = nullptr;
};

/// What `enqueue` puts on a stream, as a graph.
class Graph {
 public:
  explicit Graph(const std::function<void(cudaStream_t)>& enqueue);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(cudaStream_t stream) const;

 private:
  cudaGraphExec_t executable_ = nullptr;
};

class Placed {
 public:
  /// Outputs and inputs stay here, on the device; the backend must live as long.
  Placed(Backend& backend, const GpuCase& c);
  Placed(Backend& backend, const RandomSlice& c);
  ~Placed();
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  void enqueue(cudaStream_t stream) const { enqueue_(stream); }
  /// Workspace and outputs hold other bytes for every `round` then, but what a slicing must leave as it is.
  void garble(int round, cudaStream_t stream) const;
  void fetch(cudaStream_t stream) const;
  /// After a wait for `fetch`: the first byte that is not the specification's, in words; empty when none is.
  std::string difference() const;

 private:
  template <class T>
  T* input(std::span<const T> values);
  void* input(const void* values, std::size_t bytes);
  /// Reserves a part of the outputs that must hold `want` in the end. Returns its offset.
  std::size_t output(const char* name, std::span<const std::byte> want);
  void allocate(std::size_t workspace_bytes);

  struct Part {
    std::string name;
    std::size_t begin, end;
  };
  std::vector<void*> inputs_;
  std::vector<Part> parts_;
  std::vector<std::byte> want_, before_;  // `before_`: what the outputs hold at the start; empty = garbage
  std::byte* device_ = nullptr;           // outputs, then the workspace
  std::byte* initial_ = nullptr;          // `before_` on the device
  std::byte* found_ = nullptr;            // pinned
  std::size_t workspace_begin_ = 0, bytes_ = 0;
  std::function<void(cudaStream_t)> enqueue_;
};

}  // namespace eplora::gpu
