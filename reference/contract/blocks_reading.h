// SPDX-License-Identifier: Apache-2.0
// An align problem as its judges read it - the bucket of a slot, the slots of a bucket - and the judges that
// `judge_blocks` and `judge_route` are made of. Internal to reference/contract.
#pragma once

#include <string>
#include <vector>

#include "reference/contract/form.h"
#include "reference/contract/sentence.h"
#include "reference/contract/verdict.h"
#include "reference/routing/problem.h"

namespace eplora::contract {

/// The problem as a judge reads it: which bucket a slot belongs to, how many slots a bucket has.
class BlockReading {
 public:
  BlockReading(const AlignProblem& problem, const Form& form, std::int64_t num_experts = 0)
      : ids_(problem.ids),
        real_(problem.num_tokens.resolve(problem.ids.rows)),
        num_experts_(num_experts),
        n(problem.ids.size()),
        V(problem.num_buckets),
        B(problem.block_size),
        sentinels(problem.sentinels),
        dropped(problem.sentinels == Sentinels::drop || form.sentinel == SentinelPlace::drop) {}

  /// In `[0, V)`, or -1 for the sentinel bucket. Padding rows are not read.
  std::int64_t bucket(std::int64_t slot) const {
    const std::int64_t t = slot / ids_.cols;
    if (t >= real_) return -1;
    const std::int64_t id = ids_.at(t, slot % ids_.cols);
    return id >= 0 && id < V ? id : -1;
  }

  /// "slot 5 (token 2, k 1) has id 7 = expert 7, adapter 0".
  std::string words(std::int64_t slot) const {
    const std::string text = slot_words(slot, ids_.cols);
    if (slot / ids_.cols >= real_) return text + " is in a padding row, a sentinel";
    const std::int64_t id = ids_.at(slot / ids_.cols, slot % ids_.cols);
    std::string words = text + " has id " + std::to_string(id);
    if (id < 0) return words + ", a sentinel";
    if (id >= V) return words + ", invalid for V=" + std::to_string(V);
    if (num_experts_ > 0)
      words +=
          " = expert " + std::to_string(id % num_experts_) + ", adapter " + std::to_string(id / num_experts_);
    return words;
  }

  struct Counts {
    std::vector<std::int32_t> of_bucket;
    std::int64_t sentinels = 0;
  };
  Counts counts() const {
    Counts counts{std::vector<std::int32_t>(V), 0};
    for (std::int64_t s = 0; s < n; ++s) {
      const std::int64_t v = bucket(s);
      if (v < 0)
        ++counts.sentinels;
      else
        ++counts.of_bucket[v];
    }
    return counts;
  }
  std::int64_t blocks(std::int64_t count) const { return (count + B - 1) / B; }

 private:
  const IdMatrix ids_;
  std::int64_t real_, num_experts_;

 public:
  const std::int64_t n, V, B;
  const Sentinels sentinels;
  const bool dropped;
};

/// Whether the used prefix can be read at all; if not, why.
Verdict unreadable(const char* property, const BlockReading& reading, const AlignResult& result);

// What follows, but for `judge_bounds`, reads results that `unreadable` has nothing against.
Verdict judge_bounds(const BlockReading& reading, const AlignResult& result, std::int64_t reported_capacity,
                     const Form& form);                                                          ///< P5
Verdict judge_labels(const BlockReading& reading, const AlignResult& result, const Form& form);  ///< P6
Verdict judge_partition(const BlockReading& reading, const AlignResult& result);                 ///< P3
Verdict judge_order(const BlockReading& reading, const AlignResult& result, const Form& form);   ///< P3
Verdict judge_filler(const BlockReading& reading, const AlignResult& result, const Form& form);  ///< P4

}  // namespace eplora::contract
