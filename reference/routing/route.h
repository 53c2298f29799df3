// SPDX-License-Identifier: Apache-2.0
// Route = align(remap(dispatch(topk_ids), token_lora_mapping)), the step engines spend four launches on
// (contract, section 5).
#pragma once

#include "reference/routing/problem.h"

namespace eplora::reference {

/// Byte for byte the composition of the three steps, plus `token_lora_mask`. Throws `InvalidArgument`.
RouteResult route(const RouteProblem& problem);

}  // namespace eplora::reference
