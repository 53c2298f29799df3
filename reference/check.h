// SPDX-License-Identifier: Apache-2.0
// How every function of the project says no to bad input: a sentence that names the argument, its value and
// what is allowed (contract, section 8). Checks run before any memory is touched, so nothing is left
// half-written.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>

namespace eplora {

/// The one exception for bad input; `what()` is a sentence fit for a user. The command line maps it to exit
/// code 2.
struct InvalidArgument : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// Sizes that index int32 arrays (slots, buckets, capacity, E*L) must not exceed this (contract, section 1).
inline constexpr std::int64_t kMaxIndex = std::numeric_limits<std::int32_t>::max();

/// Throws `InvalidArgument`: "<argument> is <value>; <allowed>".
[[noreturn]] void reject(std::string_view argument, std::string_view value, std::string_view allowed);

/// Throws unless `low <= value <= high`; the sentence names all four.
void require_in_range(std::string_view argument, std::int64_t value, std::int64_t low, std::int64_t high);

/// Throws unless `pointer` is set or `count` is zero.
void require_pointer(std::string_view argument, const void* pointer, std::int64_t count);

/// Throws unless `value` (already computed in 64-bit) is at most 2^31-1; `factors` says what it was made of,
/// for instance "num_experts=512 * max_loras=8388608".
void require_index_range(std::string_view what, std::int64_t value, std::string_view factors);

/// a*b for non-negative a and b, saturating at 2^62 so that a later range check sees "too large" and never a
/// wrap.
std::int64_t saturating_product(std::int64_t a, std::int64_t b);

}  // namespace eplora
