// SPDX-License-Identifier: Apache-2.0
// Guarded buffers in a backend's memory space: a red zone on both sides of each, outputs and workspace
// poisoned, inputs remembered, all of it inspected after the call. What is special about a memory space is
// one small class.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "optimized/backend.h"

namespace eplora {

/// A stretch of a memory space and its two images on the host.
struct Region {
  std::byte* memory = nullptr;    ///< aligned to 256 bytes
  std::byte* expected = nullptr;  ///< what `upload` brings to the memory
  std::byte* found = nullptr;     ///< what `download` brought back; in host memory it is `memory` itself
  std::size_t bytes = 0;
};

/// No call of this process reaches the memory space any more: a fault on a device takes everything there with
/// it. The sentence names the fault.
struct DeviceLost : std::runtime_error {
  DeviceLost(int number, const std::string& sentence) : std::runtime_error(sentence), code(number) {}
  int code;  ///< the space's own number of the fault, a cudaError_t
};

/// From now on this is called at the first sign that a device is lost, before `DeviceLost` is thrown: a
/// process that judges others' code ends there, since whatever it finds afterwards says nothing. Null ends
/// that.
void when_a_device_is_lost(std::function<void(const DeviceLost&)> act);
/// For memory spaces: acts as set above, then throws.
[[noreturn]] void throw_device_lost(const DeviceLost& lost);

/// How the host reaches one memory space. Several threads may use it at once, each on a stream of its own.
class MemoryAccess {
 public:
  virtual ~MemoryAccess() = default;
  virtual void* allocate(std::size_t bytes) = 0;  ///< aligned to 256 bytes; throws std::bad_alloc
  virtual void release(void* memory) noexcept = 0;
  virtual void copy_to(void* to, const void* host, std::size_t bytes) = 0;
  virtual void copy_from(void* host, const void* from, std::size_t bytes) = 0;
  /// At least `bytes`, contents garbage. Throws std::bad_alloc.
  virtual Region acquire(std::size_t bytes) = 0;
  /// By the thread that acquired it; nothing enqueued uses it any more.
  virtual void give_back(const Region& region) noexcept = 0;
  /// Enqueue copies of bytes `[begin, end)` of the region, in the stream's order.
  virtual void upload(const Region& region, std::size_t begin, std::size_t end) = 0;
  virtual void download(const Region& region, std::size_t begin, std::size_t end) = 0;
  /// Returns when all that this thread enqueued is done.
  virtual void synchronize() = 0;
  /// Of the calling thread, for `ExecutionContext::stream`.
  virtual void* stream() { return nullptr; }
  /// True where a tool watches every single allocation: then a region is exactly as large as asked for, no
  /// red zones hide an access past it, and nothing is written into outputs before the call, so that the tool
  /// sees who reads what nobody wrote.
  virtual bool watched() const { return false; }
};

/// Throws `BackendUnavailable` for a space that this build has no access to.
MemoryAccess& memory_access(MemorySpace space);

/// The buffers of one guarded call, packed into few regions so that all of them travel in one copy. Contents
/// are chosen by `poison`, and so is the alignment, of which the contract promises no more than the
/// element's: an odd poison puts arrays one element off a 256-byte boundary, an even one on it.
class GuardedBuffers {
 public:
  /// Bytes, at least, on each side, right behind the last byte of a buffer, which is not rounded up: as far
  /// as a whole block of 256 threads reaches with one 16-byte store each.
  static constexpr std::size_t kRedZone = 4096;

  GuardedBuffers(MemoryAccess& memory, std::uint8_t poison);
  ~GuardedBuffers();
  GuardedBuffers(const GuardedBuffers&) = delete;
  GuardedBuffers& operator=(const GuardedBuffers&) = delete;

  /// Never null, also for no bytes; the contents are there after `upload`. An input holds a copy of
  /// `contents` and must still hold it at `verify`.
  void* input(std::string name, std::span<const std::byte> contents, std::size_t element_size);
  /// Holds the poison in every byte.
  void* output(std::string name, std::size_t bytes, std::size_t element_size);
  /// Holds `contents`, and may be written.
  void* in_out(std::string name, std::span<const std::byte> contents, std::size_t element_size);
  /// Poisoned and always on a 256-byte boundary, as allocators give it.
  void* workspace(std::size_t bytes);

  template <class T>
  T* input(std::string name, std::span<const T> values) {
    return static_cast<T*>(input(std::move(name), std::as_bytes(values), sizeof(T)));
  }
  template <class T>
  T* output(std::string name, std::int64_t count) {
    return static_cast<T*>(output(std::move(name), static_cast<std::size_t>(count) * sizeof(T), sizeof(T)));
  }

  /// Brings all that was added to the memory space. Once, after the last buffer and before the call.
  void upload();

  /// Waits for the call to end and fetches every byte, then throws `GuardViolation` when a red zone or an
  /// input has changed. The sentence opens with `who` and names the buffer, the offset, the byte found and
  /// the byte that stood there.
  void verify(const std::string& who);

  /// What stood in a buffer at `verify`.
  template <class T>
  std::vector<T> read(const T* from, std::int64_t count) const {
    std::vector<T> values(static_cast<std::size_t>(count));
    read(from, std::as_writable_bytes(std::span(values)));
    return values;
  }
  void read(const void* from, std::span<std::byte> to) const;

 private:
  enum class Role : std::uint8_t { input, output, in_out };
  struct Buffer {
    std::string name;
    Role role;
    std::size_t region, begin;       // of the front red zone
    std::size_t front, bytes, back;  // red zone, contents, red zone
  };
  struct Used {
    Region region;
    std::size_t bytes = 0;
  };

  void* add(std::string name, Role role, std::span<const std::byte> contents, std::size_t bytes,
            std::size_t offset);

  MemoryAccess& memory_;
  std::uint8_t poison_;
  bool in_flight_ = false;
  std::vector<Used> regions_;
  std::vector<Buffer> buffers_;
};

}  // namespace eplora
