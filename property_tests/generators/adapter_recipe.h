// SPDX-License-Identifier: Apache-2.0
// LoRA weights of a case: sizes, storage form and a seed; the weights themselves are expanded from the seed.
// Every form found in files is here as strides: one tensor per expert, PEFT's fused tensors with B
// expert-fastest, gate and up stacked or interleaved in one B, one A for both halves, transposed A.
#pragma once

#include <cstdint>
#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "property_tests/generators/case.h"
#include "property_tests/generators/draw.h"
#include "reference/lora/adapter.h"

namespace eplora::suite {

/// How gate's and up's B stand in memory.
enum class Halves : std::uint8_t { separate, stacked, interleaved };

/// One layer of an adapter. Rank 0 = the adapter lacks the module; gate_rank is the only half's when not
/// gated.
struct AdapterRecipe {
  std::int32_t layer_id = 0;
  std::int64_t gate_rank = 0, up_rank = 0, down_rank = 0;
  float gate_up_scale = 1.0F, down_scale = 1.0F;
  DType dtype = DType::f32;
  Halves halves = Halves::separate;
  bool one_A = false;             ///< gate and up share their A
  bool expert_fastest_B = false;  ///< B as PEFT fuses it: `[out, r, E]`
  bool transposed_A = false;      ///< A as `[in, r]`
  bool signed_values = true;      ///< else all weights are positive: sums that cannot cancel
  bool special_values = false;    ///< now and then NaN, infinity, -0, the smallest and the largest
  std::uint64_t seed = 0;
  bool operator==(const AdapterRecipe&) const = default;

  std::int64_t largest_rank() const { return std::max(gate_rank, std::max(up_rank, down_rank)); }
  /// Makes the fields agree with each other and with the geometry: equal ranks where a tensor is shared, no
  /// second half when not gated.
  void fit(bool gated);
};

AdapterRecipe draw_recipe(Draw& draw, std::int64_t most_rank, bool gated);
Shrinks<AdapterRecipe> simpler_recipes(const AdapterRecipe& recipe);
std::string show_recipe(const AdapterRecipe& recipe);
nlohmann::json recipe_json(const AdapterRecipe& recipe);
AdapterRecipe recipe_from_json(const nlohmann::json& json);
void add_labels(const AdapterRecipe& recipe, std::int64_t R, Labels& labels);
DType dtype_from(const std::string& name);

/// A weight: |value| in (0.25, 1], exact in float.
float weight_at(std::uint64_t seed, std::uint64_t index, bool signed_values);

/// The weights in memory; views stay valid as long as this lives.
class AdapterStorage {
 public:
  AdapterStorage() = default;
  AdapterStorage(const AdapterStorage&) = delete;
  AdapterStorage& operator=(const AdapterStorage&) = delete;
  AdapterLayer expand(const AdapterRecipe& recipe, const MoeGeometry& geometry);

 private:
  void* fill(const AdapterRecipe& recipe, int tensor, std::int64_t elements);
  std::deque<std::vector<std::byte>> tensors_;
};

}  // namespace eplora::suite
