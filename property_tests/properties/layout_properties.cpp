// SPDX-License-Identifier: Apache-2.0
// Layouts: ranks, groups and ownership as the backend answers them (contract, section 2).
#include "property_tests/generators/routing_cases.h"
#include "property_tests/properties/properties.h"
#include "reference/contract/layouts.h"

namespace eplora::suite {
namespace {

using contract::Verdict;

Verdict shards(const LayoutCase& c, Backend& backend) {
  return contract::p7_shards(c.layout, backend.layout(c.layout), c.intermediate(), c.num_tokens);
}

Verdict cover(const LayoutCase& c, Backend& backend) {
  return contract::p8_cover(c.layout, backend.layout(c.layout));
}

Verdict places(const LayoutCase& c, Backend& backend) {
  const Layout layout = backend.layout(c.layout);
  for (const Axis& axis : c.layout.axes) {
    const std::int32_t size = layout.mesh.size_of(axis.name);
    if (size != axis.size)
      return contract::Violation{"P9",
                                 "the axis " + axis.name + " has size " + std::to_string(size) +
                                     ", expected " + std::to_string(axis.size),
                                 -1, std::to_string(axis.size), std::to_string(size)};
  }
  return contract::p9_places(c.layout, layout);
}

/// Every sharded dimension, every single axis, all axes together, and none.
Verdict groups(const LayoutCase& c, Backend& backend) {
  const Layout layout = backend.layout(c.layout);
  std::vector<std::vector<std::string>> sets = {
      {}, {}, c.layout.sharding.tokens, c.layout.sharding.experts, c.layout.sharding.intermediate};
  for (const Axis& axis : c.layout.axes) {
    sets[1].push_back(axis.name);
    sets.push_back({axis.name});
  }
  for (const auto& axes : sets)
    if (auto verdict = contract::p9_groups(c.layout, axes, layout.mesh.groups(axes))) return verdict;
  return std::nullopt;
}

}  // namespace

std::vector<PropertyDefinition> layout_properties() {
  return {
      property(
          {"layout", "PlacesAreRowMajorIndicesOfCoordinates",
           "ep_rank, moe_tp_rank and token_shard are the row-major indices of a rank's coordinates", "P9"},
          {}, draw_layout_case, places),
      property({"layout", "EveryExpertIsOwnedAsDeclared",
                "every expert has its declared owners, and global to local to global is the identity", "P8"},
               {}, draw_layout_case, cover),
      property({"layout", "ColumnsAndTokensTileWithoutGapOrOverlap",
                "the ranks' columns and tokens tile their dimension, and no slice of columns is empty", "P7"},
               {}, draw_layout_case, shards),
      property({"layout", "EveryRankIsInOneGroupOfEachAxisSet",
                "a group's members differ in its axes alone and stand at their index", "P9"},
               {}, draw_layout_case, groups),
  };
}

}  // namespace eplora::suite
