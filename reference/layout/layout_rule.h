// SPDX-License-Identifier: Apache-2.0
// A layout as C++: a rule that a file can only spell out size by size, because it computes a grid or a table.
// Derive `LayoutRule`, add one line to `layout_rules()`, and "cpp:NAME:SIZES" is a layout for every command
// that takes deployments (docs/adding_a_layout.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "reference/layout/deployment.h"
#include "reference/layout/preset_arguments.h"

namespace eplora {

inline constexpr std::string_view kRulePrefix = "cpp";

class LayoutRule {
 public:
  virtual ~LayoutRule() = default;
  virtual std::string_view name() const = 0;
  /// What it does, in one line.
  virtual std::string_view rule() const = 0;
  /// The sizes that it takes, as `PresetArguments` reads them: "ep=" a number, "order=*" a word, "ep" a flag.
  virtual std::vector<std::string_view> keys() const = 0;
  /// The deployment for a model of `num_experts` >= 1. Throws `InvalidArgument` (`PresetArguments::refuse`)
  /// for sizes that the rule does not take; what is no deployment at all `make_deployment` refuses.
  virtual DeploymentSpec build(const PresetArguments& sizes, std::int32_t num_experts) const = 0;
};

/// The rules this build knows.
const std::vector<std::unique_ptr<LayoutRule>>& layout_rules();

/// What "NAME" or "NAME:SIZES", the text behind "cpp:", means.
DeploymentSpec rule_deployment(std::string_view text, std::int32_t num_experts);

}  // namespace eplora
