// SPDX-License-Identifier: Apache-2.0
#include "property_tests/generators/layer_cases.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "reference/check.h"

namespace eplora::suite {
namespace {

std::vector<float> expand(std::uint64_t seed, std::uint64_t array, std::int64_t elements,
                          bool signed_values) {
  std::vector<float> values(elements);
  for (std::int64_t i = 0; i < elements; ++i)
    values[i] = weight_at(hash_at(seed, array), static_cast<std::uint64_t>(i), signed_values);
  return values;
}

}  // namespace

MoeGeometry LayerCase::geometry() const {
  return {
      layout.placement.num_experts, hidden, columns_per_rank * moe_tp_of(layout), gated, form, shared_outer};
}

reference::ShardedLayerOptions LayerCase::options() const {
  return {max_lora_rank, DType::f32, block_size, no_adapter, sentinels};
}

void LayerCase::fit() {
  // Sums of few terms of either sign may cancel and lose the digits that the comparison needs.
  if (hidden < 8 || columns_per_rank * moe_tp_of(layout) < 4) signed_values = false;
  for (auto& recipe : adapters) {
    if (!recipe) continue;
    recipe->fit(gated);
    recipe->special_values = false;
    recipe->signed_values = signed_values;
    if (!signed_values) {
      recipe->gate_up_scale = std::abs(recipe->gate_up_scale);
      recipe->down_scale = std::abs(recipe->down_scale);
    }
    max_lora_rank = std::max(max_lora_rank, recipe->largest_rank());
  }
}

LayerCase draw_layer(Draw& draw, int size, const contract::Form& form) {
  LayerCase c;
  const std::int32_t ranks = draw.percent(12) ? 64 : draw.percent(40) ? 16 : 8;
  do {
    c.layout = draw_layout(draw, {.ranks = ranks, .experts = 16, .replicas = true});
  } while (moe_tp_of(c.layout) > 32);
  const std::int64_t room = 32 / moe_tp_of(c.layout);
  c.columns_per_rank = draw.in(1, std::max<std::int64_t>(1, room));
  c.hidden = draw.percent(30) ? 32 : draw.in(1, 32);
  c.gated = draw.percent(80);
  c.shared_outer = draw.percent(25);
  c.form = draw.percent(40) ? GateUpForm::interleaved : GateUpForm::stacked;
  c.max_lora_rank = draw.in(1, 8);
  c.block_size = static_cast<std::int32_t>(draw.percent(50) ? draw.one_of({1, 4, 16}) : draw.in(1, 20));
  c.no_adapter = draw.percent(40) ? NoAdapter::sentinel : NoAdapter::base_slot;
  c.sentinels = draw.percent(40) ? Sentinels::drop : Sentinels::keep;
  c.signed_values = draw.percent(60);
  c.seed = draw.bits() >> 32;
  const std::int64_t L = draw.percent(5) ? 0 : draw.in(1, 4);
  for (std::int64_t l = 0; l < L; ++l) {
    c.adapters.emplace_back();
    if (!draw.percent(10)) c.adapters.back() = draw_recipe(draw, c.max_lora_rank, c.gated);
  }
  c.batch = draw_ids(draw, size, c.layout.placement.num_experts, form.ids, 96);
  if (c.batch.T > 24) erase_tokens(c.batch, 24, c.batch.T);
  c.batch.num_tokens_kind = NumTokens::Kind::all;
  c.batch.num_tokens = 0;
  c.mapping = draw_mapping(draw, c.batch.T, static_cast<std::int32_t>(L));
  c.fit();
  return c;
}

Shrinks<LayerCase> LayerCase::shrinks() const {
  Shrinks<LayerCase> result;
  const auto original = std::make_shared<const LayerCase>(*this);
  const auto edit = [&](auto change) {
    result.push_back([original, change] {
      LayerCase copy = *original;
      change(copy);
      copy.fit();
      return copy;
    });
  };
  const auto lower = [&](auto LayerCase::*field, std::int64_t low) {
    for (const std::int64_t value : towards(low, static_cast<std::int64_t>(this->*field)))
      edit([field, value](LayerCase& c) { c.*field = static_cast<std::decay_t<decltype(c.*field)>>(value); });
  };
  for (const auto& [begin, end] : token_ranges(batch.T))
    edit([begin = begin, end = end](LayerCase& c) {
      erase_tokens(c.batch, begin, end);
      erase_tokens(c.mapping, begin, end);
    });
  for (auto& make : simpler_layouts(layout))
    edit([make = std::move(make)](LayerCase& c) { c.layout = make(); });
  for (std::size_t l = adapters.size(); l-- > 0;)
    edit([l](LayerCase& c) {
      c.adapters.erase(c.adapters.begin() + static_cast<std::ptrdiff_t>(l));
      for (std::int32_t& index : c.mapping)
        if (index > static_cast<std::int32_t>(l)) --index;
    });
  for (std::size_t l = 0; l < adapters.size(); ++l) {
    if (!adapters[l]) continue;
    edit([l](LayerCase& c) { c.adapters[l].reset(); });
    for (auto& make : simpler_recipes(*adapters[l]))
      edit([l, make = std::move(make)](LayerCase& c) { c.adapters[l] = make(); });
  }
  lower(&LayerCase::hidden, 1);
  lower(&LayerCase::columns_per_rank, 1);
  lower(&LayerCase::max_lora_rank, 1);
  lower(&LayerCase::block_size, 1);
  if (shared_outer) edit([](LayerCase& c) { c.shared_outer = false; });
  if (gated) edit([](LayerCase& c) { c.gated = false; });
  if (form != GateUpForm::stacked) edit([](LayerCase& c) { c.form = GateUpForm::stacked; });
  if (no_adapter != NoAdapter::base_slot) edit([](LayerCase& c) { c.no_adapter = NoAdapter::base_slot; });
  if (sentinels != Sentinels::keep) edit([](LayerCase& c) { c.sentinels = Sentinels::keep; });
  for (auto& make : simpler_ids(batch, layout.placement.num_experts))
    edit([make = std::move(make)](LayerCase& c) { c.batch = make(); });
  for (auto& make : simpler_mapping(mapping, static_cast<std::int32_t>(adapters.size())))
    edit([make = std::move(make)](LayerCase& c) { c.mapping = make(); });
  if (signed_values) edit([](LayerCase& c) { c.signed_values = false; });
  if (seed != 1) edit([](LayerCase& c) { c.seed = 1; });
  return result;
}

std::string LayerCase::show() const {
  std::string text = "layer " + show_ids(batch) + " adapters of tokens=" + show_list(mapping) + " on " +
                     show_layout(layout) + ", H=" + std::to_string(hidden) +
                     " I=" + std::to_string(geometry().intermediate) + (gated ? "" : " not gated") +
                     (form == GateUpForm::interleaved ? " interleaved" : "") +
                     (shared_outer ? " shared_outer" : "") + " R=" + std::to_string(max_lora_rank) +
                     " B=" + std::to_string(block_size) + ", adapters";
  for (const auto& recipe : adapters) text += " " + (recipe ? show_recipe(*recipe) : std::string("{empty}"));
  return text + (adapters.empty() ? " none" : "");
}

std::string LayerCase::table_text() const {
  std::string text = "  token | adapter | ids\n";
  for (std::int64_t t = 0; t < batch.T; ++t) {
    text += "  " + std::to_string(t) + " | " + std::to_string(mapping[t]) + " | ";
    for (std::int64_t k = 0; k < batch.K; ++k) text += std::to_string(batch.ids[t * batch.K + k]) + " ";
    text.back() = '\n';
  }
  return text;
}

Labels LayerCase::labels() const {
  Labels labels;
  add_labels(batch, layout.placement.num_experts, labels);
  add_mapping_labels(mapping, static_cast<std::int32_t>(adapters.size()), labels);
  add_labels(layout, labels);
  for (const auto& recipe : adapters)
    if (recipe) add_labels(*recipe, max_lora_rank, labels);
  labels.emplace_back(gated ? "gated " + std::string(to_string(form)) : "not gated");
  if (shared_outer) labels.emplace_back("shared_outer");
  if (signed_values) labels.emplace_back("values of both signs");
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

nlohmann::json LayerCase::json() const {
  nlohmann::json recipes = nlohmann::json::array();
  for (const auto& recipe : adapters)
    recipes.push_back(recipe ? recipe_json(*recipe) : nlohmann::json(nullptr));
  return {{"batch", batch_json(batch)},
          {"token_lora_mapping", mapping},
          {"layout", layout_json(layout)},
          {"hidden", hidden},
          {"columns_per_rank", columns_per_rank},
          {"gated", gated},
          {"shared_outer", shared_outer},
          {"form", to_string(form)},
          {"adapters", recipes},
          {"max_lora_rank", max_lora_rank},
          {"block_size", block_size},
          {"no_adapter", to_string(no_adapter)},
          {"sentinels", to_string(sentinels)},
          {"signed_values", signed_values},
          {"seed", seed}};
}

LayerCase LayerCase::from_json(const nlohmann::json& json) {
  LayerCase c;
  c.batch = batch_from_json(json.at("batch"));
  c.mapping = json.at("token_lora_mapping").get<std::vector<std::int32_t>>();
  c.layout = layout_from_json(json.at("layout"));
  c.hidden = json.at("hidden");
  c.columns_per_rank = json.at("columns_per_rank");
  c.gated = json.at("gated");
  c.shared_outer = json.at("shared_outer");
  const std::string form = json.at("form"), no_adapter = json.at("no_adapter"),
                    sentinels = json.at("sentinels");
  if (form != "stacked" && form != "interleaved") reject("form", form, "stacked or interleaved");
  if (no_adapter != "base_slot" && no_adapter != "sentinel")
    reject("no_adapter", no_adapter, "base_slot or sentinel");
  if (sentinels != "keep" && sentinels != "drop") reject("sentinels", sentinels, "keep or drop");
  c.form = form == "stacked" ? GateUpForm::stacked : GateUpForm::interleaved;
  c.no_adapter = no_adapter == "sentinel" ? NoAdapter::sentinel : NoAdapter::base_slot;
  c.sentinels = sentinels == "drop" ? Sentinels::drop : Sentinels::keep;
  for (const nlohmann::json& recipe : json.at("adapters")) {
    c.adapters.emplace_back();
    if (!recipe.is_null()) c.adapters.back() = recipe_from_json(recipe);
  }
  c.max_lora_rank = json.at("max_lora_rank");
  c.block_size = json.at("block_size");
  c.signed_values = json.at("signed_values");
  c.seed = json.at("seed");
  require_in_range("hidden", c.hidden, 1, 1 << 12);
  require_in_range("columns_per_rank", c.columns_per_rank, 1, 1 << 12);
  validate(LayerStorage(c).problem);
  return c;
}

LayerStorage::LayerStorage(const LayerCase& c) : ids_(c.batch), geometry(c.geometry()) {
  const std::int64_t E = geometry.num_experts, H = geometry.hidden, I = geometry.intermediate;
  gate_up_proj_ = expand(c.seed, 1, E * geometry.halves() * I * H, c.signed_values);
  down_proj_ = expand(c.seed, 2, E * H * I, c.signed_values);
  topk_weights_ = expand(c.seed, 3, c.batch.n(), false);
  hidden_states_ = expand(c.seed, 4, c.batch.T * H, c.signed_values);
  layers_.resize(c.adapters.size());
  problem.geometry = geometry;
  problem.base = {gate_up_proj_, down_proj_};
  for (std::size_t l = 0; l < c.adapters.size(); ++l) {
    if (c.adapters[l]) layers_[l] = weights_.expand(*c.adapters[l], geometry);
    problem.adapters.push_back(c.adapters[l] ? &layers_[l] : nullptr);
  }
  problem.topk_ids = ids_.matrix();
  problem.topk_weights = topk_weights_;
  problem.token_lora_mapping = c.mapping;
  problem.hidden_states = hidden_states_;
}

}  // namespace eplora::suite
