// SPDX-License-Identifier: Apache-2.0
#include "reference/routing/align.h"

namespace eplora::reference {

AlignResult align(const AlignProblem& problem) {
  validate(problem);
  const IdMatrix& ids = problem.ids;
  const std::int64_t n = ids.size(), V = problem.num_buckets, B = problem.block_size;
  const std::int64_t num_tokens = problem.num_tokens.resolve(ids.rows);
  const std::int64_t capacity = align_capacity(n, V, B, problem.sentinels);

  // 1. The bucket of every slot; V is the sentinel bucket. Slots are visited in order, which makes the sort
  // stable.
  std::vector<std::int32_t> bucket_of(n, static_cast<std::int32_t>(V));
  std::vector<std::int64_t> count(V + 1, 0);
  for (std::int64_t t = 0; t < ids.rows; ++t)
    for (std::int64_t k = 0; k < ids.cols; ++k) {
      const std::int64_t s = t * ids.cols + k;
      if (t < num_tokens) {
        const std::int64_t id = ids.at(t, k);
        if (0 <= id && id < V) bucket_of[s] = static_cast<std::int32_t>(id);
      }
      ++count[bucket_of[s]];
    }
  if (problem.sentinels == Sentinels::drop) count[V] = 0;

  // 2. Where every bucket starts, in whole blocks, and the labels of its blocks.
  AlignResult result;
  result.sorted_token_ids.assign(capacity, static_cast<std::int32_t>(n));
  result.expert_ids.assign(capacity / B, -1);
  std::vector<std::int64_t> next(V + 1);
  std::int64_t block = 0;
  for (std::int64_t v = 0; v <= V; ++v) {
    next[v] = block * B;
    for (std::int64_t blocks = (count[v] + B - 1) / B; blocks > 0; --blocks)
      result.expert_ids[block++] = v < V ? static_cast<std::int32_t>(v) : -1;
  }
  result.num_tokens_post_padded = static_cast<std::int32_t>(block * B);

  // 3. Every slot to the next place of its bucket.
  const bool drop = problem.sentinels == Sentinels::drop;
  for (std::int64_t s = 0; s < n; ++s)
    if (!drop || bucket_of[s] < V)
      result.sorted_token_ids[next[bucket_of[s]]++] = static_cast<std::int32_t>(s);
  return result;
}

}  // namespace eplora::reference
