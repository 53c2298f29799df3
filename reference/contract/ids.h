// SPDX-License-Identifier: Apache-2.0
// P1 closure and P2 decode: judges of dispatch and remap (contract, section 5).
#pragma once

#include "reference/contract/form.h"
#include "reference/contract/verdict.h"
#include "reference/routing/problem.h"

namespace eplora::contract {

/// P1 for dispatch: every negative and every invalid id comes out negative (canonical: exactly as in section 3), every
/// other output is a local id that the table holds, or negative.
Verdict p1_closure(const DispatchProblem& problem, const DispatchResult& result, const Form& form = {});

/// P1 for remap: negative and invalid slots negative (canonical: bit for bit / -1), every other output in `[0, V)` or
/// negative where the no-adapter policy says so.
Verdict p1_closure(const RemapProblem& problem, const RemapResult& result, const Form& form = {});

/// P2: for valid e and l, `out / E = l` and `out % E = e` (shared-outer: `out = l`); for l < 0 what the policy says;
/// `token_lora_mask` right for every token.
Verdict p2_decode(const RemapProblem& problem, const RemapResult& result);

}  // namespace eplora::contract
