// SPDX-License-Identifier: Apache-2.0
#include "optimized/guarded_memory.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

#include "optimized/guarded_run.h"
#if defined(EPLORA_WITH_CUDA)
#include "optimized/cuda/cuda_memory.h"
#endif

namespace eplora {
namespace {

constexpr std::size_t kAlignment = 256;

class HostMemory final : public MemoryAccess {
 public:
  void* allocate(std::size_t bytes) override { return ::operator new (bytes, std::align_val_t{kAlignment}); }
  void release(void* memory) noexcept override { ::operator delete (memory, std::align_val_t{kAlignment}); }
  void copy_to(void* to, const void* host, std::size_t bytes) override { std::memcpy(to, host, bytes); }
  void copy_from(void* host, const void* from, std::size_t bytes) override { std::memcpy(host, from, bytes); }
  void synchronize() override {}
};

std::size_t round_up(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::string hex(std::byte value) {
  char text[8];
  std::snprintf(text, sizeof text, "0x%02X", static_cast<unsigned>(value));
  return text;
}

/// Index of the first byte in which the two differ, or `size`.
std::size_t first_difference(const std::byte* a, const std::byte* b, std::size_t size) {
  if (size == 0 || std::memcmp(a, b, size) == 0) return size;
  return static_cast<std::size_t>(std::mismatch(a, a + size, b).first - a);
}

std::string change(std::byte found, std::byte expected) {
  return " is " + hex(found) + " where " + hex(expected) + " stood";
}

}  // namespace

MemoryAccess& memory_access(MemorySpace space) {
  static HostMemory host;
  if (space == MemorySpace::host) return host;
#if defined(EPLORA_WITH_CUDA)
  if (space == MemorySpace::cuda) return cuda::device_memory();
#endif
  throw BackendUnavailable("this build has no access to memory of the space '" +
                           std::string(to_string(space)) + "'");
}

GuardedBuffers::GuardedBuffers(MemoryAccess& memory, std::uint8_t poison) : memory_(memory), poison_(poison) {
  // No two neighbours alike, and no byte that results are full of: a stray 0, 1 or -1 shows.
  std::uint32_t state = 0x9E37'79B9U + poison;
  for (std::byte& value : zone_) {
    state = state * 1664525U + 1013904223U;
    const auto byte = static_cast<std::uint8_t>(state >> 24);
    value = static_cast<std::byte>(byte <= 1 || byte == 0xFF ? 0x5C : byte);
  }
}

GuardedBuffers::~GuardedBuffers() {
  for (const Buffer& buffer : buffers_) memory_.release(buffer.base);
}

void* GuardedBuffers::add(std::string name, Role role, std::span<const std::byte> contents, std::size_t bytes,
                          std::size_t offset) {
  const std::size_t front = round_up(kRedZone) + offset;
  const std::size_t back = round_up(front + bytes + kRedZone) - front - bytes;
  std::vector<std::byte> image(front + bytes + back, std::byte{poison_});
  std::copy_n(zone_.begin(), front, image.begin());
  std::ranges::copy(contents, image.begin() + static_cast<std::ptrdiff_t>(front));
  std::copy_n(zone_.begin(), back, image.end() - static_cast<std::ptrdiff_t>(back));

  std::vector<std::byte> remembered;
  if (role == Role::input) remembered.assign(contents.begin(), contents.end());
  buffers_.reserve(buffers_.size() + 1);
  auto* const base = static_cast<std::byte*>(memory_.allocate(image.size()));
  buffers_.push_back({std::move(name), role, base, front, bytes, back, std::move(remembered)});
  memory_.copy_to(base, image.data(), image.size());
  return base + front;
}

void* GuardedBuffers::input(std::string name, std::span<const std::byte> contents, std::size_t element_size) {
  return add(std::move(name), Role::input, contents, contents.size(), poison_ % 2 * element_size);
}

void* GuardedBuffers::output(std::string name, std::size_t bytes, std::size_t element_size) {
  return add(std::move(name), Role::output, {}, bytes, poison_ % 2 * element_size);
}

void* GuardedBuffers::in_out(std::string name, std::span<const std::byte> contents,
                             std::size_t element_size) {
  return add(std::move(name), Role::output, contents, contents.size(), poison_ % 2 * element_size);
}

void* GuardedBuffers::workspace(std::size_t bytes) { return add("workspace", Role::output, {}, bytes, 0); }

void GuardedBuffers::verify(const std::string& who) const {
  memory_.synchronize();
  for (const Buffer& buffer : buffers_) {
    std::vector<std::byte> image(buffer.front + buffer.bytes + buffer.back);
    memory_.copy_from(image.data(), buffer.base, image.size());
    const std::byte* const contents = image.data() + buffer.front;
    const std::byte* const behind = contents + buffer.bytes;
    const std::string size = std::to_string(buffer.bytes) + " bytes";

    // From the end of the front zone backwards: the byte nearest to the buffer is the one to name.
    for (std::size_t i = buffer.front; i-- > 0;)
      if (image[i] != zone_[i])
        throw GuardViolation(who + " wrote before " + buffer.name + " (" + size + "): the byte at offset -" +
                             std::to_string(buffer.front - i) + change(image[i], zone_[i]));
    if (const std::size_t i = first_difference(behind, zone_.data(), buffer.back); i != buffer.back)
      throw GuardViolation(who + " wrote past " + buffer.name + " (" + size + "): the byte at offset " +
                           std::to_string(buffer.bytes + i) + change(behind[i], zone_[i]));
    if (buffer.role != Role::input) continue;
    if (const std::size_t i = first_difference(contents, buffer.contents.data(), buffer.bytes);
        i != buffer.bytes)
      throw GuardViolation(who + " changed its input " + buffer.name + " (" + size +
                           "): the byte at offset " + std::to_string(i) +
                           change(contents[i], buffer.contents[i]));
  }
}

void GuardedBuffers::read(const void* from, std::span<std::byte> to) const {
  if (!to.empty()) memory_.copy_from(to.data(), from, to.size());
}

}  // namespace eplora
