// SPDX-License-Identifier: Apache-2.0
// Guarded buffers in a backend's memory space: a red zone on both sides of each, outputs and workspace
// poisoned, inputs remembered, all of it inspected after the call. What is special about a memory space is
// one small class.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "optimized/backend.h"

namespace eplora {

/// How the host reaches one memory space.
class MemoryAccess {
 public:
  virtual ~MemoryAccess() = default;
  virtual void* allocate(std::size_t bytes) = 0;  ///< aligned to 256 bytes; throws std::bad_alloc
  virtual void release(void* memory) noexcept = 0;
  virtual void copy_to(void* to, const void* host, std::size_t bytes) = 0;
  virtual void copy_from(void* host, const void* from, std::size_t bytes) = 0;
  virtual void synchronize() = 0;  ///< returns when all work enqueued so far is done
};

/// Throws `BackendUnavailable` for a space that this build has no access to.
MemoryAccess& memory_access(MemorySpace space);

/// The buffers of one guarded call. Contents are chosen by `poison`, and so is the alignment, of which the
/// contract promises no more than the element's: an odd poison puts arrays one element off a 256-byte
/// boundary, an even one on it.
class GuardedBuffers {
 public:
  static constexpr std::size_t kRedZone = 1024;  ///< bytes, at least, on each side

  GuardedBuffers(MemoryAccess& memory, std::uint8_t poison);
  ~GuardedBuffers();
  GuardedBuffers(const GuardedBuffers&) = delete;
  GuardedBuffers& operator=(const GuardedBuffers&) = delete;

  /// Never null, also for no bytes. An input holds a copy of `contents` and must still hold it at `verify`.
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

  /// Waits for the call to end, then throws `GuardViolation` when a red zone or an input has changed. The
  /// sentence opens with `who` and names the buffer, the offset, the byte found and the byte that stood
  /// there.
  void verify(const std::string& who) const;

  template <class T>
  std::vector<T> read(const T* from, std::int64_t count) const {
    std::vector<T> values(static_cast<std::size_t>(count));
    if (count > 0) memory_.copy_from(values.data(), from, values.size() * sizeof(T));
    return values;
  }
  void read(const void* from, std::span<std::byte> to) const;

 private:
  enum class Role : std::uint8_t { input, output };
  struct Buffer {
    std::string name;
    Role role;
    std::byte* base;
    std::size_t front, bytes, back;   // red zone, contents, red zone
    std::vector<std::byte> contents;  // what an input must still hold
  };

  void* add(std::string name, Role role, std::span<const std::byte> contents, std::size_t bytes,
            std::size_t offset);

  MemoryAccess& memory_;
  std::uint8_t poison_;
  std::array<std::byte, kRedZone + 512> zone_;  // the pattern of every red zone, from its first byte on
  std::vector<Buffer> buffers_;
};

}  // namespace eplora
