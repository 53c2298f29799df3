// SPDX-License-Identifier: Apache-2.0
// Align: ids to blocks (contract, section 5): the contract's judges, the reference, and laws that relate two
// runs.
#include <algorithm>
#include <numeric>

#include "optimized/guarded_run.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/properties/compare.h"
#include "property_tests/properties/properties.h"
#include "reference/contract/blocks.h"
#include "reference/routing/align.h"

namespace eplora::suite {
namespace {

using contract::Verdict;
using contract::Violation;

AlignResult run(const AlignCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_buckets, backend.form());
  const AlignStorage storage(c);
  return GuardedRun(backend).align(storage.problem);
}

Verdict equals_reference(const AlignCase& c, Backend& backend) {
  const AlignStorage storage(c);
  const AlignResult want = reference::align(storage.problem);
  return first_difference("differential", GuardedRun(backend).align(storage.problem), want);
}

Verdict partition(const AlignCase& c, Backend& backend) {
  return contract::p3_partition(AlignStorage(c).problem, run(c, backend), backend.form());
}

Verdict filler(const AlignCase& c, Backend& backend) {
  return contract::p4_filler(AlignStorage(c).problem, run(c, backend), backend.form());
}

Verdict bounds(const AlignCase& c, Backend& backend) {
  return contract::p5_bounds(AlignStorage(c).problem, run(c, backend),
                             backend.capacity(c.batch.n(), c.num_buckets, c.block_size, c.sentinels),
                             backend.form());
}

Verdict block_labels(const AlignCase& c, Backend& backend) {
  return contract::p6_labels(AlignStorage(c).problem, run(c, backend), backend.form());
}

Verdict unwritten_memory(const AlignCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_buckets, backend.form());
  const AlignStorage storage(c);
  return contract::p13_unwritten_memory([&](std::uint8_t poison) {
    return as_bytes(GuardedRun(backend, poison).align(storage.problem), storage.problem, backend.form());
  });
}

Verdict determinism(const AlignCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_buckets, backend.form());
  const AlignStorage storage(c);
  return contract::p14_determinism(
      [&] { return as_bytes(GuardedRun(backend).align(storage.problem), storage.problem, backend.form()); },
      3);
}

Verdict one_size(const AlignCase& c, Backend& backend) {
  const auto varied = [&](int variation) {
    AlignCase other = c;
    other.batch = with_other_values(c.batch, c.num_buckets, variation, backend.form());
    return other;
  };
  require_accepted(c.batch, c.num_buckets, backend.form());
  return contract::p17_one_size(
      kValueVariations,
      [&](int i) {
        const AlignStorage storage(varied(i));
        return static_cast<std::int64_t>(backend.workspace_bytes(storage.problem)) +
               backend.capacity(c.batch.n(), c.num_buckets, c.block_size, c.sentinels);
      },
      [&](int i) {
        try {
          run(varied(i), backend);
          return false;
        } catch (const GuardViolation&) {
          return true;
        }
      });
}

Verdict same_buckets(const std::string& law, const std::vector<std::vector<std::int32_t>>& got,
                     const std::vector<std::vector<std::int32_t>>& want) {
  for (std::size_t v = 0; v < want.size(); ++v) {
    const std::string name = v + 1 < want.size() ? "bucket " + std::to_string(v) : "the sentinel bucket";
    if (auto verdict = first_difference(law, "slots of " + name + " after the change", got[v], want[v]))
      return verdict;
  }
  return std::nullopt;
}

std::vector<std::vector<std::int32_t>> buckets(const AlignCase& c, Backend& backend) {
  return slots_by_bucket(run(c, backend), c.batch.n(), c.num_buckets, c.block_size);
}

/// One more token of sentinels: its slots join the sentinel bucket (keep) or vanish (drop); nothing else
/// changes.
Verdict append_sentinel_token(const AlignCase& c, Backend& backend) {
  AlignCase longer = c;
  longer.batch.T += 1;
  longer.batch.ids.resize(longer.batch.n(), -1);
  auto want = buckets(c, backend);
  const AlignResult after = run(longer, backend);
  const bool places_sentinels =
      c.sentinels == Sentinels::keep && backend.form().sentinel != contract::SentinelPlace::drop;
  if (places_sentinels)
    for (std::int64_t s = c.batch.n(); s < longer.batch.n(); ++s)
      want.back().push_back(static_cast<std::int32_t>(s));
  if (auto verdict =
          same_buckets("P3", slots_by_bucket(after, longer.batch.n(), c.num_buckets, c.block_size), want))
    return verdict;
  std::int64_t blocks = 0;
  for (std::size_t v = 0; v < want.size(); ++v)
    if (v + 1 < want.size() || places_sentinels)
      blocks += (static_cast<std::int64_t>(want[v].size()) + c.block_size - 1) / c.block_size;
  if (backend.form().sentinel != contract::SentinelPlace::per_foreign_expert &&
      after.num_tokens_post_padded != blocks * c.block_size)
    return Violation{"P5",
                     "after a token of sentinels num_tokens_post_padded is " +
                         std::to_string(after.num_tokens_post_padded) + ", expected " +
                         std::to_string(blocks * c.block_size),
                     -1, std::to_string(blocks * c.block_size), std::to_string(after.num_tokens_post_padded)};
  return std::nullopt;
}

/// Every id outside [0, V) replaced by another one outside [0, V).
Verdict other_sentinel_values(const AlignCase& c, Backend& backend) {
  if (backend.form().ids != contract::AcceptedIds::any)
    throw Discard{"the backend takes one sentinel value only"};
  AlignCase other = c;
  for (std::int64_t s = 0; s < c.batch.n(); ++s) {
    std::int64_t& id = other.batch.ids[s];
    if (0 <= id && id < c.num_buckets) continue;
    static constexpr std::int64_t kOthers[] = {-1, -2, -2147483647 - 1, 2147483647, -1000};
    const std::int64_t pick = below(hash_at(7, s), 6);
    id = pick < 5 ? kOthers[pick] : c.num_buckets;
  }
  const AlignStorage before(c), after(other);
  const auto want = as_bytes(GuardedRun(backend).align(before.problem), before.problem, backend.form());
  const auto got = as_bytes(GuardedRun(backend).align(after.problem), after.problem, backend.form());
  for (std::size_t i = 0; i < want.size(); ++i)
    if (got[i].bytes != want[i].bytes)
      return Violation{"P3", got[i].name + " changed when sentinels were replaced by other sentinels", -1,
                       "the same bytes", "other bytes"};
  return std::nullopt;
}

Verdict permute_tokens(const AlignCase& c, Backend& backend) {
  const std::int64_t real = c.batch.real_rows(), K = c.batch.K;
  std::vector<std::int64_t> token_at(
      c.batch.T);  // row t of the permuted batch is row token_at[t] of the original
  std::iota(token_at.begin(), token_at.end(), 0);
  for (std::int64_t t = real - 1; t > 0; --t) std::swap(token_at[t], token_at[below(hash_at(11, t), t + 1)]);
  AlignCase permuted = c;
  for (std::int64_t t = 0; t < c.batch.T; ++t)
    for (std::int64_t k = 0; k < K; ++k) permuted.batch.ids[t * K + k] = c.batch.ids[token_at[t] * K + k];
  auto got = buckets(permuted, backend);
  for (auto& bucket : got) {
    for (std::int32_t& slot : bucket) slot = static_cast<std::int32_t>(token_at[slot / K] * K + slot % K);
    std::sort(bucket.begin(), bucket.end());
  }
  return same_buckets("P3", got, buckets(c, backend));
}

Verdict relabel_experts(const AlignCase& c, Backend& backend) {
  const std::int64_t V = c.num_buckets;
  std::vector<std::int32_t> renamed(V);
  std::iota(renamed.begin(), renamed.end(), 0);
  for (std::int64_t v = V - 1; v > 0; --v) std::swap(renamed[v], renamed[below(hash_at(13, v), v + 1)]);
  AlignCase other = c;
  for (std::int64_t& id : other.batch.ids)
    if (0 <= id && id < V) id = renamed[id];
  const auto before = buckets(c, backend);
  std::vector<std::vector<std::int32_t>> want(V + 1);
  for (std::int64_t v = 0; v < V; ++v) want[renamed[v]] = before[v];
  want[V] = before[V];
  return same_buckets("P3", buckets(other, backend), want);
}

}  // namespace

std::vector<PropertyDefinition> align_properties() {
  const std::vector<Operation> needs = {Operation::align};
  return {
      property({"align", "EverySlotStandsOnceInABlockOfItsOwnId",
                "valid slots stand once in a block of their id, the others once under -1 or nowhere", "P3"},
               needs, draw_align, partition),
      property(
          {"align", "FillerIsNoSlot", "every entry that is no slot is at least n, past the prefix too", "P4"},
          needs, draw_align, filler),
      property({"align", "LengthIsTheSumOfPaddedBuckets",
                "num_tokens_post_padded is the sum of the padded buckets and within the capacity", "P5"},
               needs, draw_align, bounds),
      property({"align", "NoBlockForABucketWithoutSlots",
                "label v stands on exactly ceil(count_v / B) used blocks, -1 on the rest", "P6"},
               needs, draw_align, block_labels),
      byte_property({"align", "EqualsTheReference", "blocks, labels and length equal the reference's", ""},
                    needs, draw_align, equals_reference),
      property({"align", "AppendingASentinelTokenChangesOnlyTheSentinelBucket",
                "a token of sentinels changes nothing but filler, sentinel blocks and capacity", "P3 P5"},
               needs, draw_align, append_sentinel_token),
      property(
          {"align", "ASentinelsValueDoesNotMatter", "another value outside [0, V) changes no byte", "P3"},
          needs, draw_align, other_sentinel_values),
      property({"align", "PermutingTokensPermutesSlots",
                "permuted tokens put the same slots into the same buckets", "P3"},
               needs, draw_align, permute_tokens),
      property({"align", "RelabellingExpertsRelabelsBlocks",
                "renamed ids move each bucket's slots to the new label", "P3 P6"},
               needs, draw_align, relabel_experts),
      property({"align", "DependsOnNoUnwrittenMemory", "two different poisons give equal bytes", "P13"},
               needs, draw_align, unwritten_memory),
      property({"align", "EqualInputsGiveEqualBytes", "three runs give equal bytes", "P14"}, needs,
               draw_align, determinism),
      property({"align", "OneSizeForAllValues",
                "capacity and workspace depend on shapes alone and are enough for all values", "P17"},
               needs, draw_align, one_size),
  };
}

}  // namespace eplora::suite
