// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/peft_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/formats/strict_json.h"
#include "reference/check.h"
#include "reference/lora/adapter.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;

/// Settings that do not change what a stored adapter adds to the layer, and the ones read below.
constexpr std::array<std::string_view, 27> kKnown = {"peft_type",         "r",
                                                     "lora_alpha",        "use_rslora",
                                                     "rank_pattern",      "bias",
                                                     "alpha_pattern",     "target_parameters",
                                                     "peft_version",      "task_type",
                                                     "init_lora_weights", "base_model_name_or_path",
                                                     "auto_mapping",      "revision",
                                                     "inference_mode",    "target_modules",
                                                     "lora_dropout",      "eva_config",
                                                     "exclude_modules",   "layers_to_transform",
                                                     "megatron_core",     "corda_config",
                                                     "layers_pattern",    "qalora_group_size",
                                                     "loftq_config",      "lora_ga_config",
                                                     "runtime_config"};

bool is_empty(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty()) || value == "";
}

std::string shown(const Json& value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 120);
}

class ConfigReader {
 public:
  explicit ConfigReader(const std::filesystem::path& path)
      : file_(path.string()), root_(read_json_object(path)) {}

  PeftConfig read() const {
    refuse_other_kinds();
    PeftConfig config;
    config.file = file_;
    config.r = rank(require("r"), "r");
    config.lora_alpha = alpha(require("lora_alpha"), "lora_alpha");
    if (const Json* rslora = find("use_rslora")) {
      if (!rslora->is_boolean()) reject(subject("use_rslora"), shown(*rslora), "it must be true or false");
      config.use_rslora = rslora->get<bool>();
    }
    for (const auto& [key, value] : patterns("rank_pattern"))
      config.rank_pattern.emplace_back(PeftPattern(key, subject("rank_pattern key")),
                                       rank(value, "rank_pattern " + in_quotes(key)));
    for (const auto& [key, value] : patterns("alpha_pattern"))
      config.alpha_pattern.emplace_back(PeftPattern(key, subject("alpha_pattern key")),
                                        alpha(value, "alpha_pattern " + in_quotes(key)));
    if (const Json* version = find("peft_version")) {
      if (!version->is_string()) reject(subject("peft_version"), shown(*version), "it must be a string");
      config.peft_version = version->get<std::string>();
    }
    if (const Json* targets = find("target_parameters")) {
      config.target_parameters.emplace();
      if (!targets->is_array())
        reject(subject("target_parameters"), shown(*targets), "it must be an array of names");
      for (const Json& target : *targets) {
        if (!target.is_string())
          reject(subject("target_parameters"), shown(*targets), "it must be an array of names");
        config.target_parameters->push_back(target.get<std::string>());
      }
    }
    return config;
  }

 private:
  std::string subject(const std::string& key) const { return file_ + ": " + key; }

  const Json* find(const std::string& key) const {
    const auto found = root_.find(key);
    return found == root_.end() || found->is_null() ? nullptr : &*found;
  }

  const Json& require(const std::string& key) const {
    const Json* value = find(key);
    if (value == nullptr)
      reject(subject(key), "missing", "an adapter_config.json has r, lora_alpha and peft_type");
    return *value;
  }

  std::vector<std::pair<std::string, Json>> patterns(const std::string& key) const {
    std::vector<std::pair<std::string, Json>> entries;
    const Json* value = find(key);
    if (value == nullptr) return entries;
    if (!value->is_object()) reject(subject(key), shown(*value), "it must be an object {pattern: number}");
    for (const auto& [pattern, number] : value->items()) entries.emplace_back(pattern, number);
    return entries;
  }

  std::int64_t rank(const Json& value, const std::string& key) const {
    if (!value.is_number_integer() || value.is_number_float() ||
        (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(kMaxIndex)))
      reject(subject(key), shown(value), "a rank must be a whole number in [1, 2147483647]");
    require_in_range(subject(key), value.get<std::int64_t>(), 1, kMaxIndex);
    return value.get<std::int64_t>();
  }

  double alpha(const Json& value, const std::string& key) const {
    if (!value.is_number() || !std::isfinite(value.get<double>()))
      reject(subject(key), shown(value), "an alpha must be a finite number");
    return value.get<double>();
  }

  /// Everything that is not plain LoRA on unchanged base weights, and every setting this program does not
  /// know.
  void refuse_other_kinds() const {
    if (const Json& type = require("peft_type"); type != "LORA")
      reject(subject("peft_type"), shown(type), "it must be \"LORA\"");
    if (const Json* bias = find("bias"); bias != nullptr && *bias != "none")
      reject(subject("bias"), shown(*bias), "it must be \"none\": trained biases are not supported");
    if (const Json* init = find("init_lora_weights"); init != nullptr && !init->is_boolean() &&
                                                      *init != "gaussian" && *init != "eva" &&
                                                      *init != "orthogonal")
      reject(
          subject("init_lora_weights"), shown(*init),
          "it must be true, false, \"gaussian\", \"eva\" or \"orthogonal\": others change the base weights");
    for (const auto& [key, value] : root_.items()) {
      if (is_empty(value) || std::find(kKnown.begin(), kKnown.end(), key) != kKnown.end()) continue;
      reject(subject(key), shown(value), "this setting is not supported; it must be false, null or absent");
    }
  }

  std::string file_;
  Json root_;
};

}  // namespace

std::int64_t PeftConfig::rank_of(std::string_view name) const {
  for (const auto& [pattern, value] : rank_pattern)
    if (pattern.matches(name)) return value;
  return r;
}

double PeftConfig::alpha_of(std::string_view name) const {
  for (const auto& [pattern, value] : alpha_pattern)
    if (pattern.matches(name)) return value;
  return lora_alpha;
}

float PeftConfig::scale_of(std::string_view name) const {
  return lora_scale(alpha_of(name), rank_of(name), use_rslora);
}

std::optional<bool> PeftConfig::reads_parameters_as_in_out() const {
  int major = 0, minor = 0;
  const char* end = peft_version.data() + peft_version.size();
  const auto first = std::from_chars(peft_version.data(), end, major);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '.') return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, minor);
  if (second.ec != std::errc() || (second.ptr != end && *second.ptr != '.')) return std::nullopt;
  if (major == 0 && minor == 18 && peft_version.find("dev") != std::string::npos) return std::nullopt;
  return major == 0 && minor < 19;
}

bool PeftConfig::targets_parameter(std::string_view name) const {
  if (!target_parameters) return true;
  return std::any_of(target_parameters->begin(), target_parameters->end(), [&](const std::string& target) {
    return name == target || (name.ends_with(target) && name[name.size() - target.size() - 1] == '.');
  });
}

PeftConfig read_peft_config(const std::filesystem::path& path) { return ConfigReader(path).read(); }

}  // namespace eplora
