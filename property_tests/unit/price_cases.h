// SPDX-License-Identifier: Apache-2.0
// Random deployments, models and traces for the tests of prices, and a second opinion on where a rank stands,
// counted from its digits: nothing here or in those tests calls the code under test.
#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "property_tests/generators/deployed_cases.h"
#include "reference/check.h"
#include "reference/price/price.h"

namespace eplora::price_test {

struct Case {
  std::uint64_t seed = 0;
  Deployment deployment;
  PricedModel model;
  PriceOptions options;
  RoutingTrace trace;
  std::string name() const { return "seed " + std::to_string(seed); }
};

inline Case random_case(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto in = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
  };
  Case out;
  out.seed = seed;
  out.deployment = make_deployment(suite::random_deployment(seed, 24));
  const LayerClass c = out.deployment.classes.front();
  suite::DeployedSizes sizes;
  sizes.hidden = in(1, 7);
  sizes.intermediate = in(1, 12);
  sizes.max_lora_rank = in(1, 4);
  sizes = suite::fitting_sizes(c, sizes);
  const SharedExpertsKind shared = c.spec.shared_experts.kind;
  if (shared == SharedExpertsKind::replicated || shared == SharedExpertsKind::sharded) {
    DeploymentSpec spec = out.deployment.spec;
    spec.classes.front().shared_experts.intermediate = sizes.shared_intermediate;
    out.deployment = make_deployment(spec);
  }
  out.model = {c.spec.placement.num_experts, 1, sizes.hidden, sizes.intermediate, in(0, 1) == 1, {}};
  out.model.top_k = static_cast<std::int32_t>(in(1, std::min(4, out.model.num_experts)));
  for (std::int64_t layer = 0, n = in(1, 5); layer < n; ++layer)
    out.model.moe_layers.push_back(static_cast<std::int32_t>(layer * 2 + 1));
  out.options.bytes = {in(1, 4), in(1, 4), in(1, 4)};
  out.options.adapters = {static_cast<std::int32_t>(in(0, 3)), sizes.max_lora_rank};
  out.options.block_size = in(1, 9);
  out.options.traffic.once_a_rank = in(0, 1) == 1;
  out.options.traffic.ranks_per_node = static_cast<std::int32_t>(in(1, 9));
  if (in(0, 2) == 0) out.options.traffic.exchange = Exchange::all_to_all;
  out.trace.num_tokens = in(0, 40);
  out.trace.top_k = out.model.top_k;
  const std::int32_t E = out.model.num_experts, L = out.options.adapters.max_loras;
  for (std::int64_t s = 0; s < out.trace.num_tokens * out.trace.top_k; ++s)
    out.trace.topk_ids.push_back(static_cast<std::int32_t>(in(0, 9) == 0 ? in(-3, E + 40) : in(0, E - 1)));
  if (in(0, 4) != 0)
    for (std::int64_t t = 0; t < out.trace.num_tokens; ++t)
      out.trace.token_lora_mapping.push_back(static_cast<std::int32_t>(in(-2, L)));
  return out;
}

/// Fused shared experts' columns, written out.
inline RoutingTrace widened(const Case& test, const LayerClass& c) {
  if (c.spec.shared_experts.kind != SharedExpertsKind::fused) return test.trace;
  RoutingTrace out{test.trace.num_tokens,
                   test.trace.top_k + c.spec.shared_experts.count,
                   {},
                   test.trace.token_lora_mapping};
  for (std::int64_t t = 0; t < out.num_tokens; ++t)
    for (std::int32_t k = 0; k < out.top_k; ++k) {
      std::int32_t id = test.model.num_experts + k - test.trace.top_k;
      if (k < test.trace.top_k) {
        id = test.trace.topk_ids[t * test.trace.top_k + k];
        if (id >= test.model.num_experts) id = -1;  // what no routed expert has must not name a fused one
      }
      out.topk_ids.push_back(id);
    }
  return out;
}

/// Digits of a rank along named axes, read from the last axis on.
struct Digits {
  std::map<std::string, std::int32_t> digit, size;
  std::vector<std::string> order;
  Digits(const GridSpec& grid, std::int32_t rank) {
    for (auto axis = grid.axes.rbegin(); axis != grid.axes.rend(); ++axis) {
      digit[axis->name] = rank % axis->size;
      size[axis->name] = axis->size;
      rank /= axis->size;
    }
    for (const Axis& axis : grid.axes) order.push_back(axis.name);
  }
  static bool has(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  }
  std::int32_t index(const std::vector<std::string>& names) const {
    std::int32_t at = 0;
    for (const std::string& name : order)
      if (has(names, name)) at = at * size.at(name) + digit.at(name);
    return at;
  }
  std::int32_t parts(const std::vector<std::string>& names) const {
    std::int32_t product = 1;
    for (const std::string& name : order)
      if (has(names, name)) product *= size.at(name);
    return product;
  }
};

inline const GridSpec& grid_of(const Deployment& deployment, const std::string& name) {
  for (const GridSpec& grid : deployment.spec.grids)
    if (grid.name == name) return grid;
  throw InvalidArgument("no such grid");
}

/// Which of `parts` contiguous parts item `i` of `total` is in, the first ones being longer: dealt one by
/// one.
inline std::vector<std::int64_t> part_of_item(std::int64_t total, std::int64_t parts) {
  std::vector<std::int64_t> length(parts, 0), part;
  for (std::int64_t i = 0; i < total; ++i) ++length[i % parts];
  for (std::int64_t d = 0; d < parts; ++d)
    for (std::int64_t i = 0; i < length[d]; ++i) part.push_back(d);
  return part;
}

/// Everything about a rank in a class, by digits.
struct Stand {
  std::int32_t ep, tp, tp_parts, shard, shards, stage, stages, home, homes, copy;
  Digits digits;
  Stand(const Deployment& deployment, const LayerClass& c, std::int32_t rank)
      : digits(grid_of(deployment, c.spec.grid), rank) {
    const ClassSharding& cut = c.spec.sharding;
    ep = digits.index(cut.experts);
    tp = digits.index(cut.intermediate);
    tp_parts = digits.parts(cut.intermediate);
    shard = digits.index(cut.tokens);
    shards = digits.parts(cut.tokens);
    stage = digits.index(cut.layers);
    stages = digits.parts(cut.layers);
    std::vector<std::string> free;
    for (const std::string& name : digits.order)
      if (!Digits::has(cut.experts, name) && !Digits::has(cut.intermediate, name) &&
          !Digits::has(cut.tokens, name) && !Digits::has(cut.layers, name))
        free.push_back(name);
    copy = digits.index(free);
    const AttentionSpec& attention = deployment.spec.attention;
    const Digits other(grid_of(deployment, attention.grid), rank);
    home = other.index(attention.tokens);
    homes = other.parts(attention.tokens);
  }
};

/// Per column of the rank's slice: whether it is one of the model's.
inline std::vector<bool> columns_are_real(const LayerClass& c, const Stand& at, std::int64_t I) {
  std::int64_t width = 0;
  std::vector<bool> real;
  if (c.spec.padding.place == PaddingPlace::each_rank) {
    const std::int64_t mine = I / at.tp_parts;
    while (width < mine) width += c.spec.padding.multiple;
    for (std::int64_t q = 0; q < width; ++q) real.push_back(q < mine);
  } else {
    while (width * at.tp_parts < I) width += c.spec.padding.multiple;
    for (std::int64_t q = 0; q < width; ++q) real.push_back(at.tp * width + q < I);
  }
  return real;
}

/// The (EP rank, local id) that serves a slot, found by walking every EP rank's list; (-1, -1) for none.
inline std::pair<std::int32_t, std::int32_t> server_of(const LayerClass& c, std::int32_t id, std::int64_t t,
                                                       std::int64_t k, std::int64_t top_k,
                                                       std::int64_t home) {
  std::vector<std::pair<std::int32_t, std::int32_t>> replicas;
  const auto& lists = c.layout.placement.experts_of_rank();
  for (std::size_t q = 0; q < lists.size(); ++q)
    for (std::size_t j = 0; j < lists[q].size(); ++j)
      if (lists[q][j] == id) replicas.emplace_back(q, j);
  if (replicas.empty()) return {-1, -1};
  std::int64_t number = 0;
  if (c.spec.placement.replicas == ReplicaRule::slot) number = t * top_k + k;
  if (c.spec.placement.replicas == ReplicaRule::token) number = t;
  if (c.spec.placement.replicas == ReplicaRule::source) number = home;
  return replicas[number % static_cast<std::int64_t>(replicas.size())];
}

}  // namespace eplora::price_test
