// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/deployment_json.h"

#include <array>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;

/// One object of the file, its keys checked when it is opened.
class Object {
 public:
  Object(const Json& json, std::string at, std::initializer_list<const char*> keys, const char* may_lack = "")
      : json_(json), at_(std::move(at)) {
    if (!json.is_object()) reject(at_, json.type_name(), "it must be an object");
    for (const auto& [key, value] : json.items()) {
      bool known = false;
      for (const char* one : keys) known = known || key == one;
      known = known || key == may_lack;
      if (!known) reject(at_ + " key " + in_quotes(key), "unknown", "the keys are " + list(keys));
    }
    for (const char* one : keys)
      if (!json.contains(one)) reject(at_ + "." + one, "missing", "every key is written out");
  }

  std::string at(const char* key) const { return at_ + "." + key; }
  const Json& of(const char* key) const { return json_.at(key); }
  bool has(const char* key) const { return json_.contains(key); }

  std::string text(const char* key) const {
    if (!of(key).is_string()) reject(at(key), of(key).type_name(), "it must be a string");
    return of(key).get<std::string>();
  }
  std::int64_t number(const char* key) const { return number_of(of(key), at(key)); }
  std::int32_t small(const char* key) const { return small_of(of(key), at(key)); }
  bool flag(const char* key) const {
    if (!of(key).is_boolean()) reject(at(key), of(key).type_name(), "it must be true or false");
    return of(key).get<bool>();
  }
  const Json& array(const char* key) const {
    if (!of(key).is_array()) reject(at(key), of(key).type_name(), "it must be an array");
    return of(key);
  }
  std::vector<std::string> names(const char* key) const {
    std::vector<std::string> result;
    for (const Json& one : array(key)) {
      if (!one.is_string()) reject(at(key), one.type_name(), "it must hold strings");
      result.push_back(one.get<std::string>());
    }
    return result;
  }
  std::vector<std::int32_t> numbers(const Json& from, const std::string& where) const {
    if (!from.is_array()) reject(where, from.type_name(), "it must be an array");
    std::vector<std::int32_t> result;
    for (const Json& one : from) result.push_back(small_of(one, where));
    return result;
  }

 private:
  static std::string list(std::initializer_list<const char*> keys) {
    std::string words;
    for (const char* key : keys) words += (words.empty() ? "" : ", ") + std::string(key);
    return words;
  }
  static std::int64_t number_of(const Json& json, const std::string& where) {
    if (!json.is_number_integer()) reject(where, json.type_name(), "it must be an integer");
    if (json.is_number_unsigned() && json.get<std::uint64_t>() > std::uint64_t{kMaxIndex})
      reject(where, json.dump(), "it must be at most 2^31-1");
    return json.get<std::int64_t>();
  }
  static std::int32_t small_of(const Json& json, const std::string& where) {
    const std::int64_t value = number_of(json, where);
    require_in_range(where, value, std::numeric_limits<std::int32_t>::min(), kMaxIndex);
    return static_cast<std::int32_t>(value);
  }

  const Json& json_;
  std::string at_;
};

template <class Enum, std::size_t N>
Enum one_of(const std::array<Enum, N>& values, const std::string& word, const std::string& where) {
  std::string words;
  for (const Enum value : values) {
    if (word == to_string(value)) return value;
    words += (words.empty() ? "" : ", ") + std::string(to_string(value));
  }
  reject(where, in_quotes(word), "it must be one of " + words);
}

constexpr std::array kRules = {PlacementRule::linear, PlacementRule::round_robin, PlacementRule::table,
                               PlacementRule::redundant, PlacementRule::wrap_around};
constexpr std::array kReplicaRules = {ReplicaRule::slot, ReplicaRule::token, ReplicaRule::source,
                                      ReplicaRule::first};
constexpr std::array kShared = {SharedExpertsKind::none, SharedExpertsKind::replicated,
                                SharedExpertsKind::sharded, SharedExpertsKind::fused};
constexpr std::array kPlaces = {PaddingPlace::each_rank, PaddingPlace::end};
constexpr std::array kForms = {WeightForm::stacked, WeightForm::interleaved, WeightForm::block_interleaved,
                               WeightForm::up_first, WeightForm::non_gated};

Json json_of(const LayerClassSpec& c) {
  const ClassSharding& cut = c.sharding;
  Json json = {{"name", c.name},
               {"grid", c.grid},
               {"layers", c.layers},
               {"sharding",
                {{"tokens", cut.tokens},
                 {"experts", cut.experts},
                 {"intermediate", cut.intermediate},
                 {"hidden", cut.hidden},
                 {"lora_rank", cut.lora_rank},
                 {"layers", cut.layers}}},
               {"placement",
                {{"rule", to_string(c.placement.rule)},
                 {"num_experts", c.placement.num_experts},
                 {"redundant", c.placement.redundant},
                 {"table", c.placement.table},
                 {"replicas", to_string(c.placement.replicas)}}},
               {"weight_form", to_string(c.weight_form)},
               {"interleave_block", c.interleave_block},
               {"shared_outer", c.shared_outer},
               {"padding", {{"multiple", c.padding.multiple}, {"place", to_string(c.padding.place)}}},
               {"shared_experts",
                {{"kind", to_string(c.shared_experts.kind)},
                 {"count", c.shared_experts.count},
                 {"intermediate", c.shared_experts.intermediate},
                 {"axes", c.shared_experts.axes}}}};
  if (c.sum_over) json["sum_over"] = *c.sum_over;
  return json;
}

LayerClassSpec class_from(const Json& json, const std::string& at) {
  const Object o(json, at,
                 {"name", "grid", "layers", "sharding", "placement", "weight_form", "interleave_block",
                  "shared_outer", "padding", "shared_experts"},
                 "sum_over");
  LayerClassSpec c;
  c.name = o.text("name");
  c.grid = o.text("grid");
  c.layers = o.numbers(o.of("layers"), o.at("layers"));
  const Object cut(o.of("sharding"), o.at("sharding"),
                   {"tokens", "experts", "intermediate", "hidden", "lora_rank", "layers"});
  c.sharding = {cut.names("tokens"), cut.names("experts"),   cut.names("intermediate"),
                cut.names("hidden"), cut.names("lora_rank"), cut.names("layers")};
  const Object place(o.of("placement"), o.at("placement"),
                     {"rule", "num_experts", "redundant", "table", "replicas"});
  c.placement.rule = one_of(kRules, place.text("rule"), place.at("rule"));
  c.placement.num_experts = place.small("num_experts");
  c.placement.redundant = place.small("redundant");
  for (const Json& row : place.array("table")) c.placement.table.push_back(o.numbers(row, place.at("table")));
  c.placement.replicas = one_of(kReplicaRules, place.text("replicas"), place.at("replicas"));
  c.weight_form = one_of(kForms, o.text("weight_form"), o.at("weight_form"));
  c.interleave_block = o.number("interleave_block");
  c.shared_outer = o.flag("shared_outer");
  const Object padding(o.of("padding"), o.at("padding"), {"multiple", "place"});
  c.padding = {padding.number("multiple"), one_of(kPlaces, padding.text("place"), padding.at("place"))};
  const Object shared(o.of("shared_experts"), o.at("shared_experts"),
                      {"kind", "count", "intermediate", "axes"});
  c.shared_experts = {one_of(kShared, shared.text("kind"), shared.at("kind")), shared.small("count"),
                      shared.number("intermediate"), shared.names("axes")};
  if (o.has("sum_over")) c.sum_over = o.names("sum_over");
  return c;
}

}  // namespace

Json to_json(const DeploymentSpec& spec) {
  Json grids = Json::array(), classes = Json::array();
  for (const GridSpec& grid : spec.grids) {
    Json axes = Json::array();
    for (const Axis& axis : grid.axes) axes.push_back({{"name", axis.name}, {"size", axis.size}});
    grids.push_back({{"name", grid.name}, {"axes", std::move(axes)}});
  }
  for (const LayerClassSpec& c : spec.classes) classes.push_back(json_of(c));
  return {
      {"name", spec.name},
      {"grids", std::move(grids)},
      {"attention",
       {{"grid", spec.attention.grid}, {"tokens", spec.attention.tokens}, {"heads", spec.attention.heads}}},
      {"classes", std::move(classes)}};
}

DeploymentSpec deployment_from_json(const Json& json, const std::string& what) {
  const Object o(json, what, {"name", "grids", "attention", "classes"});
  DeploymentSpec spec;
  spec.name = o.text("name");
  for (const Json& one : o.array("grids")) {
    const Object grid(one, o.at("grids"), {"name", "axes"});
    GridSpec& added = spec.grids.emplace_back();
    added.name = grid.text("name");
    for (const Json& axis_json : grid.array("axes")) {
      const Object axis(axis_json, grid.at("axes"), {"name", "size"});
      added.axes.push_back({axis.text("name"), axis.small("size")});
    }
  }
  const Object attention(o.of("attention"), o.at("attention"), {"grid", "tokens", "heads"});
  spec.attention = {attention.text("grid"), attention.names("tokens"), attention.names("heads")};
  for (const Json& one : o.array("classes")) spec.classes.push_back(class_from(one, o.at("classes")));
  return spec;
}

}  // namespace eplora
