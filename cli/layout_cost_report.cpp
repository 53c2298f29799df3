// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_cost_report.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/layout_text.h"
#include "cli/table.h"

namespace eplora {
namespace {

double number(std::int64_t value) { return static_cast<double>(value); }

std::string words_of(double value, Quantity::Unit unit) {
  if (unit == Quantity::Unit::seconds) {
    if (value >= 1) return fmt::format("{:.3f} s", value);
    return value >= 1e-3 ? fmt::format("{:.3f} ms", value * 1e3) : fmt::format("{:.1f} us", value * 1e6);
  }
  if (unit == Quantity::Unit::count) return fmt::format("{:.{}f}", value, value == std::floor(value) ? 0 : 1);
  return describe_bytes(value);
}

std::string spread_table(const Price& price, bool color) {
  Table table;
  table.column("").column("of a rank");
  for (const char* header : {"least", "mean", "most", "worst rank"})
    table.column(header, Table::Align::right);
  std::string group;
  for (const Quantity& quantity : price_quantities()) {
    const Spread spread = spread_of(price, quantity);
    if (spread.max == 0 && std::string(quantity.label).starts_with("  ")) continue;
    table.row({group == quantity.group ? "" : quantity.group, quantity.label,
               words_of(spread.min, quantity.unit), words_of(spread.mean, quantity.unit),
               words_of(spread.max, quantity.unit), fmt::format("{}", spread.worst_rank)});
    group = quantity.group;
  }
  return table.render(color);
}

std::string rank_table(const Price& price, bool color) {
  Table table;
  std::vector<Quantity> shown;  // what no rank has takes no column
  for (const Quantity& quantity : price_quantities())
    if (quantity.in_rank_table && spread_of(price, quantity).max > 0) shown.push_back(quantity);
  table.column("rank", Table::Align::right);
  for (const Quantity& quantity : shown) {
    std::string label = quantity.label;
    label.erase(0, label.find_first_not_of(' '));
    table.column(label, Table::Align::right, quantity.group);
  }
  for (std::size_t rank = 0; rank < price.ranks.size(); ++rank) {
    std::vector<Cell> row = {fmt::format("{}", rank)};
    for (const Quantity& quantity : shown)
      row.emplace_back(words_of(quantity.of(price.ranks[rank]), quantity.unit));
    table.row(std::move(row));
  }
  return table.render(color);
}

}  // namespace

const std::vector<Quantity>& price_quantities() {
  using Unit = Quantity::Unit;
  static const std::vector<Quantity> kQuantities = {
      {"memory_bytes", "memory", "in all", Unit::bytes,
       [](const RankPrice& r) { return number(r.memory.total()); }, true},
      {"routed_weight_bytes", "memory", "  routed experts", Unit::bytes,
       [](const RankPrice& r) { return number(r.memory.routed_weights); }, true},
      {"shared_weight_bytes", "memory", "  shared experts", Unit::bytes,
       [](const RankPrice& r) { return number(r.memory.shared_weights); }, false},
      {"adapter_buffer_bytes", "memory", "  adapter buffers", Unit::bytes,
       [](const RankPrice& r) { return number(r.memory.adapter_buffers); }, true},
      {"replica_bytes", "memory", "  of it replicas", Unit::bytes,
       [](const RankPrice& r) { return number(r.memory.replicas); }, false},
      {"padding_bytes", "memory", "  of it padding", Unit::bytes,
       [](const RankPrice& r) { return number(r.memory.padding); }, false},
      {"slots", "compute", "slots", Unit::count, [](const RankPrice& r) { return number(r.slots); }, true},
      {"blocks", "compute", "blocks", Unit::count, [](const RankPrice& r) { return number(r.blocks); }, true},
      {"padding_rows", "compute", "rows of padding", Unit::count,
       [](const RankPrice& r) { return number(r.padding); }, true},
      {"lora_blocks", "compute", "LoRA blocks", Unit::count,
       [](const RankPrice& r) { return number(r.lora_blocks); }, false},
      {"lora_padding_rows", "compute", "LoRA rows of padding", Unit::count,
       [](const RankPrice& r) { return number(r.lora_padding); }, false},
      {"sent_bytes", "links", "sent", Unit::bytes,
       [](const RankPrice& r) { return number(r.traffic.sent().total()); }, true},
      {"dispatch_bytes", "links", "  dispatch", Unit::bytes,
       [](const RankPrice& r) { return number(r.traffic.dispatch.total()); }, true},
      {"combine_bytes", "links", "  combine", Unit::bytes,
       [](const RankPrice& r) { return number(r.traffic.combine.total()); }, true},
      {"home_gather_bytes", "links", "  gather at home", Unit::bytes,
       [](const RankPrice& r) { return number(r.traffic.home_gather.total()); }, false},
      {"all_reduce_bytes", "links", "  all-reduce", Unit::bytes,
       [](const RankPrice& r) { return number(r.traffic.all_reduce.total()); }, true},
      {"shared_reduce_bytes", "links", "  shared experts' sum", Unit::bytes,
       [](const RankPrice& r) { return number(r.traffic.shared_reduce.total()); }, false},
      {"lora_bytes", "links", "  fully sharded LoRA", Unit::bytes,
       [](const RankPrice& r) { return number(r.traffic.lora.total()); }, false},
      {"between_nodes_bytes", "links", "  of it between nodes", Unit::bytes,
       [](const RankPrice& r) { return number(r.traffic.sent().between); }, true},
      {"busy_seconds", "time", "busy", Unit::seconds, [](const RankPrice& r) { return r.time.total(); },
       true},
      {"dispatch_seconds", "time", "  dispatch", Unit::seconds,
       [](const RankPrice& r) { return r.time.dispatch; }, false},
      {"expert_seconds", "time", "  experts", Unit::seconds,
       [](const RankPrice& r) { return r.time.experts; }, false},
      {"combine_seconds", "time", "  combine", Unit::seconds,
       [](const RankPrice& r) { return r.time.combine; }, false},
      {"reduction_seconds", "time", "  reductions", Unit::seconds,
       [](const RankPrice& r) { return r.time.reductions; }, false},
  };
  return kQuantities;
}

Spread spread_of(const Price& price, const Quantity& quantity) {
  Spread out;
  double sum = 0;
  for (std::size_t rank = 0; rank < price.ranks.size(); ++rank) {
    const double value = quantity.of(price.ranks[rank]);
    sum += value;
    if (rank == 0 || value < out.min) out.min = value;
    if (rank != 0 && value <= out.max) continue;
    out.max = value;
    out.worst_rank = static_cast<std::int32_t>(rank);
  }
  out.mean = sum / static_cast<double>(price.ranks.size());
  return out;
}

std::string price_text(const PriceTitle& title, const Price& price,
                       const std::vector<Assumption>& assumptions, bool every_rank, bool color) {
  std::string out = styled(fmt::format("Price of {}: {}, {} tokens, trace {}, {} ranks", title.layout,
                                       title.model, title.tokens, title.trace, price.ranks.size()),
                           Style::heading, color) +
                    "\n\n" + spread_table(price, color) + "\n";
  for (const ClassPrice& one : price.classes) {
    out += fmt::format(
        "class {}: {} layers; in one, most slots of a rank {}, mean {:.1f}: imbalance {:.3f}; exchange {}\n",
        one.name, one.num_layers, one.load.max_slots, one.load.mean_slots, one.load.imbalance(),
        to_string(one.traffic.exchange));
    if (one.load.unrouted_slots > 0)
      out += fmt::format("class {}: {} slots name no expert and are computed nowhere\n", one.name,
                         one.load.unrouted_slots);
  }
  out += fmt::format("all MoE layers, each at the speed of its slowest ranks: {} (an estimate)\n\n",
                     words_of(price.seconds, Quantity::Unit::seconds));
  if (every_rank) out += rank_table(price, color) + "\n";
  Table table;
  table.column("assumption").column("value").column("from");
  for (const Assumption& one : assumptions) table.row({one.name, one.value, one.source});
  return out + table.render(color);
}

void add_price(nlohmann::ordered_json& document, const PriceTitle& title, const Price& price,
               const std::vector<Assumption>& assumptions, bool every_rank) {
  using Json = nlohmann::ordered_json;
  const auto plain = [](const Quantity& quantity, double value) {
    return quantity.unit == Quantity::Unit::seconds ? Json(value) : Json(static_cast<std::int64_t>(value));
  };
  document["layout"] = title.layout;
  document["model"] = title.model;
  document["tokens"] = title.tokens;
  document["trace"] = title.trace;
  document["num_ranks"] = price.ranks.size();
  document["seconds"] = price.seconds;
  document["imbalance"] = price.imbalance();
  for (const Assumption& one : assumptions)
    document["assumptions"].push_back({{"name", one.name}, {"value", one.value}, {"from", one.source}});
  for (const ClassPrice& one : price.classes)
    document["classes"].push_back({{"name", one.name},
                                   {"layers", one.num_layers},
                                   {"exchange", to_string(one.traffic.exchange)},
                                   {"max_slots", one.load.max_slots},
                                   {"mean_slots", one.load.mean_slots},
                                   {"imbalance", one.load.imbalance()},
                                   {"unrouted_slots", one.load.unrouted_slots},
                                   {"layer_seconds_of_stage", one.time.layer_of_stage}});
  for (const Quantity& quantity : price_quantities()) {
    const Spread spread = spread_of(price, quantity);
    document["summary"][quantity.key] = {{"min", plain(quantity, spread.min)},
                                         {"mean", spread.mean},
                                         {"max", plain(quantity, spread.max)},
                                         {"worst_rank", spread.worst_rank}};
  }
  for (std::size_t rank = 0; rank < price.ranks.size() && every_rank; ++rank) {
    Json row = {{"rank", rank}};
    for (const Quantity& quantity : price_quantities())
      row[quantity.key] = plain(quantity, quantity.of(price.ranks[rank]));
    document["ranks"].push_back(std::move(row));
  }
}

}  // namespace eplora
