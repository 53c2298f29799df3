// SPDX-License-Identifier: Apache-2.0
#include "property_tests/generators/slice_cases.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "property_tests/generators/id_batch.h"
#include "reference/check.h"

namespace eplora::suite {
namespace {

constexpr std::int64_t kMostElements = 60'000;  // over all ranks that reassemble the adapter

/// Elements of the buffers of all ranks together, roughly.
std::int64_t elements(const SliceCase& c) {
  const std::int64_t I = c.columns_per_rank * moe_tp_of(c.layout), experts = c.layout.placement.num_experts;
  const std::int64_t copies = std::max(1, num_ranks_of(c.layout) / ep_of(c.layout));
  return experts * copies * c.max_lora_rank * (3 * c.hidden + 3 * I / std::max(1, moe_tp_of(c.layout))) *
         c.max_loras * static_cast<std::int64_t>(c.layers.size());
}

nlohmann::json layers_json(const std::vector<BufferLayer>& layers) {
  nlohmann::json list = nlohmann::json::array();
  for (const BufferLayer& layer : layers)
    list.push_back({{"layer_id", layer.layer_id ? nlohmann::json(*layer.layer_id) : nlohmann::json(nullptr)},
                    {"has_gate_up", layer.has_gate_up},
                    {"has_down", layer.has_down}});
  return list;
}

}  // namespace

MoeGeometry SliceCase::geometry() const {
  return {
      layout.placement.num_experts, hidden, columns_per_rank * moe_tp_of(layout), gated, form, shared_outer};
}

void SliceCase::fit() {
  rank = std::min(rank, num_ranks_of(layout) - 1);
  slot = std::min(slot, max_loras - 1);
  for (AdapterRecipe& recipe : adapter) {
    recipe.fit(gated);
    bool gate_up = false, down = false;
    for (const BufferLayer& layer : layers)
      if (layer.layer_id == recipe.layer_id) gate_up |= layer.has_gate_up, down |= layer.has_down;
    if (!gate_up) recipe.gate_rank = recipe.up_rank = 0;
    if (!down) recipe.down_rank = 0;
    max_lora_rank = std::max(max_lora_rank, recipe.largest_rank());
  }
}

SliceCase draw_slice(Draw& draw, int size, const contract::Form&) {
  SliceCase c;
  const int ranks = draw.percent(15) ? 64 : 12;
  c.layout =
      draw_layout(draw, {.ranks = ranks, .experts = draw.percent(10) ? 160 : 4 + size / 4, .replicas = true});
  c.rank = static_cast<std::int32_t>(draw.in(0, num_ranks_of(c.layout) - 1));
  c.hidden = draw.log_uniform(1, 40);
  c.columns_per_rank = draw.log_uniform(1, 12);
  c.gated = draw.percent(75);
  c.shared_outer = draw.percent(25);
  c.form = draw.percent(40) ? GateUpForm::interleaved : GateUpForm::stacked;
  c.max_loras = static_cast<std::int32_t>(draw.log_uniform(1, 5));
  c.slot = static_cast<std::int32_t>(draw.in(0, c.max_loras - 1));
  c.max_lora_rank = draw.in(1, 12);
  c.dtype = draw.one_of({DType::f32, DType::f16, DType::bf16});
  c.before_seed = draw.bits() >> 32;
  const std::int64_t num_layers = draw.percent(60) ? 1 : draw.in(1, 3);
  for (std::int64_t n = 0; n < num_layers; ++n) {
    BufferLayer layer;
    layer.layer_id = static_cast<std::int32_t>(3 * n + draw.in(0, 2));
    if (num_layers > 1 && draw.percent(20)) layer.layer_id.reset();
    if (draw.percent(20)) (draw.percent(50) ? layer.has_gate_up : layer.has_down) = false;
    c.layers.push_back(layer);
  }
  while (elements(c) > kMostElements && (c.hidden > 1 || c.columns_per_rank > 1 || c.max_lora_rank > 2)) {
    c.hidden = (c.hidden + 1) / 2;
    c.columns_per_rank = (c.columns_per_rank + 1) / 2;
    if (c.max_lora_rank > 4)
      c.max_lora_rank = (c.max_lora_rank + 1) / 2;
    else if (c.hidden == 1)
      c.max_lora_rank = std::max<std::int64_t>(2, c.max_lora_rank - 1);
  }
  for (const BufferLayer& layer : c.layers)
    if (layer.layer_id && draw.percent(85)) {
      c.adapter.push_back(draw_recipe(draw, c.max_lora_rank, c.gated));
      c.adapter.back().layer_id = *layer.layer_id;
    }
  c.fit();
  return c;
}

Shrinks<SliceCase> SliceCase::shrinks() const {
  Shrinks<SliceCase> result;
  const auto original = std::make_shared<const SliceCase>(*this);
  const auto edit = [&](auto change) {
    result.push_back([original, change] {
      SliceCase copy = *original;
      change(copy);
      copy.fit();
      return copy;
    });
  };
  const auto lower = [&](auto SliceCase::*field, std::int64_t low) {
    for (const std::int64_t value : towards(low, static_cast<std::int64_t>(this->*field)))
      edit([field, value](SliceCase& c) { c.*field = static_cast<std::decay_t<decltype(c.*field)>>(value); });
  };
  for (std::size_t n = 0; layers.size() > 1 && n < layers.size(); ++n)
    edit([n](SliceCase& c) {
      if (c.layers[n].layer_id)
        std::erase_if(c.adapter,
                      [id = *c.layers[n].layer_id](const AdapterRecipe& r) { return r.layer_id == id; });
      c.layers.erase(c.layers.begin() + static_cast<std::ptrdiff_t>(n));
    });
  for (std::size_t a = 0; a < adapter.size(); ++a)
    edit([a](SliceCase& c) { c.adapter.erase(c.adapter.begin() + static_cast<std::ptrdiff_t>(a)); });
  for (auto& make : simpler_layouts(layout))
    edit([make = std::move(make)](SliceCase& c) { c.layout = make(); });
  if (layout.placement.kind != PlacementKind::linear)  // a later rank of a plainer placement
    edit([](SliceCase& c) {
      c.layout.placement = {PlacementKind::linear, c.layout.placement.num_experts, {}};
      c.rank = num_ranks_of(c.layout) - 1;
    });
  lower(&SliceCase::rank, 0);
  lower(&SliceCase::hidden, 1);
  lower(&SliceCase::columns_per_rank, 1);
  for (const std::int64_t width : towards(1, std::min(hidden, columns_per_rank)))  // both stay in proportion
    edit([width](SliceCase& c) { c.hidden = c.columns_per_rank = width; });
  lower(&SliceCase::max_loras, 1);
  lower(&SliceCase::slot, 0);
  for (std::size_t a = 0; a < adapter.size(); ++a)
    for (auto& make : simpler_recipes(adapter[a]))
      edit([a, make = std::move(make)](SliceCase& c) { c.adapter[a] = make(); });
  lower(&SliceCase::max_lora_rank, 1);
  if (gated) edit([](SliceCase& c) { c.gated = false; });
  if (shared_outer) edit([](SliceCase& c) { c.shared_outer = false; });
  if (form != GateUpForm::stacked) edit([](SliceCase& c) { c.form = GateUpForm::stacked; });
  if (dtype != DType::f32) edit([](SliceCase& c) { c.dtype = DType::f32; });
  for (std::size_t n = 0; n < layers.size(); ++n)
    if (!layers[n].has_gate_up || !layers[n].has_down)
      edit([n](SliceCase& c) { c.layers[n].has_gate_up = c.layers[n].has_down = true; });
  return result;
}

std::string SliceCase::show() const {
  std::string text = "slice for rank " + std::to_string(rank) + " of " + show_layout(layout) +
                     ", H=" + std::to_string(hidden) + " I=" + std::to_string(geometry().intermediate) +
                     (gated ? "" : " not gated") + (form == GateUpForm::interleaved ? " interleaved" : "") +
                     (shared_outer ? " shared_outer" : "") + ", slot " + std::to_string(slot) + " of " +
                     std::to_string(max_loras) + ", R=" + std::to_string(max_lora_rank) + " " +
                     std::string(to_string(dtype)) + ", adapter";
  for (const AdapterRecipe& recipe : adapter) text += " " + show_recipe(recipe);
  return text + (adapter.empty() ? " without layers" : "");
}

std::string SliceCase::table_text() const {
  std::string text = "  buffer layer | gate_up | down\n";
  for (const BufferLayer& layer : layers)
    text += "  " + (layer.layer_id ? "id " + std::to_string(*layer.layer_id) : std::string("no id")) + " | " +
            (layer.has_gate_up ? "yes" : "no") + " | " + (layer.has_down ? "yes" : "no") + "\n";
  return text;
}

Labels SliceCase::labels() const {
  Labels labels;
  add_labels(layout, labels);
  for (const AdapterRecipe& recipe : adapter) add_labels(recipe, max_lora_rank, labels);
  if (adapter.empty()) labels.emplace_back("adapter without layers");
  if (layers.size() > 1) labels.emplace_back("layers 2..3");
  if (std::any_of(layers.begin(), layers.end(), [](const BufferLayer& l) { return !l.layer_id; }))
    labels.emplace_back("a layer without id");
  if (rank > 0) labels.emplace_back("rank > 0");
  if (slot > 0) labels.emplace_back("slot > 0");
  labels.emplace_back(gated ? "gated " + std::string(to_string(form)) : "not gated");
  if (shared_outer) labels.emplace_back("shared_outer");
  labels.emplace_back("buffers " + std::string(to_string(dtype)));
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

nlohmann::json SliceCase::json() const {
  nlohmann::json recipes = nlohmann::json::array();
  for (const AdapterRecipe& recipe : adapter) recipes.push_back(recipe_json(recipe));
  return {{"layout", layout_json(layout)},
          {"rank", rank},
          {"hidden", hidden},
          {"columns_per_rank", columns_per_rank},
          {"gated", gated},
          {"shared_outer", shared_outer},
          {"form", to_string(form)},
          {"layers", layers_json(layers)},
          {"adapter", recipes},
          {"max_loras", max_loras},
          {"slot", slot},
          {"max_lora_rank", max_lora_rank},
          {"dtype", to_string(dtype)},
          {"before_seed", before_seed}};
}

SliceCase SliceCase::from_json(const nlohmann::json& json) {
  SliceCase c;
  c.layout = layout_from_json(json.at("layout"));
  c.rank = json.at("rank");
  c.hidden = json.at("hidden");
  c.columns_per_rank = json.at("columns_per_rank");
  c.gated = json.at("gated");
  c.shared_outer = json.at("shared_outer");
  const std::string form = json.at("form");
  if (form != "stacked" && form != "interleaved") reject("form", form, "stacked or interleaved");
  c.form = form == "stacked" ? GateUpForm::stacked : GateUpForm::interleaved;
  for (const nlohmann::json& layer : json.at("layers")) {
    BufferLayer read;
    if (!layer.at("layer_id").is_null()) read.layer_id = layer.at("layer_id").get<std::int32_t>();
    read.has_gate_up = layer.at("has_gate_up");
    read.has_down = layer.at("has_down");
    c.layers.push_back(read);
  }
  for (const nlohmann::json& recipe : json.at("adapter")) c.adapter.push_back(recipe_from_json(recipe));
  c.max_loras = json.at("max_loras");
  c.slot = json.at("slot");
  c.max_lora_rank = json.at("max_lora_rank");
  c.dtype = dtype_from(json.at("dtype"));
  c.before_seed = json.at("before_seed");
  require_in_range("rank", c.rank, 0, num_ranks_of(c.layout) - 1);
  require_in_range("hidden", c.hidden, 1, 1 << 16);
  require_in_range("columns_per_rank", c.columns_per_rank, 1, 1 << 16);
  const SliceStorage storage(c, make_layout(c.layout));
  const BufferShape shape = storage.shape(c.rank);
  validate(storage.problem(c.rank, shape));
  return c;
}

SliceStorage::SliceStorage(const SliceCase& of, Layout with_layout)
    : c(of), layout(std::move(with_layout)), geometry(of.geometry()) {
  for (const AdapterRecipe& recipe : c.adapter)
    adapter.layers[recipe.layer_id] = weights_.expand(recipe, geometry);
}

BufferShape SliceStorage::shape(std::int32_t rank) const {
  return buffer_shape(geometry, layout.place(rank),
                      static_cast<std::int64_t>(layout.local_experts(rank).size()), c.layers, c.max_loras,
                      c.max_lora_rank, c.dtype);
}

LoraBuffers SliceStorage::buffers_before(std::int32_t rank) const {
  LoraBuffers buffers(shape(rank));
  std::uint64_t array = c.before_seed;
  const auto fill = [&](std::span<std::byte> bytes) {
    ++array;
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
      const std::uint64_t word = hash_at(array, i);
      std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(8, bytes.size() - i));
    }
  };
  for (std::size_t n = 0; n < c.layers.size(); ++n)
    for (const BufferTensor tensor : kBufferTensors) fill(buffers.bytes(n, tensor));
  for (std::size_t n = 0; n < c.layers.size(); ++n)
    for (int module = 0; module < 2; ++module)
      for (std::int32_t l = 0; l < c.max_loras; ++l)
        buffers.scale(n, module, l) =
            weight_at(c.before_seed, n * 2 + static_cast<std::uint64_t>(module), true);
  return buffers;
}

SliceProblem SliceStorage::problem(std::int32_t rank, const BufferShape& shape) const {
  return {geometry, layout.place(rank), layout.local_experts(rank), &adapter, &shape, c.slot};
}

}  // namespace eplora::suite
