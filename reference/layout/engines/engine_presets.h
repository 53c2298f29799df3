// SPDX-License-Identifier: Apache-2.0
// Engines' rank formulas, a file each, and what those files share. In the comments r is the rank, divisions
// are whole, and "faster" means that the coordinate changes with r more often; a grid names its axes from
// slowest to fastest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reference/layout/deployment_presets.h"

namespace eplora::engines {

using Names = std::vector<std::string>;

DeploymentSpec sglang(const PresetArguments& a, const PresetInput& input);
DeploymentSpec vllm(const PresetArguments& a, const PresetInput& input);
DeploymentSpec trtllm(const PresetArguments& a, const PresetInput& input);
DeploymentSpec megatron(const PresetArguments& a, const PresetInput& input);
DeploymentSpec deepspeed(const PresetArguments& a, const PresetInput& input);

/// Attention and experts on two grids over the same ranks; `tokens` and `heads` are attention's.
DeploymentSpec two_grids(std::vector<Axis> attention, Names tokens, Names heads, std::vector<Axis> moe,
                         ClassSharding sharding, std::int32_t num_experts);

/// Slots beyond the experts: physical slot p on rank p / (P/ep) holds expert p mod E.
void add_redundant(const PresetArguments& a, DeploymentSpec& spec, std::int32_t ep, ReplicaRule replicas);

}  // namespace eplora::engines
