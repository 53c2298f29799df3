// SPDX-License-Identifier: Apache-2.0
// Align: sort slots into buckets, pad every bucket to whole blocks, keep sentinels in a bucket of their own
// at the end (contract, section 5). The result is the canonical form: equal inputs, equal bytes.
#pragma once

#include "reference/routing/problem.h"

namespace eplora::reference {

/// A stable counting sort, O(n + V). `sorted_token_ids [capacity]` holds slot indices bucket by bucket,
/// filler n everywhere else; `expert_ids [capacity/B]` one label a block, -1 for the sentinel bucket and past
/// the used prefix; `num_tokens_post_padded` the length of the used prefix. Throws `InvalidArgument`.
AlignResult align(const AlignProblem& problem);

}  // namespace eplora::reference
