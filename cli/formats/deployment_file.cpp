// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/deployment_file.h"

#include <algorithm>
#include <map>
#include <set>

#include "cli/formats/strict_toml.h"

namespace eplora {
namespace {

constexpr const char* kShortGrid = "ranks";  // the one grid of the short form
constexpr std::string_view kSumOver = "sum_over";

class DeploymentReader {
 public:
  DeploymentReader(const std::filesystem::path& path, std::optional<std::int32_t> num_experts)
      : file_(path), stem_(path.stem().string()), num_experts_(num_experts) {}

  DeploymentSpec read() {
    const toml::table& root = file_.root();
    root.contains("grid") || root.contains("layers") ? read_long(root) : read_short(root);
    file_.check_at(root.source(), [&] { make_deployment(spec_); });
    return std::move(spec_);
  }

 private:
  void read_long(const toml::table& root) {
    const TomlTable top(file_, root, "", {"name", "grid", "attention", "layers"});
    spec_.name = top.text("name", stem_);
    for (const toml::node& entry : file_.array(top.require("grid"), "grid, written [[grid]],")) {
      const TomlTable grid(file_, file_.table(entry, "a grid"), "grid", {"name", "axes"});
      add_grid(grid, grid.name("name", ""));
    }
    if (spec_.grids.empty()) file_.fail(top.at("grid"), "grid is empty; give at least one");
    read_attention(top);
    for (const toml::node& entry : file_.array(top.require("layers"), "layers, written [[layers]],")) {
      const toml::table& table = file_.table(entry, "a class of layers");
      const TomlTable layers(file_, table, "layers",
                             {"name", "grid", "ids", "sharding", "placement", "weight_form",
                              "interleave_block", "shared_outer", "padding", "shared_experts", "sum_over"});
      LayerClassSpec c;
      c.name = layers.name("name", c.name);
      if (!classes_.insert(c.name).second)
        file_.fail(layers.at("name"), "layers.name is '" + c.name + "'; another class has this name");
      c.grid = grid_of(layers, "layers");
      read_ids(layers, c);
      read_class(layers, std::move(c));
    }
    if (spec_.classes.empty()) file_.fail(top.at("layers"), "layers is empty; give at least one class");
  }

  void read_short(const toml::table& root) {
    const TomlTable top(file_, root, "",
                        {"axes", "sharding", "placement", "name", "attention", "weight_form",
                         "interleave_block", "shared_outer", "padding", "shared_experts", "sum_over"});
    spec_.name = top.text("name", stem_);
    add_grid(top, kShortGrid);
    read_attention(top);
    LayerClassSpec c;
    c.grid = kShortGrid;
    read_class(top, std::move(c));
  }

  void add_grid(const TomlTable& table, const std::string& name) {
    if (name.empty()) table.require("name");
    for (const GridSpec& other : spec_.grids)
      if (other.name == name) file_.fail(table.at("name"), "grid '" + name + "' is there already");
    GridSpec grid{name, {}};
    std::set<std::string> seen;
    for (const toml::node& entry : file_.array(table.require("axes"), "axes")) {
      if (!entry.is_table()) file_.fail(entry.source(), "an axis must be {name = ..., size = ...}");
      const TomlTable axis(file_, *entry.as_table(), "axis", {"name", "size"});
      grid.axes.push_back(
          {file_.text(axis.require("name"), "axis name"),
           static_cast<std::int32_t>(file_.number(axis.require("size"), "axis size", 1, kMaxIndex))});
      axis.name("name", "");
      if (!seen.insert(grid.axes.back().name).second)
        file_.fail(axis.at("name"), "axis '" + grid.axes.back().name + "' is there already in this grid");
    }
    file_.check_at(table.at("axes"), [&] {
      const std::int32_t ranks = Mesh(grid.axes).num_ranks();
      require_in_range("number of ranks", ranks, 1, kMostFileRanks);
      const std::int32_t first = spec_.grids.empty() ? ranks : Mesh(spec_.grids.front().axes).num_ranks();
      if (ranks != first)
        reject("grid " + name, std::to_string(ranks) + " ranks",
               "grid " + spec_.grids.front().name + " has " + std::to_string(first) +
                   "; all grids arrange the same ranks");
    });
    spec_.grids.push_back(std::move(grid));
  }

  std::string grid_of(const TomlTable& table, const std::string& what) const {
    if (!table.has("grid") && spec_.grids.size() == 1) return spec_.grids.front().name;
    std::string name = file_.text(table.require("grid"), what + ".grid");
    std::string known;
    for (const GridSpec& grid : spec_.grids) {
      if (grid.name == name) return name;
      known += (known.empty() ? "" : ", ") + grid.name;
    }
    file_.fail(table.at("grid"), what + ".grid is '" + name + "'; the grids are " + known);
  }

  /// Axes under `key`, each known to the grid and not in `seen` (axis: what it cuts), which they join.
  std::vector<std::string> take(const TomlTable& table, std::string_view key, const std::string& grid,
                                std::map<std::string, std::string>& seen) const {
    const auto at = std::find_if(spec_.grids.begin(), spec_.grids.end(),
                                 [&](const GridSpec& one) { return one.name == grid; });
    const std::vector<PlacedName> names = table.names(key);
    for (const PlacedName& one : names) {
      std::string known;
      bool found = false;
      for (const Axis& axis : at->axes) {
        found |= axis.name == one.name;
        known += (known.empty() ? "" : ", ") + axis.name;
      }
      if (!found)
        file_.fail(one.at, "axis '" + one.name + "' is not in axes of grid '" + grid + "', which are " +
                               (known.empty() ? "none" : known));
      const auto [other, fresh] = seen.emplace(one.name, key);
      if (!fresh)
        file_.fail(one.at, "axis '" + one.name + "' is used twice, it " +
                               (key == kSumOver ? std::string("stands here") : "cuts " + other->second) +
                               " already; an axis " +
                               (key == kSumOver ? "is summed over once" : "cuts one thing, once"));
    }
    return names_of(names);
  }

  void read_attention(const TomlTable& top) {
    const toml::node* node = top.find("attention");
    if (node == nullptr) return;
    const TomlTable attention(file_, file_.table(*node, "attention"), "attention",
                              {"grid", "tokens", "heads"});
    spec_.attention.grid = grid_of(attention, "attention");
    std::map<std::string, std::string> seen;
    spec_.attention.tokens = take(attention, "tokens", spec_.attention.grid, seen);
    spec_.attention.heads = take(attention, "heads", spec_.attention.grid, seen);
  }

  void read_ids(const TomlTable& layers, LayerClassSpec& c) {
    if (const toml::node* node = layers.find("ids")) {
      for (const toml::node& entry : file_.array(*node, "layers.ids")) {
        std::int64_t first = 0, last = 0;
        if (entry.is_table()) {
          const TomlTable range(file_, *entry.as_table(), "ids", {"first", "last"});
          first = file_.number(range.require("first"), "ids.first", 0, kMostFileExperts);
          last = file_.number(range.require("last"), "ids.last", first, kMostFileExperts);
        } else {
          first = last = file_.number(entry, "a layer's id", 0, kMaxIndex);
        }
        for (std::int64_t id = first; id <= last; ++id) {
          c.layers.push_back(static_cast<std::int32_t>(id));
          if (!ids_.insert(c.layers.back()).second)
            file_.fail(entry.source(), "layer " + std::to_string(id) + " is in a class already");
        }
      }
    }
    if (c.layers.empty() && has_rest_)
      file_.fail(layers.at(),
                 "layers.ids is missing; one class at most may leave it out, for the layers that no other "
                 "class names");
    has_rest_ |= c.layers.empty();
  }

  /// What both forms say of a class; `c` has its name, grid and layers.
  void read_class(const TomlTable& table, LayerClassSpec c) {
    std::map<std::string, std::string> seen;
    read_sharding(table, c, seen);
    read_placement(table, c);
    const toml::node* place = table.find("placement");
    check(place == nullptr ? table.at() : place->source(), c);
    c.weight_form = table.word("weight_form", c.weight_form,
                               {WeightForm::stacked, WeightForm::interleaved, WeightForm::block_interleaved,
                                WeightForm::up_first, WeightForm::non_gated});
    c.interleave_block = table.number("interleave_block", 1, 1, kMaxIndex);
    if (c.interleave_block != 1 && c.weight_form != WeightForm::block_interleaved)
      file_.fail(table.at("interleave_block"),
                 "interleave_block goes with weight_form = \"block_interleaved\"");
    c.shared_outer = table.flag("shared_outer", false);
    if (const toml::node* node = table.find("padding")) {
      const TomlTable padding(file_, file_.table(*node, "padding"), "padding", {"multiple", "place"});
      c.padding.multiple = padding.number("multiple", 1, 1, kMaxIndex);
      c.padding.place = padding.word("place", c.padding.place, {PaddingPlace::each_rank, PaddingPlace::end});
    }
    if (const toml::node* node = table.find("shared_experts")) {
      const TomlTable shared(file_, file_.table(*node, "shared_experts"), "shared_experts",
                             {"kind", "count", "intermediate", "axes"});
      shared.require("kind");
      c.shared_experts.kind = shared.word("kind", SharedExpertsKind::none,
                                          {SharedExpertsKind::none, SharedExpertsKind::replicated,
                                           SharedExpertsKind::sharded, SharedExpertsKind::fused});
      c.shared_experts.count = static_cast<std::int32_t>(shared.number("count", 0, 0, kMostFileShared));
      c.shared_experts.intermediate = shared.number("intermediate", 0, 0, kMaxIndex);
      c.shared_experts.axes = take(shared, "axes", c.grid, seen);
      check(shared.at(), c);
    }
    if (table.has(kSumOver)) {
      std::map<std::string, std::string> own;
      c.sum_over = take(table, kSumOver, c.grid, own);
    }
    spec_.classes.push_back(std::move(c));
  }

  /// `seen` is left with the axes that tokens, experts and layers cut along.
  void read_sharding(const TomlTable& table, LayerClassSpec& c, std::map<std::string, std::string>& seen) {
    const toml::node* node = table.find("sharding");
    if (node == nullptr) return;
    const TomlTable cut(file_, file_.table(*node, "sharding"), "sharding",
                        {"tokens", "experts", "intermediate", "hidden", "lora_rank", "layers"});
    c.sharding.tokens = take(cut, "tokens", c.grid, seen);
    c.sharding.experts = take(cut, "experts", c.grid, seen);
    c.sharding.layers = take(cut, "layers", c.grid, seen);
    for (const auto& [key, axes] :
         {std::pair{"intermediate", &c.sharding.intermediate}, std::pair{"hidden", &c.sharding.hidden},
          std::pair{"lora_rank", &c.sharding.lora_rank}}) {
      std::map<std::string, std::string> own = seen;
      *axes = take(cut, key, c.grid, own);
    }
  }

  void read_placement(const TomlTable& table, LayerClassSpec& c) {
    ExpertPlacementSpec& to = c.placement;
    const toml::node* node = table.find("placement");
    const toml::table none;
    const TomlTable place(file_, node == nullptr ? none : file_.table(*node, "placement"), "placement",
                          {"kind", "num_experts", "redundant", "table", "replicas"});
    to.num_experts =
        static_cast<std::int32_t>(place.number("num_experts", num_experts_.value_or(0), 1, kMostFileExperts));
    if (to.num_experts == 0)
      file_.fail(node == nullptr ? table.at() : node->source(),
                 "placement.num_experts is missing, and no number of experts was given beside the file");
    if (num_experts_ && *num_experts_ != to.num_experts)
      file_.fail(place.at("num_experts"), "placement.num_experts is " + std::to_string(to.num_experts) +
                                              "; the model has " + std::to_string(*num_experts_));
    to.rule = place.word("kind", to.rule,
                         {PlacementRule::linear, PlacementRule::round_robin, PlacementRule::table,
                          PlacementRule::redundant, PlacementRule::wrap_around});
    to.replicas =
        place.word("replicas", to.replicas,
                   {ReplicaRule::slot, ReplicaRule::token, ReplicaRule::source, ReplicaRule::first});
    to.redundant = static_cast<std::int32_t>(place.number("redundant", 0, 0, kMostFileExperts));
    if (to.redundant != 0 && to.rule != PlacementRule::redundant && to.rule != PlacementRule::wrap_around)
      file_.fail(place.at("redundant"),
                 "placement.redundant goes with kind = \"redundant\" or \"wrap_around\"");
    if (place.has("table") != (to.rule == PlacementRule::table))
      file_.fail(place.has("table") ? place.at("table") : place.at("kind"),
                 "placement.table goes with kind = \"table\", and only with it");
    if (!place.has("table")) return;
    for (const toml::node& row : file_.array(place.require("table"), "placement.table")) {
      std::vector<std::int32_t>& experts = to.table.emplace_back();
      for (const toml::node& expert : file_.array(row, "a row of placement.table"))
        experts.push_back(static_cast<std::int32_t>(
            file_.number(expert, "an expert of placement.table", 0, std::int64_t{to.num_experts} - 1)));
    }
  }

  /// Whether the class, as far as it is read, can be; a complaint points at `at`.
  void check(const toml::source_region& at, const LayerClassSpec& c) const {
    DeploymentSpec alone{spec_.name, spec_.grids, {}, {c}};
    file_.check_at(at, [&] { make_deployment(alone); });
  }

  TomlFile file_;
  std::string stem_;
  std::optional<std::int32_t> num_experts_;
  DeploymentSpec spec_;
  std::set<std::string> classes_;
  std::set<std::int32_t> ids_;
  bool has_rest_ = false;  ///< a class that takes the layers that no other names
};

}  // namespace

DeploymentSpec read_deployment_file(const std::filesystem::path& path,
                                    std::optional<std::int32_t> num_experts) {
  return DeploymentReader(path, num_experts).read();
}

}  // namespace eplora
