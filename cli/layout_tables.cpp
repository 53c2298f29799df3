// SPDX-License-Identifier: Apache-2.0
// The ranks of a layout in tables and as JSON: where each stands in every grid, what it holds, and with whom
// it shares a cut.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/formats/deployment_json.h"
#include "cli/layout_text.h"
#include "cli/layout_view.h"
#include "reference/layout/class_plan.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;
using Groups = std::vector<std::vector<std::int32_t>>;

struct GroupKind {
  std::string name;
  Groups groups;
};

/// Ranks that share a cut of the class: by what is cut.
std::vector<GroupKind> group_kinds(const LayerClass& c) {
  const ClassSharding& cut = c.spec.sharding;
  std::vector<GroupKind> kinds;
  for (const auto& [name, axes] :
       std::initializer_list<std::pair<const char*, std::vector<std::string>>>{{"columns", cut.intermediate},
                                                                               {"experts", cut.experts},
                                                                               {"tokens", cut.tokens},
                                                                               {"layers", cut.layers},
                                                                               {"copies", copy_axes(c)}})
    if (!axes.empty()) kinds.push_back({name, c.layout.mesh.groups(axes)});
  return kinds;
}

/// One column: a header, its group, and how a rank's cell comes about.
struct RankColumn {
  std::string header, group;
  Table::Align align;
  std::function<Cell(std::int32_t)> cell;
};

Table table_of(const std::vector<RankColumn>& columns, std::int32_t num_ranks) {
  Table table;
  for (const RankColumn& column : columns) table.column(column.header, column.align, column.group);
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    std::vector<Cell> row;
    row.reserve(columns.size());
    for (const RankColumn& column : columns) row.push_back(column.cell(rank));
    table.row(std::move(row));
  }
  return table;
}

constexpr auto kLeft = Table::Align::left, kRight = Table::Align::right;

void add_rank(std::vector<RankColumn>& columns) {
  columns.push_back({"rank", "", kRight, [](std::int32_t rank) { return Cell(fmt::format("{}", rank)); }});
}

void add_coordinates(std::vector<RankColumn>& columns, const LayoutView& view) {
  const Deployment& d = view.deployment;
  for (std::size_t g = 0; g < d.meshes.size(); ++g)
    for (std::size_t a = 0; a < d.meshes[g].axes().size(); ++a)
      columns.push_back({d.meshes[g].axes()[a].name,
                         d.meshes.size() == 1 ? "coordinates" : "grid " + d.spec.grids[g].name, kRight,
                         [&d, g, a](std::int32_t rank) {
                           return Cell(fmt::format("{}", d.meshes[g].coordinates(rank)[a]));
                         }});
  if (view.tokens)
    columns.push_back({"home tokens", "", kLeft, [&view](std::int32_t rank) {
                         return Cell(describe_range(view.deployment.home_tokens(*view.tokens, rank)));
                       }});
  else if (d.home_parts > 1)
    columns.push_back(
        {"home part", "", kRight, [&d](std::int32_t rank) { return Cell(fmt::format("{}", d.home[rank])); }});
}

void add_owned(std::vector<RankColumn>& columns, const LayoutView& view, const LayerClass& c) {
  const auto add = [&](const char* header, Table::Align align, std::function<Cell(std::int32_t)> cell) {
    columns.push_back({header, "owns", align, std::move(cell)});
  };
  add("experts", kLeft, [&c](std::int32_t rank) {
    const std::vector<std::int32_t>& experts = c.layout.local_experts(rank);
    return Cell(describe_ids(experts), experts.empty() ? Style::caution : Style::plain);
  });
  add("number", kRight,
      [&c](std::int32_t rank) { return Cell(fmt::format("{}", c.layout.local_experts(rank).size())); });
  add("columns", kLeft,
      [&](std::int32_t rank) { return Cell(describe_columns(c.columns(view.intermediate, rank))); });
  if (c.spec.shared_experts.kind == SharedExpertsKind::sharded)
    add("shared columns", kLeft, [&](std::int32_t rank) {
      return Cell(describe_range(c.shared_columns(view.shared_columns(c), rank)));
    });
  if (view.tokens && c.layout.place(0).token_shards > 1)
    add("tokens", kLeft,
        [&](std::int32_t rank) { return Cell(describe_range(c.layout.token_range(*view.tokens, rank))); });
  const auto part = [&](const char* header, std::int32_t parts, const std::vector<std::int32_t>& index) {
    if (parts > 1)
      add(header, kLeft,
          [parts, &index](std::int32_t rank) { return Cell(fmt::format("{} of {}", index[rank], parts)); });
  };
  part("H part", c.hidden_parts, c.hidden_index);
  part("R part", c.lora_rank_parts, c.lora_rank_index);
  part("stage", c.stages, c.stage);
}

/// A group is put into words once, however many ranks stand in it.
void add_groups(std::vector<RankColumn>& columns, const std::vector<GroupKind>& kinds,
                std::int32_t num_ranks) {
  for (const GroupKind& kind : kinds) {
    std::vector<std::string> words;
    for (const auto& group : kind.groups) words.push_back(describe_ids(group));
    columns.push_back({kind.name, "ranks that share a cut of", kLeft,
                       [words = std::move(words), of_rank = group_of_rank({{}, kind.groups}, num_ranks)](
                           std::int32_t rank) { return Cell(words[of_rank[rank]]); }});
  }
}

Json path_json(const TokenPath& path) {
  Json slots = Json::array();
  for (const SlotPath& slot : path.slots) {
    Json columns = Json::array();
    for (const PaddedRange& one : slot.columns)
      columns.push_back({{"begin", one.real.begin}, {"end", one.real.end}, {"padding", one.padding}});
    slots.push_back({{"expert", slot.expert},
                     {"shared", slot.shared},
                     {"replica", slot.replica},
                     {"replicas", slot.replicas},
                     {"ep_rank", slot.ep_rank},
                     {"local_id", slot.local_id},
                     {"ranks", slot.ranks},
                     {"columns", std::move(columns)}});
  }
  return {{"token", path.question.token},    {"tokens", path.question.tokens},
          {"home_part", path.home_part},     {"home", path.home},
          {"token_shard", path.token_shard}, {"workers", path.workers},
          {"copies", path.copies},           {"slots", std::move(slots)},
          {"sum_axes", path.sum_axes},       {"gathered", path.gathered}};
}

Json class_json(const LayoutView& view, const LayerClass& c, std::size_t index) {
  Json groups = Json::object(), ranks = Json::array();
  for (const GroupKind& kind : group_kinds(c)) groups[kind.name] = kind.groups;
  for (std::int32_t rank = 0; rank < view.deployment.num_ranks; ++rank) {
    const RankPlace& place = c.layout.place(rank);
    const PaddedRange columns = c.columns(view.intermediate, rank);
    Json entry = {{"rank", rank},
                  {"ep_rank", place.ep_rank},
                  {"moe_tp_rank", place.moe_tp_rank},
                  {"token_shard", place.token_shard},
                  {"stage", c.stage[rank]},
                  {"experts", c.layout.local_experts(rank)},
                  {"columns", {columns.real.begin, columns.real.end}},
                  {"padding", columns.padding}};
    if (view.tokens) {
      const Range tokens = c.layout.token_range(*view.tokens, rank);
      entry["tokens"] = {tokens.begin, tokens.end};
    }
    if (c.spec.shared_experts.kind == SharedExpertsKind::sharded) {
      const Range shared = c.shared_columns(view.shared_columns(c), rank);
      entry["shared_columns"] = {shared.begin, shared.end};
    }
    ranks.push_back(std::move(entry));
  }
  Json out = {{"name", c.spec.name},
              {"grid", c.spec.grid},
              {"recombine", describe_recombination(c)},
              {"groups", std::move(groups)},
              {"ranks", std::move(ranks)}};
  if (index < view.paths.size()) out["token_path"] = path_json(view.paths[index]);
  return out;
}

}  // namespace

std::vector<NamedTable> rank_tables(const LayoutView& view) {
  const std::vector<LayerClass>& classes = view.deployment.classes;
  std::vector<NamedTable> tables;
  std::vector<RankColumn> columns;
  add_rank(columns);
  add_coordinates(columns, view);
  if (classes.size() > 1) tables.push_back({"ranks", table_of(columns, view.deployment.num_ranks)});
  for (const LayerClass& c : classes) {
    if (classes.size() > 1) {
      columns.clear();
      add_rank(columns);
    }
    add_owned(columns, view, c);
    add_groups(columns, group_kinds(c), view.deployment.num_ranks);
    tables.push_back(
        {classes.size() == 1 ? "" : "class " + c.spec.name, table_of(columns, view.deployment.num_ranks)});
  }
  return tables;
}

void add_layout(Json& document, const LayoutView& view) {
  const Deployment& d = view.deployment;
  document["layout"] = view.title;
  document["deployment"] = to_json(d.spec);
  document["num_ranks"] = d.num_ranks;
  document["intermediate"] = view.intermediate;
  if (view.tokens) document["tokens"] = *view.tokens;
  document["ranks"] = Json::array();
  for (std::int32_t rank = 0; rank < d.num_ranks; ++rank) {
    Json coordinates = Json::object();
    for (std::size_t g = 0; g < d.meshes.size(); ++g)
      coordinates[d.spec.grids[g].name] = d.meshes[g].coordinates(rank);
    Json entry = {{"rank", rank}, {"coordinates", std::move(coordinates)}, {"home_part", d.home[rank]}};
    if (view.tokens) {
      const Range home = d.home_tokens(*view.tokens, rank);
      entry["home_tokens"] = {home.begin, home.end};
    }
    document["ranks"].push_back(std::move(entry));
  }
  document["classes"] = Json::array();
  for (std::size_t c = 0; c < d.classes.size(); ++c)
    document["classes"].push_back(class_json(view, d.classes[c], c));
}

}  // namespace eplora
