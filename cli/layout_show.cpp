// SPDX-License-Identifier: Apache-2.0
// `eplora layout show`: what every rank of a layout owns, as a table, as JSON, and as a picture.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/atomic_file.h"
#include "cli/formats/layout_file.h"
#include "cli/formats/model_config.h"
#include "cli/json_output.h"
#include "cli/layout_svg.h"
#include "cli/layout_text.h"
#include "cli/table.h"
#include "reference/check.h"

namespace eplora {
namespace {

struct Shown {
  Layout layout;
  std::string title;
  std::int64_t intermediate = 0;
  std::optional<std::int64_t> tokens;
};

PlacementKind parse_placement(const std::string& name) {
  for (const PlacementKind kind : {PlacementKind::linear, PlacementKind::round_robin})
    if (name == to_string(kind)) return kind;
  reject("--placement", "'" + name + "'",
         "it must be linear or round_robin; a table goes into a layout file");
}

Shown understand(const LayoutShowOptions& options) {
  std::optional<std::int32_t> experts;
  std::int64_t intermediate = options.intermediate;
  if (options.experts != 0) experts = options.experts;
  if (!options.model.empty()) {
    const ModelConfig model = read_model_config(options.model);
    if (!experts) experts = model.num_experts;
    if (intermediate == 0) intermediate = model.moe_intermediate;
  }
  const bool is_file = options.layout.ends_with(".toml");
  if (!experts && !is_file) reject("--experts", "missing", "give --experts N, or --model FILE");
  if (intermediate == 0) reject("--intermediate", "missing", "give --intermediate N, or --model FILE");
  Shown shown;
  shown.layout =
      make_layout(parse_layout_argument(options.layout, experts, parse_placement(options.placement)));
  shown.title = options.layout;
  shown.intermediate = intermediate;
  shown.layout.column_range(intermediate, 0);  // refuses an intermediate size that does not divide
  if (options.tokens >= 0) shown.tokens = options.tokens;
  return shown;
}

/// The sharded dimensions, for the groups' columns: name and axes.
std::vector<std::pair<std::string, std::vector<std::string>>> group_sets(const Layout& layout) {
  std::vector<std::pair<std::string, std::vector<std::string>>> sets = {
      {"columns", layout.sharding.intermediate},
      {"experts", layout.sharding.experts},
      {"tokens", layout.sharding.tokens}};
  const std::vector<std::string> replicated = replicated_axes(layout);
  if (!replicated.empty()) sets.emplace_back("copies", replicated);
  std::erase_if(sets, [](const auto& set) { return set.second.empty(); });
  return sets;
}

/// group_of[rank] for one axis set.
std::vector<std::vector<std::int32_t>> group_of_rank(const Layout& layout,
                                                     const std::vector<std::string>& axes) {
  std::vector<std::vector<std::int32_t>> result(layout.mesh.num_ranks());
  for (const auto& group : layout.mesh.groups(axes))
    for (const std::int32_t rank : group) result[rank] = group;
  return result;
}

std::string experts_text(const std::vector<std::int32_t>& experts) {
  return experts.empty() ? "none" : describe_ids(experts);
}

void print_table(const Shown& shown, const Output& output) {
  const Layout& layout = shown.layout;
  const auto sets = group_sets(layout);
  Table table;
  table.column("rank", Table::Align::right);
  for (const Axis& axis : layout.mesh.axes()) table.column(axis.name, Table::Align::right, "coordinates");
  table.column("experts", Table::Align::left, "owns").column("number", Table::Align::right, "owns");
  table.column("columns", Table::Align::left, "owns");
  if (shown.tokens) table.column("tokens", Table::Align::left, "owns");
  std::vector<std::vector<std::vector<std::int32_t>>> groups;
  for (const auto& [name, axes] : sets) {
    table.column(name, Table::Align::left, "ranks that share a cut of");
    groups.push_back(group_of_rank(layout, axes));
  }
  for (std::int32_t rank = 0; rank < layout.mesh.num_ranks(); ++rank) {
    std::vector<Cell> row = {fmt::format("{}", rank)};
    for (const std::int32_t at : layout.mesh.coordinates(rank)) row.emplace_back(fmt::format("{}", at));
    const std::vector<std::int32_t>& experts = layout.local_experts(rank);
    row.emplace_back(experts_text(experts), experts.empty() ? Style::caution : Style::plain);
    row.emplace_back(fmt::format("{}", experts.size()));
    row.emplace_back(describe_range(layout.column_range(shown.intermediate, rank)));
    if (shown.tokens) row.emplace_back(describe_range(layout.token_range(*shown.tokens, rank)));
    for (const auto& group : groups) row.emplace_back(describe_ids(group[rank]));
    table.row(std::move(row));
  }
  fmt::print("{}\n", styled("Layout " + shown.title, Style::heading, output.color));
  fmt::print("mesh        {} (the last axis varies fastest): {} ranks\n", describe_mesh(layout.mesh),
             layout.mesh.num_ranks());
  fmt::print("experts     {}, placed {}, {} a rank{}\n", layout.placement.num_experts(),
             to_string(layout.placement.kind()), describe_expert_counts(layout.placement),
             layout.placement.has_replicas() ? ", with replicas" : "");
  fmt::print("columns     {} of {} a rank\n", layout.column_range(shown.intermediate, 0).size(),
             shown.intermediate);
  fmt::print("recombine   {}\n\n", describe_recombination(layout));
  fmt::print("{}", table.render(output.color));
}

void print_document(const Shown& shown) {
  const Layout& layout = shown.layout;
  nlohmann::ordered_json document = json_document("layout_show");
  document["layout"] = shown.title;
  document["axes"] = nlohmann::ordered_json::array();
  for (const Axis& axis : layout.mesh.axes())
    document["axes"].push_back({{"name", axis.name}, {"size", axis.size}});
  document["sharding"] = {{"tokens", layout.sharding.tokens},
                          {"experts", layout.sharding.experts},
                          {"intermediate", layout.sharding.intermediate}};
  document["placement"] = to_string(layout.placement.kind());
  document["num_experts"] = layout.placement.num_experts();
  document["intermediate"] = shown.intermediate;
  if (shown.tokens) document["tokens"] = *shown.tokens;
  document["recombine"] = describe_recombination(layout);
  document["groups"] = nlohmann::ordered_json::object();
  for (const auto& [name, axes] : group_sets(layout)) document["groups"][name] = layout.mesh.groups(axes);
  document["ranks"] = nlohmann::ordered_json::array();
  for (std::int32_t rank = 0; rank < layout.mesh.num_ranks(); ++rank) {
    const RankPlace& place = layout.place(rank);
    const Range columns = layout.column_range(shown.intermediate, rank);
    nlohmann::ordered_json entry = {{"rank", rank},
                                    {"coordinates", layout.mesh.coordinates(rank)},
                                    {"ep_rank", place.ep_rank},
                                    {"moe_tp_rank", place.moe_tp_rank},
                                    {"token_shard", place.token_shard},
                                    {"experts", layout.local_experts(rank)},
                                    {"columns", {columns.begin, columns.end}}};
    if (shown.tokens) {
      const Range tokens = layout.token_range(*shown.tokens, rank);
      entry["tokens"] = {tokens.begin, tokens.end};
    }
    document["ranks"].push_back(std::move(entry));
  }
  print_json(document);
}

void write_picture(const Shown& shown, const std::string& path) {
  const std::string picture = layout_svg(shown.layout, shown.title, shown.intermediate);
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(picture)));
  file.commit();
}

}  // namespace

int run_layout_show(const LayoutShowOptions& options, const Output& output) {
  const Shown shown = understand(options);
  if (!options.svg.empty()) write_picture(shown, options.svg);
  output.json ? print_document(shown) : print_table(shown, output);
  if (!options.svg.empty()) fmt::print(stderr, "wrote {}\n", options.svg);
  return kAgreement;
}

}  // namespace eplora
