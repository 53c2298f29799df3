// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_input.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "cli/formats/atomic_file.h"
#include "cli/formats/deployment_file.h"
#include "cli/formats/deployment_json.h"
#include "cli/formats/layout_file.h"
#include "cli/formats/strict_json.h"
#include "cli/load_input.h"
#include "cli/project_files.h"
#include "reference/check.h"
#include "reference/layout/deployment_presets.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;
constexpr const char* kSchema = "eplora.layout_case/1";
constexpr std::string_view kOrder = "order=";

std::int32_t number(std::string_view text, const std::string& what) {
  std::int32_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc{} || end != text.data() + text.size() || value < 0)
    reject(what, "'" + std::string(text) + "'", "it must be a number of at most 2^31-1");
  return value;
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::vector<Axis> axes_of(std::string_view text, std::initializer_list<std::string_view> known) {
  std::vector<Axis> axes;
  for (const std::string_view part : split(text, '/')) {
    const std::size_t colon = part.find(':');
    const std::string name(part.substr(0, colon));
    std::string words;
    for (const std::string_view one : known) words += (words.empty() ? "" : ", ") + std::string(one);
    if (std::find(known.begin(), known.end(), name) == known.end() || colon == std::string_view::npos)
      reject("axis", "'" + std::string(part) + "'", "it must be NAME:SIZE, the names are " + words);
    axes.push_back({name, number(part.substr(colon + 1), "size of axis " + name)});
  }
  return axes;
}

std::string axes_words(const std::vector<Axis>& axes) {
  std::string words;
  for (const Axis& axis : axes)
    words += (words.empty() ? "" : "/") + axis.name + ":" + std::to_string(axis.size);
  return words;
}

template <class T>
T get(const Json& json, const char* key, const std::string& what) {
  if (!json.contains(key)) reject(what + "." + key, "missing", "every saved case has it");
  try {
    return json.at(key).get<T>();
  } catch (const Json::exception& error) {
    reject(what + "." + key, "unusable", error.what());
  }
}

Json json_of(const suite::DeployedSizes& s) {
  return {{"tokens", s.tokens},
          {"top_k", s.top_k},
          {"hidden", s.hidden},
          {"intermediate", s.intermediate},
          {"shared_intermediate", s.shared_intermediate},
          {"max_loras", s.max_loras},
          {"max_lora_rank", s.max_lora_rank},
          {"num_layers", s.num_layers},
          {"layer", s.layer},
          {"shared_outer", s.shared_outer},
          {"sentinels", s.sentinels}};
}

suite::DeployedSizes sizes_from(const Json& json, const std::string& what) {
  constexpr std::int64_t kMost =
      1 << 20;  // a saved case is small; a file that asks for more is not one of ours
  suite::DeployedSizes s;
  const auto number_of = [&](const char* key, std::int64_t least) {
    const auto value = get<std::int64_t>(json, key, what);
    require_in_range(what + "." + key, value, least, kMost);
    return value;
  };
  s.tokens = number_of("tokens", 0);
  s.top_k = number_of("top_k", 1);
  s.hidden = number_of("hidden", 1);
  s.intermediate = number_of("intermediate", 1);
  s.shared_intermediate = number_of("shared_intermediate", 0);
  s.max_loras = static_cast<std::int32_t>(number_of("max_loras", 0));
  s.max_lora_rank = number_of("max_lora_rank", 1);
  s.num_layers = number_of("num_layers", 1);
  s.layer = number_of("layer", 0);
  s.shared_outer = get<bool>(json, "shared_outer", what);
  s.sentinels = get<bool>(json, "sentinels", what);
  return s;
}

}  // namespace

std::string layout_line(const LayoutLine& line) {
  std::string text = std::string(kOrder) + axes_words(line.order);
  if (!line.attention.empty()) text += ",attention=" + axes_words(line.attention);
  if (line.rule == PlacementRule::redundant)
    return text + ",placement=redundant+" + std::to_string(line.redundant);
  return text + ",placement=" + std::string(to_string(line.rule));
}

LayoutLine parse_layout_line(std::string_view text) {
  LayoutLine line;
  bool placed = false;
  for (const std::string_view part : split(text, ',')) {
    const std::size_t equals = part.find('=');
    const std::string_view key = part.substr(0, equals);
    const std::string_view value = equals == std::string_view::npos ? "" : part.substr(equals + 1);
    const bool again = (key == "order" && !line.order.empty()) ||
                       (key == "attention" && !line.attention.empty()) || (key == "placement" && placed);
    if (again) reject("layout", "'" + std::string(text) + "'", std::string(key) + " may stand once");
    if (key == "order") {
      line.order = axes_of(value, {"moe_dp", "moe_ep", "moe_tp"});
    } else if (key == "attention") {
      line.attention = axes_of(value, {"adp", "atp"});
    } else if (key == "placement") {
      placed = true;
      if (value.starts_with("redundant+")) {
        line.rule = PlacementRule::redundant;
        line.redundant = number(value.substr(10), "redundant");
      } else if (value == "round_robin") {
        line.rule = PlacementRule::round_robin;
      } else if (value != "linear") {
        reject("placement", "'" + std::string(value) + "'", "it must be linear, round_robin or redundant+N");
      }
    } else {
      reject("layout key", "'" + std::string(key) + "'", "the keys are order, attention, placement");
    }
  }
  return line;
}

DeploymentSpec deployment_of_line(const LayoutLine& line, std::int32_t num_experts) {
  DeploymentSpec spec;
  spec.name = layout_line(line);
  spec.grids.push_back({"moe", line.order});
  LayerClassSpec c;
  c.grid = "moe";
  for (const Axis& axis : line.order) {
    if (axis.name == "moe_dp") c.sharding.tokens = {axis.name};
    if (axis.name == "moe_ep") c.sharding.experts = {axis.name};
    if (axis.name == "moe_tp") c.sharding.intermediate = {axis.name};
  }
  c.placement.rule = line.rule;
  c.placement.num_experts = num_experts;
  c.placement.redundant = line.redundant;
  spec.classes.push_back(c);
  if (line.attention.empty()) return spec;
  spec.grids.push_back({"attention", line.attention});
  spec.attention.grid = "attention";
  for (const Axis& axis : line.attention)
    (axis.name == "adp" ? spec.attention.tokens : spec.attention.heads).push_back(axis.name);
  return spec;
}

namespace {

DeploymentSpec read_any(std::string_view text, std::optional<std::int32_t> num_experts) {
  if (text.empty()) reject("layout", "empty", "give a layout, for instance tp=4,ep=2; one rank is tp=1");
  if (text.ends_with(".json")) {
    const Json json = read_json_object(std::filesystem::path(text));
    return deployment_from_json(json.contains("deployment") ? json.at("deployment") : json,
                                std::string(text));
  }
  if (text.starts_with(kOrder)) {
    if (!num_experts) reject("--experts", "missing", "give --experts N, or --model NAME");
    return deployment_of_line(parse_layout_line(text), *num_experts);
  }
  if (text.ends_with(".toml")) return read_deployment_file(std::filesystem::path(text), num_experts);
  if (std::optional<DeploymentSpec> preset = preset_deployment(text, num_experts, read_named_load))
    return *std::move(preset);
  return deployment_of(parse_layout_argument(text, num_experts), std::string(text));
}

/// Whoever wrote the layout: the limit of the layout language holds.
DeploymentSpec with_few_ranks(DeploymentSpec spec) {
  for (const GridSpec& grid : spec.grids) {
    std::int64_t ranks = 1;
    for (const Axis& axis : grid.axes) ranks = saturating_product(ranks, std::max(axis.size, 0));
    if (ranks > kMostFileRanks)
      reject("number of ranks", std::to_string(ranks),
             "it must be at most " + std::to_string(kMostFileRanks));
  }
  return spec;
}

}  // namespace

DeploymentSpec read_deployment(std::string_view text, std::optional<std::int32_t> num_experts) {
  return with_few_ranks(read_any(text, num_experts));
}

ModelConfig model_argument(const std::string& name_or_file) {
  if (name_or_file.ends_with(".json")) return read_model_config(name_or_file);
  const std::filesystem::path folder = project_folder("examples/models");
  std::string known;
  for (const std::filesystem::path& file : files_in(folder, ".json")) {
    if (file.stem() == name_or_file) return read_model_config(file);
    known += (known.empty() ? "" : ", ") + file.stem().string();
  }
  reject("--model", "'" + name_or_file + "'", "it must be a config.json or one of " + known);
}

PricedModel priced_model(const ModelConfig& model) {
  return {model.num_experts,      model.top_k, model.hidden,
          model.moe_intermediate, model.gated, model.moe_layers};
}

std::int64_t bytes_of_type(const std::string& flag, const std::string& type) {
  if (type == "f32") return 4;
  if (type == "bf16" || type == "f16") return 2;
  if (type == "fp8") return 1;
  reject(flag, "'" + type + "'", "it must be f32, bf16, f16 or fp8");
}

suite::Spoil sums_over(const std::vector<std::string>& axes) {
  return [axes](const Deployment& deployment, ClassPlan& plan) {
    const Mesh& mesh = deployment.mesh_of(plan.spec().grid);
    std::vector<std::string> here;
    for (const Axis& axis : mesh.axes())
      if (std::find(axes.begin(), axes.end(), axis.name) != axes.end()) here.push_back(axis.name);
    plan.routed_sum = plan.delta_sum = {here, mesh.groups(here)};
  };
}

suite::Spoil spoil_of(const LayoutCase& one) {
  if (one.sum_over) return sums_over(*one.sum_over);
  if (one.mutant.empty()) return {};
  for (const suite::LayoutMutant& mutant : suite::layout_mutant_list())
    if (mutant.id == one.mutant) return mutant.spoil;
  reject("mutant", "'" + one.mutant + "'", "no layout mutant has this name");
}

std::filesystem::path save_layout_case(const std::filesystem::path& folder, const std::string& name,
                                       const LayoutCase& one) {
  make_folder("--save", folder);
  Json json = {
      {"schema", kSchema},      {"proof", to_string(one.proof)},     {"class", one.trial.layer_class},
      {"seed", one.trial.seed}, {"sizes", json_of(one.trial.sizes)}, {"deployment", to_json(one.trial.spec)}};
  if (!one.mutant.empty()) json["mutant"] = one.mutant;
  if (one.sum_over) json["sum_over"] = *one.sum_over;
  if (!one.backend.empty()) json["backend"] = one.backend;
  std::filesystem::path path = folder / (name + ".json");
  write_text_file(path, json.dump(2) + "\n");
  return path;
}

LayoutCase load_layout_case(const std::filesystem::path& file) {
  const Json json = read_json_object(file);
  const std::string what = file.string();
  if (get<std::string>(json, "schema", what) != kSchema)
    reject(what + ".schema", json.at("schema").dump(), std::string("it must be ") + kSchema);
  LayoutCase one;
  const auto proof = get<std::string>(json, "proof", what);
  const auto* const found = std::find_if(suite::kProofs.begin(), suite::kProofs.end(),
                                         [&](suite::Proof known) { return proof == to_string(known); });
  if (found == suite::kProofs.end()) reject(what + ".proof", "'" + proof + "'", "no proof has this name");
  one.proof = *found;
  one.trial.layer_class = get<std::string>(json, "class", what);
  one.trial.seed = get<std::uint64_t>(json, "seed", what);
  one.trial.sizes = sizes_from(get<Json>(json, "sizes", what), what + ".sizes");
  one.trial.spec =
      with_few_ranks(deployment_from_json(get<Json>(json, "deployment", what), what + ".deployment"));
  if (json.contains("mutant")) one.mutant = get<std::string>(json, "mutant", what);
  if (json.contains("sum_over")) one.sum_over = get<std::vector<std::string>>(json, "sum_over", what);
  if (json.contains("backend")) one.backend = get<std::string>(json, "backend", what);
  return one;
}

}  // namespace eplora
