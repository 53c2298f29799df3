// SPDX-License-Identifier: Apache-2.0
// P3 partition, P4 filler, P5 bounds, P6 labels: judges of align (contract, section 5), for any declared
// form, and the same four for route. Each judge is safe on arbitrary garbage: nothing in a result is used as
// an index before it is checked. A problem must be valid (`validate` accepts it).
//
// What a form relaxes: `order` the order inside a bucket, never which slots share one nor the order of the
// buckets; `sentinel` the place of the sentinel bucket (`drop`: it has none, whatever the problem asks;
// `per_foreign_expert`: blocks labelled -1 stand anywhere, between one and one a slot); `tail` what stands
// past the used prefix; `canonical_values = false` which value >= n a filler has. Ids outside `form.ids` are
// not asked about at all.
#pragma once

#include "reference/contract/form.h"
#include "reference/contract/verdict.h"
#include "reference/routing/problem.h"

namespace eplora::contract {

/// Every slot with an id in `[0, V)` stands exactly once, in a block labelled with its id; every other slot
/// exactly once in a block labelled -1 (keep) or nowhere (drop); a block holds slots of one bucket; buckets
/// ascend and the sentinel bucket stands where `form.sentinel` says; with `order = stable` slots ascend
/// inside a bucket. `place`: the slot; for the order of buckets the block.
Verdict p3_partition(const AlignProblem& problem, const AlignResult& result, const Form& form = {});

/// Every entry of the used prefix that is no slot is `>= n` (canonical: n), with `order = stable` only behind
/// the bucket's slots; past it entries `>= n`, labels negative (canonical: n and -1), unless `tail =
/// unwritten`. `place`: the entry of `sorted_token_ids`, for a label the block.
Verdict p4_filler(const AlignProblem& problem, const AlignResult& result, const Form& form = {});

/// `num_tokens_post_padded` is a multiple of B, at most `reported_capacity`, and the sum of the padded bucket
/// sizes plus the sentinel part as declared; the arrays hold it. In the canonical form the capacity is
/// `align_capacity` and the arrays are exactly as long. `place`: -1.
Verdict p5_bounds(const AlignProblem& problem, const AlignResult& result, std::int64_t reported_capacity,
                  const Form& form = {});

/// A label v >= 0 lies in `[0, V)` and stands on exactly ceil(count_v / B) used blocks; -1 on exactly the
/// rest. `place`: the block.
Verdict p6_labels(const AlignProblem& problem, const AlignResult& result, const Form& form = {});

/// P5, P6, P3, P4 in that order (sizes before contents); the first violation.
Verdict judge_blocks(const AlignProblem& problem, const AlignResult& result, std::int64_t reported_capacity,
                     const Form& form = {});

/// The blocks of a route, judged against the ids that sections 3 and 4 give its slots (an id in a sentence is
/// decoded to expert and adapter), then the mask (P2).
Verdict judge_route(const RouteProblem& problem, const RouteResult& result, std::int64_t reported_capacity,
                    const Form& form = {});

}  // namespace eplora::contract
