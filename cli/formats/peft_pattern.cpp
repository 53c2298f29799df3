// SPDX-License-Identifier: Apache-2.0
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored \
    "-Wmaybe-uninitialized"  // false inside <regex> of GCC 12 when built with sanitizers
#endif
#include "cli/formats/peft_pattern.h"

#include <algorithm>
#include <cctype>

#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

constexpr std::size_t kMaxKey = 512;

bool is_plain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
}

/// The first construct that Python and ECMAScript do not share, or an empty view.
std::string_view foreign_construct(std::string_view key) {
  bool in_class = false, after_repeat = false, lazy = false;
  for (std::size_t i = 0; i < key.size(); ++i) {
    const char c = key[i], next = i + 1 < key.size() ? key[i + 1] : '\0';
    const bool repeats = !in_class && (c == '*' || c == '+' || c == '{' || c == '?');
    if (repeats && after_repeat && (c != '?' || lazy)) return key.substr(i - 1, 2);
    lazy = repeats && after_repeat;
    after_repeat = repeats;
    if (static_cast<unsigned char>(c) >= 0x80 || c == '\0') return key.substr(i, 1);
    if (c == '\\') {
      if (std::isalnum(static_cast<unsigned char>(next)) != 0 &&
          std::string_view(in_class ? "dDwWsS" : "dDwWsSbB").find(next) == std::string_view::npos)
        return key.substr(i, 2);
      ++i;
    } else if (in_class) {
      if (c == '[') return key.substr(i, 2);
      if (c == ']') in_class = false;
    } else if (c == '[') {
      in_class = true;
      const std::size_t first = next == '^' ? i + 2 : i + 1;
      if (first < key.size() && key[first] == ']') return key.substr(i, 3);
      i = first - 1;
    } else if (c == '(' && next == '?') {
      const char kind = i + 2 < key.size() ? key[i + 2] : '\0';
      if (kind != ':' && kind != '=' && kind != '!') return key.substr(i, 3);
      i += 2;
    } else if (c == '{') {
      i = std::min(key.find('}', i), key.size() - 1);  // the next character may only be '?'
    }
  }
  return {};
}

}  // namespace

PeftPattern::PeftPattern(std::string key, const std::string& subject) : key_(std::move(key)) {
  if (std::all_of(key_.begin(), key_.end(), is_plain)) return;
  if (key_.size() > kMaxKey)
    reject(subject, in_quotes(key_),
           "an expression may have at most " + std::to_string(kMaxKey) + " characters");
  if (const std::string_view foreign = foreign_construct(key_); !foreign.empty())
    reject(subject, in_quotes(key_),
           "the construct " + in_quotes(foreign) + " is not supported in a pattern");
  auto flags = std::regex::ECMAScript;
#ifdef __GLIBCXX__
  flags |= std::regex_constants::__polynomial;  // no exponential search, whatever the file holds
#endif
  try {
    expression_.emplace("(.*\\.)?(" + key_ + ")", flags);
  } catch (const std::regex_error&) {
    reject(subject, in_quotes(key_), "it must be a regular expression");
  }
}

bool PeftPattern::matches(std::string_view name) const {
  if (expression_) return std::regex_match(name.begin(), name.end(), *expression_);
  if (name.size() < key_.size()) return false;
  const std::string_view end = name.substr(name.size() - key_.size());
  if (end.size() < name.size() && name[name.size() - end.size() - 1] != '.') return false;
  return std::equal(end.begin(), end.end(), key_.begin(), [](char c, char k) { return k == '.' || c == k; });
}

}  // namespace eplora
