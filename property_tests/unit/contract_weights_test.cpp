// SPDX-License-Identifier: Apache-2.0
// The judges' own tests, P7 for tensors and P10: buffers wrong in one element, one byte or one scale are
// refused with its coordinates; the reference's are accepted.
#include "reference/contract/weights.h"

#include <cmath>
#include <cstring>

#include "property_tests/unit/contract_adapter_cases.h"
#include "property_tests/unit/contract_expect.h"

namespace eplora::contract {
namespace {

/// E=2 on one EP rank, H=2, I=4 on MoE-TP rank 1 of 2 (i=2), L=3, R=3; the adapter has r=2 and goes to
/// slot 1.
struct BuffersJudge : testing::Test {
  Random random{1};
  AdapterCase c{{2, 2, 4, true, GateUpForm::stacked, false}, DType::f32, {}, {}};
  RankPlace place{1, 2, 0, 1, 1, 2, 0, 1};
  std::vector<std::int32_t> experts{1, 0};
  BufferShape shape = buffer_shape(c.geometry, place, 2, three_layers(), 3, 3, DType::f32);
  LoraBuffers before{shape, 0x7B}, after{shape};
  SliceProblem problem;

  void SetUp() override {
    c.adapter.layers[3] = c.layer(random, 2, true, true);
    load();
  }
  void load() {
    problem = {c.geometry, place, experts, &c.adapter, &shape, 1};
    before = after = LoraBuffers(shape, 0x7B);
    reference::slice(problem, after.view());
  }
  Verdict with(std::size_t layer, BufferTensor which, std::int64_t element, float value,
               const Form& form = {}) {
    LoraBuffers wrong = after;
    store_float(wrong.bytes(layer, which).data(), shape.dtype, element, value);
    return p10_buffers(problem, before, wrong, form);
  }
  static std::string stale() { return "e+36"; }  // 0x7B7B7B7B as a float
  float at(BufferTensor which, std::int64_t element) {
    return load_as_float(after.bytes(0, which).data(), shape.dtype, element);
  }
};

TEST_F(BuffersJudge, P10AcceptsTheReference) { expect_accepted(p10_buffers(problem, before, after)); }

TEST_F(BuffersJudge, P10RefusesAStaleElement) {
  // gate_up_B [3, 2, 2*2, 3]: slot 1 begins at 24; local expert 1, row 2 (half 1, q 0), rank index 1 is 12 +
  // 6 + 1.
  const StridedTensor& up_B = c.adapter.layers[3].gate_up[1].B;
  expect_violation(
      with(0, BufferTensor::gate_up_B, 24 + 19, 7.5F), "P10", 43,
      std::to_string(up_B.at(0, 2, 1)).substr(0, 3), "7.5",
      "slot 1, local expert 1 (expert 0), half 1, row 2, rank index 1, the adapter's (expert 0, row 2");
}
TEST_F(BuffersJudge, P10RefusesRankPaddingThatIsNotZero) {
  // gate_up_A [3, 2, 2, 3, 2]: slot 1 begins at 24, rank index 2 of local expert 0, half 0 at 4.
  expect_violation(with(0, BufferTensor::gate_up_A, 28, 1.0F), "P10", 28, "0", "1",
                   "rank index 2, column 0, past its rank r=2");
  expect_violation(with(0, BufferTensor::gate_up_A, 28, -0.0F), "P10", 28, "0", "-0 with other bits");
  expect_violation(with(0, BufferTensor::down_B, 12 + 5, std::nanf("")), "P10", 17, "0", "nan",
                   "layer 0 (id 3), down_B");
}
TEST_F(BuffersJudge, P10RefusesAByteInAnotherSlot) {
  expect_violation(with(0, BufferTensor::down_A, 0, 1.0F), "P10", 0, stale(), "1",
                   "element 0 of slot 0, which a load into slot 1 must not touch");
  expect_violation(with(0, BufferTensor::down_A, 24, 1.0F), "P10", 24, stale(), "1", "element 0 of slot 2");
  expect_violation(with(1, BufferTensor::down_A, 12, 1.0F), "P10", 12, stale(), "1", "layer 1 (no id)");
}
TEST_F(BuffersJudge, P10RefusesAModuleTheNewAdapterLacksAndNobodyCleared) {
  c.adapter.layers[3].gate_up = {};
  LoraBuffers stale = after;
  load();
  expect_accepted(p10_buffers(problem, before, after));
  std::memcpy(after.bytes(0, BufferTensor::gate_up_A).data(), stale.bytes(0, BufferTensor::gate_up_A).data(),
              stale.bytes(0, BufferTensor::gate_up_A).size());
  expect_violation(p10_buffers(problem, before, after), "P10", 24, "0", "", "which the adapter lacks");
}
TEST_F(BuffersJudge, P10RefusesWrongScales) {
  LoraBuffers wrong = after;
  wrong.scale(0, 1, 1) *= 2;
  expect_violation(p10_buffers(problem, before, wrong), "P10", 4, "", "", "layer 0, scale of down, slot 1");
  wrong = after;
  wrong.scale(0, 0, 2) = 1;
  expect_violation(p10_buffers(problem, before, wrong), "P10", 2, "", "1",
                   "slot 2, which a load into slot 1 must not touch");
  wrong = after;
  wrong.scale(2, 1, 1) = 1;  // layer id 5 is not in the adapter
  expect_violation(p10_buffers(problem, before, wrong), "P10", 16, "0", "1");
}
TEST_F(BuffersJudge, P10RefusesBuffersOfAnotherShape) {
  BufferShape larger = shape;
  larger.max_lora_rank = 4;
  expect_violation(p10_buffers(problem, before, LoraBuffers(larger)), "P10", -1, "the problem's", "another");
}
TEST_F(BuffersJudge, P10AllowsTheScaleInBIfDeclared) {
  Form form;
  form.scale_in_B = true;
  const AdapterLayer& layer = c.adapter.layers[3];
  EXPECT_TRUE(p10_buffers(problem, before, after, form));
  for (const auto& [which, scale] :
       {std::pair{BufferTensor::gate_up_B, layer.gate_up_scale}, {BufferTensor::down_B, layer.down_scale}})
    for (std::int64_t i = 0, n = shape.slot_elements(which); i < n; ++i)
      store_float(after.bytes(0, which).data(), shape.dtype, n + i, at(which, n + i) * scale);
  after.scale(0, 0, 1) = after.scale(0, 1, 1) = 1;
  expect_accepted(p10_buffers(problem, before, after, form));
  expect_violation(with(0, BufferTensor::gate_up_B, 24, at(BufferTensor::gate_up_B, 24) * 1.0001F, form),
                   "P10", 24, "", "");
  EXPECT_TRUE(p10_buffers(problem, before, after));
}

/// Every single byte matters.
TEST(RandomBuffers, P10AcceptsTheReferenceAndNoChangedByte) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const auto moe_tp = static_cast<std::int32_t>(random.in(1, 3));
    AdapterCase c{random_geometry(random, moe_tp), static_cast<DType>(random.in(0, 2)), {}, {}};
    const std::int64_t R = random.in(1, 4);
    fill_adapter(c, random, R);
    const auto p = static_cast<std::int32_t>(random.in(0, moe_tp - 1));
    const RankPlace place{p, moe_tp, 0, 1, p, moe_tp, 0, 1};
    std::vector<std::int32_t> experts;
    for (std::int32_t e = 0; e < c.geometry.num_experts; ++e)
      if (!random.one_in(3)) experts.insert(random.one_in(2) ? experts.begin() : experts.end(), e);
    const auto L = static_cast<std::int32_t>(random.in(1, 3));
    const BufferShape shape = buffer_shape(c.geometry, place, static_cast<std::int64_t>(experts.size()),
                                           three_layers(), L, R, static_cast<DType>(random.in(0, 2)));
    const SliceProblem problem{c.geometry, place,  experts,
                               &c.adapter, &shape, static_cast<std::int32_t>(random.in(0, L - 1))};
    const LoraBuffers before(shape, static_cast<std::uint8_t>(random.in(1, 255)));
    LoraBuffers after = before;
    reference::slice(problem, after.view());
    const Verdict verdict = p10_buffers(problem, before, after);
    ASSERT_FALSE(verdict) << "seed " << seed << ": " << verdict->sentence;
    for (int i = 0; i < 10; ++i) {
      LoraBuffers wrong = after;
      const auto layer = static_cast<std::size_t>(random.in(0, 2));
      const auto bytes = wrong.bytes(layer, kBufferTensors[random.in(0, 3)]);
      if (bytes.empty()) {
        wrong.scale(layer, static_cast<int>(random.in(0, 1)),
                    static_cast<std::int32_t>(random.in(0, L - 1))) += 1.5F;
        if (wrong.scales().size() == after.scales().size() &&
            std::memcmp(wrong.scales().data(), after.scales().data(), wrong.scales().size_bytes()) == 0)
          continue;  // the poison was too large for 1.5 to matter
      } else {
        bytes[random.in(0, static_cast<std::int64_t>(bytes.size()) - 1)] ^= std::byte(1U << random.in(0, 7));
      }
      ASSERT_TRUE(p10_buffers(problem, before, wrong)) << "seed " << seed;
    }
  }
}

/// All ranks' buffers of one adapter in slot 0.
std::vector<LoraBuffers> load_all(const AdapterCase& c, const Layout& layout, std::int64_t R, DType dtype) {
  std::vector<LoraBuffers> all;
  for (std::int32_t rank = 0; rank < layout.mesh.num_ranks(); ++rank) {
    const auto& experts = layout.local_experts(rank);
    const BufferShape shape =
        buffer_shape(c.geometry, layout.place(rank), static_cast<std::int64_t>(experts.size()),
                     three_layers(), 1, R, dtype);
    all.emplace_back(shape, 0x7B);
    reference::slice({c.geometry, layout.place(rank), experts, &c.adapter, &shape, 0}, all.back().view());
  }
  return all;
}

TEST(RandomBuffers, P7ReassemblesTheReferenceAndNoChangedElement) {
  int changed = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    const SglangSizes sizes[] = {{1, 1, 1}, {4, 2, 1}, {4, 2, 2}, {6, 1, 2}, {3, 3, 1}, {2, 1, 1}};
    const SglangSizes size = sizes[random.in(0, 5)];
    AdapterCase c{random_geometry(random, size.moe_tp()), static_cast<DType>(random.in(0, 2)), {}, {}};
    fill_adapter(c, random, 3);
    const Layout layout = make_layout(sglang_layout(
        size, c.geometry.num_experts, random.one_in(2) ? PlacementKind::linear : PlacementKind::round_robin));
    const auto all = load_all(c, layout, 3, static_cast<DType>(random.in(0, 2)));
    const Verdict verdict = p7_reassembly(c.geometry, layout, c.adapter, 0, all);
    ASSERT_FALSE(verdict) << "seed " << seed << ": " << verdict->sentence;
    auto wrong = all;
    const auto rank = random.in(0, layout.mesh.num_ranks() - 1);
    const auto bytes =
        wrong[rank].bytes(0, BufferTensor::down_A);  // rank index 0 stands first, never padding
    if (bytes.empty() || !c.adapter.layers[3].down.present()) continue;
    bytes[1] ^= std::byte{0x10};
    ASSERT_TRUE(p7_reassembly(c.geometry, layout, c.adapter, 0, wrong)) << "seed " << seed;
    ++changed;
  }
  EXPECT_GT(changed, 30);
}

struct ReassemblyJudge : testing::Test {
  Random random{2};
  AdapterCase c{{3, 2, 4, true, GateUpForm::stacked, false}, DType::f32, {}, {}};
  LayoutSpec spec = sglang_layout({4, 2, 1}, 3);
  Layout layout = make_layout(spec);
  std::vector<LoraBuffers> all;
  void SetUp() override {
    c.adapter.layers[3] = c.layer(random, 2, true, true);
    all = load_all(c, layout, 3, DType::f32);
  }
  Verdict judge(const Layout& under) { return p7_reassembly(c.geometry, under, c.adapter, 0, all); }
};

TEST_F(ReassemblyJudge, P7RefusesColumnsAtTheWrongMoeTpRank) {
  Layout wrong = layout;
  for (RankPlace& place : wrong.places) place.moe_tp_rank = place.rank;
  expect_violation(judge(wrong), "P7", 2, "inside [0, 4)", "[4, 6)", "columns on rank 2");
  std::swap(all[0], all[1]);  // every rank holds its neighbour's columns
  expect_violation(judge(layout), "P7", 0, "", "", "layer id 3, gate B, expert 0, row 0, column 0 on rank 0");
}
TEST_F(ReassemblyJudge, P7RefusesExpertsInAnotherLocalOrder) {
  Layout other = layout;
  other.placement = Placement::table(3, {{1, 0}, {2}});  // the buffers were loaded as {{0, 1}, {2}}
  expect_violation(judge(other), "P7", 0, "", "", "gate A, expert 0, row 0, column 0 on rank 0");
}
TEST_F(ReassemblyJudge, P7RefusesAHoleAndADisagreement) {
  Layout hole = layout;
  for (RankPlace& place : hole.places) place.moe_tp_rank = 0;
  all[1] = all[0], all[3] = all[2];
  expect_violation(judge(hole), "P7", -1, "", "no rank holds it", "gate B, expert 0, row 2");
  all = load_all(c, layout, 3, DType::f32);
  store_float(all[3].bytes(0, BufferTensor::gate_up_A).data(), DType::f32, 1,
              77);  // ranks 2 and 3 hold expert 2
  expect_violation(judge(layout), "P7", 3, "as on rank 2", "77",
                   "gate A, expert 2, row 0, column 1 on rank 3");
}
TEST_F(ReassemblyJudge, P7RefusesScalesShapesAndPlacesThatDoNotFit) {
  all[2].scale(0, 0, 0) = 17;
  expect_violation(judge(layout), "P7", 2, "", "17", "layer id 3, gate, scale on rank 2");
  Layout wrong = layout;
  wrong.places[1].ep_rank = -4;
  expect_violation(judge(wrong), "P7", 1, "2 rows", "-4", "ep_rank of rank 1");
  wrong = layout;
  wrong.placement = Placement::linear(3, 3);
  expect_violation(judge(wrong), "P7", 0, "1", "2", "number of local experts on rank 0");
  expect_violation(p7_reassembly(c.geometry, layout, c.adapter, 1, all), "P7", 0, "in [0, 1)", "1",
                   "slot on rank 0");
  all.pop_back();
  expect_violation(judge(layout), "P7", -1, "4", "3", "number of ranks with buffers");
}

}  // namespace
}  // namespace eplora::contract
