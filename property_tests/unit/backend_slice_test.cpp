// SPDX-License-Identifier: Apache-2.0
// Slicing through the backends: random adapters and ranks against the reference, every conversion between the
// three element types, and the guard around buffers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "optimized/backend.h"
#include "optimized/guarded_run.h"
#include "optimized/thrust/thrust_host_backend.h"
#include "property_tests/generators/random_slice.h"
#include "reference/check.h"
#include "reference/lora/slice.h"

namespace eplora {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};

TEST(BackendSlice, everyBackendEqualsTheReferenceInEveryByte) {
  const auto backends = available_backends();
  int parallel = 0, weighty = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const RandomSlice c(seed);
    LoraBuffers expected(c.shape, 0xCD);
    reference::slice(c.problem, expected.view());
    for (const auto& backend : backends)
      for (const auto poison : std::initializer_list<std::uint8_t>{0xA5, 0x5A}) {
        LoraBuffers got(c.shape, 0xCD);
        GuardedRun(*backend, poison).slice(c.problem, got);
        EXPECT_TRUE(same_bytes(got, expected)) << backend->name() << ", seed " << seed;
      }
    std::int64_t largest = 0;
    for (BufferTensor tensor : kBufferTensors) largest = std::max(largest, c.shape.slot_elements(tensor));
    parallel += largest >= kThrustHostParallelFrom;
    weighty += !c.local_experts.empty() && !c.adapter.layers.empty();
  }
  EXPECT_GT(parallel, 2);
  EXPECT_GT(weighty, 150);
}

/// All columns of one expert's down A `[1, 1, I]` in `from`, cut into buffers of type `to`.
LoraBuffers converted(Backend& backend, const void* data, DType from, std::int64_t count, DType to) {
  const std::uint32_t zero = 0;
  Adapter adapter;
  adapter.layers[0].down = {{data, from, 1, 1, count, count, count, 1}, {&zero, from, 1, 1, 1, 1, 1, 1}};
  SliceProblem problem;
  problem.geometry = {1, 1, count, false, GateUpForm::stacked, false};
  const std::int32_t expert = 0;
  problem.local_experts = {&expert, 1};
  problem.adapter = &adapter;
  const BufferShape shape = buffer_shape(problem.geometry, problem.place, 1, {{0, false, true}}, 1, 1, to);
  problem.shape = &shape;
  LoraBuffers buffers(shape);
  GuardedRun(backend).slice(problem, buffers);
  return buffers;
}

TEST(BackendSlice, conversionsAgreeOnEveryHalfAndOnEveryRoundingCase) {
  std::vector<std::uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), std::uint16_t{0});
  std::vector<std::uint32_t> floats;
  for (std::uint32_t high = 0; high < 65536; ++high)
    for (std::uint32_t low : {0x0000U, 0x0001U, 0x0FFFU, 0x1000U, 0x1001U, 0x2FFFU, 0x3000U, 0x7FFFU, 0x8000U,
                              0x8001U, 0xF000U, 0xFFFFU})
      floats.push_back(high << 16 | low);
  ReferenceBackend reference;
  const auto thrust = make_backend("thrust-host");
  for (DType from : kTypes)
    for (DType to : kTypes) {
      const void* const data = from == DType::f32 ? static_cast<const void*>(floats.data()) : halves.data();
      const auto count = static_cast<std::int64_t>(from == DType::f32 ? floats.size() : halves.size());
      const LoraBuffers got = converted(*thrust, data, from, count, to);
      EXPECT_TRUE(same_bytes(got, converted(reference, data, from, count, to)))
          << to_string(from) << " to " << to_string(to);
      if (from == to) {
        EXPECT_EQ(std::memcmp(got.bytes(0, BufferTensor::down_A).data(), data,
                              static_cast<std::size_t>(count) * bytes_of(to)),
                  0);
      }
    }
}

TEST(BackendSlice, conversionsRoundTiesToEvenAndKnowOneNan) {
  const auto thrust = make_backend("thrust-host");
  const std::uint32_t floats[] = {0x3F80'8000, 0x3F81'8000, 0x7F80'0001, 0xFF80'0000, 0x477F'EFFF,
                                  0x477F'F000, 0x3300'0000, 0x3300'0001, 0x8000'0001, 0x387F'E000};
  const auto cut = [&](DType to) {
    const LoraBuffers buffers = converted(*thrust, floats, DType::f32, 10, to);
    std::vector<std::uint16_t> values(10);
    std::memcpy(values.data(), buffers.bytes(0, BufferTensor::down_A).data(), 20);
    return values;
  };
  EXPECT_EQ(cut(DType::bf16), (std::vector<std::uint16_t>{0x3F80, 0x3F82, 0x7FFF, 0xFF80, 0x477F + 1,
                                                          0x477F + 1, 0x3300, 0x3300, 0x8000, 0x3880}));
  EXPECT_EQ(cut(DType::f16), (std::vector<std::uint16_t>{0x3C04, 0x3C0C, 0x7FFF, 0xFC00, 0x7BFF, 0x7C00,
                                                         0x0000, 0x0001, 0x8000, 0x0400}));
}

TEST(BackendSlice, aWriteOutsideABufferTensorIsCaughtAndTheBuffersStayAsTheyWere) {
  struct OneTooMany : ReferenceBackend {
    void slice(const SliceProblem& problem, const BufferView& view,
               const ExecutionContext& context) override {
      ReferenceBackend::slice(problem, view, context);
      const auto which = static_cast<std::size_t>(BufferTensor::down_B);
      static_cast<float*>(view.tensor[0][which])[problem.shape->slot_elements(BufferTensor::down_B)] = 0.0F;
    }
  } wrong;
  const float weights[4] = {1, 2, 3, 4};
  Adapter adapter;
  adapter.layers[0].down = {{weights, DType::f32, 1, 1, 2, 2, 2, 1},
                            {weights + 2, DType::f32, 1, 2, 1, 2, 1, 1}};
  adapter.layers[0].down_scale = 2.0F;
  SliceProblem problem;
  problem.geometry = {1, 2, 2, false, GateUpForm::stacked, false};
  const std::int32_t expert = 0;
  problem.local_experts = {&expert, 1};
  problem.adapter = &adapter;
  const BufferShape shape =
      buffer_shape(problem.geometry, problem.place, 1, {{0, false, true}}, 1, 1, DType::f32);
  problem.shape = &shape;
  LoraBuffers buffers(shape, 0xCD);
  try {
    GuardedRun(wrong).slice(problem, buffers);
    FAIL() << "no violation";
  } catch (const GuardViolation& error) {
    EXPECT_NE(std::string(error.what()).find("slice, wrote past layer 0 down_B (8 bytes)"), std::string::npos)
        << error.what();
  }
  EXPECT_TRUE(same_bytes(buffers, LoraBuffers(shape, 0xCD)));
  ReferenceBackend right;
  GuardedRun(right).slice(problem, buffers);
  EXPECT_EQ(buffers.at(0, BufferTensor::down_B, 0, 1), 4.0F);
  EXPECT_EQ(buffers.scale(0, 1, 0), 2.0F);
}

TEST(BackendSlice, everyBackendRefusesAViewWithoutItsTensors) {
  const RandomSlice c(1);
  for (const auto& backend : available_backends()) {
    BufferView view;
    EXPECT_THROW(backend->slice(c.problem, view, {}), InvalidArgument) << backend->name();
    view.tensor.resize(c.shape.layers.size(), {});
    EXPECT_THROW(backend->slice(c.problem, view, {}), InvalidArgument) << backend->name();
  }
}

}  // namespace
}  // namespace eplora
