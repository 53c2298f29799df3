// SPDX-License-Identifier: Apache-2.0
// What the tests of the judges ask of a verdict, and the random integers they draw.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "reference/contract/verdict.h"

namespace eplora::contract {

/// `verdict` is a violation of `property` at `place`, and its one sentence names what was expected and what
/// was found.
inline void expect_violation(const Verdict& verdict, const std::string& property, std::int64_t place,
                             const std::string& expected, const std::string& found,
                             const std::string& also = "") {
  ASSERT_TRUE(verdict.has_value()) << "accepted, though " << property << " is broken at " << place;
  EXPECT_EQ(verdict->property, property) << verdict->sentence;
  EXPECT_EQ(verdict->place, place) << verdict->sentence;
  EXPECT_NE(verdict->expected.find(expected), std::string::npos) << verdict->sentence;
  EXPECT_NE(verdict->found.find(found), std::string::npos) << verdict->sentence;
  EXPECT_NE(verdict->sentence.find("expected " + verdict->expected), std::string::npos) << verdict->sentence;
  EXPECT_NE(verdict->sentence.find("found " + verdict->found), std::string::npos) << verdict->sentence;
  EXPECT_NE(verdict->sentence.find(also), std::string::npos) << verdict->sentence;
}

inline void expect_accepted(const Verdict& verdict) {
  EXPECT_FALSE(verdict.has_value()) << verdict->sentence;
}

/// Reproducible on every platform: no distribution of the standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  /// Uniform in `[low, high]`, up to the bias of a remainder.
  std::int64_t in(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::int64_t n) { return in(1, n) == 1; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace eplora::contract
