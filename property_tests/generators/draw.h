// SPDX-License-Identifier: Apache-2.0
// Random numbers for generators: a counter-based hash. Sizes and patterns are drawn one after another from a
// `Draw`; whole arrays are expanded from a 64-bit seed and an index, which costs nanoseconds an element and
// can be repeated from the seed alone, in any order.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

namespace eplora::suite {

/// 64 well-mixed bits for element `index` of the array called `seed` (the finaliser of SplitMix64, twice).
constexpr std::uint64_t hash_at(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t x = seed ^ (index * 0x9E3779B97F4A7C15ULL + 0xD1B54A32D192ED03ULL);
  for (int round = 0; round < 2; ++round) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    x ^= x >> 31;
  }
  return x;
}

/// `bits` mapped to [0, count), count >= 1.
constexpr std::int64_t below(std::uint64_t bits, std::int64_t count) {
  return static_cast<std::int64_t>(
      (static_cast<unsigned __int128>(bits) * static_cast<std::uint64_t>(count)) >> 64);
}

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : seed_(seed) {}

  std::uint64_t seed() const { return seed_; }
  std::uint64_t bits() { return hash_at(seed_, counter_++); }
  /// Uniform in [low, high].
  std::int64_t in(std::int64_t low, std::int64_t high) { return low + below(bits(), high - low + 1); }
  /// Uniform in the logarithm: as many values in [1, 10] as in [10, 100]; 0 <= low <= high.
  std::int64_t log_uniform(std::int64_t low, std::int64_t high) {
    const double u = static_cast<double>(bits() >> 11) * 0x1p-53;
    const double a = std::log(static_cast<double>(low) + 1), b = std::log(static_cast<double>(high) + 2);
    const auto value = static_cast<std::int64_t>(std::exp(a + u * (b - a))) - 1;
    return value < low ? low : (value > high ? high : value);
  }
  bool percent(int p) { return in(0, 99) < p; }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[in(0, static_cast<std::int64_t>(values.size()) - 1)];
  }
  template <class T>
  const T& one_of(const std::vector<T>& values) {
    return values[in(0, static_cast<std::int64_t>(values.size()) - 1)];
  }
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::int64_t i = static_cast<std::int64_t>(values.size()) - 1; i > 0; --i)
      std::swap(values[i], values[in(0, i)]);
  }

 private:
  std::uint64_t seed_;
  std::uint64_t counter_ = 0;
};

}  // namespace eplora::suite
