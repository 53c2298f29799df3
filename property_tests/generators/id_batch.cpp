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
