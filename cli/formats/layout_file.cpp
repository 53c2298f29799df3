// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/layout_file.h"

#include <toml++/toml.h>

#include <algorithm>
#include <initializer_list>

#include "reference/check.h"
#include "reference/layout/presets.h"

namespace eplora {
namespace {

/// One file being read; every complaint carries the place of the node it is about.
class LayoutReader {
 public:
  explicit LayoutReader(const std::filesystem::path& path) : file_(path.string()) {
    try {
      root_ = toml::parse_file(file_);
    } catch (const toml::parse_error& error) {
      fail(error.source(), std::string(error.description()));
    }
  }

  LayoutSpec read(std::optional<std::int32_t> num_experts) {
    allow_only(root_, {"axes", "sharding", "placement"});
    LayoutSpec spec;
    read_axes(spec);
    if (const toml::table* sharding = section("sharding")) {
      allow_only(*sharding, {"tokens", "experts", "intermediate"});
      spec.sharding.tokens = axis_names(*sharding, "tokens", spec.axes);
      spec.sharding.experts = axis_names(*sharding, "experts", spec.axes);
      spec.sharding.intermediate = axis_names(*sharding, "intermediate", spec.axes);
    }
    read_placement(spec, num_experts);
    return spec;
  }

 private:
  [[noreturn]] void fail(const toml::source_region& at, const std::string& sentence) const {
    throw InvalidArgument(file_ + ":" + std::to_string(at.begin.line) + ":" +
                          std::to_string(at.begin.column) + ": " + sentence);
  }

  void allow_only(const toml::table& table, std::initializer_list<std::string_view> keys) const {
    for (const auto& [key, node] : table) {
      if (std::find(keys.begin(), keys.end(), key.str()) != keys.end()) continue;
      std::string allowed;
      for (const std::string_view name : keys) allowed.append(allowed.empty() ? "" : ", ").append(name);
      fail(key.source(), "key '" + std::string(key.str()) + "' is unknown; the keys here are " + allowed);
    }
  }

  const toml::table* section(std::string_view name) const {
    const toml::node* node = root_.get(name);
    if (node == nullptr) return nullptr;
    if (!node->is_table()) fail(node->source(), std::string(name) + " must be a table");
    return node->as_table();
  }

  std::int32_t whole_number(const toml::node& node, const std::string& what, std::int64_t low) const {
    const std::optional<std::int64_t> value = node.is_integer() ? node.value<std::int64_t>() : std::nullopt;
    if (!value) fail(node.source(), what + " must be a whole number");
    if (*value < low || *value > kMaxIndex)
      fail(node.source(), what + " is " + std::to_string(*value) + "; it must be in [" + std::to_string(low) +
                              ", " + std::to_string(kMaxIndex) + "]");
    return static_cast<std::int32_t>(*value);
  }

  std::string text(const toml::node& node, const std::string& what) const {
    const std::optional<std::string> value = node.value<std::string>();
    if (!node.is_string() || !value) fail(node.source(), what + " must be a string");
    return *value;
  }

  const toml::array& array(const toml::node& node, const std::string& what) const {
    if (!node.is_array()) fail(node.source(), what + " must be an array");
    return *node.as_array();
  }

  void read_axes(LayoutSpec& spec) const {
    const toml::node* node = root_.get("axes");
    if (node == nullptr)
      fail(root_.source(), "axes is missing; give the mesh as [{name = ..., size = ...}, ...]");
    for (const toml::node& entry : array(*node, "axes")) {
      if (!entry.is_table()) fail(entry.source(), "an axis must be {name = ..., size = ...}");
      const toml::table& axis = *entry.as_table();
      allow_only(axis, {"name", "size"});
      for (const std::string_view key : {"name", "size"})
        if (!axis.contains(key)) fail(entry.source(), "an axis needs '" + std::string(key) + "'");
      spec.axes.push_back(
          {text(*axis.get("name"), "axis name"), whole_number(*axis.get("size"), "axis size", 1)});
    }
  }

  std::vector<std::string> axis_names(const toml::table& sharding, std::string_view key,
                                      const std::vector<Axis>& axes) const {
    std::vector<std::string> names;
    const toml::node* node = sharding.get(key);
    if (node == nullptr) return names;
    for (const toml::node& entry : array(*node, "sharding." + std::string(key))) {
      names.push_back(text(entry, "an axis name"));
      if (std::none_of(axes.begin(), axes.end(), [&](const Axis& axis) { return axis.name == names.back(); }))
        fail(entry.source(), "axis '" + names.back() + "' is not in axes");
    }
    return names;
  }

  void read_placement(LayoutSpec& spec, std::optional<std::int32_t> num_experts) const {
    const toml::table* placement = section("placement");
    const toml::node* count = placement != nullptr ? placement->get("num_experts") : nullptr;
    if (count != nullptr) {
      spec.placement.num_experts = whole_number(*count, "placement.num_experts", 1);
      if (num_experts && *num_experts != spec.placement.num_experts)
        fail(count->source(), "placement.num_experts is " + std::to_string(spec.placement.num_experts) +
                                  "; the model has " + std::to_string(*num_experts));
    } else if (num_experts) {
      spec.placement.num_experts = *num_experts;
    } else {
      fail(root_.source(),
           "placement.num_experts is missing, and no number of experts was given beside the file");
    }
    if (placement == nullptr) return;
    allow_only(*placement, {"kind", "num_experts", "table"});
    if (const toml::node* kind = placement->get("kind")) {
      const std::string name = text(*kind, "placement.kind");
      if (name == "round_robin")
        spec.placement.kind = PlacementKind::round_robin;
      else if (name == "table")
        spec.placement.kind = PlacementKind::table;
      else if (name != "linear")
        fail(kind->source(), "placement.kind is '" + name + "'; it must be linear, round_robin or table");
    }
    const toml::node* table = placement->get("table");
    if ((table != nullptr) != (spec.placement.kind == PlacementKind::table))
      fail(placement->source(), "placement.table goes with kind = \"table\", and only with it");
    if (table == nullptr) return;
    for (const toml::node& row : array(*table, "placement.table")) {
      std::vector<std::int32_t>& experts = spec.placement.table.emplace_back();
      for (const toml::node& expert : array(row, "a row of placement.table"))
        experts.push_back(whole_number(expert, "an expert of placement.table", 0));
    }
  }

  std::string file_;
  toml::table root_;
};

}  // namespace

LayoutSpec read_layout_file(const std::filesystem::path& path, std::optional<std::int32_t> num_experts) {
  if (!std::filesystem::is_regular_file(path)) reject("layout file", path.string(), "there is no such file");
  LayoutSpec spec = LayoutReader(path).read(num_experts);
  try {
    make_layout(spec);
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(path.string() + ": " + error.what());
  }
  return spec;
}

LayoutSpec parse_layout_argument(std::string_view text, std::optional<std::int32_t> num_experts,
                                 PlacementKind placement) {
  if (text.ends_with(".toml")) return read_layout_file(std::filesystem::path(text), num_experts);
  const SglangSizes sizes = parse_sglang_sizes(text);
  if (!num_experts)
    reject("--experts", "missing", "give the model's number of experts beside " + std::string(text));
  return sglang_layout(sizes, *num_experts, placement);
}

}  // namespace eplora
