// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/model_config.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;

/// All of these name E of the model.
constexpr std::initializer_list<const char*> kExpertKeys = {"num_experts", "n_routed_experts",
                                                            "num_local_experts"};
constexpr std::initializer_list<const char*> kTopKKeys = {"num_experts_per_tok", "num_experts_per_token"};

/// Model types whose experts' size is intermediate_size: they have no moe_intermediate_size. (Llama 4's dense
/// layers have a key of their own, intermediate_size_mlp.)
constexpr std::array<std::string_view, 4> kNoOther = {"llama4_text", "minimax_m2", "mixtral", "gpt_oss"};

/// One JSON object of the file; null counts as absent, as Hugging Face writes defaults.
class Fields {
 public:
  Fields(const Json& object, std::string what) : object_(object), what_(std::move(what)) {}

  const Json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  std::string subject(const std::string& key) const { return what_ + ": " + key; }

  std::int64_t whole(const Json& value, const std::string& key, std::int64_t low, std::int64_t high) const {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX))
      reject(subject(key), value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80),
             "it must be a whole number");
    require_in_range(subject(key), value.get<std::int64_t>(), low, high);
    return value.get<std::int64_t>();
  }

  std::optional<std::int64_t> whole(const char* key, std::int64_t low = 1,
                                    std::int64_t high = kMaxIndex) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    return whole(*value, key, low, high);
  }

  std::string text(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return "";
    if (!value->is_string()) reject(subject(key), value->type_name(), "it must be a string");
    return value->get<std::string>();
  }

  const Json* array(const char* key) const {
    const Json* value = find(key);
    if (value != nullptr && !value->is_array())
      reject(subject(key), value->type_name(), "it must be an array");
    return value;
  }

  const std::string& what() const { return what_; }

 private:
  const Json& object_;
  std::string what_;
};

/// The one value that several keys, in one or two objects, may give; two that disagree are an error.
std::optional<std::int64_t> agreed(std::initializer_list<const char*> keys,
                                   std::initializer_list<const Fields*> objects) {
  std::optional<std::int64_t> value;
  std::string from;
  for (const Fields* fields : objects)
    for (const char* key : keys) {
      const std::optional<std::int64_t> here = fields->whole(key);
      if (!here) continue;
      if (value && *value != *here)
        reject(fields->subject(key), std::to_string(*here),
               "it must equal " + from + "=" + std::to_string(*value));
      value = here;
      from = key;
    }
  return value;
}

std::string joined(std::initializer_list<const char*> keys) {
  std::string text;
  for (const char* key : keys) text.append(text.empty() ? "" : ", ").append(key);
  return text;
}

/// `moe_layer_freq` as a list holds one flag a layer; so do `mlp_layer_types` and the hybrid pattern, in
/// their own words.
std::optional<std::vector<std::int32_t>> listed_layers(const Fields& fields, std::int32_t num_layers) {
  const auto per_layer = [&](const char* key, std::size_t length) {
    if (length != static_cast<std::size_t>(num_layers))
      reject(fields.subject(key) + " length", std::to_string(length),
             "it must be num_hidden_layers=" + std::to_string(num_layers));
  };
  std::vector<std::int32_t> layers;
  if (const Json* types = fields.array("mlp_layer_types")) {
    per_layer("mlp_layer_types", types->size());
    for (std::int32_t i = 0; i < num_layers; ++i) {
      const Json& type = (*types)[static_cast<std::size_t>(i)];
      if (type == "sparse")
        layers.push_back(i);
      else if (type != "dense")
        reject(fields.subject("mlp_layer_types"), type.dump(), "entries are \"dense\" or \"sparse\"");
    }
    return layers;
  }
  if (const std::string pattern = fields.text("hybrid_override_pattern"); !pattern.empty()) {
    per_layer("hybrid_override_pattern", pattern.size());
    for (std::int32_t i = 0; i < num_layers; ++i)
      if (pattern[static_cast<std::size_t>(i)] == 'E') layers.push_back(i);
    return layers;
  }
  if (const Json* ids = fields.array("moe_layers")) {
    for (const Json& id : *ids)
      layers.push_back(static_cast<std::int32_t>(fields.whole(id, "moe_layers", 0, num_layers - 1)));
    std::sort(layers.begin(), layers.end());
    if (std::adjacent_find(layers.begin(), layers.end()) != layers.end())
      reject(fields.subject("moe_layers"), "a list with a repeated id", "ids must be distinct");
    return layers;
  }
  if (const Json* flags = fields.find("moe_layer_freq"); flags != nullptr && flags->is_array()) {
    per_layer("moe_layer_freq", flags->size());
    for (std::int32_t i = 0; i < num_layers; ++i)
      if (fields.whole((*flags)[static_cast<std::size_t>(i)], "moe_layer_freq", 0, 1) == 1)
        layers.push_back(i);
    return layers;
  }
  return std::nullopt;
}

/// Lists first; else every layer that no rule makes dense: the first k (DeepSeek), all but each n-th (Qwen,
/// Llama 4), named ones (Qwen).
std::vector<std::int32_t> moe_layers_of(const Fields& fields, std::int32_t num_layers) {
  if (auto listed = listed_layers(fields, num_layers)) return *listed;
  const std::int64_t first = fields.whole("first_k_dense_replace", 0, num_layers).value_or(0);
  const std::int64_t frequency = fields.whole("moe_layer_freq").value_or(1);
  const std::int64_t step =
      fields.whole("decoder_sparse_step").value_or(fields.whole("interleave_moe_layer_step").value_or(1));
  std::vector<bool> dense(static_cast<std::size_t>(num_layers), false);
  if (const Json* only = fields.array("mlp_only_layers"))
    for (const Json& id : *only)
      dense[static_cast<std::size_t>(fields.whole(id, "mlp_only_layers", 0, num_layers - 1))] = true;
  std::vector<std::int32_t> layers;
  for (std::int32_t i = 0; i < num_layers; ++i)
    if (i >= first && i % frequency == 0 && (i + 1) % step == 0 && !dense[static_cast<std::size_t>(i)])
      layers.push_back(i);
  return layers;
}

std::int64_t moe_intermediate_of(const Fields& fields, const std::string& model_type) {
  if (const auto own = fields.whole("moe_intermediate_size")) return *own;
  const auto dense = fields.whole("intermediate_size");
  if (std::find(kNoOther.begin(), kNoOther.end(), model_type) != kNoOther.end()) {
    if (dense) return *dense;
    reject(fields.subject("intermediate_size"), "missing",
           "it is the experts' size of model_type " + model_type);
  }
  reject(
      fields.subject("moe_intermediate_size"), "missing",
      "intermediate_size stands for it only in llama4_text, minimax_m2, mixtral and gpt_oss; model_type is " +
          in_quotes(model_type));
}

void read_own_object(const Fields& root, ModelConfig& config) {
  const Json* own = root.find("eplora");
  if (own == nullptr) return;
  if (!own->is_object()) reject(root.subject("eplora"), own->type_name(), "it must be an object");
  for (const auto& [key, value] : own->items())
    if (key != "name" && key != "moe_layers")
      reject(root.subject("eplora key " + in_quotes(key)), "unknown", "the keys are name and moe_layers");
  const Fields fields(*own, root.what() + ": eplora");
  if (const std::string name = fields.text("name"); !name.empty()) config.name = name;
  const auto count = static_cast<std::int64_t>(config.moe_layers.size());
  if (const auto layers = fields.whole("moe_layers", 0); layers && *layers != count)
    reject(fields.subject("moe_layers"), std::to_string(*layers),
           "num_hidden_layers and the rules for dense layers make it " + std::to_string(count));
}

ModelConfig read(const Json& document, const std::string& what) {
  const Fields root(document, what);
  const Json* nested = root.find("text_config");
  if (nested != nullptr && !nested->is_object())
    reject(root.subject("text_config"), nested->type_name(), "it must be an object");
  const Fields fields(nested != nullptr ? *nested : document,
                      nested != nullptr ? what + ": text_config" : what);

  ModelConfig config;
  config.model_type = fields.text("model_type");
  if (config.model_type.empty()) config.model_type = root.text("model_type");
  config.name = config.model_type;
  const std::initializer_list<const Fields*> objects = {&fields, &root};
  const auto experts = agreed(kExpertKeys, objects);
  if (!experts) reject(fields.subject("number of experts"), "missing", "give one of " + joined(kExpertKeys));
  config.num_experts = static_cast<std::int32_t>(*experts);
  const auto top_k = agreed(kTopKKeys, objects);
  if (!top_k) reject(fields.subject("num_experts_per_tok"), "missing", "it is the router's top-k");
  require_in_range(fields.subject("num_experts_per_tok"), *top_k, 1, config.num_experts);
  config.top_k = static_cast<std::int32_t>(*top_k);
  const auto hidden = fields.whole("hidden_size");
  if (!hidden) reject(fields.subject("hidden_size"), "missing", "it is the experts' input size");
  config.hidden = fields.whole("moe_latent_size").value_or(*hidden);
  config.moe_intermediate = moe_intermediate_of(fields, config.model_type);
  std::string activation = fields.text("mlp_hidden_act");
  if (activation.empty()) activation = fields.text("hidden_act");
  config.gated = activation != "relu2";
  config.form = config.model_type == "gpt_oss" ? GateUpForm::interleaved : GateUpForm::stacked;
  constexpr std::int64_t kMaxLayers = 1'000'000;
  config.num_layers = static_cast<std::int32_t>(fields.whole("num_hidden_layers", 1, kMaxLayers).value_or(0));
  if (config.num_layers > 0) config.moe_layers = moe_layers_of(fields, config.num_layers);
  read_own_object(root, config);
  return config;
}

}  // namespace

MoeGeometry ModelConfig::geometry() const {
  MoeGeometry geometry;
  geometry.num_experts = num_experts;
  geometry.hidden = hidden;
  geometry.intermediate = moe_intermediate;
  geometry.gated = gated;
  geometry.form = form;
  return geometry;
}

ModelConfig read_model_config(const std::filesystem::path& path) {
  return read(read_json_object(path), path.string());
}

ModelConfig parse_model_config(std::string_view text, const std::string& what) {
  return read(parse_json_object(text, what), what);
}

}  // namespace eplora
