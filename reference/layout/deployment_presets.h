// SPDX-License-Identifier: Apache-2.0
// Engines' parallel rules as deployments, one line each on the command line: "vllm:tp=8,dp=2,ep". A preset
// names the axes of attention and of the experts in the engine's order, says what each cuts, and refuses what
// the engine refuses. docs/layout_presets.md has every formula and where it comes from.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "reference/layout/deployment.h"
#include "reference/layout/preset_arguments.h"

namespace eplora {

struct DeploymentPreset {
  std::string_view name;
  std::vector<std::string_view> keys;  ///< as `PresetArguments` takes them
  std::string_view rule;               ///< the formula in one line; r = rank, whole divisions
  std::string_view source;             ///< the engine's own place of it
  /// The deployment for a model of `num_experts`. Throws `InvalidArgument` for sizes that the engine refuses.
  DeploymentSpec (*build)(const PresetArguments& arguments, std::int32_t num_experts);
};
const std::vector<DeploymentPreset>& deployment_presets();

/// What "NAME:SIZES" means; nothing where the text is not of this form. The deployment's name is the text.
/// Throws `InvalidArgument` for an unknown name, bad sizes, or no `num_experts`.
std::optional<DeploymentSpec> preset_deployment(std::string_view text,
                                                std::optional<std::int32_t> num_experts);

}  // namespace eplora
