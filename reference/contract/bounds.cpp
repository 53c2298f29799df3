// SPDX-License-Identifier: Apache-2.0
// P5 and P6: how many blocks there are and what they are labelled.
#include "reference/contract/blocks_reading.h"

namespace eplora::contract {

Verdict unreadable(const char* property, const BlockReading& reading, const AlignResult& result) {
  const std::int64_t used = result.num_tokens_post_padded;
  const std::string what = "num_tokens_post_padded";
  if (used < 0 || used % reading.B != 0)
    return violation(property, -1, what, "a multiple of B=" + std::to_string(reading.B) + ", at least 0",
                     std::to_string(used));
  if (used > static_cast<std::int64_t>(result.sorted_token_ids.size()))
    return violation(
        property, -1, what,
        "at most the length of sorted_token_ids, " + std::to_string(result.sorted_token_ids.size()),
        std::to_string(used));
  if (used / reading.B > static_cast<std::int64_t>(result.expert_ids.size()))
    return violation(property, -1, what + " / B",
                     "at most the length of expert_ids, " + std::to_string(result.expert_ids.size()),
                     std::to_string(used / reading.B));
  return std::nullopt;
}

Verdict judge_bounds(const BlockReading& reading, const AlignResult& result, std::int64_t reported_capacity,
                     const Form& form) {
  const std::int64_t B = reading.B, used = result.num_tokens_post_padded;
  const std::int64_t length = static_cast<std::int64_t>(result.sorted_token_ids.size());
  const std::int64_t blocks = static_cast<std::int64_t>(result.expert_ids.size());
  if (form == Form{}) {
    const std::int64_t capacity = align_capacity(reading.n, reading.V, B, reading.sentinels);
    if (reported_capacity != capacity)
      return violation("P5", -1,
                       "capacity reported for n=" + std::to_string(reading.n) +
                           ", V=" + std::to_string(reading.V) + ", B=" + std::to_string(B),
                       std::to_string(capacity), std::to_string(reported_capacity));
    if (length != capacity)
      return violation("P5", -1, "length of sorted_token_ids", std::to_string(capacity),
                       std::to_string(length));
    if (blocks != capacity / B)
      return violation("P5", -1, "length of expert_ids", std::to_string(capacity / B),
                       std::to_string(blocks));
  }
  if (used > reported_capacity)
    return violation("P5", -1, "num_tokens_post_padded",
                     "at most the reported capacity " + std::to_string(reported_capacity),
                     std::to_string(used));
  if (auto bad = unreadable("P5", reading, result)) return bad;

  const BlockReading::Counts counts = reading.counts();
  std::int64_t buckets = 0;
  for (const std::int64_t count : counts.of_bucket) buckets += reading.blocks(count) * B;
  const std::int64_t fewest = reading.dropped ? 0 : reading.blocks(counts.sentinels) * B;
  const bool per_expert = form.sentinel == SentinelPlace::per_foreign_expert && !reading.dropped;
  const std::int64_t most = per_expert ? counts.sentinels * B : fewest;
  if (used >= buckets + fewest && used <= buckets + most) return std::nullopt;
  std::string expected = std::to_string(buckets + fewest);
  if (most != fewest) expected += " to " + std::to_string(buckets + most);
  return violation("P5", -1,
                   "num_tokens_post_padded for buckets that fill " + std::to_string(buckets) +
                       " entries and " + count_words(counts.sentinels, "sentinel slot") +
                       (reading.dropped ? " to be dropped"
                        : per_expert    ? " kept per foreign expert"
                                        : " kept") +
                       " with B=" + std::to_string(B),
                   expected, std::to_string(used));
}

Verdict judge_labels(const BlockReading& reading, const AlignResult& result, const Form& form) {
  const std::int64_t V = reading.V, B = reading.B, used_blocks = result.num_tokens_post_padded / B;
  const BlockReading::Counts counts = reading.counts();
  std::vector<std::int32_t> labelled(V);
  std::int64_t sentinel_blocks = 0;
  for (std::int64_t block = 0; block < used_blocks; ++block) {
    const std::int64_t label = result.expert_ids[block];
    if (label < -1 || label >= V)
      return violation("P6", block, "label of used block " + std::to_string(block),
                       "-1 or a bucket in [0, " + std::to_string(V) + ")", std::to_string(label));
    if (label < 0) {
      ++sentinel_blocks;
      continue;
    }
    const std::int64_t needed = reading.blocks(counts.of_bucket[label]);
    if (++labelled[label] > needed)
      return violation("P6", block,
                       "block " + std::to_string(block) + " is labelled " + std::to_string(label) +
                           ", a bucket with " + count_words(counts.of_bucket[label], "slot") +
                           " and B=" + std::to_string(B) + "; used blocks with that label",
                       std::to_string(needed), "at least " + std::to_string(labelled[label]));
  }
  const std::int64_t fewest = reading.dropped ? 0 : reading.blocks(counts.sentinels);
  const bool anywhere = form.sentinel == SentinelPlace::per_foreign_expert && !reading.dropped;
  const std::int64_t most = anywhere ? counts.sentinels : fewest;
  std::int64_t start = form.sentinel == SentinelPlace::first ? fewest : 0;  // block where bucket v begins
  for (std::int64_t v = 0; v < V; ++v) {
    const std::int64_t needed = reading.blocks(counts.of_bucket[v]);
    if (labelled[v] != needed)
      return violation("P6", anywhere ? -1 : start + labelled[v],
                       "used blocks labelled " + std::to_string(v) + ", a bucket with " +
                           count_words(counts.of_bucket[v], "slot") + " and B=" + std::to_string(B) +
                           (anywhere ? "" : ", from block " + std::to_string(start) + " on"),
                       std::to_string(needed), std::to_string(labelled[v]));
    start += needed;
  }
  if (sentinel_blocks >= fewest && sentinel_blocks <= most) return std::nullopt;
  std::int64_t last = -1;
  for (std::int64_t block = 0; block < used_blocks; ++block)
    if (result.expert_ids[block] < 0) last = block;
  return violation("P6", last,
                   "used blocks labelled -1 for " + count_words(counts.sentinels, "sentinel slot") +
                       (reading.dropped ? " to be dropped" : "") + " and B=" + std::to_string(B),
                   std::to_string(fewest) + (most != fewest ? " to " + std::to_string(most) : ""),
                   std::to_string(sentinel_blocks));
}

}  // namespace eplora::contract
