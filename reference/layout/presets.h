// SPDX-License-Identifier: Apache-2.0
// Engines' rank rules as layouts: a preset is a few lines that name the axes in the engine's order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "reference/layout/layout.h"

namespace eplora {

/// SGLang's parallel sizes; `tp` is the whole stage, the others are carved out of it.
struct SglangSizes {
  std::int32_t tp = 1;
  std::int32_t ep = 1;
  std::int32_t moe_dp = 1;
  std::int32_t moe_tp() const { return tp / ep / moe_dp; }
  bool operator==(const SglangSizes&) const = default;
};

/// Mesh `(moe_dp, moe_ep, moe_tp)` with `moe_tp = tp / ep / moe_dp` (contract, section 2; SGLang
/// parallel_state). Throws unless `ep * moe_dp` divides `tp`.
LayoutSpec sglang_layout(const SglangSizes& sizes, std::int32_t num_experts,
                         PlacementKind placement = PlacementKind::linear);

/// Parses "tp=4,ep=2,moe_dp=1" (any order, each at most once, default 1). Throws for unknown keys or values
/// < 1.
SglangSizes parse_sglang_sizes(std::string_view text);

/// Every (tp, ep, moe_dp) with `tp` in [1, max_tp] for which `ep * moe_dp` divides `tp` and `moe_tp` divides
/// `intermediate`, by tp, then ep, then moe_dp.
std::vector<SglangSizes> sglang_sizes_that_divide(std::int32_t max_tp, std::int64_t intermediate);

/// "tp=4 ep=2 moe_dp=1".
std::string to_string(const SglangSizes& sizes);

/// The presets this build knows: name and the rule in one line.
struct PresetInfo {
  std::string_view name, rule;
};
const std::vector<PresetInfo>& layout_presets();

}  // namespace eplora
