// SPDX-License-Identifier: Apache-2.0
#include "property_tests/generators/id_batch.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "reference/check.h"

namespace eplora::suite {
namespace {

constexpr std::int64_t kInt32Min = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kInt64Min = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();

/// How the ids of a batch are distributed.
enum class Pattern {
  valid,
  as_dispatched,
  mixed,
  all_sentinel,
  one_expert,
  last_expert,
  hot_experts,
  hostile
};

std::int64_t sentinel(std::uint64_t bits, contract::AcceptedIds accepted, IdType type) {
  if (accepted != contract::AcceptedIds::any) return -1;
  switch (below(bits, type == IdType::int64 ? 10 : 7)) {
    case 0:
    case 1:
    case 2:
      return -1;
    case 3:
      return -2;
    case 4:
      return kInt32Min;
    case 5:
      return -3 - below(bits * 3, 1000);
    case 6:
      return kInt32Min + 1 + below(bits * 3, 9);
    case 7:
      return kInt32Min - 1;
    case 8:
      return -(std::int64_t{1} << 32) + below(bits * 3, 8);  // truncates to a small valid id
    default:
      return kInt64Min + below(bits * 3, 3);
  }
}

std::int64_t invalid(std::uint64_t bits, std::int64_t E, contract::AcceptedIds accepted, IdType type) {
  if (accepted == contract::AcceptedIds::minus_one_to_V) return -1;
  switch (below(bits, type == IdType::int64 ? 9 : 6)) {
    case 0:
    case 1:
      return E;
    case 2:
      return std::min(E + 1 + below(bits * 3, 16), kInt32Max);
    case 3:
      return std::min(2 * E + below(bits * 3, 4096), kInt32Max);
    case 4:
      return kInt32Max;
    case 5:
      return kInt32Max - below(bits * 3, 5);
    case 6:
      return kInt32Max + 1 + below(bits * 3, 4);
    case 7:
      return (std::int64_t{1} << 32) + below(bits * 3, std::max<std::int64_t>(E, 1));
    default:
      return kInt64Max - below(bits * 3, 2);
  }
}

std::int64_t draw_id(Pattern pattern, std::uint64_t bits, std::int64_t E, std::int64_t favourite,
                     contract::AcceptedIds accepted, IdType type) {
  const std::uint64_t more = hash_at(bits, 1);
  const std::int64_t roll = below(bits, 100);
  if (E == 0) return roll < 60 ? sentinel(more, accepted, type) : invalid(more, E, accepted, type);
  const std::int64_t valid = below(more, E);
  switch (pattern) {
    case Pattern::valid:
      return valid;
    case Pattern::as_dispatched:
      return roll < 70 ? -1 : valid;
    case Pattern::mixed:
      return roll < 60   ? valid
             : roll < 85 ? sentinel(more, accepted, type)
                         : invalid(more, E, accepted, type);
    case Pattern::all_sentinel:
      return sentinel(more, accepted, type);
    case Pattern::one_expert:
      return favourite;
    case Pattern::last_expert:
      return roll < 60 ? E - 1 : roll < 85 ? -1 : valid;
    case Pattern::hot_experts:
      return roll < 70 ? favourite : roll < 90 ? valid : -1;
    case Pattern::hostile:
      return roll < 20   ? valid
             : roll < 60 ? sentinel(more, accepted, type)
                         : invalid(more, E, accepted, type);
  }
  return valid;
}

/// Makes the valid ids of a token distinct, as a router's are; what cannot be made distinct becomes -1.
void make_distinct(IdBatch& batch, std::int64_t E) {
  for (std::int64_t t = 0; t < batch.T; ++t)
    for (std::int64_t k = 0; k < batch.K; ++k) {
      std::int64_t& id = batch.ids[t * batch.K + k];
      const auto row = batch.ids.begin() + t * batch.K;
      for (std::int64_t tries = 0; id >= 0 && std::find(row, row + k, id) != row + k; ++tries)
        id = tries < E && id < E ? (id + 1) % E : -1;
    }
}

}  // namespace

std::int64_t IdBatch::real_rows() const {
  switch (num_tokens_kind) {
    case NumTokens::Kind::all:
      return T;
    case NumTokens::Kind::value:
      return num_tokens;
    case NumTokens::Kind::pointer:
      return std::clamp<std::int64_t>(num_tokens, 0, T);
  }
  return T;
}

IdStorage::IdStorage(const IdBatch& batch) : kind_(batch.num_tokens_kind), num_tokens_(batch.num_tokens) {
  const std::int64_t length = 1 + (batch.T > 0 ? (batch.T - 1) * batch.row_stride + batch.K : 0);
  const auto fill = [&](auto& array) {
    array.assign(length, 0);  // a valid id wherever nobody should look
    for (std::int64_t t = 0; t < batch.T; ++t)
      for (std::int64_t k = 0; k < batch.K; ++k)
        array[1 + t * batch.row_stride + k] =
            static_cast<typename std::decay_t<decltype(array)>::value_type>(batch.ids[t * batch.K + k]);
  };
  if (batch.type == IdType::int32) {
    fill(ids32_);
    matrix_.data = ids32_.data() + 1;
  } else {
    fill(ids64_);
    matrix_.data = ids64_.data() + 1;
  }
  matrix_.type = batch.type;
  matrix_.rows = batch.T;
  matrix_.cols = batch.K;
  matrix_.row_stride = batch.row_stride;
}

NumTokens IdStorage::num_tokens() const {
  if (kind_ == NumTokens::Kind::value) return NumTokens::of(num_tokens_);
  if (kind_ == NumTokens::Kind::pointer) return NumTokens::at(&num_tokens_);
  return {};
}

std::int32_t draw_experts(Draw& draw, std::int32_t most) {
  static const std::vector<std::int32_t> kCounts = {1,  2,  3,  4,  5,   7,   8,   13,  16,  31,  32,
                                                    60, 61, 64, 97, 127, 128, 160, 256, 257, 384, 512};
  std::int32_t count =
      draw.percent(70) ? draw.one_of(kCounts) : static_cast<std::int32_t>(draw.log_uniform(1, 512));
  while (count > most) count = (count + 1) / 2;
  return std::max(count, std::int32_t{1});
}

std::int32_t draw_adapters(Draw& draw) {
  if (draw.percent(4)) return 0;
  if (draw.percent(10)) return 32;
  return static_cast<std::int32_t>(draw.log_uniform(1, 32));
}

std::int32_t draw_block_size(Draw& draw, std::int64_t n, std::int64_t V) {
  std::int64_t B =
      draw.percent(50) ? draw.one_of<std::int64_t>({1, 8, 16, 32, 64, 128, 256}) : draw.in(1, 256);
  while (B > 1 && align_capacity(n, V, B, Sentinels::keep) > kMostCapacity) B = (B + 1) / 2;
  return static_cast<std::int32_t>(B);
}

IdBatch draw_ids(Draw& draw, int size, std::int64_t E, contract::AcceptedIds accepted,
                 std::int64_t most_slots) {
  IdBatch batch;
  const double reach = std::log(static_cast<double>(most_slots)) * (0.3 + 0.007 * size);
  const auto most = static_cast<std::int64_t>(std::exp(reach));
  const std::int64_t n =
      draw.percent(2) ? 0 : draw.log_uniform(1, std::clamp<std::int64_t>(most, 1, most_slots));
  batch.K = draw.percent(40) ? 1 : draw.one_of<std::int64_t>({2, 3, 4, 6, 8, 10, 22});
  batch.T = n == 0 ? 0 : std::max<std::int64_t>(n / batch.K, 1);
  batch.type = draw.percent(30) ? IdType::int64 : IdType::int32;
  batch.row_stride = batch.K + (draw.percent(25) ? draw.in(1, 7) : 0);
  const auto pattern = static_cast<Pattern>(draw.in(0, static_cast<int>(Pattern::hostile)));
  const std::int64_t favourite = E > 0 ? draw.in(0, E - 1) : 0;
  const std::uint64_t seed = draw.bits();
  batch.ids.resize(batch.n());
  for (std::int64_t s = 0; s < batch.n(); ++s)
    batch.ids[s] = draw_id(pattern, hash_at(seed, s), E, favourite, accepted, batch.type);
  if (accepted == contract::AcceptedIds::distinct_in_token || draw.percent(30)) make_distinct(batch, E);
  if (draw.percent(30)) {
    const bool by_pointer = draw.percent(60);
    batch.num_tokens_kind = by_pointer ? NumTokens::Kind::pointer : NumTokens::Kind::value;
    batch.num_tokens = static_cast<std::int32_t>(draw.in(0, batch.T));
    if (by_pointer && draw.percent(25))
      batch.num_tokens =
          static_cast<std::int32_t>(draw.one_of<std::int64_t>({-1, kInt32Min, batch.T + 1, kInt32Max}));
  }
  return batch;
}

std::vector<std::int32_t> draw_mapping(Draw& draw, std::int64_t T, std::int32_t L) {
  std::vector<std::int32_t> mapping(T);
  const int pattern = static_cast<int>(draw.in(0, 4));
  const auto favourite = static_cast<std::int32_t>(L > 0 ? draw.in(0, L - 1) : 0);
  const std::uint64_t seed = draw.bits();
  for (std::int64_t t = 0; t < T; ++t) {
    const std::uint64_t bits = hash_at(seed, t);
    const std::int64_t roll = below(bits, 100);
    const auto valid = static_cast<std::int32_t>(below(hash_at(bits, 1), std::max(L, 1)));
    if (L == 0 || pattern == 0) {
      mapping[t] = roll < 80 || L == 0 ? -1 : valid;
    } else if (pattern == 1) {
      mapping[t] = favourite;
    } else if (pattern == 2) {
      mapping[t] = roll < 25 ? -1 : valid;
    } else if (pattern == 3) {
      mapping[t] = valid;
    } else {
      mapping[t] = roll < 40   ? valid
                   : roll < 55 ? -1
                   : roll < 62 ? -2
                   : roll < 68 ? std::numeric_limits<std::int32_t>::min()
                   : roll < 82 ? L
                   : roll < 92 ? L + 1 + static_cast<std::int32_t>(below(bits * 3, 100))
                               : std::numeric_limits<std::int32_t>::max();
    }
  }
  return mapping;
}

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
  for (std::int64_t length = (T + 1) / 2; length >= 1 && ranges.size() < 48;
       length = length > 1 ? (length + 1) / 2 : 0)
    for (std::int64_t begin = 0; begin < T && ranges.size() < 64; begin += length)
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
    for (const std::int32_t l : {simpler(mapping[t]), mapping[t] / 2, mapping[t] - 1})
      if (l != mapping[t] && (mapping[t] > 0 || l == simpler(mapping[t])))
        result.push_back([mapping, t, l] {
          std::vector<std::int32_t> copy = mapping;
          copy[t] = l;
          return copy;
        });
  }
  return result;
}

std::vector<std::int64_t> towards(std::int64_t low, std::int64_t value) {
  std::vector<std::int64_t> result;
  for (const std::int64_t candidate : {low, low + 1, low + (value - low) / 2, value - 1})
    if (candidate >= low && candidate < value &&
        std::find(result.begin(), result.end(), candidate) == result.end())
      result.push_back(candidate);
  return result;
}

void add_labels(const IdBatch& batch, std::int64_t E, Labels& labels) {
  bool negative = false, other_negative = false, too_big = false, wide = false, valid = false;
  for (const std::int64_t id : batch.ids) {
    negative |= id == -1;
    other_negative |= id < -1;
    too_big |= id >= E;
    wide |= id < kInt32Min || id > kInt32Max;
    valid |= 0 <= id && id < E;
  }
  const std::int64_t n = batch.n();
  labels.emplace_back(n == 0     ? "slots 0"
                      : n < 64   ? "slots 1..63"
                      : n < 1024 ? "slots 64..1023"
                                 : "slots 1024..20000");
  if (negative) labels.emplace_back("ids: -1");
  if (other_negative) labels.emplace_back("ids: below -1");
  if (too_big) labels.emplace_back("ids: >= E");
  if (wide) labels.emplace_back("ids: outside int32");
  if (n > 0 && !valid) labels.emplace_back("ids: none valid");
  if (valid && !negative && !other_negative && !too_big) labels.emplace_back("ids: all valid");
  if (batch.type == IdType::int64) labels.emplace_back("int64");
  if (batch.row_stride != batch.K) labels.emplace_back("row stride > K");
  if (batch.num_tokens_kind == NumTokens::Kind::value) labels.emplace_back("padded by value");
  if (batch.num_tokens_kind == NumTokens::Kind::pointer)
    labels.emplace_back(batch.num_tokens == batch.real_rows() ? "padded by pointer"
                                                              : "padded by pointer outside [0,T]");
  labels.emplace_back(E == 1     ? "experts 1"
                      : E < 64   ? "experts < 64"
                      : E < 1024 ? "experts 64..1023"
                                 : "experts >= 1024");
}

void add_mapping_labels(const std::vector<std::int32_t>& mapping, std::int32_t L, Labels& labels) {
  const auto any = [&](auto test) { return std::any_of(mapping.begin(), mapping.end(), test); };
  labels.emplace_back(L == 0   ? "adapters 0"
                      : L == 1 ? "adapters 1"
                      : L < 8  ? "adapters 2..7"
                               : "adapters 8..32");
  if (any([](std::int32_t l) { return l < 0; })) labels.emplace_back("tokens without adapter");
  if (any([L](std::int32_t l) { return l >= L; })) labels.emplace_back("adapter index >= L");
}

template <class Int>
std::string show_list(const std::vector<Int>& values, std::size_t most) {
  std::string text = "[";
  for (std::size_t i = 0; i < std::min(values.size(), most); ++i)
    text += (i > 0 ? " " : "") + std::to_string(values[i]);
  if (values.size() > most) text += " ... " + std::to_string(values.size()) + " in all";
  return text + "]";
}
template std::string show_list(const std::vector<std::int32_t>&, std::size_t);
template std::string show_list(const std::vector<std::int64_t>&, std::size_t);

std::string show_ids(const IdBatch& batch) {
  std::string text =
      "T=" + std::to_string(batch.T) + " K=" + std::to_string(batch.K) + " ids=" + show_list(batch.ids);
  if (batch.type == IdType::int64) text += " int64";
  if (batch.row_stride != batch.K) text += " row_stride=" + std::to_string(batch.row_stride);
  if (batch.num_tokens_kind != NumTokens::Kind::all)
    text += std::string(batch.num_tokens_kind == NumTokens::Kind::value ? " num_tokens=" : " num_tokens->") +
            std::to_string(batch.num_tokens);
  return text;
}

nlohmann::json batch_json(const IdBatch& batch) {
  static const char* const kKinds[] = {"all", "value", "pointer"};
  return {{"type", to_string(batch.type)},
          {"T", batch.T},
          {"K", batch.K},
          {"row_stride", batch.row_stride},
          {"ids", batch.ids},
          {"num_tokens_kind", kKinds[static_cast<int>(batch.num_tokens_kind)]},
          {"num_tokens", batch.num_tokens}};
}

IdBatch batch_from_json(const nlohmann::json& json) {
  IdBatch batch;
  const std::string type = json.at("type"), kind = json.at("num_tokens_kind");
  if (type != "int32" && type != "int64") reject("batch type", type, "int32 or int64");
  if (kind != "all" && kind != "value" && kind != "pointer")
    reject("num_tokens_kind", kind, "all, value or pointer");
  batch.type = type == "int64" ? IdType::int64 : IdType::int32;
  batch.T = json.at("T");
  batch.K = json.at("K");
  batch.row_stride = json.at("row_stride");
  batch.ids = json.at("ids").get<std::vector<std::int64_t>>();
  batch.num_tokens_kind = kind == "all"     ? NumTokens::Kind::all
                          : kind == "value" ? NumTokens::Kind::value
                                            : NumTokens::Kind::pointer;
  batch.num_tokens = json.at("num_tokens");
  require_in_range("batch T", batch.T, 0, kMaxIndex);
  require_in_range("batch K", batch.K, 1, kMaxIndex);
  require_in_range("batch row_stride", batch.row_stride, batch.K, kMaxIndex);
  if (static_cast<std::int64_t>(batch.ids.size()) != saturating_product(batch.T, batch.K))
    reject("batch ids", std::to_string(batch.ids.size()) + " values", "T*K values");
  if (batch.type == IdType::int32)
    for (const std::int64_t id : batch.ids) require_in_range("batch id", id, kInt32Min, kInt32Max);
  if (batch.num_tokens_kind == NumTokens::Kind::value)
    require_in_range("num_tokens", batch.num_tokens, 0, batch.T);
  return batch;
}

}  // namespace eplora::suite
