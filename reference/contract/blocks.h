// SPDX-License-Identifier: Apache-2.0
// P3 partition, P4 filler, P5 bounds, P6 labels: judges of align (contract, section 5), for any declared form. Each judge
// is safe on arbitrary garbage: nothing in a result is used as an index before it is checked.
#pragma once

#include "reference/contract/form.h"
#include "reference/contract/verdict.h"
#include "reference/routing/problem.h"

namespace eplora::contract {

/// Every slot with an id in `[0, V)` stands exactly once, in a block labelled with its id; every other slot exactly once
/// in a block labelled -1 (keep) or nowhere (drop); a block holds slots of one bucket; with `order = stable` slots ascend
/// inside a bucket; with a canonical form buckets ascend and the sentinel bucket stands where `form.sentinel` says.
Verdict p3_partition(const AlignProblem& problem, const AlignResult& result, const Form& form = {});

/// Every entry of the used prefix that is no slot is `>= n` (canonical: n); past it entries `>= n`, labels negative,
/// unless `tail = unwritten`.
Verdict p4_filler(const AlignProblem& problem, const AlignResult& result, const Form& form = {});

/// `num_tokens_post_padded` is a multiple of B, at most `reported_capacity`, and the sum of the padded bucket sizes plus
/// the sentinel part as declared.
Verdict p5_bounds(const AlignProblem& problem, const AlignResult& result, std::int64_t reported_capacity,
                  const Form& form = {});

/// A label v >= 0 lies in `[0, V)` and stands on exactly ceil(count_v / B) used blocks; -1 on exactly the rest.
Verdict p6_labels(const AlignProblem& problem, const AlignResult& result, const Form& form = {});

/// P5, P6, P3, P4 in that order (sizes before contents); the first violation.
Verdict judge_blocks(const AlignProblem& problem, const AlignResult& result, std::int64_t reported_capacity,
                     const Form& form = {});

}  // namespace eplora::contract
