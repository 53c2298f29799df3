// SPDX-License-Identifier: Apache-2.0
#include "property_tests/generators/adapter_recipe.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "property_tests/generators/id_batch.h"
#include "reference/check.h"

namespace eplora::suite {
namespace {

constexpr const char* kHalvesNames[] = {"separate", "stacked", "interleaved"};

float special_value(std::uint64_t bits, float ordinary) {
  switch (below(bits, 24)) {
    case 0:
      return std::numeric_limits<float>::quiet_NaN();
    case 1:
      return std::numeric_limits<float>::infinity();
    case 2:
      return -std::numeric_limits<float>::infinity();
    case 3:
      return -0.0F;
    case 4:
      return std::numeric_limits<float>::denorm_min();
    case 5:
      return std::numeric_limits<float>::max();
    case 6:
      return 65520.0F;  // rounds to infinity in F16
    case 7:
      return 0x1p-25F;  // half of F16's smallest
    case 8:
      return 1.0F + 0x1p-11F;  // a tie in F16
    case 9:
      return 1.0F + 3 * 0x1p-8F;  // a tie in BF16
    default:
      return ordinary;
  }
}

StridedTensor plain(const void* data, DType dtype, std::int64_t experts, std::int64_t rows,
                    std::int64_t cols) {
  return {data, dtype, experts, rows, cols, rows * cols, cols, 1};
}

/// B `[experts, rows, r]`, expert slowest or, as PEFT fuses it, `[rows, r, experts]`.
StridedTensor make_B(const void* data, const AdapterRecipe& recipe, std::int64_t experts, std::int64_t rows,
                     std::int64_t r) {
  StridedTensor B = plain(data, recipe.dtype, experts, rows, r);
  if (recipe.expert_fastest_B) {
    B.expert_stride = 1;
    B.row_stride = r * experts;
    B.col_stride = experts;
  }
  return B;
}

StridedTensor make_A(const void* data, const AdapterRecipe& recipe, std::int64_t experts, std::int64_t r,
                     std::int64_t in) {
  StridedTensor A = plain(data, recipe.dtype, experts, r, in);
  if (recipe.transposed_A) {
    A.row_stride = 1;
    A.col_stride = r;
  }
  return A;
}

const void* advanced(const void* data, DType dtype, std::int64_t elements) {
  return static_cast<const std::byte*>(data) + elements * static_cast<std::int64_t>(bytes_of(dtype));
}

}  // namespace

float weight_at(std::uint64_t seed, std::uint64_t index, bool signed_values) {
  const std::uint64_t bits = hash_at(seed, index);
  const float magnitude = 0.25F + 0.75F * (static_cast<float>((bits >> 45) + 1) * 0x1p-19F);
  return signed_values && (bits & 1) != 0 ? -magnitude : magnitude;
}

void AdapterRecipe::fit(bool gated) {
  if (!gated) {
    up_rank = 0;
    one_A = false;
    halves = Halves::separate;
  } else {
    if (gate_rank == 0) up_rank = 0;
    if (gate_rank > 0 && (up_rank == 0 || one_A || halves != Halves::separate)) up_rank = gate_rank;
  }
}

AdapterRecipe draw_recipe(Draw& draw, std::int64_t most_rank, bool gated) {
  AdapterRecipe recipe;
  const auto rank = [&] { return draw.percent(40) ? most_rank : draw.in(1, most_rank); };
  recipe.gate_rank = rank();
  recipe.up_rank = draw.percent(60) ? recipe.gate_rank : rank();
  recipe.down_rank = draw.percent(50) ? recipe.gate_rank : rank();
  const std::int64_t missing = draw.in(0, 9);
  if (missing == 0) recipe.gate_rank = recipe.up_rank = 0;
  if (missing == 1) recipe.down_rank = 0;
  const auto scale = [&] {
    return draw.percent(20) ? draw.one_of({0.0F, -1.5F, 1.0F}) : static_cast<float>(draw.in(1, 64)) / 16.0F;
  };
  recipe.gate_up_scale = scale();
  recipe.down_scale = scale();
  recipe.dtype = draw.one_of({DType::f32, DType::f16, DType::bf16});
  recipe.halves = draw.one_of({Halves::separate, Halves::stacked, Halves::interleaved});
  recipe.one_A = draw.percent(30);
  recipe.expert_fastest_B = draw.percent(50);
  recipe.transposed_A = draw.percent(15);
  recipe.special_values = draw.percent(10);
  recipe.seed = draw.bits() >> 32;  // short enough to read
  recipe.fit(gated);
  return recipe;
}

void* AdapterStorage::fill(const AdapterRecipe& recipe, int tensor, std::int64_t elements) {
  std::vector<std::byte>& bytes =
      tensors_.emplace_back(static_cast<std::size_t>(elements) * bytes_of(recipe.dtype));
  const std::uint64_t seed = hash_at(recipe.seed, static_cast<std::uint64_t>(tensor));
  for (std::int64_t i = 0; i < elements; ++i) {
    float value = weight_at(seed, static_cast<std::uint64_t>(i), recipe.signed_values);
    if (recipe.special_values) value = special_value(hash_at(seed + 1, static_cast<std::uint64_t>(i)), value);
    store_float(bytes.data(), recipe.dtype, i, value);
  }
  return bytes.data();
}

AdapterLayer AdapterStorage::expand(const AdapterRecipe& recipe, const MoeGeometry& geometry) {
  const std::int64_t E = geometry.num_experts, outer = geometry.shared_outer ? 1 : E;
  const std::int64_t H = geometry.hidden, I = geometry.intermediate;
  AdapterLayer layer;
  layer.gate_up_scale = recipe.gate_up_scale;
  layer.down_scale = recipe.down_scale;
  if (recipe.gate_rank > 0) {
    const std::int64_t ranks[2] = {recipe.gate_rank, recipe.up_rank};
    for (int h = 0; h < geometry.halves(); ++h) {
      const std::int64_t r = ranks[h];
      if (h == 1 && recipe.one_A)
        layer.gate_up[1].A = layer.gate_up[0].A;
      else
        layer.gate_up[h].A = make_A(fill(recipe, h, outer * r * H), recipe, outer, r, H);
      if (recipe.halves == Halves::separate)
        layer.gate_up[h].B = make_B(fill(recipe, 2 + h, E * I * r), recipe, E, I, r);
    }
    if (recipe.halves != Halves::separate) {
      const std::int64_t r = recipe.gate_rank;
      const StridedTensor both = make_B(fill(recipe, 2, E * 2 * I * r), recipe, E, 2 * I, r);
      for (int h = 0; h < 2; ++h) {
        StridedTensor& B = layer.gate_up[h].B = both;
        const bool interleaved = recipe.halves == Halves::interleaved;
        B.rows = I;
        B.data = advanced(both.data, recipe.dtype, h * (interleaved ? both.row_stride : I * both.row_stride));
        if (interleaved) B.row_stride *= 2;
      }
    }
  }
  if (recipe.down_rank > 0) {
    const std::int64_t r = recipe.down_rank;
    layer.down.A = make_A(fill(recipe, 4, E * r * I), recipe, E, r, I);
    layer.down.B = make_B(fill(recipe, 5, outer * H * r), recipe, outer, H, r);
  }
  return layer;
}

Shrinks<AdapterRecipe> simpler_recipes(const AdapterRecipe& recipe) {
  Shrinks<AdapterRecipe> result;
  const auto edit = [&](auto change) {
    AdapterRecipe copy = recipe;
    change(copy);
    if (copy != recipe) result.push_back([copy] { return copy; });
  };
  edit([](AdapterRecipe& r) { r.special_values = false; });
  edit([](AdapterRecipe& r) { r.gate_rank = r.up_rank = 0; });
  edit([](AdapterRecipe& r) { r.down_rank = 0; });
  edit([](AdapterRecipe& r) { r.dtype = DType::f32; });
  edit([](AdapterRecipe& r) { r.halves = Halves::separate; });
  edit([](AdapterRecipe& r) { r.expert_fastest_B = false; });
  edit([](AdapterRecipe& r) { r.transposed_A = false; });
  edit([](AdapterRecipe& r) { r.one_A = false; });
  edit([](AdapterRecipe& r) { r.gate_up_scale = r.down_scale = 1.0F; });
  if (recipe.gate_rank > 0)
    for (const std::int64_t rank : towards(1, recipe.gate_rank))
      edit([rank](AdapterRecipe& r) { r.gate_rank = rank; });
  if (recipe.up_rank > 0)
    for (const std::int64_t rank : towards(1, recipe.up_rank))
      edit([rank](AdapterRecipe& r) { r.up_rank = rank; });
  if (recipe.down_rank > 0)
    for (const std::int64_t rank : towards(1, recipe.down_rank))
      edit([rank](AdapterRecipe& r) { r.down_rank = rank; });
  if (recipe.gate_rank == recipe.up_rank && recipe.up_rank > 0)
    for (const std::int64_t rank : towards(1, recipe.up_rank))
      edit([rank](AdapterRecipe& r) { r.gate_rank = r.up_rank = rank; });
  edit([](AdapterRecipe& r) { r.seed = 1; });
  return result;
}

void add_labels(const AdapterRecipe& recipe, std::int64_t R, Labels& labels) {
  if (recipe.largest_rank() < R) labels.emplace_back("r < R");
  if (recipe.gate_rank == 0) labels.emplace_back("no gate_up");
  if (recipe.down_rank == 0) labels.emplace_back("no down");
  if (recipe.expert_fastest_B) labels.emplace_back("B expert-fastest");
  if (recipe.gate_rank != recipe.up_rank && recipe.up_rank > 0) labels.emplace_back("gate rank != up rank");
  if (recipe.halves != Halves::separate) labels.emplace_back("gate and up in one B");
  if (recipe.special_values) labels.emplace_back("NaN, infinity, ties");
  labels.emplace_back("adapter " + std::string(to_string(recipe.dtype)));
}

std::string show_recipe(const AdapterRecipe& recipe) {
  std::string text = "{ranks gate " + std::to_string(recipe.gate_rank) + " up " +
                     std::to_string(recipe.up_rank) + " down " + std::to_string(recipe.down_rank) + ", " +
                     std::string(to_string(recipe.dtype));
  if (recipe.gate_up_scale != 1.0F || recipe.down_scale != 1.0F)
    text += ", scales " + std::to_string(recipe.gate_up_scale) + " " + std::to_string(recipe.down_scale);
  if (recipe.halves != Halves::separate)
    text += std::string(", B ") + kHalvesNames[static_cast<int>(recipe.halves)];
  if (recipe.one_A) text += ", one A";
  if (recipe.expert_fastest_B) text += ", B expert-fastest";
  if (recipe.transposed_A) text += ", A transposed";
  if (recipe.special_values) text += ", special values";
  return text + ", seed " + std::to_string(recipe.seed) + "}";
}

nlohmann::json recipe_json(const AdapterRecipe& recipe) {
  return {{"layer_id", recipe.layer_id},
          {"gate_rank", recipe.gate_rank},
          {"up_rank", recipe.up_rank},
          {"down_rank", recipe.down_rank},
          {"gate_up_scale", recipe.gate_up_scale},
          {"down_scale", recipe.down_scale},
          {"dtype", to_string(recipe.dtype)},
          {"halves", kHalvesNames[static_cast<int>(recipe.halves)]},
          {"one_A", recipe.one_A},
          {"expert_fastest_B", recipe.expert_fastest_B},
          {"transposed_A", recipe.transposed_A},
          {"signed_values", recipe.signed_values},
          {"special_values", recipe.special_values},
          {"seed", recipe.seed}};
}

DType dtype_from(const std::string& name) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    if (name == to_string(dtype)) return dtype;
  reject("dtype", name, "F32, F16 or BF16");
}

AdapterRecipe recipe_from_json(const nlohmann::json& json) {
  AdapterRecipe recipe;
  recipe.layer_id = json.at("layer_id");
  recipe.gate_rank = json.at("gate_rank");
  recipe.up_rank = json.at("up_rank");
  recipe.down_rank = json.at("down_rank");
  for (const std::int64_t rank : {recipe.gate_rank, recipe.up_rank, recipe.down_rank})
    require_in_range("adapter rank", rank, 0, 1024);
  recipe.gate_up_scale = json.at("gate_up_scale");
  recipe.down_scale = json.at("down_scale");
  recipe.dtype = dtype_from(json.at("dtype"));
  const std::string halves = json.at("halves");
  const auto* const found = std::find(std::begin(kHalvesNames), std::end(kHalvesNames), halves);
  if (found == std::end(kHalvesNames)) reject("halves", halves, "separate, stacked or interleaved");
  recipe.halves = static_cast<Halves>(found - std::begin(kHalvesNames));
  recipe.one_A = json.at("one_A");
  recipe.expert_fastest_B = json.at("expert_fastest_B");
  recipe.transposed_A = json.at("transposed_A");
  recipe.signed_values = json.at("signed_values");
  recipe.special_values = json.at("special_values");
  recipe.seed = json.at("seed");
  return recipe;
}

}  // namespace eplora::suite
