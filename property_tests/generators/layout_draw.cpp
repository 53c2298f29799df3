// SPDX-License-Identifier: Apache-2.0
#include "property_tests/generators/layout_draw.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "property_tests/generators/id_batch.h"
#include "reference/check.h"
#include "reference/layout/presets.h"

namespace eplora::suite {
namespace {

std::int32_t extent(const LayoutSpec& spec, const std::vector<std::string>& names) {
  std::int32_t product = 1;
  for (const Axis& axis : spec.axes)
    if (std::find(names.begin(), names.end(), axis.name) != names.end()) product *= axis.size;
  return product;
}

std::vector<std::int32_t> divisors(std::int32_t value) {
  std::vector<std::int32_t> result;
  for (std::int32_t d = 1; d <= value; ++d)
    if (value % d == 0) result.push_back(d);
  return result;
}

LayoutSpec draw_preset(Draw& draw, std::int32_t max_ranks) {
  SglangSizes sizes;
  sizes.tp = draw.percent(70) ? std::int32_t{1} << draw.in(0, 6) : static_cast<std::int32_t>(draw.in(1, 64));
  while (sizes.tp > max_ranks) sizes.tp /= 2;
  sizes.ep = draw.one_of(divisors(sizes.tp));
  if (draw.percent(50) && sizes.tp >= 4 && sizes.tp % 2 == 0) sizes.ep = 2;  // 1 < ep < tp
  sizes.moe_dp = draw.one_of(divisors(sizes.tp / sizes.ep));
  return sglang_layout(sizes, 1);
}

LayoutSpec draw_mesh(Draw& draw, std::int32_t max_ranks) {
  std::vector<std::string> names = {"dp", "pp", "ep", "tp", "cp", "etp"};
  draw.shuffle(names);
  LayoutSpec spec;
  std::int32_t room = max_ranks;
  for (std::int64_t axes = draw.in(0, 5); axes > 0; --axes) {
    const auto size = static_cast<std::int32_t>(draw.one_of<std::int64_t>({1, 2, 2, 2, 3, 4, 5, 8}));
    if (size > room) continue;
    room /= size;
    const std::string name = names[spec.axes.size()];
    spec.axes.push_back({name, size});
    const std::int64_t role = draw.in(0, 9);
    if (role < 4)
      spec.sharding.experts.push_back(name);
    else if (role < 7)
      spec.sharding.intermediate.push_back(name);
    else if (role < 9)
      spec.sharding.tokens.push_back(name);
  }
  draw.shuffle(spec.sharding.experts);
  draw.shuffle(spec.sharding.intermediate);
  return spec;
}

/// Every expert somewhere, ranks of unequal size, some perhaps empty, some experts perhaps more than once.
std::vector<std::vector<std::int32_t>> draw_table(Draw& draw, std::int32_t E, std::int32_t ep,
                                                  bool replicas) {
  std::vector<std::vector<std::int32_t>> table(ep);
  std::vector<std::int32_t> experts(E);
  for (std::int32_t e = 0; e < E; ++e) experts[e] = e;
  draw.shuffle(experts);
  const bool even = draw.percent(50);
  const std::uint64_t seed = draw.bits();
  for (std::int32_t i = 0; i < E; ++i)
    table[even ? i % ep : below(hash_at(seed, i), ep)].push_back(experts[i]);
  if (!replicas || !draw.percent(60)) return table;
  const std::int64_t extra = draw.log_uniform(1, std::max<std::int64_t>(E / 2, 1));
  for (std::int64_t i = 0; i < extra; ++i) {
    const auto e = static_cast<std::int32_t>(draw.in(0, E - 1));
    auto& row = table[draw.in(0, ep - 1)];
    // Two replicas on one rank only now and then: only a table may ask for that.
    if (std::find(row.begin(), row.end(), e) == row.end() || draw.percent(10)) row.push_back(e);
  }
  return table;
}

void drop_axis(LayoutSpec& spec, std::size_t axis) {
  const std::string name = spec.axes[axis].name;
  for (auto* names : {&spec.sharding.tokens, &spec.sharding.experts, &spec.sharding.intermediate})
    std::erase(*names, name);
  spec.axes.erase(spec.axes.begin() + static_cast<std::ptrdiff_t>(axis));
}

/// Folds the rows of a table so that it has one row per EP rank again.
void fit_table(LayoutSpec& spec) {
  if (spec.placement.kind != PlacementKind::table) return;
  const auto ep = static_cast<std::size_t>(extent(spec, spec.sharding.experts));
  auto& table = spec.placement.table;
  for (std::size_t q = ep; q < table.size(); ++q)
    table[q % ep].insert(table[q % ep].end(), table[q].begin(), table[q].end());
  table.resize(ep);
}

/// Experts [0, E) alone; empty when none would be left.
void keep_experts(LayoutSpec& spec, std::int32_t E) {
  spec.placement.num_experts = E;
  for (auto& row : spec.placement.table) std::erase_if(row, [E](std::int32_t e) { return e >= E; });
}

/// Without the experts [begin, end); those behind them move down.
void remove_experts(LayoutSpec& spec, std::int32_t begin, std::int32_t end) {
  spec.placement.num_experts -= end - begin;
  for (auto& row : spec.placement.table) {
    std::erase_if(row, [=](std::int32_t e) { return begin <= e && e < end; });
    for (std::int32_t& e : row)
      if (e >= end) e -= end - begin;
  }
}

PlacementKind kind_from(const std::string& name) {
  for (const PlacementKind kind : {PlacementKind::linear, PlacementKind::round_robin, PlacementKind::table})
    if (name == to_string(kind)) return kind;
  reject("placement kind", name, "linear, round_robin or table");
}

}  // namespace

std::int32_t moe_tp_of(const LayoutSpec& spec) { return extent(spec, spec.sharding.intermediate); }
std::int32_t ep_of(const LayoutSpec& spec) { return extent(spec, spec.sharding.experts); }
std::int32_t token_shards_of(const LayoutSpec& spec) { return extent(spec, spec.sharding.tokens); }
std::int32_t num_ranks_of(const LayoutSpec& spec) {
  std::int32_t product = 1;
  for (const Axis& axis : spec.axes) product *= axis.size;
  return product;
}

LayoutSpec draw_layout(Draw& draw, const LayoutLimits& limits) {
  LayoutSpec spec = draw.percent(40) ? draw_preset(draw, limits.ranks) : draw_mesh(draw, limits.ranks);
  const std::int32_t E = draw_experts(draw, limits.experts);
  spec.placement = {PlacementKind::linear, E, {}};
  const std::int64_t roll = draw.in(0, 9);
  if (roll < 3) spec.placement.kind = PlacementKind::round_robin;
  if (roll >= 6) {
    spec.placement.kind = PlacementKind::table;
    spec.placement.table = draw_table(draw, E, ep_of(spec), limits.replicas);
  }
  return spec;
}

Shrinks<LayoutSpec> simpler_layouts(const LayoutSpec& spec) {
  Shrinks<LayoutSpec> result;
  const auto edit = [&](auto change) {
    result.push_back([spec, change] {
      LayoutSpec copy = spec;
      change(copy);
      fit_table(copy);
      return copy;
    });
  };
  for (std::size_t a = 0; a < spec.axes.size(); ++a) edit([a](LayoutSpec& s) { drop_axis(s, a); });
  if (spec.placement.kind != PlacementKind::linear)
    edit([](LayoutSpec& s) { s.placement = {PlacementKind::linear, s.placement.num_experts, {}}; });
  for (const std::int64_t E : towards(1, spec.placement.num_experts))
    edit([E](LayoutSpec& s) { keep_experts(s, static_cast<std::int32_t>(E)); });
  if (spec.placement.kind == PlacementKind::table)
    for (const auto& [begin, end] : token_ranges(spec.placement.num_experts))
      if (end - begin < spec.placement.num_experts)
        edit([begin = begin, end = end](LayoutSpec& s) {
          remove_experts(s, static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end));
        });
  for (std::size_t a = 0; a < spec.axes.size(); ++a)
    for (const std::int64_t size : towards(1, spec.axes[a].size))
      edit([a, size](LayoutSpec& s) { s.axes[a].size = static_cast<std::int32_t>(size); });
  for (std::size_t q = 0; q < spec.placement.table.size(); ++q)
    for (std::size_t j = 0; j < std::min<std::size_t>(spec.placement.table[q].size(), 8); ++j) {
      std::size_t copies = 0;
      for (const auto& row : spec.placement.table)
        copies += static_cast<std::size_t>(std::count(row.begin(), row.end(), spec.placement.table[q][j]));
      if (copies > 1)
        edit([q, j](LayoutSpec& s) {
          s.placement.table[q].erase(s.placement.table[q].begin() + static_cast<std::ptrdiff_t>(j));
        });
    }
  return result;
}

void add_labels(const LayoutSpec& spec, Labels& labels) {
  const std::int32_t ranks = num_ranks_of(spec), ep = ep_of(spec), E = spec.placement.num_experts;
  labels.emplace_back(ranks == 1 ? "ranks 1" : ranks <= 8 ? "ranks 2..8" : "ranks 9..64");
  if (1 < ep && ep < ranks) labels.emplace_back("1 < ep < ranks");
  if (moe_tp_of(spec) > 1) labels.emplace_back("moe_tp > 1");
  if (token_shards_of(spec) > 1) labels.emplace_back("tokens sharded");
  if (E % ep != 0) labels.emplace_back("ep does not divide E");
  if (E < ep) labels.emplace_back("E < ep");
  labels.emplace_back("placement " + std::string(to_string(spec.placement.kind)));
  std::int64_t places = 0;
  for (const auto& row : spec.placement.table) places += static_cast<std::int64_t>(row.size());
  if (places > E) labels.emplace_back("replicas");
}

std::string show_layout(const LayoutSpec& spec) {
  std::string text = "mesh (";
  for (std::size_t a = 0; a < spec.axes.size(); ++a)
    text += (a > 0 ? ", " : "") + spec.axes[a].name + "=" + std::to_string(spec.axes[a].size);
  text += ")";
  const auto list = [&](const char* what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    text += std::string(", ") + what + " by";
    for (const std::string& name : names) text += " " + name;
  };
  list("tokens", spec.sharding.tokens);
  list("experts", spec.sharding.experts);
  list("columns", spec.sharding.intermediate);
  text +=
      ", E=" + std::to_string(spec.placement.num_experts) + " " + std::string(to_string(spec.placement.kind));
  for (const auto& row : spec.placement.table)
    if (spec.placement.table.size() <= 8) text += " " + show_list(row, 12);
  return text;
}

nlohmann::json layout_json(const LayoutSpec& spec) {
  nlohmann::json axes = nlohmann::json::array();
  for (const Axis& axis : spec.axes) axes.push_back({{"name", axis.name}, {"size", axis.size}});
  return {{"axes", axes},
          {"tokens", spec.sharding.tokens},
          {"experts", spec.sharding.experts},
          {"intermediate", spec.sharding.intermediate},
          {"placement",
           {{"kind", to_string(spec.placement.kind)},
            {"num_experts", spec.placement.num_experts},
            {"table", spec.placement.table}}}};
}

LayoutSpec layout_from_json(const nlohmann::json& json) {
  LayoutSpec spec;
  for (const nlohmann::json& axis : json.at("axes")) spec.axes.push_back({axis.at("name"), axis.at("size")});
  spec.sharding.tokens = json.at("tokens").get<std::vector<std::string>>();
  spec.sharding.experts = json.at("experts").get<std::vector<std::string>>();
  spec.sharding.intermediate = json.at("intermediate").get<std::vector<std::string>>();
  const nlohmann::json& placement = json.at("placement");
  spec.placement.kind = kind_from(placement.at("kind"));
  spec.placement.num_experts = placement.at("num_experts");
  spec.placement.table = placement.at("table").get<std::vector<std::vector<std::int32_t>>>();
  static_cast<void>(make_layout(spec));  // a layout that means nothing is refused here
  return spec;
}

}  // namespace eplora::suite
