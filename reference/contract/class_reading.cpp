// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/class_reading.h"

#include "reference/check.h"
#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

const LayerClassSpec& class_of(const DeploymentSpec& spec, const std::string& name) {
  for (const LayerClassSpec& c : spec.classes)
    if (c.name == name) return c;
  reject("class", "'" + name + "'", "the description has no class of this name");
}

}  // namespace

const GridSpec& grid_of(const DeploymentSpec& spec, const std::string& name) {
  for (const GridSpec& grid : spec.grids)
    if (grid.name == name) return grid;
  reject("grid", "'" + name + "'", "the description has no grid of this name");
}

std::string range_words(const Range& range) {
  return "[" + std::to_string(range.begin) + ", " + std::to_string(range.end) + ")";
}

ClassReading::ClassReading(const DeploymentSpec& spec, const ClassPlan& plan)
    : spec_(spec),
      plan_(plan),
      declared_(&class_of(spec, plan.spec().name)),
      grid_(&grid_of(spec, declared_->grid)),
      mesh_(grid_->axes),
      at_(spec.classes.size() > 1 ? "class " + declared_->name + ": " : "") {}

AttentionSpec ClassReading::attention() const {
  if (!spec_.attention.grid.empty()) return spec_.attention;
  const LayerClassSpec& first = spec_.classes.front();
  return {first.grid, first.sharding.tokens, {}};
}

Verdict ClassReading::wrong_number_of_ranks(const char* property) const {
  const auto found = static_cast<std::int64_t>(plan_.ranks.size());
  if (found == mesh_.num_ranks()) return std::nullopt;
  return violation(property, -1, at_ + "number of ranks of the plan", std::to_string(mesh_.num_ranks()),
                   std::to_string(found));
}

}  // namespace eplora::contract
