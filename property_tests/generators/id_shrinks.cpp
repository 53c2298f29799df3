// SPDX-License-Identifier: Apache-2.0
// Smaller batches and mappings: fewer tokens, fewer columns, plainer memory, simpler values.
#include <algorithm>
#include <limits>

#include "property_tests/generators/id_batch.h"

namespace eplora::suite {
namespace {

constexpr std::int64_t kInt32Min = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();

}  // namespace

void erase_tokens(IdBatch& batch, std::int64_t begin, std::int64_t end) {
  batch.ids.erase(batch.ids.begin() + begin * batch.K, batch.ids.begin() + end * batch.K);
  batch.T -= end - begin;
  if (batch.num_tokens_kind == NumTokens::Kind::value) {
    const std::int64_t real = batch.num_tokens;
    batch.num_tokens =
        static_cast<std::int32_t>(real - std::clamp<std::int64_t>(real - begin, 0, end - begin));
  }
}

void erase_tokens(std::vector<std::int32_t>& per_token, std::int64_t begin, std::int64_t end) {
  per_token.erase(per_token.begin() + begin, per_token.begin() + end);
}

std::vector<std::pair<std::int64_t, std::int64_t>> token_ranges(std::int64_t T) {
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
  if (T == 0) return ranges;
  ranges.emplace_back(0, T);
  for (std::int64_t length = T / 2; length >= 1; length /= 2) ranges.emplace_back(T - length, T);
  for (std::int64_t length = (T + 1) / 2; length >= 1 && ranges.size() < 64;
       length = length > 1 ? (length + 1) / 2 : 0)
    for (std::int64_t begin = 0; begin < T && ranges.size() < 80; begin += length)
      if (begin > 0 || length < T) ranges.emplace_back(begin, std::min(begin + length, T));
  return ranges;
}

Shrinks<IdBatch> simpler_ids(const IdBatch& batch, std::int64_t E) {
  Shrinks<IdBatch> result;
  const auto edit = [&](auto change) {
    result.push_back([batch, change] {
      IdBatch copy = batch;
      change(copy);
      return copy;
    });
  };
  if (batch.K > 1) {
    const auto keep_columns = [](IdBatch& b, std::int64_t first, std::int64_t count) {
      std::vector<std::int64_t> ids;
      for (std::int64_t t = 0; t < b.T; ++t)
        for (std::int64_t k = first; k < first + count; ++k) ids.push_back(b.ids[t * b.K + k]);
      b.row_stride += count - b.K;
      b.K = count;
      b.ids = std::move(ids);
    };
    edit([=](IdBatch& b) { keep_columns(b, 0, 1); });
    for (std::int64_t k = 1; k < batch.K && k < 8; ++k) edit([=](IdBatch& b) { keep_columns(b, k, 1); });
    if (batch.K > 2) {
      edit([=](IdBatch& b) { keep_columns(b, 0, b.K / 2); });
      edit([=](IdBatch& b) { keep_columns(b, b.K / 2, b.K - b.K / 2); });
      edit([=](IdBatch& b) { keep_columns(b, 0, b.K - 1); });
      edit([=](IdBatch& b) { keep_columns(b, 1, b.K - 1); });
    }
  }
  if (batch.num_tokens_kind != NumTokens::Kind::all)
    edit([](IdBatch& b) { b.num_tokens_kind = NumTokens::Kind::all, b.num_tokens = 0; });
  if (batch.num_tokens_kind == NumTokens::Kind::pointer) {
    edit([](IdBatch& b) {
      b.num_tokens = static_cast<std::int32_t>(b.real_rows());
      b.num_tokens_kind = NumTokens::Kind::value;
    });
    if (batch.num_tokens != batch.real_rows())
      edit([](IdBatch& b) { b.num_tokens = static_cast<std::int32_t>(b.real_rows()); });
  }
  if (batch.type == IdType::int64)
    edit([](IdBatch& b) {
      b.type = IdType::int32;
      for (std::int64_t& id : b.ids) id = std::clamp(id, kInt32Min, kInt32Max);
    });
  if (batch.row_stride != batch.K) edit([](IdBatch& b) { b.row_stride = b.K; });

  const auto simpler = [E](std::int64_t id) {
    return id < 0 ? std::int64_t{-1} : id >= E ? E : std::int64_t{0};
  };
  if (std::any_of(batch.ids.begin(), batch.ids.end(), [&](std::int64_t id) { return simpler(id) != id; })) {
    edit([=](IdBatch& b) { std::transform(b.ids.begin(), b.ids.end(), b.ids.begin(), simpler); });
    edit([=](IdBatch& b) {
      for (std::int64_t& id : b.ids) id = id < 0 || id >= E ? simpler(id) : id;
    });
  }
  for (std::int64_t s = 0; s < std::min<std::int64_t>(batch.n(), 40); ++s) {
    const std::int64_t id = batch.ids[s];
    if (id != simpler(id)) edit([=](IdBatch& b) { b.ids[s] = simpler(id); });
    if (id > 1 && id < E) edit([=](IdBatch& b) { b.ids[s] = id / 2; });
    if (id > 0 && id < E) edit([=](IdBatch& b) { b.ids[s] = id - 1; });
    if (id < -2) edit([=](IdBatch& b) { b.ids[s] = -2; });
  }
  return result;
}

Shrinks<std::vector<std::int32_t>> simpler_mapping(const std::vector<std::int32_t>& mapping, std::int32_t L) {
  Shrinks<std::vector<std::int32_t>> result;
  const auto simpler = [L](std::int32_t l) { return l < 0 ? -1 : l >= L ? L : 0; };
  if (std::any_of(mapping.begin(), mapping.end(), [](std::int32_t l) { return l != 0; }) && L > 0)
    result.push_back([mapping] { return std::vector<std::int32_t>(mapping.size(), 0); });
  if (std::any_of(mapping.begin(), mapping.end(), [&](std::int32_t l) { return l != simpler(l); }))
    result.push_back([mapping, simpler] {
      std::vector<std::int32_t> copy = mapping;
      std::transform(copy.begin(), copy.end(), copy.begin(), simpler);
      return copy;
    });
  for (std::size_t t = 0; t < std::min<std::size_t>(mapping.size(), 24); ++t) {
    for (const std::int32_t l : {simpler(mapping[t]), mapping[t] / 2, std::max(mapping[t], 1) - 1})
      if (l != mapping[t] && (mapping[t] > 0 || l == simpler(mapping[t])))
        result.push_back([mapping, t, l] {
          std::vector<std::int32_t> copy = mapping;
          copy[t] = l;
          return copy;
        });
  }
  return result;
}

void narrow_ids(IdBatch& batch, std::int64_t E, std::int64_t smaller) {
  for (std::int64_t& id : batch.ids)
    if (id >= smaller) id = id < E ? smaller - 1 : smaller;
}

void narrow_mapping(std::vector<std::int32_t>& mapping, std::int32_t L, std::int32_t smaller) {
  for (std::int32_t& l : mapping)
    if (l >= smaller) l = l < L ? smaller - 1 : smaller;
}

std::vector<std::int64_t> towards(std::int64_t low, std::int64_t value) {
  std::vector<std::int64_t> result;
  for (const std::int64_t candidate : {low, low + 1, low + (value - low) / 2, value - 2, value - 1})
    if (candidate >= low && candidate < value &&
        std::find(result.begin(), result.end(), candidate) == result.end())
      result.push_back(candidate);
  return result;
}

}  // namespace eplora::suite
