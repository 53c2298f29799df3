// SPDX-License-Identifier: Apache-2.0
// Layout files (deployment_file.h) for the commands that work with a single `Layout`: one grid, one class of
// layers, and nothing but tokens, experts and columns cut.
//
//   axes = [{name = "moe_dp", size = 1}, {name = "moe_ep", size = 2}, {name = "moe_tp", size = 2}]
//   [sharding]
//   tokens = ["moe_dp"]
//   experts = ["moe_ep"]
//   intermediate = ["moe_tp"]
//   [placement]
//   kind = "linear"
//   num_experts = 8            # may be left out: then it is the caller's
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "reference/layout/deployment.h"

namespace eplora {

/// Reads a layout. `num_experts` is used where the file names none; when both do they must agree. Throws
/// `InvalidArgument`: "<file>:<line>:<column>: ..."; also for a file that says more than a `LayoutSpec` can.
LayoutSpec read_layout_file(const std::filesystem::path& path, std::optional<std::int32_t> num_experts = {});

/// The deployment as one layout. Throws `InvalidArgument`, `what` first, where that would drop something.
LayoutSpec plain_layout(const DeploymentSpec& spec, const std::string& what);

/// What the command line takes for `--layout`: a path that ends in ".toml", or SGLang sizes such as
/// "tp=4,ep=2". `num_experts` is required for the latter.
LayoutSpec parse_layout_argument(std::string_view text, std::optional<std::int32_t> num_experts);

}  // namespace eplora
