// SPDX-License-Identifier: Apache-2.0
// The delta and the MoE layer: hand-worked numbers for the formula, then the one property that every layout
// bug breaks - sharded equals whole - over small random problems and layouts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <random>

#include "reference/check.h"
#include "reference/layout/presets.h"
#include "reference/lora/delta.h"
#include "reference/lora/sharded_moe_layer.h"

namespace eplora::reference {
namespace {

using Floats = std::vector<float>;
using Ids = std::vector<std::int32_t>;

/// A problem that owns what it points to.
struct Case {
  std::deque<Floats> memory;
  std::deque<AdapterLayer> layers;
  Ids ids, mapping;
  MoeLayerProblem problem;

  const Floats& keep(Floats values) { return memory.emplace_back(std::move(values)); }
  StridedTensor tensor(Floats values, std::int64_t experts, std::int64_t rows, std::int64_t cols) {
    return {keep(std::move(values)).data(), DType::f32, experts, rows, cols, rows * cols, cols, 1};
  }
};

/// E=2, H=1, I=1, one token x=1 that chose expert 1 with weight 0.5; gate 2, up 3, down 5.
Case scalar_case(bool gated) {
  Case c;
  MoeLayerProblem& p = c.problem;
  p.geometry = {2, 1, 1, gated, GateUpForm::stacked, false};
  p.base.gate_up_proj = c.keep(gated ? Floats{9, 9, 2, 3} : Floats{9, 2});
  p.base.down_proj = c.keep({9, 5});
  c.ids = {1};
  c.mapping = {0};
  p.topk_ids = IdMatrix::of(c.ids, 1);
  p.token_lora_mapping = c.mapping;
  p.topk_weights = c.keep({0.5F});
  p.hidden_states = c.keep({1.0F});
  return c;
}

double silu(double x) { return x / (1.0 + std::exp(-x)); }

TEST(MoeLayer, IsSiluOfGateTimesUpThroughDownTimesTheRouterWeight) {
  EXPECT_DOUBLE_EQ(moe_layer<double>(scalar_case(true).problem)(0, 0), 0.5 * 5 * silu(2) * 3);
}

TEST(MoeLayer, SquaresTheReluWhenNotGated) {
  EXPECT_DOUBLE_EQ(moe_layer<double>(scalar_case(false).problem)(0, 0), 0.5 * 5 * 4);
  Case negative = scalar_case(false);
  negative.problem.hidden_states = negative.keep({-1.0F});
  EXPECT_EQ(moe_layer<double>(negative.problem)(0, 0), 0.0);
}

TEST(MoeLayer, AddsTheDeltaOfTheTokensAdapter) {
  Case c = scalar_case(true);
  AdapterLayer& lora = c.layers.emplace_back();
  lora.gate_up[0] = {c.tensor({0, 1}, 2, 1, 1), c.tensor({0, 4}, 2, 1, 1)};   // gate: +0.5 * 4 * 1
  lora.gate_up[1] = {c.tensor({0, -1}, 2, 1, 1), c.tensor({0, 2}, 2, 1, 1)};  // up:   +0.5 * 2 * -1
  lora.down = {c.tensor({0, 3, 0, 1}, 2, 2, 1),
               c.tensor({7, 7, 2, 4}, 2, 1, 2)};  // down: +0.25 * (2*0 + 4*1)
  lora.gate_up_scale = 0.5F;
  lora.down_scale = 0.25F;
  c.problem.adapters = {&lora};
  EXPECT_DOUBLE_EQ(moe_layer<double>(c.problem)(0, 0), 0.5 * (5 + 1) * silu(2 + 2) * (3 - 1));
  EXPECT_NEAR(sharded_moe_layer<double>(c.problem, make_layout(sglang_layout({2, 2, 1}, 2)))(0, 0),
              0.5 * 6 * silu(4) * 2, 1e-14);
}

TEST(MoeLayer, NegativeAndInvalidIdsAddNothingAndTokensWithoutAdapterGetTheBase) {
  Case c = scalar_case(true);
  AdapterLayer& lora = c.layers.emplace_back();
  lora.down = {c.tensor({1, 1}, 2, 1, 1), c.tensor({1, 1}, 2, 1, 1)};
  lora.down_scale = 1;
  c.problem.adapters = {&lora, nullptr};
  c.ids = {-1, 2, -2147483647 - 1, 2147483647, 1, 0, 1, 1, 1, 1};
  c.problem.topk_ids = IdMatrix::of(c.ids, 2);
  c.mapping = {0, 0, -1, 1, 2};
  c.problem.token_lora_mapping = c.mapping;
  c.problem.topk_weights = c.keep({1, 1, 1, 1, 1, 0, 1, 0, 1, 0});
  c.problem.hidden_states = c.keep({1, 1, 1, 1, 1});
  const Matrix<double> y = moe_layer<double>(c.problem);
  const double base = 5 * silu(2) * 3;
  for (int t : {0, 1}) EXPECT_EQ(y(t, 0), 0.0);
  for (int t : {2, 3, 4}) EXPECT_DOUBLE_EQ(y(t, 0), base);
}

TEST(MoeLayer, RefusesWhatDoesNotFitByName) {
  const auto sentence = [](auto&& spoil) -> std::string {
    Case c = scalar_case(true);
    spoil(c);
    try {
      moe_layer<float>(c.problem);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(sentence([](Case&) {}), "accepted");
  EXPECT_NE(sentence([](Case& c) { c.problem.hidden_states = {}; }).find("hidden_states"), std::string::npos);
  EXPECT_NE(sentence([](Case& c) { c.problem.token_lora_mapping = {}; }).find("token_lora_mapping"),
            std::string::npos);
  EXPECT_NE(sentence([](Case& c) { c.problem.geometry.intermediate = 2; }).find("gate_up_proj elements is 4"),
            std::string::npos);
  EXPECT_NE(sentence([](Case& c) { c.problem.geometry.num_experts = 0; }).find("num_experts (E) is 0"),
            std::string::npos);
  EXPECT_NE(sentence([](Case& c) { c.problem.topk_weights = {}; }).find("topk_weights"), std::string::npos);
}

TEST(Delta, LeavesFillerSentinelsAndTokensWithoutAdapterAloneBitForBit) {
  // E_local=1, L=1, H=1, i=1, R=2 of which the adapter fills one; A=3, B=2, scale 1/2.
  BufferShape shape{{BufferLayer{0}}, 1, 2, 1, 1, 1, false, GateUpForm::stacked, false, DType::f32};
  LoraBuffers buffers(shape);
  for (BufferTensor tensor : kBufferTensors) {
    const float weight = tensor == BufferTensor::gate_up_A || tensor == BufferTensor::down_A ? 3.0F : 2.0F;
    store_float(buffers.bytes(0, tensor).data(), DType::f32, 0, weight);
  }
  for (int module : {0, 1}) buffers.scale(0, module, 0) = 0.5F;
  RouteResult route;
  route.blocks = {
      {2, 0, 4, 4, 1, 3}, {0, 0, -1}, 6};  // slots 0 and 2 in bucket 0; 1 and 3 are sentinels; 4 is filler
  route.token_lora_mask = {1, 0};
  const DeltaRouting routing{&route, nullptr, 2, 2};
  Matrix<double> x(2, 1), a = Matrix<double>::Constant(4, 1, 10);
  x << 1, 1;
  const Floats weights = {0.25F, 1, 1, 1};
  Matrix<double> gate_up = Matrix<double>::Constant(4, 1, -0.0), down = gate_up;
  add_gate_up_delta(buffers, 0, routing, x, gate_up);
  add_down_delta(buffers, 0, routing, weights, a, down);
  EXPECT_EQ(gate_up(0, 0), 0.5 * 2 * 3);
  EXPECT_EQ(down(0, 0), 0.25 * 0.5 * 2 * 3 * 10);
  for (int s : {1, 2, 3}) {
    EXPECT_TRUE(gate_up(s, 0) == 0 && std::signbit(gate_up(s, 0))) << "slot " << s;
    EXPECT_TRUE(down(s, 0) == 0 && std::signbit(down(s, 0))) << "slot " << s;
  }
}

TEST(Delta, RefusesALabelThatNoBufferHas) {
  LoraBuffers buffers({{BufferLayer{0}}, 1, 1, 1, 1, 1, false, GateUpForm::stacked, false, DType::f32});
  RouteResult route;
  route.blocks = {{0}, {1}, 1};
  route.token_lora_mask = {1};
  Matrix<float> x = Matrix<float>::Ones(1, 1), out = x;
  EXPECT_THROW(add_gate_up_delta(buffers, 0, {&route, nullptr, 1, 1}, x, out), InvalidArgument);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::int32_t integer(std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool coin() { return integer(0, 1) == 1; }
  Floats floats(std::int64_t count) {
    Floats values(count);
    for (float& value : values) value = static_cast<float>(integer(-1000, 1000)) / 1000.0F;
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

/// I is `width * moe_tp`; adapters differ in rank, scale and modules; gate A differs from up A.
Case random_case(Random& random, std::int32_t E, std::int64_t I) {
  Case c;
  MoeLayerProblem& p = c.problem;
  const GateUpForm form = random.coin() ? GateUpForm::stacked : GateUpForm::interleaved;
  p.geometry = {E, random.integer(1, 12), I, random.integer(0, 3) != 0, form, random.coin()};
  const std::int64_t H = p.geometry.hidden, T = random.integer(0, 12), K = random.integer(1, 4);
  p.base.gate_up_proj = c.keep(random.floats(E * p.geometry.halves() * I * H));
  p.base.down_proj = c.keep(random.floats(E * H * I));
  const std::int32_t L = random.integer(0, 4);
  for (std::int32_t l = 0; l < L; ++l) {
    if (random.integer(0, 4) == 0) {
      p.adapters.push_back(nullptr);
      continue;
    }
    AdapterLayer& lora = c.layers.emplace_back();
    const std::int64_t outer = p.geometry.shared_outer ? 1 : E, r = random.integer(1, 5);
    const bool gate_up = random.integer(0, 3) != 0;
    for (std::int32_t h = 0; gate_up && h < p.geometry.halves(); ++h)
      lora.gate_up[h] = {c.tensor(random.floats(outer * r * H), outer, r, H),
                         c.tensor(random.floats(E * I * r), E, I, r)};
    if (random.integer(0, 3) != 0)
      lora.down = {c.tensor(random.floats(E * r * I), E, r, I),
                   c.tensor(random.floats(outer * H * r), outer, H, r)};
    lora.gate_up_scale = random.floats(1)[0];
    lora.down_scale = random.floats(1)[0];
    p.adapters.push_back(&lora);
  }
  for (std::int64_t s = 0; s < T * K; ++s)
    c.ids.push_back(random.integer(0, 9) == 0 ? random.integer(-3, E + 3) : random.integer(0, E - 1));
  for (std::int64_t t = 0; t < T; ++t) c.mapping.push_back(random.integer(-1, L));
  p.topk_ids = IdMatrix::of(c.ids, K);
  p.token_lora_mapping = c.mapping;
  p.topk_weights = c.keep(random.floats(T * K));
  p.hidden_states = c.keep(random.floats(T * H));
  return c;
}

ShardedLayerOptions random_options(Random& random) {
  ShardedLayerOptions options;
  options.max_lora_rank = random.coin() ? 0 : 8;
  options.block_size = random.integer(1, 9);
  options.no_adapter = random.coin() ? NoAdapter::base_slot : NoAdapter::sentinel;
  options.sentinels = random.coin() ? Sentinels::keep : Sentinels::drop;
  return options;
}

template <class Scalar>
double relative_difference(const Matrix<Scalar>& got, const Matrix<Scalar>& want) {
  const double norm = want.template cast<double>().norm();
  const double difference = (got.template cast<double>() - want.template cast<double>()).norm();
  return difference == 0 ? 0 : difference / norm;
}

void expect_sharded_equals_whole(const MoeLayerProblem& problem, const Layout& layout,
                                 const ShardedLayerOptions& options) {
  EXPECT_LE(
      relative_difference(sharded_moe_layer<double>(problem, layout, options), moe_layer<double>(problem)),
      1e-13);
  EXPECT_LE(
      relative_difference(sharded_moe_layer<float>(problem, layout, options), moe_layer<float>(problem)),
      2e-6);
}

TEST(ShardedMoeLayer, EqualsTheWholeLayerUnderEverySglangLayout) {
  Random random(1);
  for (const SglangSizes& sizes : sglang_sizes_that_divide(8, 840)) {
    for (int repeat = 0; repeat < 8; ++repeat) {
      SCOPED_TRACE(to_string(sizes) + " repeat " + std::to_string(repeat));
      const std::int32_t E = random.integer(1, 9);  // often fewer than ep, seldom a multiple
      const Case c = random_case(random, E, std::int64_t{sizes.moe_tp()} * random.integer(1, 3));
      const auto kind = random.coin() ? PlacementKind::linear : PlacementKind::round_robin;
      expect_sharded_equals_whole(c.problem, make_layout(sglang_layout(sizes, E, kind)),
                                  random_options(random));
    }
  }
}

TEST(ShardedMoeLayer, EqualsTheWholeLayerWithReplicasReplicatedAxesAndAnyAxisOrder) {
  Random random(2);
  for (int repeat = 0; repeat < 60; ++repeat) {
    SCOPED_TRACE("repeat " + std::to_string(repeat));
    const std::int32_t ep = random.integer(1, 3), E = ep * random.integer(1, 3);
    std::vector<Axis> axes = {
        {"tp", random.integer(1, 3)}, {"ep", ep}, {"copy", 2}, {"dp", random.integer(1, 2)}};
    for (std::size_t i = axes.size(); i > 1; --i)
      std::swap(axes[i - 1],
                axes[static_cast<std::size_t>(random.integer(0, static_cast<std::int32_t>(i) - 1))]);
    const std::int32_t redundant = ep > 1 ? ep * random.integer(0, 1) : 0;
    PlacementSpec placement{PlacementKind::table, E,
                            Placement::redundant(E, redundant, ep).experts_of_rank()};
    const Layout layout = make_layout({axes, {{"dp"}, {"ep"}, {"tp"}}, placement});
    const Case c = random_case(random, E, std::int64_t{layout.places[0].moe_tp} * random.integer(1, 2));
    expect_sharded_equals_whole(c.problem, layout, random_options(random));
  }
}

TEST(ShardedMoeLayer, ARankThatOwnsNoExpertContributesExactlyZero) {
  Random random(3);
  const Case c = random_case(random, 2, 4);
  const Layout layout = make_layout(sglang_layout({4, 4, 1}, 2));
  const Matrix<double> partial = moe_layer_on_rank<double>(c.problem, layout, 3);
  EXPECT_EQ(partial.rows(), c.problem.topk_ids.rows);
  EXPECT_TRUE((partial.array() == 0.0).all());
}

TEST(ShardedMoeLayer, SlicingByTheOuterRankIsNotTheWholeLayer) {
  Random random(4);
  LayerSteps steps;
  steps.slice = [](SliceProblem problem, const BufferView& buffers) {
    problem.place.moe_tp_rank = std::min(problem.place.rank, problem.place.moe_tp - 1);
    slice(problem, buffers);
  };
  Case c = random_case(random, 4, 4);
  while (c.mapping.size() < 4 || c.problem.adapters.empty() || c.problem.adapters[0] == nullptr ||
         !c.problem.adapters[0]->down.present())
    c = random_case(random, 4, 4);
  std::fill(c.mapping.begin(), c.mapping.end(), 0);
  const Layout layout = make_layout(sglang_layout({4, 2, 1}, 4));
  EXPECT_GT(relative_difference(sharded_moe_layer<double>(c.problem, layout, {}, steps),
                                moe_layer<double>(c.problem)),
            1e-6);
}

TEST(ShardedMoeLayer, RowsOfOtherTokensDoNotChangeABitWhenAnAdapterIsLoaded) {
  Random random(5);
  const Layout layout = make_layout(sglang_layout({4, 2, 1}, 5));
  for (int repeat = 0; repeat < 40; ++repeat) {
    Case c = random_case(random, 5, 6);
    if (c.problem.adapters.empty()) continue;
    const Matrix<double> with = sharded_moe_layer<double>(c.problem, layout);
    c.problem.adapters.back() = nullptr;
    const Matrix<double> without = sharded_moe_layer<double>(c.problem, layout);
    for (std::int64_t t = 0; t < c.problem.topk_ids.rows; ++t) {
      if (c.mapping[t] != static_cast<std::int32_t>(c.problem.adapters.size()) - 1) {
        EXPECT_TRUE(with.row(t) == without.row(t)) << "token " << t;
      }
    }
  }
}

TEST(Recombine, SumsConcatenatesAndTakesOneCopy) {
  const LayoutSpec spec{
      {{"copy", 2}, {"dp", 2}, {"ep", 2}}, {{"dp"}, {"ep"}, {}}, {PlacementKind::linear, 2, {}}};
  std::vector<Matrix<double>> partials;
  for (int rank = 0; rank < 8; ++rank)
    partials.push_back(Matrix<double>::Constant(rank / 2 % 2 == 0 ? 2 : 1, 1, rank % 4 + 1));
  const Matrix<double> y = recombine(make_layout(spec), 3, partials);
  EXPECT_EQ(y, (Matrix<double>(3, 1) << 1 + 2, 1 + 2, 3 + 4).finished());
  partials.pop_back();
  EXPECT_THROW(recombine(make_layout(spec), 3, partials), InvalidArgument);
}

}  // namespace
}  // namespace eplora::reference
