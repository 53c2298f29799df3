// SPDX-License-Identifier: Apache-2.0
// Something to time: a shape with its inputs, what the reference answers, and hashes of both. A workload is
// loaded into a backend's memory once per backend; a call is one operation on one of its input sets.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/sha256.h"
#include "optimized/backend.h"
#include "optimized/guarded_memory.h"

namespace eplora::bench {

/// Hashes of one part of a workload: an input set of a routing shape, a layer of an adapter.
struct PartDigests {
  Sha256::Digest inputs, outputs;
  bool operator==(const PartDigests&) const = default;
};

/// A workload in a backend's memory: inputs, outputs and workspace of their own for every input set.
class Loaded {
 public:
  virtual ~Loaded() = default;
  /// Fills outputs and workspace with poison, through `fill(memory, bytes, value)`.
  using Fill = std::function<void(void*, std::size_t, std::uint8_t)>;
  virtual void poison(const Fill& fill) = 0;
  /// One call on input set `set`; `stream` as in `ExecutionContext`.
  virtual void enqueue(int set, void* stream) = 0;
  /// Brings other inputs into the same memory - set `i` gets those of set `i + round` - and poisons outputs
  /// and workspace: who remembers an address, or an answer, answers wrongly. One adapter alone stays as it
  /// is.
  virtual void refresh(const Fill& fill, int round) = 0;
  /// Reads all outputs back: the first difference from the reference as a sentence, empty if there is none.
  /// Where the backend's form is not the canonical one, the first violation of the contract in that form.
  virtual std::string difference() = 0;
};

class Workload {
 public:
  virtual ~Workload() = default;
  virtual int sets() const = 0;
  /// Bytes that one call must move.
  virtual std::int64_t bytes() const = 0;
  virtual const std::vector<PartDigests>& parts() const = 0;
  virtual std::unique_ptr<Loaded> load(Backend& backend, MemoryAccess& memory) const = 0;
};

/// Memory of some space, owned.
class Buffer {
 public:
  Buffer(MemoryAccess& memory, std::size_t bytes)
      : memory_(&memory), data_(static_cast<std::byte*>(memory.allocate(bytes))), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept
      : memory_(other.memory_), data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  Buffer& operator=(Buffer&&) = delete;
  ~Buffer() {
    if (data_ != nullptr) memory_->release(data_);
  }

  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  void write(const void* host) const { memory_->copy_to(data_, host, bytes_); }
  void read(void* host) const { memory_->copy_from(host, data_, bytes_); }

 private:
  MemoryAccess* memory_;
  std::byte* data_;
  std::size_t bytes_;
};

}  // namespace eplora::bench
