// SPDX-License-Identifier: Apache-2.0
// Remap: expert e of adapter l -> virtual expert e + l*E, with every sentinel preserved (contract, section
// 4).
#pragma once

#include "reference/routing/problem.h"

namespace eplora::reference {

/// `virtual_ids [T, K]` int32 and `token_lora_mask [T]` uint8, by the contract's table of cases: a negative
/// id comes out bit for bit (an int64 below -2^31 as -1), an invalid expert or adapter as -1, rows past
/// `num_tokens` as -1 with mask 0. Throws `InvalidArgument`.
RemapResult remap(const RemapProblem& problem);

}  // namespace eplora::reference
