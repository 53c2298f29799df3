// SPDX-License-Identifier: Apache-2.0
// A parallel layout as a TOML file: an ordered mesh of named axes (slowest first), what each axis shards, and
// where the experts stand. Strict: an unknown key, a wrong type or an impossible size is an error with line
// and column.
//
//   axes = [{name = "moe_dp", size = 1}, {name = "moe_ep", size = 2}, {name = "moe_tp", size = 2}]
//   [sharding]
//   tokens = ["moe_dp"]
//   experts = ["moe_ep"]
//   intermediate = ["moe_tp"]
//   [placement]
//   kind = "linear"            # linear | round_robin | table
//   num_experts = 8            # may be left out: then it is the caller's
//   table = [[0, 1], [2, 3]]   # kind = table only: global experts of each EP rank, in local order; repeats
//   are replicas
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "reference/layout/layout.h"

namespace eplora {

/// Reads a layout. `num_experts` is used where the file names none; when both do they must agree. Throws
/// `InvalidArgument`: "<file>:<line>:<column>: ...".
LayoutSpec read_layout_file(const std::filesystem::path& path, std::optional<std::int32_t> num_experts = {});

/// What the command line takes for `--layout`: a path that ends in ".toml", or SGLang sizes such as
/// "tp=4,ep=2". `num_experts` is required for the latter.
LayoutSpec parse_layout_argument(std::string_view text, std::optional<std::int32_t> num_experts,
                                 PlacementKind placement = PlacementKind::linear);

}  // namespace eplora
