// SPDX-License-Identifier: Apache-2.0
// Cases of slicing: one adapter cut for a rank of a layout into a slot of its buffers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "property_tests/generators/adapter_recipe.h"
#include "property_tests/generators/layout_draw.h"
#include "reference/contract/form.h"
#include "reference/lora/buffers.h"

namespace eplora::suite {

struct SliceCase {
  static constexpr std::string_view kKind = "slice";
  bool operator==(const SliceCase&) const = default;
  LayoutSpec layout;
  std::int32_t rank = 0;
  std::int64_t hidden = 1, columns_per_rank = 1;
  bool gated = true, shared_outer = false;
  GateUpForm form = GateUpForm::stacked;
  std::vector<BufferLayer> layers;
  std::vector<AdapterRecipe> adapter;  ///< at most one a layer id; only modules that an active layer takes
  std::int32_t max_loras = 1, slot = 0;
  std::int64_t max_lora_rank = 1;
  DType dtype = DType::f32;
  std::uint64_t before_seed = 0;  ///< what stood in the buffers before

  MoeGeometry geometry() const;
  /// Makes dependent fields agree again after a change.
  void fit();
  std::string show() const;
  std::string table_text() const;
  Labels labels() const;
  Shrinks<SliceCase> shrinks() const;
  nlohmann::json json() const;
  static SliceCase from_json(const nlohmann::json& json);
};

SliceCase draw_slice(Draw& draw, int size, const contract::Form& form);

/// The adapter in memory, and problems for any rank.
class SliceStorage {
  AdapterStorage weights_;

 public:
  SliceStorage(const SliceCase& c, Layout layout);
  /// The shape of a rank's buffers.
  BufferShape shape(std::int32_t rank) const;
  /// Buffers full of `c.before_seed`'s bytes.
  LoraBuffers buffers_before(std::int32_t rank) const;
  /// `shape` must outlive the problem.
  SliceProblem problem(std::int32_t rank, const BufferShape& shape) const;

  const SliceCase& c;
  const Layout layout;
  const MoeGeometry geometry;
  Adapter adapter;
};

}  // namespace eplora::suite
