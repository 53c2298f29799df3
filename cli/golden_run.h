// SPDX-License-Identifier: Apache-2.0
// A golden fixture under one layout after another: errors of the recombined sharded layer against what was
// recorded, the bounds of the contract's section 7, and the backends on that layout's ranks. What
// compare_golden.cpp prints.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/backend_equality.h"
#include "cli/compare.h"
#include "cli/formats/golden_fixture.h"
#include "reference/lora/moe_layer.h"

namespace eplora {

// Contract, section 7.
inline constexpr double kFloatBound = 1e-6, kDoubleBound = 3.5e-7, kMaximumBound = 2e-6,
                        kShardedBound = 1e-13;

struct CaseError {
  std::string name;
  OutputError in_float, in_double;
  double sharded_to_whole = 0;  ///< Frobenius, double

  /// Written so that a NaN is never within a bound.
  bool within() const {
    return in_float.frobenius <= kFloatBound && in_double.frobenius <= kDoubleBound &&
           in_float.maximum <= kMaximumBound && in_double.maximum <= kMaximumBound &&
           sharded_to_whole <= kShardedBound;
  }
};

struct GoldenRow {
  const NamedLayout* layout = nullptr;
  std::vector<CaseError> cases;
  std::vector<BackendVerdict> backends;

  bool within() const {
    return std::all_of(cases.begin(), cases.end(), [](const CaseError& c) { return c.within(); });
  }
  bool agrees() const {
    return within() &&
           std::all_of(backends.begin(), backends.end(), [](const BackendVerdict& b) { return b.agrees(); });
  }
  double sharded_to_whole() const {
    double worst = 0;
    for (const CaseError& one : cases) worst = one.sharded_to_whole <= worst ? worst : one.sharded_to_whole;
    return worst;
  }
};

/// The largest of each error over rows; NaN wins.
struct Worst {
  double in_float = 0, in_double = 0, maximum = 0, sharded = 0;
  std::int64_t rows = 0, uneven = 0, outside = 0, different = 0;

  static void raise(double& worst, double value) { worst = value <= worst ? worst : value; }
  void add(const GoldenRow& row) {
    ++rows;
    uneven += row.layout->uneven ? 1 : 0;
    outside += row.within() ? 0 : 1;
    for (const BackendVerdict& backend : row.backends) different += backend.agrees() ? 0 : 1;
    for (const CaseError& one : row.cases) {
      raise(in_float, one.in_float.frobenius);
      raise(in_double, one.in_double.frobenius);
      raise(maximum, one.in_float.maximum);
      raise(maximum, one.in_double.maximum);
      raise(sharded, one.sharded_to_whole);
    }
  }
  void add(const Worst& other) {
    raise(in_float, other.in_float);
    raise(in_double, other.in_double);
    raise(maximum, other.maximum);
    raise(sharded, other.sharded);
    rows += other.rows;
    uneven += other.uneven;
    outside += other.outside;
    different += other.different;
  }
  bool agreed() const { return outside == 0 && different == 0; }
};

/// A fixture with what does not depend on the layout: recorded outputs and the whole layer's. Keeps a
/// reference to it.
class FixtureRun {
 public:
  explicit FixtureRun(const GoldenFixture& fixture);
  /// Errors of the unsharded layer.
  const std::vector<CaseError>& whole() const { return whole_errors_; }
  GoldenRow row(const NamedLayout& named, const Backends& backends) const;

 private:
  const GoldenFixture& fixture_;
  EqualityData data_;
  std::vector<reference::Matrix<double>> recorded_, whole_;
  std::vector<CaseError> whole_errors_;
};

}  // namespace eplora
