// SPDX-License-Identifier: Apache-2.0
// Slicing through the backends: random adapters and ranks against the reference, every conversion between the
// three element types, and the guard around buffers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "optimized/backend.h"
#include "optimized/guarded_run.h"
#include "optimized/thrust/thrust_host_backend.h"
#include "reference/check.h"
#include "reference/lora/slice.h"

namespace eplora {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};

/// Byte equality also of the scales: NaN patterns included.
bool same_bytes(const LoraBuffers& a, const LoraBuffers& b) {
  for (std::size_t layer = 0; layer < a.shape().layers.size(); ++layer)
    for (BufferTensor tensor : kBufferTensors)
      if (a.shape().active(layer, tensor) &&
          !std::ranges::equal(a.bytes(layer, tensor), b.bytes(layer, tensor)))
        return false;
  return std::ranges::equal(std::as_bytes(a.scales()), std::as_bytes(b.scales()));
}

/// A random adapter, with memory of its own, and a rank to cut it for.
struct RandomSlice {
  std::mt19937_64 random;
  std::vector<std::vector<std::uint64_t>> memory;
  Adapter adapter;
  std::vector<std::int32_t> local_experts;
  BufferShape shape;
  SliceProblem problem;

  std::int64_t below(std::int64_t end) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
  }

  /// Random bits of any kind: NaNs, infinities and subnormals of every type are among them.
  const void* bits(std::int64_t elements) {
    std::vector<std::uint64_t>& words = memory.emplace_back(static_cast<std::size_t>(elements / 2 + 1));
    for (std::uint64_t& word : words) word = random();
    return words.data();
  }

  StridedTensor tensor(DType dtype, std::int64_t experts, std::int64_t rows, std::int64_t cols) {
    const std::int64_t size = experts * rows * cols;
    if (below(2) == 0) return {bits(size), dtype, experts, rows, cols, rows * cols, cols, 1};
    return {bits(size), dtype, experts, rows, cols, 1, experts, experts * rows};  // expert fastest
  }

  explicit RandomSlice(std::uint64_t seed) : random(seed) {
    MoeGeometry& geometry = problem.geometry;
    const std::int64_t scale = below(8) == 0 ? 120 : 1;  // now and then enough elements for TBB
    geometry.num_experts = static_cast<std::int32_t>(1 + below(6));
    geometry.hidden = (1 + below(7)) * scale;
    problem.place.moe_tp = static_cast<std::int32_t>(1 + below(4));
    problem.place.moe_tp_rank = static_cast<std::int32_t>(below(problem.place.moe_tp));
    geometry.intermediate = problem.place.moe_tp * (1 + below(5)) * scale;
    geometry.gated = below(4) != 0;
    geometry.form = geometry.gated && below(2) == 0 ? GateUpForm::interleaved : GateUpForm::stacked;
    geometry.shared_outer = below(3) == 0;
    const std::int64_t E = geometry.num_experts, H = geometry.hidden, I = geometry.intermediate;
    const std::int64_t outer = geometry.shared_outer ? 1 : E, R = 1 + below(5);

    local_experts.resize(static_cast<std::size_t>(E));
    std::iota(local_experts.begin(), local_experts.end(), 0);
    std::shuffle(local_experts.begin(), local_experts.end(), random);
    local_experts.resize(static_cast<std::size_t>(below(E + 1)));

    std::vector<BufferLayer> layers;
    for (std::int32_t id = 0; id < 3; ++id) {
      const bool has_gate_up = below(5) != 0, has_down = below(5) != 0;
      layers.push_back({id * 2, has_gate_up, has_down});
      if (below(4) == 0) continue;  // the adapter lacks the layer
      AdapterLayer layer;
      const DType dtype = kTypes[below(3)];
      if (has_gate_up && below(4) != 0) {
        const std::int64_t r = 1 + below(R);
        const StridedTensor A = tensor(dtype, outer, r, H);
        if (geometry.form == GateUpForm::interleaved) {  // both halves in one tensor, row by row
          StridedTensor gate{bits(E * 2 * I * r), dtype, E, I, r, 2 * I * r, 2 * r, 1}, up = gate;
          up.data = static_cast<const std::byte*>(gate.data) + r * static_cast<std::int64_t>(bytes_of(dtype));
          layer.gate_up = {LoraPair{A, gate}, LoraPair{A, up}};
        } else {
          layer.gate_up[0] = {A, tensor(dtype, E, I, r)};
          if (geometry.gated) layer.gate_up[1] = {tensor(dtype, outer, r, H), tensor(dtype, E, I, r)};
        }
      }
      if (has_down && below(4) != 0) {
        const std::int64_t r = 1 + below(R);
        layer.down = {tensor(dtype, E, r, I), tensor(dtype, outer, H, r)};
      }
      layer.gate_up_scale = static_cast<float>(below(100)) / 7.0F;
      layer.down_scale = static_cast<float>(below(100)) / 3.0F;
      adapter.layers[id * 2] = layer;
    }
    layers.insert(layers.begin() + below(4), BufferLayer{std::nullopt, true, true});
    shape = buffer_shape(geometry, problem.place, static_cast<std::int64_t>(local_experts.size()), layers,
                         static_cast<std::int32_t>(1 + below(3)), R, kTypes[below(3)]);
    problem.local_experts = local_experts;
    problem.adapter = &adapter;
    problem.shape = &shape;
    problem.slot = static_cast<std::int32_t>(below(shape.max_loras));
  }
  RandomSlice(const RandomSlice&) = delete;  // problem points into this
  RandomSlice& operator=(const RandomSlice&) = delete;
};

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
