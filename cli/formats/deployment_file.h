// SPDX-License-Identifier: Apache-2.0
// The layout language: a whole deployment as a TOML file (docs/layout_language.md). Strict: an unknown key, a
// wrong type, an impossible size or an axis that cuts twice is an error with line and column.
//
//   name = "attention data parallel, experts over all ranks"
//   [[grid]]
//   name = "attention"
//   axes = [{name = "dp", size = 4}, {name = "tp", size = 2}]     # the last axis varies fastest
//   [[grid]]
//   name = "moe"
//   axes = [{name = "ep", size = 8}]
//   [attention]
//   grid = "attention"
//   tokens = ["dp"]
//   heads = ["tp"]
//   [[layers]]
//   grid = "moe"
//   [layers.sharding]
//   experts = ["ep"]
//   [layers.placement]
//   kind = "redundant"
//   num_experts = 16
//   redundant = 8
//
// One grid and one class of layers have a short form: axes, sharding, placement and the class's other keys at
// the top of the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "reference/layout/deployment.h"

namespace eplora {

/// What a file may ask for: ranks of a grid; routed experts, slots beyond them, layer ids; shared experts.
inline constexpr std::int32_t kMostFileRanks = 1 << 17;
inline constexpr std::int32_t kMostFileExperts = 1 << 20;
inline constexpr std::int32_t kMostFileShared = 256;

/// Reads a deployment. `num_experts` is used where a placement names none; where both do they must agree. The
/// result is legal: `make_deployment` takes it. Throws `InvalidArgument`: "<file>:<line>:<column>: ...".
DeploymentSpec read_deployment_file(const std::filesystem::path& path,
                                    std::optional<std::int32_t> num_experts = {});

/// The deployment as text of the language, the long form; keys at their defaults are left out. Reading it
/// gives an equal description. Throws `InvalidArgument` for a name that is no UTF-8 text.
std::string write_deployment_toml(const DeploymentSpec& spec);

}  // namespace eplora
