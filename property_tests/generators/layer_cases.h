// SPDX-License-Identifier: Apache-2.0
// Cases of the MoE layer end to end: a batch of global ids with adapters, on a random parallel layout, small
// enough to compute whole and sharded in double.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "property_tests/generators/adapter_recipe.h"
#include "property_tests/generators/id_batch.h"
#include "property_tests/generators/layout_draw.h"
#include "reference/lora/sharded_moe_layer.h"

namespace eplora::suite {

struct LayerCase {
  static constexpr std::string_view kKind = "layer";
  bool operator==(const LayerCase&) const = default;
  IdBatch batch;  ///< not padded
  std::vector<std::int32_t> mapping;
  LayoutSpec layout;
  std::int64_t hidden = 1, columns_per_rank = 1;
  bool gated = true, shared_outer = false;
  GateUpForm form = GateUpForm::stacked;
  std::vector<std::optional<AdapterRecipe>> adapters;  ///< `[L]`, nothing = an empty slot
  std::int64_t max_lora_rank = 1;
  std::int32_t block_size = 1;
  NoAdapter no_adapter = NoAdapter::base_slot;
  Sentinels sentinels = Sentinels::keep;
  bool signed_values = false;  ///< else base weights and hidden states are positive: sums that cannot cancel
  std::uint64_t seed = 0;      ///< base weights, hidden states, router weights

  MoeGeometry geometry() const;
  reference::ShardedLayerOptions options() const;
  void fit();
  std::string show() const;
  std::string table_text() const;
  Labels labels() const;
  Shrinks<LayerCase> shrinks() const;
  nlohmann::json json() const;
  static LayerCase from_json(const nlohmann::json& json);
};

LayerCase draw_layer(Draw& draw, int size, const contract::Form& form);

/// All arrays of a case in memory, and its problem.
class LayerStorage {
  IdStorage ids_;
  AdapterStorage weights_;
  std::vector<float> gate_up_proj_, down_proj_, topk_weights_, hidden_states_;
  std::vector<AdapterLayer> layers_;

 public:
  explicit LayerStorage(const LayerCase& c);
  const MoeGeometry geometry;
  reference::MoeLayerProblem problem;
};

}  // namespace eplora::suite
