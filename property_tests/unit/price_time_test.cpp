// SPDX-License-Identifier: Apache-2.0
// Seconds against multiply-adds and bytes counted one at a time, and a deployment's price against the sum
// over its layers one by one.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "property_tests/unit/price_cases.h"

namespace eplora::price_test {
namespace {

/// Rates of no real machine, each another number, so that none stands in for another.
Rates odd_rates(std::uint64_t seed) {
  const double s = 1 + static_cast<double>(seed % 7);
  const double memory = seed % 2 == 0 ? 3e4 : 3e6;
  return {1e6 * s, memory, 1.7e4 * s, 9e3, 0.5, 0.7, 0.9, 2e-5, 7e-6};
}

/// Multiply-adds of one row through a `[rows, columns]` matrix, counted; also its elements.
double elements(std::int64_t rows, std::int64_t columns) {
  double count = 0;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) count += 1;
  return count;
}

double link_seconds(const LinkBytes& bytes, const Rates& rates) {
  const double inside = static_cast<double>(bytes.inside) / (rates.inside * rates.link_efficiency);
  const double between = static_cast<double>(bytes.between) / (rates.between * rates.link_efficiency);
  return inside > between ? inside : between;
}

/// Two link kinds, two directions: the slowest of the four.
double exchange_seconds(const LinkBytes& sent, const LinkBytes& received, const Rates& rates) {
  if (sent == LinkBytes{} && received == LinkBytes{}) return 0;
  return rates.exchange_latency + std::max(link_seconds(sent, rates), link_seconds(received, rates));
}

double expert_seconds(const Case& test, const LayerClass& c, const Stand& at, const RankLoad& load,
                      const Rates& rates) {
  const std::int64_t H = test.model.hidden, R = test.options.adapters.max_lora_rank;
  const std::int64_t halves = test.model.gated ? 2 : 1;
  const auto w = static_cast<std::int64_t>(columns_are_real(c, at, test.model.intermediate).size());
  const ElementBytes& bytes = test.options.bytes;
  const auto wide = [](std::int64_t value) { return static_cast<double>(value); };
  const double expert = elements(halves, H * w) + elements(H, w);
  double flops = 0, moved = wide(load.experts_used) * expert * wide(bytes.weights);
  for (std::int64_t row = 0; row < load.blocks * test.options.block_size; ++row) flops += 2 * expert;
  for (std::int64_t slot = 0; slot < load.slots; ++slot)  // in, gate_up's output, out
    moved += wide((H + (halves + 1) * w + H) * bytes.activations);
  const auto mine = [&](std::int64_t total, const std::vector<std::string>& axes) {
    const auto part = part_of_item(total, at.digits.parts(axes));
    return std::count(part.begin(), part.end(), at.digits.index(axes));
  };
  if (test.options.adapters.max_loras > 0) {
    const double lora = elements(halves * mine(R, c.spec.sharding.lora_rank), H) + elements(halves * w, R) +
                        elements(R, w) + elements(mine(H, c.spec.sharding.hidden), R);
    for (std::int64_t row = 0; row < load.lora_blocks * test.options.block_size; ++row) flops += 2 * lora;
    moved += wide(load.virtual_experts_used) * lora * wide(bytes.adapters);
  }
  const SharedExpertsSpec& shared = c.spec.shared_experts;
  if (shared.kind == SharedExpertsKind::replicated || shared.kind == SharedExpertsKind::sharded) {
    const std::int64_t all = shared.intermediate == 0 ? test.model.intermediate : shared.intermediate;
    const double weights = wide(shared.count) * (elements(halves, H * mine(all, shared.axes)) +
                                                 elements(H, mine(all, shared.axes)));
    const auto home = part_of_item(test.trace.num_tokens, at.homes);
    flops += 2 * weights * wide(std::count(home.begin(), home.end(), at.home));
    moved += weights * wide(bytes.weights);
  }
  return std::max(flops / (rates.flops * rates.flops_efficiency),
                  moved / (rates.memory * rates.memory_efficiency));
}

void expect_close(double got, double want, const std::string& what) {
  EXPECT_LE(std::abs(got - want), 1e-12 * std::abs(want)) << what << ": " << got << ", counted " << want;
}

/// The price, or nothing where no exchange is possible (the tests of traffic say which).
std::optional<Price> price_of(const Case& test) {
  try {
    return price_deployment(test.deployment, test.model, test.trace, test.options);
  } catch (const InvalidArgument&) {
    return std::nullopt;
  }
}

TEST(PriceTime, EqualsCountingOverRandomDeployments) {
  int priced = 0, with_stages = 0, by_compute = 0, by_memory = 0, with_exchange = 0, with_rings = 0;
  for (std::uint64_t seed = 1; seed <= 600; ++seed) {
    Case test = random_case(seed);
    test.options.rates = odd_rates(seed);
    SCOPED_TRACE(test.name());
    const std::optional<Price> price = price_of(test);
    if (!price) continue;
    ++priced;
    const LayerClass& c = test.deployment.classes.front();
    const ClassPrice& layer = price->classes.front();
    const Rates& rates = test.options.rates;
    std::map<std::int32_t, RankTime> slowest;
    for (std::int32_t rank = 0; rank < test.deployment.num_ranks; ++rank) {
      const Stand at(test.deployment, c, rank);
      const RankTraffic& links = layer.traffic.ranks[rank];
      RankTime want;
      want.dispatch = exchange_seconds(links.dispatch, links.dispatch_received, rates);
      want.combine = exchange_seconds(links.combine, links.combine_received, rates);
      for (const LinkBytes* ring : {&links.home_gather, &links.all_reduce, &links.shared_reduce, &links.lora})
        if (*ring != LinkBytes{}) want.reductions += rates.reduction_latency + link_seconds(*ring, rates);
      want.experts = expert_seconds(test, c, at, layer.load.ranks[rank], rates);
      const RankTime& got = layer.time.ranks[rank];
      RankTime& most = slowest[at.stage];
      for (const auto& [phase, name] :
           {std::pair{&RankTime::dispatch, "dispatch"}, std::pair{&RankTime::experts, "experts"},
            std::pair{&RankTime::combine, "combine"}, std::pair{&RankTime::reductions, "reductions"}}) {
        expect_close(got.*phase, want.*phase, std::string(name) + " of rank " + std::to_string(rank));
        most.*phase = std::max(most.*phase, want.*phase);
      }
      with_exchange += want.dispatch > 0;
      with_rings += want.reductions > 0;
    }
    ASSERT_EQ(layer.time.layer_of_stage.size(), slowest.size());
    double seconds = 0;  // layer after layer, each on its stage
    for (const std::int64_t stage :
         part_of_item(static_cast<std::int64_t>(test.model.moe_layers.size()), c.stages)) {
      const RankTime& most = slowest[static_cast<std::int32_t>(stage)];
      seconds += most.dispatch + most.experts + most.combine + most.reductions;
    }
    expect_close(price->seconds, seconds, "all layers");
    with_stages += c.stages > 1;
    Case unlimited = test;  // which of the two limits it is
    unlimited.options.rates.memory = 1e20;
    (price_of(unlimited)->classes[0].time.ranks[0].experts < layer.time.ranks[0].experts ? by_memory
                                                                                         : by_compute) += 1;
  }
  for (const int count : {priced, with_stages, by_compute, by_memory, with_exchange, with_rings})
    EXPECT_GT(count, 50);
}

TEST(PriceDeployment, IsTheSumOverItsLayersOneByOne) {
  DeploymentSpec spec;
  spec.grids = {{"few", {{"dp", 4}, {"ep", 2}}}, {"many", {{"pp", 2}, {"ep", 4}}}};
  LayerClassSpec first, rest;
  first.name = "first";
  first.grid = "few";
  first.layers = {1, 3};
  first.sharding.tokens = {"dp"};
  first.sharding.experts = {"ep"};
  first.placement.num_experts = 8;
  rest.name = "rest";
  rest.grid = "many";
  rest.sharding.experts = {"ep"};
  rest.sharding.layers = {"pp"};
  rest.placement.num_experts = 8;
  rest.placement.rule = PlacementRule::round_robin;
  spec.classes = {first, rest};
  spec.attention = {"many", {"ep"}, {}};
  const PricedModel model{8,  2,    16,
                          12, true, {1, 3, 4, 5, 7, 9, 11}};  // five layers are of the rest: 3 and 2
  const RoutingTrace trace = make_trace({TraceKind::zipf, 1.1, 3}, 40, 2, 8, 2);
  PriceOptions options;
  options.adapters = {2, 4};
  const Deployment deployment = make_deployment(spec);
  const Price all = price_deployment(deployment, model, trace, options);
  ASSERT_EQ(all.classes.size(), 2U);
  EXPECT_EQ(all.classes[0].num_layers, 2);
  EXPECT_EQ(all.classes[1].num_layers, 5);
  for (std::int32_t rank = 0; rank < 8; ++rank) {
    const std::int64_t of_rest = rank < 4 ? 3 : 2;  // stage 0 has one layer more
    const auto sum = [&](auto of) {
      return 2 * of(all.classes[0], rank) + of_rest * of(all.classes[1], rank);
    };
    const RankPrice& got = all.ranks[rank];
    EXPECT_EQ(got.slots, sum([](const ClassPrice& one, std::int32_t r) { return one.load.ranks[r].slots; }));
    EXPECT_EQ(got.blocks,
              sum([](const ClassPrice& one, std::int32_t r) { return one.load.ranks[r].blocks; }));
    EXPECT_EQ(got.padding, sum([&](const ClassPrice& one, std::int32_t r) {
                return one.load.ranks[r].blocks * options.block_size - one.load.ranks[r].slots;
              }));
    EXPECT_EQ(got.lora_blocks,
              sum([](const ClassPrice& one, std::int32_t r) { return one.load.ranks[r].lora_blocks; }));
    EXPECT_EQ(got.traffic.sent().between,
              sum([](const ClassPrice& one, std::int32_t r) { return one.traffic.ranks[r].sent().between; }));
    EXPECT_EQ(got.traffic.sent().inside,
              sum([](const ClassPrice& one, std::int32_t r) { return one.traffic.ranks[r].sent().inside; }));
    EXPECT_EQ(got.traffic.dispatch_received.total(), sum([](const ClassPrice& one, std::int32_t r) {
                return one.traffic.ranks[r].dispatch_received.total();
              }));
    double busy = 0;
    for (int i = 0; i < 2; ++i) busy += all.classes[0].time.ranks[rank].total();
    for (int i = 0; i < of_rest; ++i) busy += all.classes[1].time.ranks[rank].total();
    expect_close(got.time.total(), busy, "busy of rank " + std::to_string(rank));
  }
  expect_close(all.seconds,
               2 * all.classes[0].time.layer_of_stage[0] + 3 * all.classes[1].time.layer_of_stage[0] +
                   2 * all.classes[1].time.layer_of_stage[1],
               "all layers");
  EXPECT_EQ(all.imbalance(), std::max(all.classes[0].load.imbalance(), all.classes[1].load.imbalance()));
}

TEST(PriceTime, RefusesRatesThatAreNoRates) {
  for (const auto rate : {&Rates::flops, &Rates::memory, &Rates::inside, &Rates::between,
                          &Rates::flops_efficiency, &Rates::memory_efficiency, &Rates::link_efficiency})
    for (const double wrong : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
      Rates rates;
      rates.*rate = wrong;
      EXPECT_THROW(validate(rates), InvalidArgument) << wrong;
    }
  for (const auto share : {&Rates::flops_efficiency, &Rates::memory_efficiency, &Rates::link_efficiency}) {
    Rates rates;
    rates.*share = 1.01;
    EXPECT_THROW(validate(rates), InvalidArgument);
  }
  for (const auto latency : {&Rates::exchange_latency, &Rates::reduction_latency})
    for (const double wrong : {-1e-9, std::nan("")}) {
      Rates rates;
      rates.*latency = wrong;
      EXPECT_THROW(validate(rates), InvalidArgument) << wrong;
    }
  EXPECT_NO_THROW(validate(Rates{}));
}

}  // namespace
}  // namespace eplora::price_test
