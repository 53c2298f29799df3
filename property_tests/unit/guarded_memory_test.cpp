// SPDX-License-Identifier: Apache-2.0
// Guarded buffers in a memory space that the host does not see: packed into few regions and carried there and
// back in one copy each, or, where a tool watches allocations, each on its own. The space here is a
// make-believe device: nothing reaches it but by `upload`, nothing comes back but by `download`.
#include "optimized/guarded_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>

#include "optimized/guarded_run.h"
#include "reference/check.h"

namespace eplora {
namespace {

class Elsewhere : public MemoryAccess {
 public:
  explicit Elsewhere(std::size_t region, bool watched) : region_(region), watched_(watched) {}

  void* allocate(std::size_t bytes) override { return ::operator new (bytes, std::align_val_t{256}); }
  void release(void* memory) noexcept override { ::operator delete (memory, std::align_val_t{256}); }
  void copy_to(void* to, const void* host, std::size_t bytes) override { std::memcpy(to, host, bytes); }
  void copy_from(void* host, const void* from, std::size_t bytes) override { std::memcpy(host, from, bytes); }
  Region acquire(std::size_t bytes) override {
    const std::size_t size = watched_ ? bytes : std::max(bytes, region_);
    const auto image = [&] { return static_cast<std::byte*>(allocate(size)); };
    ++acquired;
    sizes.push_back(size);
    const Region region{image(), image(), image(), size};
    std::memset(region.memory, 0x77, size);
    return region;
  }
  void give_back(const Region& region) noexcept override {
    ++given_back;
    for (std::byte* memory : {region.memory, region.expected, region.found}) release(memory);
  }
  void upload(const Region& region, std::size_t begin, std::size_t end) override {
    ++uploads;
    std::memcpy(region.memory + begin, region.expected + begin, end - begin);
  }
  void download(const Region& region, std::size_t begin, std::size_t end) override {
    ++downloads;
    std::memcpy(region.found + begin, region.memory + begin, end - begin);
  }
  void synchronize() override { ++waits; }
  bool watched() const override { return watched_; }

  int acquired = 0, given_back = 0, uploads = 0, downloads = 0, waits = 0;
  std::vector<std::size_t> sizes;

 private:
  std::size_t region_;
  bool watched_;
};

/// Three buffers as a call has them, and what a kernel may do to them.
struct Call {
  explicit Call(Elsewhere& space, std::uint8_t poison = 0xA4) : buffers(space, poison) {
    in = buffers.input<std::int32_t>("ids", std::span<const std::int32_t>(ids));
    out = buffers.output<std::int32_t>("sorted", 5);
    mask = buffers.output<std::uint8_t>("mask", 3);
    workspace = static_cast<std::int32_t*>(buffers.workspace(40));
    buffers.upload();
  }
  std::string violation() {
    try {
      buffers.verify("backend x, align,");
    } catch (const GuardViolation& error) {
      return error.what();
    }
    return {};
  }

  const std::vector<std::int32_t> ids = {4, 5, 6};
  GuardedBuffers buffers;
  std::int32_t *in, *out, *workspace;
  std::uint8_t* mask;
};

TEST(GuardedMemory, aCallsBuffersTravelInOneCopyEachWay) {
  Elsewhere space(1 << 16, false);
  {
    Call call(space);
    EXPECT_EQ(std::vector<std::int32_t>(call.in, call.in + 3), call.ids);
    EXPECT_EQ(call.out[4], static_cast<std::int32_t>(0xA4A4A4A4));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(call.workspace) % 256, 0U);
    std::iota(call.out, call.out + 5, 10);
    call.mask[2] = 9;
    EXPECT_EQ(call.violation(), "");
    EXPECT_EQ(call.buffers.read(call.out, 5), (std::vector<std::int32_t>{10, 11, 12, 13, 14}));
    EXPECT_EQ(call.buffers.read(call.mask, 3), (std::vector<std::uint8_t>{0xA4, 0xA4, 9}));
    const std::int32_t nowhere = 0;
    EXPECT_THROW(call.buffers.read(&nowhere, 1), InvalidArgument);
  }
  EXPECT_EQ(space.acquired, 1);
  EXPECT_EQ(space.given_back, 1);
  EXPECT_EQ(space.uploads, 1);
  EXPECT_EQ(space.downloads, 1);
  EXPECT_EQ(space.waits, 1);
}

TEST(GuardedMemory, buffersThatDoNotFitTakeAnotherRegion) {
  Elsewhere space(20000, false);
  Call call(space);
  EXPECT_GT(space.acquired, 1);
  call.out[0] = 1;
  EXPECT_EQ(call.violation(), "");
  EXPECT_EQ(call.buffers.read(call.out, 1).front(), 1);
}

TEST(GuardedMemory, everyByteBesideAPackedBufferIsSeen) {
  Elsewhere space(1 << 16, false);
  for (const std::uint8_t poison : {std::uint8_t{0xA4}, std::uint8_t{0x5B}}) {
    const auto after = [&](const std::function<void(Call&)>& slip) {
      Call call(space, poison);
      slip(call);
      return call.violation();
    };
    EXPECT_EQ(
        after([](Call& c) {
          c.out[5] = 0;
        }).find("backend x, align, wrote past sorted (20 bytes): the byte at offset 20 is 0x00 where 0x"),
        0U);
    for (const std::int64_t place : {-1024, -1, 3, 4, 1023})
      EXPECT_NE(after([&](Call& c) { c.mask[place] ^= 1; }), "") << place;
    for (const std::int64_t place : {-1, 10})
      EXPECT_NE(after([&](Call& c) { c.workspace[place] ^= 1; }), "") << place;
    EXPECT_NE(after([](Call& c) { c.in[1] = 0; }).find("changed its input ids"), std::string::npos);
  }
}

TEST(GuardedMemory, anOverrunOfAnyBufferIsNamedWithItsOffset) {
  Elsewhere space(1 << 16, false);
  for (const std::uint8_t poison : {std::uint8_t{0xA4}, std::uint8_t{0x5B}})
    for (int which = 0; which < 4; ++which) {
      const char* const names[] = {"ids (12 bytes)", "sorted (20 bytes)", "mask (3 bytes)",
                                   "workspace (40 bytes)"};
      const std::ptrdiff_t sizes[] = {12, 20, 3, 40};
      const auto after = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        Call call(space, poison);
        std::byte* const starts[] = {
            reinterpret_cast<std::byte*>(call.in), reinterpret_cast<std::byte*>(call.out),
            reinterpret_cast<std::byte*>(call.mask), reinterpret_cast<std::byte*>(call.workspace)};
        for (std::ptrdiff_t i = begin; i < end; ++i) starts[which][i] ^= std::byte{0xFF};
        return call.violation();
      };
      for (std::ptrdiff_t ints = 1; ints <= 3; ++ints)  // the tail of a 16-byte store
        EXPECT_NE(after(sizes[which], sizes[which] + 4 * ints)
                      .find("wrote past " + std::string(names[which]) + ": the byte at offset " +
                            std::to_string(sizes[which]) + " "),
                  std::string::npos)
            << which << ", " << ints;
      EXPECT_NE(after(-4, 0).find("wrote before " + std::string(names[which]) + ": the byte at offset -1 "),
                std::string::npos)
          << which;
      const auto zone = static_cast<std::ptrdiff_t>(GuardedBuffers::kRedZone);
      EXPECT_NE(after(sizes[which] + zone - 1, sizes[which] + zone), "")
          << which;  // the last that is promised
      EXPECT_NE(after(-zone, 1 - zone), "") << which;
    }
}

TEST(GuardedMemory, aLostDeviceIsToldBeforeItIsThrown) {
  int told = 0;
  when_a_device_is_lost([&](const DeviceLost& lost) { told = lost.code; });
  EXPECT_THROW(throw_device_lost({700, "the device faulted"}), DeviceLost);
  when_a_device_is_lost(nullptr);
  EXPECT_EQ(told, 700);
  EXPECT_THROW(throw_device_lost({7, "again"}), DeviceLost);
  EXPECT_EQ(told, 700);
}

TEST(GuardedMemory, anExceptionWaitsForWhatIsUnderWay) {
  Elsewhere space(1 << 16, false);
  { Call call(space); }  // never verified
  EXPECT_EQ(space.waits, 1);
  EXPECT_EQ(space.given_back, 1);
}

TEST(GuardedMemory, watchedBuffersAreAllocationsOfTheirExactSize) {
  Elsewhere space(1 << 16, true);
  {
    Call call(space);
    EXPECT_EQ(space.sizes, (std::vector<std::size_t>{12, 20, 3, 40}));
    EXPECT_EQ(space.uploads, 1) << "nothing is written into outputs and workspace";
    EXPECT_EQ(call.out[0], 0x77777777);
    std::iota(call.out, call.out + 5, 0);
    EXPECT_EQ(call.violation(), "");
    EXPECT_EQ(call.buffers.read(call.out, 5), (std::vector<std::int32_t>{0, 1, 2, 3, 4}));
    EXPECT_EQ(space.downloads, 3) << "nobody asks for the workspace";
    call.in[0] = 0;
    EXPECT_NE(call.violation().find("changed its input ids"), std::string::npos);
  }
  EXPECT_EQ(space.given_back, 4);
  Call odd(space, 0x5B);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(odd.out) % 256, 4U);
}

}  // namespace
}  // namespace eplora
