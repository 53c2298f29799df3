// SPDX-License-Identifier: Apache-2.0
#include "property_tests/properties/compare.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace eplora::suite {
namespace {

template <class Element>
contract::NamedBytes named(const std::string& name, std::span<const Element> elements) {
  contract::NamedBytes bytes{name, std::vector<std::byte>(elements.size_bytes()), sizeof(Element)};
  if (!elements.empty()) std::memcpy(bytes.bytes.data(), elements.data(), elements.size_bytes());
  return bytes;
}

}  // namespace

contract::Verdict first_difference(const std::string& law, const AlignResult& got, const AlignResult& want) {
  if (got.num_tokens_post_padded != want.num_tokens_post_padded)
    return contract::Violation{law,
                               "num_tokens_post_padded is " + std::to_string(got.num_tokens_post_padded) +
                                   ", expected " + std::to_string(want.num_tokens_post_padded),
                               -1, std::to_string(want.num_tokens_post_padded),
                               std::to_string(got.num_tokens_post_padded)};
  if (auto verdict = first_difference(law, "expert_ids", got.expert_ids, want.expert_ids)) return verdict;
  return first_difference(law, "sorted_token_ids", got.sorted_token_ids, want.sorted_token_ids);
}

contract::Verdict first_difference(const std::string& law, const RemapResult& got, const RemapResult& want) {
  if (auto verdict = first_difference(law, "virtual_ids", got.virtual_ids, want.virtual_ids)) return verdict;
  return first_difference(law, "token_lora_mask", got.token_lora_mask, want.token_lora_mask);
}

contract::Verdict first_difference(const std::string& law, const RouteResult& got, const RouteResult& want) {
  if (auto verdict = first_difference(law, got.blocks, want.blocks)) return verdict;
  return first_difference(law, "token_lora_mask", got.token_lora_mask, want.token_lora_mask);
}

contract::ResultBytes as_bytes(const DispatchResult& result) {
  return {named<std::int32_t>("local_ids", result.local_ids)};
}

contract::ResultBytes as_bytes(const RemapResult& result) {
  return {named<std::int32_t>("virtual_ids", result.virtual_ids),
          named<std::uint8_t>("token_lora_mask", result.token_lora_mask)};
}

contract::ResultBytes as_bytes(const AlignResult& result, const AlignProblem& problem,
                               const contract::Form& form) {
  const std::int64_t B = problem.block_size;
  std::vector<std::int32_t> sorted = result.sorted_token_ids, labels = result.expert_ids;
  const std::int64_t used =
      std::clamp<std::int64_t>(result.num_tokens_post_padded, 0, static_cast<std::int64_t>(sorted.size()));
  if (form.tail == contract::Tail::unwritten) {
    sorted.resize(used);
    labels.resize(std::min<std::size_t>(labels.size(), used / B));
  }
  if (form.order == contract::Order::nondeterministic) {
    const std::int64_t blocks = std::min<std::int64_t>(used / B, static_cast<std::int64_t>(labels.size()));
    for (std::int64_t first = 0, last = 0; first < blocks; first = last) {
      for (last = first + 1; last < blocks && labels[last] == labels[first];) ++last;
      std::sort(sorted.begin() + first * B, sorted.begin() + last * B);
    }
  }
  return {named<std::int32_t>("num_tokens_post_padded", std::span(&result.num_tokens_post_padded, 1)),
          named<std::int32_t>("expert_ids", labels), named<std::int32_t>("sorted_token_ids", sorted)};
}

std::vector<std::vector<std::int32_t>> slots_by_bucket(const AlignResult& result, std::int64_t n,
                                                       std::int64_t V, std::int64_t B) {
  std::vector<std::vector<std::int32_t>> buckets(V + 1);
  const std::int64_t used =
      std::clamp<std::int64_t>(result.num_tokens_post_padded, 0,
                               std::min(static_cast<std::int64_t>(result.sorted_token_ids.size()),
                                        static_cast<std::int64_t>(result.expert_ids.size()) * B));
  for (std::int64_t i = 0; i < used; ++i) {
    const std::int32_t slot = result.sorted_token_ids[i], label = result.expert_ids[i / B];
    if (0 <= slot && slot < n && -1 <= label && label < V) buckets[label < 0 ? V : label].push_back(slot);
  }
  for (auto& bucket : buckets) std::sort(bucket.begin(), bucket.end());
  return buckets;
}

void require_accepted(const IdBatch& batch, std::int64_t V, const contract::Form& form) {
  const bool distinct = form.ids == contract::AcceptedIds::distinct_in_token;
  if (form.ids == contract::AcceptedIds::any) return;
  for (std::int64_t t = 0; t < batch.T; ++t) {
    std::set<std::int64_t> seen;
    for (std::int64_t k = 0; k < batch.K; ++k) {
      const std::int64_t id = batch.ids[t * batch.K + k];
      if (id < -1 && !distinct) throw Discard{"the backend takes no id below -1"};
      if (id >= V && form.ids == contract::AcceptedIds::minus_one_to_V)
        throw Discard{"the backend takes no id past the last bucket"};
      if (id >= 0 && distinct && !seen.insert(id).second)
        throw Discard{"the backend takes no id twice in a token"};
    }
  }
}

IdBatch with_other_values(const IdBatch& batch, std::int64_t E, int variation, const contract::Form& form) {
  const bool distinct = form.ids == contract::AcceptedIds::distinct_in_token;
  IdBatch other = batch;
  for (std::int64_t s = 0; s < batch.n(); ++s) {
    const std::int64_t k = s % batch.K;
    if (variation == 1 || (variation > 1 && (E == 0 || (distinct && k >= E))))
      other.ids[s] = -1;
    else if (variation == 2)
      other.ids[s] = std::min(k, E - 1);
    else if (variation == 3)
      other.ids[s] = (below(hash_at(3, s / batch.K), E) + k) % E;
  }
  return other;
}

}  // namespace eplora::suite
