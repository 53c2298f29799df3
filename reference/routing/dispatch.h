// SPDX-License-Identifier: Apache-2.0
// Dispatch: the global expert ids a router chose -> the local ids of one EP rank (contract, section 3).
#pragma once

#include "reference/routing/problem.h"

namespace eplora::reference {

/// `local_ids [T, K]` int32: owned id -> its local id; in range but owned elsewhere -> -1; negative ->
/// unchanged (an int64 below -2^31 -> -1); outside `[0, E)` -> -1; rows past `num_tokens` -> -1. Throws
/// `InvalidArgument`.
DispatchResult dispatch(const DispatchProblem& problem);

}  // namespace eplora::reference
