// SPDX-License-Identifier: Apache-2.0
// Loads of experts as the command line names them: recorded counts, or counted from a trace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reference/layout/deployment_presets.h"
#include "reference/price/routing_trace.h"

namespace eplora {

/// How often each of E experts is chosen; ids outside `[0, E)` count nowhere.
std::vector<std::int64_t> load_of_trace(const RoutingTrace& trace, std::int32_t num_experts);

/// What a preset's "load=" names: a .npy of counts, [E] or [layers, E], or a synthetic trace, of which 65 536
/// tokens of one expert each are counted, seed 1.
LoadRows read_named_load(const std::string& name, std::int32_t num_experts);

}  // namespace eplora
