// SPDX-License-Identifier: Apache-2.0
// LoRA weights: element types, adapters, buffers, slicing and the pool, on cases worked out by hand from the
// contract's section 6.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "reference/check.h"
#include "reference/lora/lora_pool.h"
#include "reference/lora/slice.h"

namespace eplora {
namespace {

using Floats = std::vector<float>;

std::uint16_t narrow(DType dtype, float value) {
  std::uint16_t bits = 0;
  store_float(&bits, dtype, 0, value);
  return bits;
}
float widen(DType dtype, std::uint16_t bits) { return load_as_float(&bits, dtype, 0); }

TEST(DTypes, EveryHalfPatternThatIsNoNanWidensAndNarrowsBackToItself) {
  for (DType dtype : {DType::f16, DType::bf16}) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const float value = widen(dtype, static_cast<std::uint16_t>(bits));
      ASSERT_EQ(narrow(dtype, value), std::isnan(value) ? 0x7FFF : bits) << to_string(dtype) << " " << bits;
    }
  }
}

TEST(DTypes, ValuesBetweenTwoNeighboursRoundToTheNearestAndTiesToTheEvenOne) {
  for (auto [dtype, infinity] : {std::pair{DType::f16, 0x7C00U}, std::pair{DType::bf16, 0x7F80U}}) {
    for (std::uint32_t low = 0; low + 1 < infinity; ++low) {
      const float a = widen(dtype, static_cast<std::uint16_t>(low));
      const float b = widen(dtype, static_cast<std::uint16_t>(low + 1));
      const float middle = a + (b - a) / 2;
      const std::uint32_t even = low + low % 2, sign = 0x8000U;
      ASSERT_EQ(narrow(dtype, middle), even);
      ASSERT_EQ(narrow(dtype, -middle), even | sign);
      ASSERT_EQ(narrow(dtype, std::nextafter(middle, a)), low);
      ASSERT_EQ(narrow(dtype, std::nextafter(middle, b)), low + 1);
    }
  }
}

TEST(DTypes, HalfPrecisionHasItsLandmarksWhereTheyBelong) {
  EXPECT_EQ(widen(DType::f16, 0x0001), 0x1p-24F);
  EXPECT_EQ(widen(DType::f16, 0x0400), 0x1p-14F);
  EXPECT_EQ(widen(DType::f16, 0x3C00), 1.0F);
  EXPECT_EQ(widen(DType::f16, 0x7BFF), 65504.0F);
  EXPECT_EQ(widen(DType::bf16, 0x3F80), 1.0F);
  EXPECT_EQ(widen(DType::bf16, 0x0001), 0x1p-133F);
}

TEST(DTypes, ValuesPastTheLargestBecomeInfinity) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(narrow(DType::f16, 65519.996F), 0x7BFF);
  EXPECT_EQ(narrow(DType::f16, 65520.0F), 0x7C00);
  EXPECT_EQ(narrow(DType::f16, -3e38F), 0xFC00);
  EXPECT_EQ(narrow(DType::f16, infinity), 0x7C00);
  EXPECT_EQ(narrow(DType::bf16, std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(narrow(DType::bf16, -infinity), 0xFF80);
}

TEST(DTypes, ANanBecomesTheCanonicalOneUnlessTheTypeStays) {
  const std::uint32_t nan32 = 0xFF812345U;
  std::uint16_t to = 0;
  for (DType dtype : {DType::f16, DType::bf16}) {
    convert_element(&nan32, DType::f32, 0, &to, dtype, 0);
    EXPECT_EQ(to, 0x7FFF);
    const std::uint16_t payload = 0xFFA1;
    convert_element(&payload, dtype, 0, &to, dtype, 0);
    EXPECT_EQ(to, payload);
  }
  std::uint32_t same = 0;
  convert_element(&nan32, DType::f32, 0, &same, DType::f32, 0);
  EXPECT_EQ(same, nan32);
}

TEST(LoraScale, IsAlphaOverRankOrOverItsRoot) {
  EXPECT_EQ(lora_scale(8, 4, false), 2.0F);
  EXPECT_EQ(lora_scale(8, 4, true), 4.0F);
  EXPECT_THROW(lora_scale(8, 0, false), InvalidArgument);
}

/// An adapter layer that owns its weights. Element (e, row, col) of tensor number `id` is the decimal digits
/// `id e row col`.
struct OwnedLayer {
  std::vector<Floats> memory;
  AdapterLayer layer;

  StridedTensor tensor(int id, std::int64_t experts, std::int64_t rows, std::int64_t cols) {
    Floats& values = memory.emplace_back();
    for (std::int64_t e = 0; e < experts; ++e)
      for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t col = 0; col < cols; ++col)
          values.push_back(static_cast<float>(id * 1000 + e * 100 + row * 10 + col));
    return {values.data(), DType::f32, experts, rows, cols, rows * cols, cols, 1};
  }

  OwnedLayer(const MoeGeometry& g, std::int64_t r) {
    memory.reserve(6);
    const std::int64_t E = g.num_experts, outer = g.shared_outer ? 1 : E;
    for (int h = 0; h < g.halves(); ++h)
      layer.gate_up[h] = {tensor(1 + 2 * h, outer, r, g.hidden), tensor(2 + 2 * h, E, g.intermediate, r)};
    layer.down = {tensor(5, E, r, g.intermediate), tensor(6, outer, g.hidden, r)};
    layer.gate_up_scale = 0.5F;
    layer.down_scale = 0.25F;
  }
};

constexpr MoeGeometry kTiny{4, 2, 4, true, GateUpForm::stacked, false};  // E=4, H=2, I=4

Floats slot_values(const LoraBuffers& buffers, BufferTensor tensor, std::int32_t l = 0) {
  Floats values;
  for (std::int64_t i = 0; i < buffers.shape().slot_elements(tensor); ++i)
    values.push_back(buffers.at(0, tensor, l, i));
  return values;
}

/// One layer, one expert (global 2), MoE-TP rank 1 of 2, R=2, r=1, loaded into slot 1 of 3.
LoraBuffers sliced(const MoeGeometry& geometry, const Adapter& adapter, std::uint8_t fill = 0xA5) {
  RankPlace place;
  place.rank = 7, place.num_ranks = 8, place.moe_tp_rank = 1, place.moe_tp = 2;
  const std::vector<std::int32_t> experts = {2};
  LoraBuffers buffers(buffer_shape(geometry, place, 1, {BufferLayer{5}}, 3, 2, DType::f32), fill);
  reference::slice({geometry, place, experts, &adapter, &buffers.shape(), 1}, buffers.view());
  return buffers;
}

TEST(Slice, CutsStackedHalvesByTheMoeTpRankAndPadsTheRank) {
  const OwnedLayer owned(kTiny, 1);
  const LoraBuffers buffers = sliced(kTiny, {{{5, owned.layer}}});
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_A, 1), (Floats{1200, 1201, 0, 0, 3200, 3201, 0, 0}));
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_B, 1), (Floats{2220, 0, 2230, 0, 4220, 0, 4230, 0}));
  EXPECT_EQ(slot_values(buffers, BufferTensor::down_A, 1), (Floats{5202, 5203, 0, 0}));
  EXPECT_EQ(slot_values(buffers, BufferTensor::down_B, 1), (Floats{6200, 0, 6210, 0}));
  EXPECT_EQ(buffers.scale(0, 0, 1), 0.5F);
  EXPECT_EQ(buffers.scale(0, 1, 1), 0.25F);
}

TEST(Slice, KeepsInterleavedHalvesInterleaved) {
  MoeGeometry geometry = kTiny;
  geometry.form = GateUpForm::interleaved;
  const OwnedLayer owned(geometry, 1);
  const LoraBuffers buffers = sliced(geometry, {{{5, owned.layer}}});
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_B, 1), (Floats{2220, 0, 4220, 0, 2230, 0, 4230, 0}));
}

TEST(Slice, HoldsOneHalfWhenNotGated) {
  MoeGeometry geometry = kTiny;
  geometry.gated = false;
  const OwnedLayer owned(geometry, 1);
  const LoraBuffers buffers = sliced(geometry, {{{5, owned.layer}}});
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_A, 1), (Floats{1200, 1201, 0, 0}));
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_B, 1), (Floats{2220, 0, 2230, 0}));
}

TEST(Slice, HoldsGateUpAAndDownBOnceWhenSharedOuter) {
  MoeGeometry geometry = kTiny;
  geometry.shared_outer = true;
  const OwnedLayer owned(geometry, 1);
  const LoraBuffers buffers = sliced(geometry, {{{5, owned.layer}}});
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_A, 1), (Floats{1000, 1001, 0, 0, 3000, 3001, 0, 0}));
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_B, 1), (Floats{2220, 0, 2230, 0, 4220, 0, 4230, 0}));
  EXPECT_EQ(slot_values(buffers, BufferTensor::down_B, 1), (Floats{6000, 0, 6010, 0}));
}

TEST(Slice, WritesItsSlotAndNotOneByteElsewhere) {
  const OwnedLayer owned(kTiny, 1);
  const LoraBuffers buffers = sliced(kTiny, {{{5, owned.layer}}}, 0xA5);
  for (BufferTensor tensor : kBufferTensors) {
    const auto bytes = buffers.bytes(0, tensor);
    const std::size_t slot = bytes.size() / 3;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (i / slot != 1) {
        ASSERT_EQ(bytes[i], std::byte{0xA5}) << to_string(tensor) << " byte " << i;
      }
    }
  }
  for (int module : {0, 1})
    for (int l : {0, 2}) EXPECT_EQ(std::bit_cast<std::uint32_t>(buffers.scale(0, module, l)), 0xA5A5A5A5U);
}

TEST(Slice, ZeroFillsAModuleThatTheAdapterLacks) {
  OwnedLayer owned(kTiny, 1);
  owned.layer.gate_up = {};
  const LoraBuffers buffers = sliced(kTiny, {{{5, owned.layer}}});
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_A, 1), Floats(8, 0.0F));
  EXPECT_EQ(slot_values(buffers, BufferTensor::gate_up_B, 1), Floats(8, 0.0F));
  EXPECT_EQ(buffers.scale(0, 0, 1), 0.0F);
  EXPECT_EQ(buffers.scale(0, 1, 1), 0.25F);
}

TEST(Slice, SkipsLayersWithoutAnIdAndModulesThatAreNotActive) {
  OwnedLayer owned(kTiny, 1);
  owned.layer.down = {};
  const Adapter adapter{{{5, owned.layer}}};
  const std::vector<std::int32_t> experts = {0, 1, 2, 3};
  LoraBuffers buffers(
      buffer_shape(kTiny, {}, 4, {BufferLayer{std::nullopt}, BufferLayer{5, true, false}}, 1, 1, DType::f32),
      0xA5);
  reference::slice({kTiny, {}, experts, &adapter, &buffers.shape(), 0}, buffers.view());
  EXPECT_EQ(buffers.bytes(0, BufferTensor::gate_up_A)[0], std::byte{0xA5});
  EXPECT_EQ(std::bit_cast<std::uint32_t>(buffers.scale(0, 0, 0)), 0xA5A5A5A5U);
  EXPECT_EQ(buffers.at(1, BufferTensor::gate_up_A, 0, 0), 1000.0F);
  EXPECT_TRUE(buffers.bytes(1, BufferTensor::down_A).empty());
  EXPECT_EQ(buffers.view().tensor[1][2], nullptr);
}

TEST(Slice, ARankWithoutExpertsHasNothingToWriteAndDoesNotFail) {
  const OwnedLayer owned(kTiny, 1);
  const Adapter adapter{{{5, owned.layer}}};
  LoraBuffers buffers(buffer_shape(kTiny, {}, 0, {BufferLayer{5}}, 1, 1, DType::bf16));
  reference::slice({kTiny, {}, {}, &adapter, &buffers.shape(), 0}, buffers.view());
  EXPECT_TRUE(buffers.bytes(0, BufferTensor::gate_up_A).empty());
  EXPECT_EQ(buffers.scale(0, 0, 0), 0.5F);
}

/// The sentence of the refusal; the buffers must be as they were.
std::string refusal(
    const std::function<void(MoeGeometry&, OwnedLayer&, BufferShape&, SliceProblem&)>& spoil) {
  MoeGeometry geometry = kTiny;
  OwnedLayer owned(geometry, 2);
  const std::vector<std::int32_t> experts = {0, 1, 2, 3};
  BufferShape shape = buffer_shape(geometry, {}, 4, {BufferLayer{5}}, 2, 2, DType::f32);
  LoraBuffers buffers(shape, 0xA5);
  const LoraBuffers before = buffers;
  SliceProblem problem{geometry, {}, experts, nullptr, &shape, 0};
  spoil(problem.geometry, owned, shape, problem);
  const Adapter adapter{{{5, owned.layer}}};
  problem.adapter = &adapter;
  try {
    reference::slice(problem, buffers.view());
  } catch (const InvalidArgument& error) {
    return buffers == before ? error.what() : "something was written";
  }
  return "accepted";
}

#define EXPECT_REFUSED(words, ...)                                                                    \
  EXPECT_NE(refusal([]([[maybe_unused]] MoeGeometry& geometry, [[maybe_unused]] OwnedLayer& owned,    \
                       [[maybe_unused]] BufferShape& shape, [[maybe_unused]] SliceProblem& problem) { \
              __VA_ARGS__;                                                                            \
            }).find(words),                                                                           \
            std::string::npos)                                                                        \
      << "no refusal that says: " << (words)

TEST(Slice, RefusesWhatDoesNotFitAndWritesNothing) {
  EXPECT_REFUSED("accepted", );
  EXPECT_REFUSED("slot is 2; it must be in [0, 1]", problem.slot = 2);
  EXPECT_REFUSED("gate lora_A shape is [4, 2, 3]", owned.layer.gate_up[0].A.cols = 3);
  EXPECT_REFUSED("up lora_B shape is [4, 8, 2]; it must be [E=4, I=4, r=2]",
                 owned.layer.gate_up[1].B.rows = 8);
  EXPECT_REFUSED("down lora_A shape is [3, 2, 4]", owned.layer.down.A.experts = 3);
  EXPECT_REFUSED("down rank (r) is 0", owned.layer.down.A.rows = 0);
  EXPECT_REFUSED("down lora_B is absent", owned.layer.down.B.data = nullptr);
  EXPECT_REFUSED("layer 5 up is absent", owned.layer.gate_up[1] = {});
  EXPECT_REFUSED("rank (r) is 2; it must be in [1, 1]", shape.max_lora_rank = 1);
  EXPECT_REFUSED("layer 5 gate_up is present; no active layer", shape.layers[0].layer_id = 6);
  EXPECT_REFUSED("layer 5 down is present; no active layer", shape.layers[0].has_down = false);
  EXPECT_REFUSED("intermediate size of the MoE layer is 4", problem.place.moe_tp = 3);
  EXPECT_REFUSED("moe_tp_rank is 1", problem.place.moe_tp_rank = 1);
  EXPECT_REFUSED("buffer shape local_experts is 3", shape.local_experts = 3);
  EXPECT_REFUSED("gate lora_A shape is [4, 2, 2]; it must be [shared=1", geometry.shared_outer = true);
  EXPECT_REFUSED("layer 5 second half of gate_up is present", geometry.gated = false);
  EXPECT_REFUSED("buffer shape is null", problem.shape = nullptr);
}

reference::LoraPool pool_of_two(reference::LoraPool::Slice slice = reference::slice) {
  return {kTiny, {}, {0, 1, 2, 3}, {BufferLayer{5}}, 2, 2, DType::f16, std::move(slice)};
}

TEST(LoraPool, EvictsTheLeastRecentlyUsedAndKeepsSlotsEqualToLiveAdapters) {
  const OwnedLayer owned(kTiny, 1);
  const Adapter adapter{{{5, owned.layer}}};
  reference::LoraPool pool = pool_of_two();
  EXPECT_EQ(pool.load(10, adapter), 0);
  EXPECT_EQ(pool.load(11, adapter), 1);
  EXPECT_EQ(pool.find(10), 0);  // now 11 is the oldest
  EXPECT_EQ(pool.load(12, adapter), 1);
  EXPECT_EQ(pool.find(11), std::nullopt);
  EXPECT_EQ(pool.size(), 2);
  EXPECT_TRUE(pool.evict(10));
  EXPECT_FALSE(pool.evict(10));
  EXPECT_EQ(pool.size(), 1);
  for (std::uint64_t uid = 20; uid < 30; ++uid) {  // load and unload for ever: no ghost holds a slot
    EXPECT_EQ(pool.load(uid, adapter), 0);
    EXPECT_TRUE(pool.evict(uid));
  }
  EXPECT_EQ(pool.find(12), 1);
}

TEST(LoraPool, AnEvictedSlotHasScaleZero) {
  const OwnedLayer owned(kTiny, 1);
  reference::LoraPool pool = pool_of_two();
  pool.load(10, {{{5, owned.layer}}});
  EXPECT_EQ(pool.buffers().scale(0, 0, 0), 0.5F);
  pool.evict(10);
  EXPECT_EQ(pool.buffers().scale(0, 0, 0), 0.0F);
  EXPECT_EQ(pool.buffers().scale(0, 1, 0), 0.0F);
}

TEST(LoraPool, ASlotThatChangesHandsHoldsNothingOfItsFormerAdapter) {
  const OwnedLayer full(kTiny, 2);
  OwnedLayer down_only(kTiny, 1);
  down_only.layer.gate_up = {};
  reference::LoraPool used = pool_of_two(), fresh = pool_of_two();
  used.load(1, {{{5, full.layer}}});
  used.load(2, {});
  used.load(3, {{{5, down_only.layer}}});
  fresh.load(3, {{{5, down_only.layer}}});
  EXPECT_EQ(used.buffers(), fresh.buffers());
}

TEST(LoraPool, ReloadingAnIdRewritesItsSlot) {
  const OwnedLayer full(kTiny, 2);
  reference::LoraPool pool = pool_of_two();
  pool.load(1, {});
  pool.load(2, {});
  EXPECT_EQ(pool.load(1, {{{5, full.layer}}}), 0);
  EXPECT_EQ(pool.size(), 2);
  EXPECT_EQ(pool.buffers().scale(0, 0, 0), 0.5F);
}

TEST(LoraPool, ALoadThatIsRefusedChangesNothing) {
  const OwnedLayer good(kTiny, 1), too_large(kTiny, 3);
  reference::LoraPool pool = pool_of_two();
  pool.load(1, {{{5, good.layer}}});
  pool.load(2, {{{5, good.layer}}});
  const LoraBuffers before = pool.buffers();
  EXPECT_THROW(pool.load(3, {{{5, too_large.layer}}}), InvalidArgument);
  EXPECT_THROW(pool.load(1, {{{6, good.layer}}}), InvalidArgument);
  EXPECT_EQ(pool.buffers(), before);
  EXPECT_EQ(pool.find(3), std::nullopt);
  EXPECT_EQ(pool.find(1), 0);
  EXPECT_EQ(pool.load(3, {{{5, good.layer}}}), 1);  // 2 was the oldest all along
}

}  // namespace
}  // namespace eplora
