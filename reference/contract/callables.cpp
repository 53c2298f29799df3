// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/callables.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "reference/check.h"
#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

template <class T>
NamedBytes named(std::string name, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  return {std::move(name), {bytes.begin(), bytes.end()}, sizeof(T)};
}

/// A whole number where the element is one of 1, 2, 4 or 8 bytes.
std::string element_words(const NamedBytes& array, std::size_t element) {
  std::int64_t value = 0;
  const std::byte* const at = array.bytes.data() + element * array.element_size;
  switch (array.element_size) {
    case 1:
      value = std::to_integer<std::int64_t>(*at);
      break;
    case 2: {
      std::int16_t v;
      std::memcpy(&v, at, 2);
      value = v;
      break;
    }
    case 4: {
      std::int32_t v;
      std::memcpy(&v, at, 4);
      value = v;
      break;
    }
    case 8: {
      std::memcpy(&value, at, 8);
      break;
    }
    default:
      return "other bytes";
  }
  return std::to_string(value);
}

/// The first difference between two runs, each described in words.
Verdict differs(const char* property, const ResultBytes& a, const ResultBytes& b, const std::string& run_a,
                const std::string& run_b) {
  if (a.size() != b.size())
    return violation(property, -1, "number of arrays " + run_b + ", as " + run_a, std::to_string(a.size()),
                     std::to_string(b.size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].name != b[i].name)
      return violation(property, -1, "array " + std::to_string(i) + " " + run_b + ", as " + run_a, a[i].name,
                       b[i].name);
    if (a[i].bytes.size() != b[i].bytes.size())
      return violation(property, -1, "bytes of " + a[i].name + " " + run_b + ", as " + run_a,
                       std::to_string(a[i].bytes.size()), std::to_string(b[i].bytes.size()));
    const auto [left, right] = std::mismatch(a[i].bytes.begin(), a[i].bytes.end(), b[i].bytes.begin());
    if (left == a[i].bytes.end()) continue;
    const std::size_t size = std::max<std::size_t>(a[i].element_size, 1);
    const std::size_t element = static_cast<std::size_t>(left - a[i].bytes.begin()) / size;
    const bool whole = (element + 1) * size <= a[i].bytes.size();
    return violation(
        property, static_cast<std::int64_t>(element),
        "element " + std::to_string(element) + " of " + a[i].name + " " + run_b + ", as " + run_a,
        whole ? element_words(a[i], element) : "equal bytes",
        whole ? element_words(b[i], element) : "other bytes");
  }
  return std::nullopt;
}

std::string hex_words(std::uint8_t value) {
  const char* const digits = "0123456789ABCDEF";
  return {'0', 'x', digits[value >> 4], digits[value & 15]};
}

}  // namespace

ResultBytes result_bytes(const DispatchResult& result) {
  return {named<std::int32_t>("local_ids", result.local_ids)};
}

ResultBytes result_bytes(const RemapResult& result) {
  return {named<std::int32_t>("virtual_ids", result.virtual_ids),
          named<std::uint8_t>("token_lora_mask", result.token_lora_mask)};
}

ResultBytes result_bytes(const AlignResult& result, std::int64_t block_size, const Form& form) {
  const std::int64_t B = std::max<std::int64_t>(block_size, 1);
  std::vector<std::int32_t> slots = result.sorted_token_ids, labels = result.expert_ids;
  const auto length = [](const std::vector<std::int32_t>& array) {
    return static_cast<std::int64_t>(array.size());
  };
  const std::int64_t used =
      std::clamp<std::int64_t>(result.num_tokens_post_padded, 0, std::min(length(slots), length(labels) * B));
  if (form.order == Order::nondeterministic)
    for (std::int64_t begin = 0, end = 0; begin < used; begin = end) {
      for (end = begin; end < used && labels[end / B] == labels[begin / B];) end = std::min(end + B, used);
      std::sort(slots.begin() + begin, slots.begin() + end);
    }
  if (form.tail == Tail::unwritten) {
    slots.resize(used);
    labels.resize((used + B - 1) / B);
  }
  return {named<std::int32_t>("sorted_token_ids", slots), named<std::int32_t>("expert_ids", labels),
          named<std::int32_t>("num_tokens_post_padded", {&result.num_tokens_post_padded, 1})};
}

ResultBytes result_bytes(const RouteResult& result, std::int64_t block_size, const Form& form) {
  ResultBytes bytes = result_bytes(result.blocks, block_size, form);
  bytes.push_back(named<std::uint8_t>("token_lora_mask", result.token_lora_mask));
  return bytes;
}

Verdict p13_unwritten_memory(const std::function<ResultBytes(std::uint8_t poison)>& run) {
  constexpr std::uint8_t kPoisons[2] = {0xA5, 0x5A};
  const ResultBytes first = run(kPoisons[0]), second = run(kPoisons[1]);
  return differs("P13", first, second, "over memory poisoned with " + hex_words(kPoisons[0]),
                 "over memory poisoned with " + hex_words(kPoisons[1]));
}

Verdict p14_determinism(const std::function<ResultBytes()>& run, int repeats) {
  require_in_range("repeats", repeats, 2, kMaxIndex);
  const ResultBytes first = run();
  for (int repeat = 2; repeat <= repeats; ++repeat)
    if (auto bad = differs("P14", first, run(), "in run 1", "in run " + std::to_string(repeat))) return bad;
  return std::nullopt;
}

Verdict p12_isolation(const std::function<reference::Matrix<double>(bool without_others)>& run,
                      std::span<const std::int64_t> unchanged_tokens,
                      const std::function<double(std::int64_t, std::int64_t)>& allowed_error) {
  const reference::Matrix<double> with = run(false), without = run(true);
  if (with.rows() != without.rows() || with.cols() != without.cols())
    return violation(
        "P12", -1, "shape of the output with the other adapters",
        "[" + std::to_string(without.rows()) + ", " + std::to_string(without.cols()) + "], as without them",
        "[" + std::to_string(with.rows()) + ", " + std::to_string(with.cols()) + "]");
  for (const std::int64_t token : unchanged_tokens) {
    if (token < 0 || token >= with.rows())
      return violation("P12", token, "rows of the output, for token " + std::to_string(token),
                       "at least " + std::to_string(token + 1), std::to_string(with.rows()));
    for (std::int64_t column = 0; column < with.cols(); ++column) {
      const double got = with(token, column), want = without(token, column);
      if (std::memcmp(&got, &want, sizeof(double)) == 0) continue;
      if (allowed_error && std::abs(got - want) <= allowed_error(token, column)) continue;
      return violation("P12", token,
                       "token " + std::to_string(token) + ", column " + std::to_string(column) +
                           " of the output with the other adapters loaded",
                       number_words(want) + ", as without them",
                       number_words(got) + (got == want ? " with other bits" : ""));
    }
  }
  return std::nullopt;
}

Verdict p17_one_size(int variations, const std::function<std::int64_t(int)>& reported,
                     const std::function<bool(int)>& wrote_past) {
  require_in_range("variations", variations, 2, kMaxIndex);
  const std::int64_t size = reported(0);
  for (int i = 0; i < variations; ++i) {
    const std::int64_t again = reported(i);
    const std::string variation = " with values " + std::to_string(i) + " in the same shapes";
    if (again < 0)
      return violation("P17", i, "size reported" + variation, "at least 0", std::to_string(again));
    if (again != size)
      return violation("P17", i, "size reported" + variation, std::to_string(size) + ", as with values 0",
                       std::to_string(again));
    if (wrote_past(i))
      return violation("P17", i, "writes behind the reported size " + std::to_string(size) + variation,
                       "none", "the red zone changed");
  }
  return std::nullopt;
}

}  // namespace eplora::contract
