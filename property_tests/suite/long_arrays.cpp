// SPDX-License-Identifier: Apache-2.0
#include "property_tests/suite/long_arrays.h"

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "reference/check.h"

namespace eplora::suite {
namespace {

using nlohmann::json;
using Values = std::vector<std::int64_t>;

constexpr std::size_t kRun = 8;  // values that make a piece worth its two numbers

std::uint64_t mixed(std::uint64_t hash, std::int64_t value) {
  for (int byte = 0; byte < 8; ++byte)
    hash = (hash ^ ((static_cast<std::uint64_t>(value) >> (8 * byte)) & 0xFF)) * 0x100000001B3ULL;
  return hash;
}

/// FNV-1a over the values as 64-bit little-endian integers.
std::string hash_of(const Values& values) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const std::int64_t value : values) hash = mixed(hash, value);
  return fmt::format("{:016x}", hash);
}

std::uint64_t run_hash(const Values& values, std::size_t at) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (std::size_t i = at; i < at + kRun; ++i) hash = mixed(hash, values[i]);
  return hash;
}

bool is_long(const json& array) {
  if (!array.is_array() || array.size() <= kLongArray) return false;
  for (const json& value : array)
    if (!value.is_number_integer()) return false;
  return true;
}

/// Greedy: go on where the last piece ended, stand in place, or find the next eight values anywhere.
json parts_of(const Values& wanted, const Values& generated) {
  std::unordered_map<std::uint64_t, std::size_t> places;
  for (std::size_t i = 0; i + kRun <= generated.size(); ++i) places.try_emplace(run_hash(generated, i), i);
  const auto fits = [&](std::size_t from, std::size_t at) {
    std::size_t count = 0;
    while (at + count < wanted.size() && from + count < generated.size() &&
           wanted[at + count] == generated[from + count])
      ++count;
    return count;
  };
  json parts = json::array(), loose = json::array();
  const auto flush = [&] {
    if (!loose.empty()) parts.push_back({{"values", loose}});
    loose = json::array();
  };
  std::int64_t shift = 0;  // of the last piece
  for (std::size_t at = 0; at < wanted.size();) {
    std::size_t best = 0, best_from = 0;
    const auto consider = [&](std::int64_t from) {
      if (from < 0 || from >= static_cast<std::int64_t>(generated.size())) return;
      if (const std::size_t count = fits(static_cast<std::size_t>(from), at); count > best)
        best = count, best_from = static_cast<std::size_t>(from);
    };
    consider(static_cast<std::int64_t>(at) + shift);
    consider(static_cast<std::int64_t>(at));
    if (best < kRun && at + kRun <= wanted.size())
      if (const auto place = places.find(run_hash(wanted, at)); place != places.end())
        consider(static_cast<std::int64_t>(place->second));
    if (best < kRun) {
      loose.push_back(wanted[at++]);
      continue;
    }
    flush();
    parts.push_back({best_from, best});
    shift = static_cast<std::int64_t>(best_from) - static_cast<std::int64_t>(at);
    at += best;
  }
  flush();
  return parts;
}

Values joined(const json& told, const Values& generated) {
  Values values;
  const auto length = told.at("length").get<std::size_t>();
  for (const json& part : told.at("parts")) {
    if (part.is_object()) {
      const auto more = part.at("values").get<Values>();
      values.insert(values.end(), more.begin(), more.end());
    } else {
      const auto from = part.at(0).get<std::size_t>(), count = part.at(1).get<std::size_t>();
      if (from > generated.size() || count > generated.size() - from)
        reject("part of an array", part.dump(),
               "a piece of the " + std::to_string(generated.size()) + " generated values");
      values.insert(values.end(), generated.begin() + static_cast<std::ptrdiff_t>(from),
                    generated.begin() + static_cast<std::ptrdiff_t>(from + count));
    }
    if (values.size() > length) break;
  }
  if (values.size() != length)
    reject("parts of an array", std::to_string(values.size()) + " values",
           "its length, " + std::to_string(length));
  if (hash_of(values) != told.at("hash").get<std::string>())
    reject("array", "hash " + hash_of(values),
           "the file's, " + told.at("hash").get<std::string>() +
               "; this build's generator is not the one that drew this case, or the file was edited");
  return values;
}

bool is_told(const json& value) {
  return value.is_object() && value.contains("parts") && value.contains("hash");
}

}  // namespace

json shortened(const json& full, const json& generated) {
  if (full.is_object()) {
    json result = json::object();
    for (const auto& [key, value] : full.items())
      result[key] =
          shortened(value, generated.is_object() && generated.contains(key) ? generated[key] : json());
    return result;
  }
  if (!is_long(full) || !generated.is_array()) return full;
  for (const json& value : generated)
    if (!value.is_number_integer()) return full;
  const auto values = full.get<Values>();
  const json parts = parts_of(values, generated.get<Values>());
  std::size_t said = 0;
  for (const json& part : parts) said += part.is_object() ? part["values"].size() : 2;
  if (said * 2 > values.size()) return full;
  return {{"length", values.size()}, {"hash", hash_of(values)}, {"parts", parts}};
}

bool is_shortened(const json& value) {
  if (is_told(value)) return true;
  if (value.is_object())
    for (const auto& [key, field] : value.items())
      if (is_shortened(field)) return true;
  return false;
}

json written_out(const json& value, const json& generated) {
  if (is_told(value)) {
    if (!generated.is_array()) reject("array", "told by parts", "an array that the generator draws too");
    return joined(value, generated.get<Values>());
  }
  if (!value.is_object()) return value;
  json result = json::object();
  for (const auto& [key, field] : value.items())
    result[key] =
        written_out(field, generated.is_object() && generated.contains(key) ? generated[key] : json());
  return result;
}

}  // namespace eplora::suite
