// SPDX-License-Identifier: Apache-2.0
#include "reference/check.h"

namespace eplora {

void reject(std::string_view argument, std::string_view value, std::string_view allowed) {
  std::string sentence(argument);
  sentence.append(" is ").append(value).append("; ").append(allowed);
  throw InvalidArgument(sentence);
}

void require_in_range(std::string_view argument, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (low <= value && value <= high) return;
  reject(argument, std::to_string(value),
         "it must be in [" + std::to_string(low) + ", " + std::to_string(high) + "]");
}

void require_pointer(std::string_view argument, const void* pointer, std::int64_t count) {
  if (pointer != nullptr || count == 0) return;
  reject(argument, "null", "it must point to " + std::to_string(count) + " elements");
}

void require_index_range(std::string_view what, std::int64_t value, std::string_view factors) {
  if (value <= kMaxIndex) return;
  std::string argument(what);
  argument.append(" (").append(factors).append(")");
  reject(argument, std::to_string(value), "it must be at most 2147483647 (2^31-1)");
}

std::int64_t saturating_product(std::int64_t a, std::int64_t b) {
  constexpr std::int64_t kCeiling = std::int64_t{1} << 62;
  if (a == 0 || b == 0) return 0;
  return a > kCeiling / b ? kCeiling : a * b;
}

}  // namespace eplora
