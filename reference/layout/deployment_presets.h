// SPDX-License-Identifier: Apache-2.0
// Engines' parallel rules as deployments, one line each on the command line: "vllm:tp=8,dp=2,ep". A preset
// names the axes of attention and of the experts in the engine's order, says what each cuts, and refuses what
// the engine refuses. docs/layout_presets.md has every formula and where it comes from.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reference/layout/deployment.h"
#include "reference/layout/preset_arguments.h"

namespace eplora {

/// Loads of experts, one row for all layers or one a layer.
using LoadRows = std::vector<std::vector<std::int64_t>>;

/// What a preset is built for, beside its sizes.
struct PresetInput {
  std::int32_t num_experts = 0;
  /// Reads the load that a preset names, for that many experts; files are the command line's matter.
  std::function<LoadRows(const std::string& name, std::int32_t num_experts)> read_load;
};

struct DeploymentPreset {
  std::string_view name;
  std::vector<std::string_view> keys;  ///< as `PresetArguments` takes them
  std::string_view rule;               ///< the formula in one line; r = rank, whole divisions
  std::string_view source;             ///< the engine's own place of it
  /// Throws `InvalidArgument` for sizes that the engine refuses, and for what the preset cannot say.
  DeploymentSpec (*build)(const PresetArguments& arguments, const PresetInput& input);
};
const std::vector<DeploymentPreset>& deployment_presets();

/// What "NAME:SIZES" means; nothing where the text is not of this form. The deployment's name is the text.
/// Throws `InvalidArgument` for an unknown name, bad sizes, or no `num_experts`.
std::optional<DeploymentSpec> preset_deployment(std::string_view text,
                                                std::optional<std::int32_t> num_experts,
                                                decltype(PresetInput::read_load) read_load = {});

}  // namespace eplora
