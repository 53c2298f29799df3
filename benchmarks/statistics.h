// SPDX-License-Identifier: Apache-2.0
// What is said about samples of a time: the median, how they spread, and whether two sets of samples differ
// by more than their noise. Ranks only; nothing is assumed about the distribution.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace eplora::bench {

/// The value below which a share `p` of the samples lies, linear between neighbours. `samples` not empty.
double percentile(std::vector<double> samples, double p);
inline double median(const std::vector<double>& samples) { return percentile(samples, 0.5); }

struct Interval {
  double low = 0, high = 0;
};

/// Contains the true median with a confidence of at least 95%: the order statistics at n/2 -+ 0.98 sqrt(n)
/// (the binomial's normal approximation), rounded outwards; all samples where there are few.
Interval median_interval(std::vector<double> samples);

enum class Change : std::uint8_t { same, faster, slower };
std::string_view to_string(Change change);  ///< "SAME", "FASTER", "SLOWER"

/// FASTER or SLOWER only if the medians differ by more than `threshold` of the old one and their intervals do
/// not touch.
Change change_between(const std::vector<double>& old_samples, const std::vector<double>& new_samples,
                      double threshold);
inline constexpr double kSmallestChange = 0.02;

}  // namespace eplora::bench
