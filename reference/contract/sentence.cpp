// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/sentence.h"

#include <charconv>

namespace eplora::contract {
namespace {

template <class Number>
std::string shortest(Number value) {
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  return error == std::errc{} ? std::string(text, end) : "?";
}

}  // namespace

Verdict violation(std::string property, std::int64_t place, const std::string& what, std::string expected,
                  std::string found) {
  std::string sentence = what + ": expected " + expected + ", found " + found;
  return Violation{std::move(property), std::move(sentence), place, std::move(expected), std::move(found)};
}

std::string slot_words(std::int64_t slot, std::int64_t K) {
  return "slot " + std::to_string(slot) + " (token " + std::to_string(slot / K) + ", k " +
         std::to_string(slot % K) + ")";
}

std::string count_words(std::int64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string number_words(float value) { return shortest(value); }
std::string number_words(double value) { return shortest(value); }

}  // namespace eplora::contract
