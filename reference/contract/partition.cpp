// SPDX-License-Identifier: Apache-2.0
// P3 and P4: what stands in the blocks.
#include "reference/contract/blocks_reading.h"

namespace eplora::contract {
namespace {

std::string entry_words(std::int64_t entry, std::int64_t B) {
  return "entry " + std::to_string(entry) + " (block " + std::to_string(entry / B) + ")";
}

}  // namespace

Verdict judge_partition(const BlockReading& reading, const AlignResult& result) {
  const std::int64_t n = reading.n, B = reading.B;
  std::vector<std::int32_t> entry_of(n, -1);
  for (std::int64_t entry = 0; entry < result.num_tokens_post_padded; ++entry) {
    const std::int64_t slot = result.sorted_token_ids[entry];
    if (slot < 0 || slot >= n) continue;  // a filler, P4's
    const std::int64_t bucket = reading.bucket(slot), label = result.expert_ids[entry / B];
    if (bucket < 0 && reading.dropped)
      return violation("P3", slot, reading.words(slot) + "; with sentinels dropped its place", "none",
                       entry_words(entry, B));
    if (label != bucket)
      return violation("P3", slot,
                       reading.words(slot) + "; it stands in a block labelled " + std::to_string(label) +
                           " at " + entry_words(entry, B) + "; the label of its block",
                       std::to_string(bucket), std::to_string(label));
    if (entry_of[slot] >= 0)
      return violation(
          "P3", slot, reading.words(slot) + "; the number of its places", "1",
          "2 (entries " + std::to_string(entry_of[slot]) + " and " + std::to_string(entry) + ")");
    entry_of[slot] = static_cast<std::int32_t>(entry);
  }
  for (std::int64_t slot = 0; slot < n; ++slot) {
    if (entry_of[slot] >= 0) continue;
    const std::int64_t bucket = reading.bucket(slot);
    if (bucket < 0 && reading.dropped) continue;
    return violation("P3", slot, reading.words(slot) + "; its place",
                     "once in a block labelled " + std::to_string(bucket), "nowhere");
  }
  return std::nullopt;
}

/// Order of buckets, and of slots inside one. The partition is right already.
Verdict judge_order(const BlockReading& reading, const AlignResult& result, const Form& form) {
  const std::int64_t B = reading.B, used_blocks = result.num_tokens_post_padded / B;
  const bool anywhere = form.sentinel == SentinelPlace::per_foreign_expert;
  const auto rank = [&](std::int64_t label) {
    return label >= 0 ? label : form.sentinel == SentinelPlace::first ? -1 : reading.V;
  };
  std::int64_t previous_block = -1, previous_slot = -1;
  for (std::int64_t block = 0; block < used_blocks; ++block) {
    const std::int64_t label = result.expert_ids[block];
    const bool own_bucket = anywhere && label < 0;
    if (!own_bucket) {
      const std::int64_t before = previous_block < 0 ? label : result.expert_ids[previous_block];
      if (rank(before) > rank(label))
        return violation(
            "P3", block,
            "block " + std::to_string(block) + " is labelled " + std::to_string(label) + ", block " +
                std::to_string(previous_block) + " before it " + std::to_string(before) +
                "; the order of the buckets",
            anywhere ? "ascending" : "ascending, sentinel bucket " + std::string(to_string(form.sentinel)),
            std::to_string(before) + " before " + std::to_string(label));
    }
    if (own_bucket || previous_block < 0 || previous_block != block - 1 ||
        result.expert_ids[block - 1] != label)
      previous_slot = -1;
    if (!own_bucket) previous_block = block;
    if (form.order != Order::stable) continue;
    for (std::int64_t entry = block * B; entry < (block + 1) * B; ++entry) {
      const std::int64_t slot = result.sorted_token_ids[entry];
      if (slot < 0 || slot >= reading.n) continue;
      if (slot < previous_slot)
        return violation("P3", slot, reading.words(slot) + "; its place with order = stable",
                         "before slot " + std::to_string(previous_slot),
                         "after it, at " + entry_words(entry, B));
      previous_slot = slot;
    }
  }
  return std::nullopt;
}

Verdict judge_filler(const BlockReading& reading, const AlignResult& result, const Form& form) {
  const std::int64_t n = reading.n, B = reading.B, used = result.num_tokens_post_padded;
  const std::string allowed =
      form.canonical_values ? "n=" + std::to_string(n) : "at least n=" + std::to_string(n);
  const auto is_filler = [&](std::int64_t value) { return form.canonical_values ? value == n : value >= n; };
  std::int64_t filler = -1;  // the first one in this bucket
  for (std::int64_t entry = 0; entry < used; ++entry) {
    if (entry % B == 0) {
      const std::int64_t block = entry / B, label = result.expert_ids[block];
      const bool continues = block > 0 && result.expert_ids[block - 1] == label &&
                             (label >= 0 || form.sentinel != SentinelPlace::per_foreign_expert);
      if (!continues) filler = -1;
    }
    const std::int64_t value = result.sorted_token_ids[entry];
    if (value >= 0 && value < n) {
      if (filler >= 0 && form.order == Order::stable)
        return violation("P4", filler,
                         entry_words(filler, B) + " is filler before slot " + std::to_string(value) +
                             " of its bucket; what stands there",
                         "a slot of the bucket", std::to_string(result.sorted_token_ids[filler]));
      continue;
    }
    if (!is_filler(value))
      return violation("P4", entry, "filler at " + entry_words(entry, B), allowed, std::to_string(value));
    if (filler < 0) filler = entry;
  }
  if (form.tail == Tail::unwritten) return std::nullopt;
  const std::int64_t length = static_cast<std::int64_t>(result.sorted_token_ids.size());
  for (std::int64_t entry = used; entry < length; ++entry)
    if (!is_filler(result.sorted_token_ids[entry]))
      return violation("P4", entry,
                       entry_words(entry, B) + " past num_tokens_post_padded=" + std::to_string(used),
                       allowed, std::to_string(result.sorted_token_ids[entry]));
  const std::int64_t blocks = static_cast<std::int64_t>(result.expert_ids.size());
  for (std::int64_t block = used / B; block < blocks; ++block) {
    const std::int64_t label = result.expert_ids[block];
    if (form.canonical_values ? label == -1 : label < 0) continue;
    return violation("P4", block,
                     "label of block " + std::to_string(block) + " past num_tokens_post_padded=" +
                         std::to_string(used) + " (" + std::to_string(used / B) + " used blocks)",
                     form.canonical_values ? "-1" : "a negative label", std::to_string(label));
  }
  return std::nullopt;
}

}  // namespace eplora::contract
