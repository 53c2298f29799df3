// SPDX-License-Identifier: Apache-2.0
#include "optimized/guarded_memory.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <utility>

#include "optimized/guarded_run.h"
#include "reference/check.h"
#if defined(EPLORA_WITH_CUDA)
#include "optimized/cuda/cuda_memory.h"
#endif

namespace eplora {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::string_view kWorkspace = "workspace";

class HostMemory final : public MemoryAccess {
 public:
  void* allocate(std::size_t bytes) override { return ::operator new (bytes, std::align_val_t{kAlignment}); }
  void release(void* memory) noexcept override { ::operator delete (memory, std::align_val_t{kAlignment}); }
  void copy_to(void* to, const void* host, std::size_t bytes) override { std::memcpy(to, host, bytes); }
  void copy_from(void* host, const void* from, std::size_t bytes) override { std::memcpy(host, from, bytes); }
  Region acquire(std::size_t bytes) override {
    auto expected = std::make_unique_for_overwrite<std::byte[]>(bytes);
    auto* const memory = static_cast<std::byte*>(allocate(bytes));
    return {memory, expected.release(), memory, bytes};
  }
  void give_back(const Region& region) noexcept override {
    release(region.memory);
    delete[] region.expected;
  }
  void upload(const Region& region, std::size_t begin, std::size_t end) override {
    std::memcpy(region.memory + begin, region.expected + begin, end - begin);
  }
  void download(const Region&, std::size_t, std::size_t) override {}
  void synchronize() override {}
};

/// The pattern of every red zone that belongs to a poison, from its first byte on.
using Zone = std::array<std::byte, GuardedBuffers::kRedZone + 2 * kAlignment>;

const Zone& zone_of(std::uint8_t poison) {
  static const auto zones = [] {
    auto all = std::make_unique<std::array<Zone, 256>>();
    for (std::uint32_t i = 0; i < 256; ++i) {
      // No two neighbours alike, and no byte that results are full of: a stray 0, 1 or -1 shows.
      std::uint32_t state = 0x9E37'79B9U + i;
      for (std::byte& value : (*all)[i]) {
        state = state * 1664525U + 1013904223U;
        const auto byte = static_cast<std::uint8_t>(state >> 24);
        value = static_cast<std::byte>(byte <= 1 || byte == 0xFF ? 0x5C : byte);
      }
    }
    return all;
  }();
  return (*zones)[poison];
}

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

std::function<void(const DeviceLost&)>& act_on_loss() {
  static std::function<void(const DeviceLost&)> act;
  return act;
}

}  // namespace

void when_a_device_is_lost(std::function<void(const DeviceLost&)> act) { act_on_loss() = std::move(act); }

void throw_device_lost(const DeviceLost& lost) {
  if (act_on_loss()) act_on_loss()(lost);
  throw lost;
}

MemoryAccess& memory_access(MemorySpace space) {
  static HostMemory host;
  if (space == MemorySpace::host) return host;
#if defined(EPLORA_WITH_CUDA)
  if (space == MemorySpace::cuda) return cuda::device_memory();
#endif
  throw BackendUnavailable("this build has no access to memory of the space '" +
                           std::string(to_string(space)) + "'");
}

GuardedBuffers::GuardedBuffers(MemoryAccess& memory, std::uint8_t poison)
    : memory_(memory), poison_(poison) {}

GuardedBuffers::~GuardedBuffers() {
  if (in_flight_) try {  // the call threw: what it enqueued may still run
      memory_.synchronize();
    } catch (const std::exception&) {  // the exception under way says more
    }
  for (const Used& used : regions_) memory_.give_back(used.region);
}

void* GuardedBuffers::add(std::string name, Role role, std::span<const std::byte> contents, std::size_t bytes,
                          std::size_t offset) {
  const std::size_t zone = memory_.watched() ? 0 : kRedZone;
  const std::size_t front = round_up(zone) + offset;
  const std::size_t back = zone == 0 ? 0 : round_up(front + bytes + zone) - front - bytes;
  const std::size_t size = front + bytes + back;
  if (regions_.empty() || memory_.watched() || regions_.back().bytes + size > regions_.back().region.bytes) {
    regions_.reserve(regions_.size() + 1);
    regions_.push_back({memory_.acquire(size)});
  }
  Used& used = regions_.back();
  buffers_.push_back({std::move(name), role, regions_.size() - 1, used.bytes, front, bytes, back});
  std::byte* const image = used.region.expected + used.bytes;
  const Zone& pattern = zone_of(poison_);
  std::memcpy(image, pattern.data(), front);
  if (contents.empty())
    std::memset(image + front, poison_, bytes);
  else
    std::memcpy(image + front, contents.data(), bytes);
  std::memcpy(image + front + bytes, pattern.data(), back);
  std::byte* const memory = used.region.memory + used.bytes + front;
  used.bytes += size;
  return memory;
}

void* GuardedBuffers::input(std::string name, std::span<const std::byte> contents, std::size_t element_size) {
  return add(std::move(name), Role::input, contents, contents.size(), poison_ % 2 * element_size);
}

void* GuardedBuffers::output(std::string name, std::size_t bytes, std::size_t element_size) {
  return add(std::move(name), Role::output, {}, bytes, poison_ % 2 * element_size);
}

void* GuardedBuffers::in_out(std::string name, std::span<const std::byte> contents,
                             std::size_t element_size) {
  return add(std::move(name), Role::in_out, contents, contents.size(), poison_ % 2 * element_size);
}

void* GuardedBuffers::workspace(std::size_t bytes) {
  return add(std::string(kWorkspace), Role::output, {}, bytes, 0);
}

void GuardedBuffers::upload() {
  in_flight_ = true;
  if (!memory_.watched()) {
    for (const Used& used : regions_) memory_.upload(used.region, 0, used.bytes);
    return;
  }
  for (const Buffer& buffer : buffers_)
    if (buffer.role != Role::output)
      memory_.upload(regions_[buffer.region].region, buffer.front, buffer.front + buffer.bytes);
}

void GuardedBuffers::verify(const std::string& who) {
  if (!memory_.watched())
    for (const Used& used : regions_) memory_.download(used.region, 0, used.bytes);
  else
    for (const Buffer& buffer : buffers_)
      if (buffer.name != kWorkspace)
        memory_.download(regions_[buffer.region].region, buffer.front, buffer.front + buffer.bytes);
  memory_.synchronize();
  in_flight_ = false;
  for (const Buffer& buffer : buffers_) {
    const Region& region = regions_[buffer.region].region;
    const std::byte *const expected = region.expected + buffer.begin, *const found =
                                                                          region.found + buffer.begin;
    const std::size_t end = buffer.front + buffer.bytes;
    const std::string size = std::to_string(buffer.bytes) + " bytes";

    // From the end of the front zone backwards: the byte nearest to the buffer is the one to name.
    const std::size_t zone = memory_.watched() ? 0 : buffer.front;
    if (zone > 0 && std::memcmp(found, expected, zone) != 0)
      for (std::size_t i = zone; i-- > 0;)
        if (found[i] != expected[i])
          throw GuardViolation(who + " wrote before " + buffer.name + " (" + size +
                               "): the byte at offset -" + std::to_string(buffer.front - i) +
                               change(found[i], expected[i]));
    if (const std::size_t i = first_difference(found + end, expected + end, buffer.back); i != buffer.back)
      throw GuardViolation(who + " wrote past " + buffer.name + " (" + size + "): the byte at offset " +
                           std::to_string(buffer.bytes + i) + change(found[end + i], expected[end + i]));
    if (buffer.role != Role::input) continue;
    const std::byte *const now = found + buffer.front, *const before = expected + buffer.front;
    if (const std::size_t i = first_difference(now, before, buffer.bytes); i != buffer.bytes)
      throw GuardViolation(who + " changed its input " + buffer.name + " (" + size +
                           "): the byte at offset " + std::to_string(i) + change(now[i], before[i]));
  }
}

void GuardedBuffers::read(const void* from, std::span<std::byte> to) const {
  if (to.empty()) return;
  const auto* const begin = static_cast<const std::byte*>(from);
  for (const Used& used : regions_) {
    const Region& region = used.region;
    if (std::less<>()(begin, region.memory) || !std::less<>()(begin, region.memory + region.bytes)) continue;
    std::memcpy(to.data(), region.found + (begin - region.memory), to.size());
    return;
  }
  reject("from", "outside", "it must point into a buffer of this call");
}

}  // namespace eplora
