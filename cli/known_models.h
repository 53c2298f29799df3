// SPDX-License-Identifier: Apache-2.0
// The models of examples/models: all of them, and those whose routing is timed.
#pragma once

#include <vector>

#include "cli/formats/model_config.h"

namespace eplora {

/// All, by file name; none where the folder is not found.
std::vector<ModelConfig> known_models();

/// One for each way to route worth a row: time depends on experts and top-k alone, and many models share
/// both. Those that are left out are timed by `eplora compare --model NAME`.
std::vector<ModelConfig> timed_models();

}  // namespace eplora
