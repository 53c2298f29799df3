// SPDX-License-Identifier: Apache-2.0
// Random parallel layouts: meshes of up to 64 ranks with axes in any order, engines' tp/ep/moe_dp presets,
// linear, round-robin and table placements with replicas and with ranks that own nothing; smaller ones; their
// JSON form.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "property_tests/generators/case.h"
#include "property_tests/generators/draw.h"
#include "reference/layout/layout.h"

namespace eplora::suite {

struct LayoutLimits {
  std::int32_t ranks = 64, experts = 512;
  bool replicas = true;
};
LayoutSpec draw_layout(Draw& draw, const LayoutLimits& limits);

/// Extents of the axes that shard each dimension.
std::int32_t moe_tp_of(const LayoutSpec& spec);
std::int32_t ep_of(const LayoutSpec& spec);
std::int32_t token_shards_of(const LayoutSpec& spec);
std::int32_t num_ranks_of(const LayoutSpec& spec);

/// Fewer axes, smaller axes, fewer experts, a plainer placement.
Shrinks<LayoutSpec> simpler_layouts(const LayoutSpec& spec);

void add_labels(const LayoutSpec& spec, Labels& labels);
/// "mesh (dp=2, ep=2, tp=2), tokens by dp, experts by ep, columns by tp, E=8 linear".
std::string show_layout(const LayoutSpec& spec);
nlohmann::json layout_json(const LayoutSpec& spec);
LayoutSpec layout_from_json(const nlohmann::json& json);

}  // namespace eplora::suite
