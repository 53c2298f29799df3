// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/statistics.h"

#include <algorithm>
#include <cmath>

namespace eplora::bench {

double percentile(std::vector<double> samples, double p) {
  std::ranges::sort(samples);
  const double place = p * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, samples.size() - 1);
  return samples[below] + (place - static_cast<double>(below)) * (samples[above] - samples[below]);
}

Interval median_interval(std::vector<double> samples) {
  std::ranges::sort(samples);
  const auto n = static_cast<double>(samples.size());
  const double half_width = 0.98 * std::sqrt(n);
  const double low = std::floor(n / 2 - half_width), high = std::ceil(n / 2 + half_width);
  return {samples[static_cast<std::size_t>(std::max(low, 0.0))],
          samples[static_cast<std::size_t>(std::min(high, n - 1))]};
}

std::string_view to_string(Change change) {
  return change == Change::same ? "SAME" : change == Change::faster ? "FASTER" : "SLOWER";
}

Change change_between(const std::vector<double>& old_samples, const std::vector<double>& new_samples,
                      double threshold) {
  const double before = median(old_samples), after = median(new_samples);
  const Interval old_interval = median_interval(old_samples), new_interval = median_interval(new_samples);
  if (std::abs(after - before) <= threshold * before) return Change::same;
  if (new_interval.high < old_interval.low) return Change::faster;
  if (new_interval.low > old_interval.high) return Change::slower;
  return Change::same;
}

}  // namespace eplora::bench
