// SPDX-License-Identifier: Apache-2.0
#include "property_tests/generators/deployed_cases.h"

#include <algorithm>

#include "reference/check.h"

namespace eplora::suite {
namespace {

/// splitmix64: small, seeded by any number, the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::int64_t n) { return integer(1, n) == 1; }
  /// In [-1, 1], never 0, few bits.
  float weight() {
    const std::int64_t value = integer(1, 1000);
    return static_cast<float>(one_in(2) ? value : -value) / 1000.0F;
  }
  std::vector<float> weights(std::int64_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = weight();
    return values;
  }

 private:
  std::uint64_t state_;
};

StridedTensor tensor(DeployedCase& c, Random& random, std::int64_t experts, std::int64_t rows,
                     std::int64_t cols) {
  const std::vector<float>& values = c.memory.emplace_back(random.weights(experts * rows * cols));
  return {values.data(), DType::f32, experts, rows, cols, rows * cols, cols, 1};
}

void add_adapters(DeployedCase& c, const DeployedSizes& sizes, Random& random) {
  const MoeGeometry& g = c.problem.routed.geometry;
  const std::int64_t outer = g.shared_outer ? 1 : g.num_experts;
  for (std::int32_t l = 0; l < sizes.max_loras; ++l) {
    AdapterLayer& lora = c.layers.emplace_back();
    const std::int64_t r = l == 0 ? sizes.max_lora_rank : random.integer(1, sizes.max_lora_rank);
    for (std::int32_t h = 0; h < g.halves(); ++h)
      lora.gate_up[h] = {tensor(c, random, outer, r, g.hidden),
                         tensor(c, random, g.num_experts, g.intermediate, r)};
    lora.down = {tensor(c, random, g.num_experts, r, g.intermediate), tensor(c, random, outer, g.hidden, r)};
    lora.gate_up_scale = random.weight();
    lora.down_scale = random.weight();
    c.problem.routed.adapters.push_back(&lora);
  }
}

reference::BaseWeights base_weights(DeployedCase& c, Random& random, std::int64_t experts, std::int64_t I) {
  const MoeGeometry& g = c.problem.routed.geometry;
  const auto& gate_up = c.memory.emplace_back(random.weights(experts * g.halves() * I * g.hidden));
  const auto& down = c.memory.emplace_back(random.weights(experts * g.hidden * I));
  return {gate_up, down};
}

const Axis& pick(Random& random, const std::vector<Axis>& axes) {
  return axes[random.integer(0, static_cast<std::int64_t>(axes.size()) - 1)];
}

/// Axes whose sizes multiply to `ranks`, in random order.
std::vector<Axis> random_axes(Random& random, std::int32_t ranks, const std::string& prefix) {
  std::vector<Axis> axes;
  for (std::int32_t left = ranks; left > 1;) {
    std::vector<std::int32_t> divisors;
    for (std::int32_t d = 2; d <= left; ++d)
      if (left % d == 0) divisors.push_back(d);
    const std::int32_t size = divisors[random.integer(0, static_cast<std::int64_t>(divisors.size()) - 1)];
    axes.push_back({prefix + std::to_string(axes.size()), size});
    left /= size;
  }
  if (axes.empty() || random.one_in(4)) axes.push_back({prefix + "one", 1});
  for (std::size_t i = axes.size(); i > 1; --i)
    std::swap(axes[i - 1], axes[random.integer(0, static_cast<std::int64_t>(i) - 1)]);
  return axes;
}

void cut_randomly(Random& random, LayerClassSpec& c, const std::vector<Axis>& axes) {
  for (const Axis& axis : axes) {
    switch (random.integer(0, 7)) {
      case 0:
        c.sharding.tokens.push_back(axis.name);
        break;
      case 1:
      case 2:
        c.sharding.experts.push_back(axis.name);
        break;
      case 3:
      case 4:
        c.sharding.intermediate.push_back(axis.name);
        if (random.one_in(2)) c.sharding.hidden.push_back(axis.name);
        if (random.one_in(2)) c.sharding.lora_rank.push_back(axis.name);
        if (random.one_in(2)) c.shared_experts.axes.push_back(axis.name);
        break;
      case 5:
        c.sharding.layers.push_back(axis.name);
        break;
      case 6:
        c.sharding.hidden.push_back(axis.name);
        if (random.one_in(2)) c.sharding.lora_rank.push_back(axis.name);
        break;
      default:
        break;
    }
  }
}

void place_randomly(Random& random, LayerClassSpec& c, std::int32_t ep) {
  ExpertPlacementSpec& placement = c.placement;
  placement.rule = static_cast<PlacementRule>(random.integer(0, 4));
  placement.replicas = static_cast<ReplicaRule>(random.integer(0, 3));
  placement.num_experts = static_cast<std::int32_t>(random.integer(1, 9));
  const std::int32_t E = placement.num_experts;
  if (placement.rule == PlacementRule::redundant || placement.rule == PlacementRule::wrap_around) {
    placement.redundant = static_cast<std::int32_t>(random.integer(0, 2)) * ep + (ep - E % ep) % ep;
  } else if (placement.rule == PlacementRule::table) {
    placement.table.assign(ep, {});
    for (std::int32_t e = 0; e < E; ++e) {
      const std::int64_t copies = random.integer(1, std::min<std::int64_t>(2, ep));
      const std::int64_t first = random.integer(0, ep - 1);
      for (std::int64_t i = 0; i < copies; ++i) placement.table[(first + i) % ep].push_back(e);
    }
  }
}

DeploymentSpec drawn(Random& random, std::int32_t max_ranks) {
  DeploymentSpec spec;
  spec.name = "random";
  const auto ranks = static_cast<std::int32_t>(random.integer(1, max_ranks));
  const std::vector<Axis> axes = random_axes(random, ranks, "a");
  spec.grids.push_back({"moe", axes});
  LayerClassSpec c;
  c.grid = "moe";
  cut_randomly(random, c, axes);
  std::int32_t ep = 1;
  for (const Axis& axis : axes)
    if (std::count(c.sharding.experts.begin(), c.sharding.experts.end(), axis.name) != 0) ep *= axis.size;
  place_randomly(random, c, ep);
  c.weight_form = static_cast<WeightForm>(random.integer(0, 4));
  if (c.weight_form == WeightForm::block_interleaved) c.interleave_block = random.integer(1, 3);
  c.shared_outer = random.one_in(4);
  if (random.one_in(2))
    c.padding = {random.integer(1, 4), random.one_in(2) ? PaddingPlace::each_rank : PaddingPlace::end};
  c.shared_experts.kind = static_cast<SharedExpertsKind>(random.integer(0, 3));
  if (c.shared_experts.kind != SharedExpertsKind::none)
    c.shared_experts.count = static_cast<std::int32_t>(random.integer(1, 2));
  if (c.shared_experts.kind != SharedExpertsKind::sharded) c.shared_experts.axes.clear();
  spec.classes.push_back(c);
  if (random.one_in(2) && c.sharding.layers.empty()) {
    const std::vector<Axis> attention = random_axes(random, ranks, "b");
    spec.grids.push_back({"attention", attention});
    spec.attention.grid = "attention";
    spec.attention.tokens = {pick(random, attention).name};
  }
  if (random.one_in(4))
    spec.classes.front().sum_over = joined_axes(c.sharding.intermediate, c.sharding.experts);
  return spec;
}

}  // namespace

PlanSizes DeployedSizes::plan() const {
  return {tokens, hidden, intermediate, shared_intermediate, max_lora_rank, num_layers};
}

DeployedCase deployed_case(const LayerClassSpec& spec, const DeployedSizes& sizes, std::uint64_t seed) {
  DeployedCase c;
  reference::MoeLayerProblem& p = c.problem.routed;
  const std::int32_t E = spec.placement.num_experts;
  p.geometry = {E,
                sizes.hidden,
                sizes.intermediate,
                spec.weight_form != WeightForm::non_gated,
                seed % 2 == 0 ? GateUpForm::stacked : GateUpForm::interleaved,
                sizes.shared_outer || spec.shared_outer};
  Random weights(seed), adapters(seed + 1), batch(seed + 2), shared(seed + 3);
  p.base = base_weights(c, weights, E, sizes.intermediate);
  add_adapters(c, sizes, adapters);
  const std::int64_t T = sizes.tokens, K = sizes.top_k, n = T * K;
  for (std::int64_t s = 0; s < n; ++s) {
    std::int64_t id = batch.integer(0, E - 1);
    if (sizes.sentinels && batch.one_in(8))
      id = batch.one_in(2) ? -batch.integer(1, 3) : E + batch.integer(0, 3);
    c.ids.push_back(static_cast<std::int32_t>(id));
  }
  for (std::int64_t t = 0; t < T; ++t) {
    std::int64_t l = sizes.max_loras == 0 ? -1 : batch.integer(0, sizes.max_loras - 1);
    if (sizes.sentinels && batch.one_in(4)) l = batch.one_in(2) ? -1 : sizes.max_loras;
    c.mapping.push_back(static_cast<std::int32_t>(l));
  }
  p.topk_weights = c.memory.emplace_back(batch.weights(n));
  p.hidden_states = c.memory.emplace_back(batch.weights(T * sizes.hidden));
  p.topk_ids = IdMatrix::of(c.ids, K);
  p.topk_ids.rows = T;
  p.token_lora_mapping = c.mapping;
  if (spec.shared_experts.kind != SharedExpertsKind::none) {
    c.problem.shared_intermediate = sizes.shared_intermediate;
    c.problem.shared = base_weights(c, shared, spec.shared_experts.count, sizes.shared_intermediate);
  }
  c.problem.layer = sizes.layer;
  return c;
}

std::int64_t fitting_intermediate(const LayerClass& layer_class, std::int64_t least) {
  constexpr std::int64_t kTries = 1 << 16;
  const std::int64_t block =
      layer_class.spec.weight_form == WeightForm::block_interleaved ? layer_class.spec.interleave_block : 1;
  for (std::int64_t I = std::max<std::int64_t>(1, least); I < least + kTries; ++I) {
    try {
      bool fits = true;
      for (std::int32_t rank = 0; fits && rank < layer_class.layout.mesh.num_ranks(); ++rank)
        fits = layer_class.columns(I, rank).width() % block == 0;
      if (fits) return I;
    } catch (const InvalidArgument&) {
      continue;
    }
  }
  reject("intermediate size", std::to_string(least),
         "no size from here on fits class " + layer_class.spec.name);
}

std::int64_t fitting_shared(const LayerClass& layer_class, std::int64_t routed, std::int64_t least) {
  const SharedExpertsSpec& shared = layer_class.spec.shared_experts;
  if (shared.kind == SharedExpertsKind::none) return 0;
  if (shared.kind == SharedExpertsKind::fused) return routed;
  const std::int64_t parts = layer_class.shared_parts;
  return (std::max<std::int64_t>(1, least) + parts - 1) / parts * parts;
}

DeployedSizes fitting_sizes(const LayerClass& layer_class, DeployedSizes wanted) {
  wanted.intermediate = fitting_intermediate(layer_class, wanted.intermediate);
  wanted.shared_intermediate =
      fitting_shared(layer_class, wanted.intermediate, std::max<std::int64_t>(1, wanted.shared_intermediate));
  const std::int64_t parts = layer_class.lora_rank_parts;
  wanted.max_lora_rank = (wanted.max_lora_rank + parts - 1) / parts * parts;
  wanted.num_layers = std::max<std::int64_t>(wanted.num_layers, layer_class.stages);
  wanted.layer = std::min(wanted.layer, wanted.num_layers - 1);
  return wanted;
}

DeploymentSpec random_deployment(std::uint64_t seed, std::int32_t max_ranks) {
  Random random(seed);
  for (;;) {
    const DeploymentSpec spec = drawn(random, max_ranks);
    try {
      const Deployment deployment = make_deployment(spec);
      for (const LayerClass& c : deployment.classes) fitting_intermediate(c, 4);
      return spec;
    } catch (const InvalidArgument&) {
      continue;
    }
  }
}

}  // namespace eplora::suite
