// SPDX-License-Identifier: Apache-2.0
// P1 closure and P2 decode: judges of dispatch and remap (contract, section 5). A problem must be valid
// (`validate` accepts it, replica offsets ascend); a result may be anything. `Violation::place` is the slot,
// for `token_lora_mask` the token, for a wrong length -1.
#pragma once

#include <vector>

#include "reference/contract/form.h"
#include "reference/contract/verdict.h"
#include "reference/routing/problem.h"

namespace eplora::contract {

/// P1 for dispatch: every negative and every invalid id comes out negative (canonical: exactly as in section
/// 3), every owned id as the local id that the table holds for the replica serving the slot, an id owned
/// elsewhere negative.
Verdict p1_closure(const DispatchProblem& problem, const DispatchResult& result, const Form& form = {});

/// P1 for remap: negative and invalid slots negative (canonical: bit for bit / -1), every other output in
/// `[0, V)` or negative where the no-adapter policy says so. With `shared_outer_sentinels = routed` a
/// negative or invalid expert of a shared-outer problem may also come out as its adapter's bucket.
Verdict p1_closure(const RemapProblem& problem, const RemapResult& result, const Form& form = {});

/// P2: for valid e and l, `out / E = l` and `out % E = e` (shared-outer: `out = l`); for l < 0 what the
/// policy says; `token_lora_mask` right for every token.
Verdict p2_decode(const RemapProblem& problem, const RemapResult& result);

/// The mask half of P2 alone, as route returns it. `place` is the token.
Verdict judge_mask(const RemapProblem& problem, const std::vector<std::uint8_t>& token_lora_mask);

/// The canonical output for one slot as sections 3 and 4 state it; the judges' own reading, independent of
/// reference/routing.
std::int64_t dispatched_id(const DispatchProblem& problem, std::int64_t slot);
std::int64_t remapped_id(const RemapProblem& problem, std::int64_t slot);
/// Section 4's mask of one token.
bool token_has_adapter(const RemapProblem& problem, std::int64_t token);

/// Whether the ids keep to the restriction that `form.ids` declares, for buckets (or experts) `[0, V)`. What
/// was not promised is not asked: callers skip, and count, the problems for which this is false.
bool within_declared_ids(const IdMatrix& ids, const NumTokens& num_tokens, std::int64_t V, const Form& form);

}  // namespace eplora::contract
