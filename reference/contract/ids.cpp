// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/ids.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

constexpr std::int64_t kInt32Min = std::numeric_limits<std::int32_t>::min();

/// Section 4, first row: the sentinel itself, or -1 when int32 cannot hold it.
std::int64_t preserved(std::int64_t sentinel) { return sentinel < kInt32Min ? -1 : sentinel; }

bool is_padding(const IdMatrix& ids, const NumTokens& num_tokens, std::int64_t slot) {
  return slot / ids.cols >= num_tokens.resolve(ids.rows);
}

std::int64_t id_of(const IdMatrix& ids, std::int64_t slot) {
  return ids.at(slot / ids.cols, slot % ids.cols);
}

Verdict wrong_length(const char* property, const std::string& array, std::int64_t expected,
                     std::size_t found) {
  if (found == static_cast<std::size_t>(expected)) return std::nullopt;
  return violation(property, -1, "length of " + array, std::to_string(expected), std::to_string(found));
}

/// "slot 5 (token 2, k 1) has expert 3, adapter 1 (E=4, L=2)", or that its row is padding.
std::string remap_slot_words(const RemapProblem& problem, std::int64_t slot) {
  const std::string words = slot_words(slot, problem.topk_ids.cols);
  if (is_padding(problem.topk_ids, problem.num_tokens, slot)) return words + " is in a padding row";
  return words + " has expert " + std::to_string(id_of(problem.topk_ids, slot)) + ", adapter " +
         std::to_string(problem.token_lora_mapping[slot / problem.topk_ids.cols]) +
         " (E=" + std::to_string(problem.num_experts) + ", L=" + std::to_string(problem.max_loras) + ")";
}

/// "-3", "-1" in the canonical form, "a negative id" else.
std::string sentinel_words(std::int64_t canonical, const Form& form) {
  return form.canonical_values ? std::to_string(canonical) : "a negative id";
}

}  // namespace

std::int64_t dispatched_id(const DispatchProblem& problem, std::int64_t slot) {
  if (is_padding(problem.topk_ids, problem.num_tokens, slot)) return -1;
  const std::int64_t id = id_of(problem.topk_ids, slot);
  if (id < 0) return preserved(id);
  if (id >= problem.num_experts) return -1;
  std::int64_t entry = id;
  if (!problem.offsets.empty()) {
    const std::int64_t first = problem.offsets[id], replicas = problem.offsets[id + 1] - first;
    if (replicas < 1) return -1;
    entry = first + (problem.slot_offset + slot) % replicas;
  }
  if (entry < 0 || entry >= static_cast<std::int64_t>(problem.table.size())) return -1;
  return std::max<std::int64_t>(problem.table[entry], -1);
}

bool token_has_adapter(const RemapProblem& problem, std::int64_t token) {
  if (token >= problem.num_tokens.resolve(problem.topk_ids.rows)) return false;
  const std::int64_t adapter = problem.token_lora_mapping[token];
  return adapter >= 0 && adapter < problem.max_loras;
}

std::int64_t remapped_id(const RemapProblem& problem, std::int64_t slot) {
  if (is_padding(problem.topk_ids, problem.num_tokens, slot)) return -1;
  const std::int64_t e = id_of(problem.topk_ids, slot), E = problem.num_experts;
  const std::int64_t l = problem.token_lora_mapping[slot / problem.topk_ids.cols], L = problem.max_loras;
  if (e < 0) return preserved(e);
  if (e >= E || l >= L) return -1;
  if (l < 0 && (L == 0 || problem.no_adapter == NoAdapter::sentinel)) return -1;
  const std::int64_t adapter = std::max<std::int64_t>(l, 0);  // base_slot: bucket of adapter 0, masked later
  return problem.shared_outer ? adapter : adapter * E + e;
}

Verdict p1_closure(const DispatchProblem& problem, const DispatchResult& result, const Form& form) {
  const IdMatrix& ids = problem.topk_ids;
  const std::int64_t n = ids.size();
  if (auto wrong = wrong_length("P1", "local_ids", n, result.local_ids.size())) return wrong;
  for (std::int64_t s = 0; s < n; ++s) {
    const std::int64_t want = dispatched_id(problem, s), got = result.local_ids[s];
    if (got == want || (want < 0 && got < 0 && !form.canonical_values)) continue;
    std::string what = slot_words(s, ids.cols);
    if (is_padding(ids, problem.num_tokens, s)) {
      what += " is in a padding row";
    } else {
      const std::int64_t id = id_of(ids, s);
      what += " has global id " + std::to_string(id);
      if (id < 0)
        what += ", a sentinel";
      else if (id >= problem.num_experts)
        what += ", invalid for E=" + std::to_string(problem.num_experts);
      else
        what += want < 0 ? ", owned elsewhere" : ", owned here";
    }
    return violation("P1", s, what + "; its local id",
                     want < 0 ? sentinel_words(want, form) : std::to_string(want), std::to_string(got));
  }
  return std::nullopt;
}

Verdict p1_closure(const RemapProblem& problem, const RemapResult& result, const Form& form) {
  const IdMatrix& ids = problem.topk_ids;
  const std::int64_t n = ids.size(), E = problem.num_experts, L = problem.max_loras;
  const std::int64_t V = problem.shared_outer ? L : E * L;
  if (auto wrong = wrong_length("P1", "virtual_ids", n, result.virtual_ids.size())) return wrong;
  const bool routed = problem.shared_outer && form.shared_outer_sentinels == SharedOuterSentinels::routed;
  for (std::int64_t s = 0; s < n; ++s) {
    const std::int64_t want = remapped_id(problem, s), got = result.virtual_ids[s];
    if (want >= 0) {
      if (got >= 0 && got < V) continue;
      return violation("P1", s, remap_slot_words(problem, s) + "; its virtual id",
                       std::to_string(want) + ", in [0, " + std::to_string(V) + ")", std::to_string(got));
    }
    if (got == want || (got < 0 && !form.canonical_values)) continue;
    if (routed && !is_padding(ids, problem.num_tokens, s)) {
      const std::int64_t e = id_of(ids, s), l = problem.token_lora_mapping[s / ids.cols];
      const bool foreign_expert = e < 0 || e >= E;
      const bool base = l < 0 && L > 0 && problem.no_adapter == NoAdapter::base_slot;
      if (foreign_expert && ((0 <= l && l < L && got == l) || (base && got == 0))) continue;
    }
    return violation("P1", s, remap_slot_words(problem, s) + "; its virtual id", sentinel_words(want, form),
                     std::to_string(got));
  }
  return std::nullopt;
}

Verdict p2_decode(const RemapProblem& problem, const RemapResult& result) {
  const IdMatrix& ids = problem.topk_ids;
  const std::int64_t n = ids.size(), E = problem.num_experts, L = problem.max_loras;
  if (auto wrong = wrong_length("P2", "virtual_ids", n, result.virtual_ids.size())) return wrong;
  const std::int64_t real_slots = problem.num_tokens.resolve(ids.rows) * ids.cols;
  for (std::int64_t s = 0; s < real_slots; ++s) {
    const std::int64_t e = id_of(ids, s), l = problem.token_lora_mapping[s / ids.cols];
    if (e < 0 || e >= E || l >= L) continue;  // P1's slots
    const std::int64_t want = remapped_id(problem, s), got = result.virtual_ids[s];
    if (want >= 0 ? got == want : got < 0) continue;
    std::string found = std::to_string(got);
    if (got >= 0 && !problem.shared_outer)
      found += " (expert " + std::to_string(got % E) + ", adapter " + std::to_string(got / E) + ")";
    return violation("P2", s, remap_slot_words(problem, s) + "; its virtual id",
                     want < 0 ? "a negative id" : std::to_string(want), found);
  }
  return judge_mask(problem, result.token_lora_mask);
}

Verdict judge_mask(const RemapProblem& problem, const std::vector<std::uint8_t>& token_lora_mask) {
  const std::int64_t T = problem.topk_ids.rows, real = problem.num_tokens.resolve(T);
  if (auto wrong = wrong_length("P2", "token_lora_mask", T, token_lora_mask.size())) return wrong;
  for (std::int64_t t = 0; t < T; ++t) {
    const int want = token_has_adapter(problem, t) ? 1 : 0;
    if (token_lora_mask[t] == want) continue;
    std::string what = "token " + std::to_string(t);
    if (t >= real)
      what += " is a padding row";
    else
      what += " has adapter " + std::to_string(problem.token_lora_mapping[t]) +
              " of L=" + std::to_string(problem.max_loras);
    return violation("P2", t, what + "; its token_lora_mask", std::to_string(want),
                     std::to_string(token_lora_mask[t]));
  }
  return std::nullopt;
}

bool within_declared_ids(const IdMatrix& ids, const NumTokens& num_tokens, std::int64_t V, const Form& form) {
  if (form.ids == AcceptedIds::any) return true;
  const std::int64_t real = num_tokens.resolve(ids.rows);
  std::vector<std::int64_t> row;
  for (std::int64_t t = 0; t < real; ++t) {
    row.clear();
    for (std::int64_t k = 0; k < ids.cols; ++k) {
      const std::int64_t id = ids.at(t, k);
      if (form.ids != AcceptedIds::distinct_in_token && id < -1) return false;
      if (form.ids == AcceptedIds::minus_one_to_V && id >= V) return false;
      if (id >= 0) row.push_back(id);
    }
    if (form.ids != AcceptedIds::distinct_in_token) continue;
    std::sort(row.begin(), row.end());
    if (std::adjacent_find(row.begin(), row.end()) != row.end()) return false;
  }
  return true;
}

}  // namespace eplora::contract
