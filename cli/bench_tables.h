// SPDX-License-Identifier: Apache-2.0
// A result file as tables: the long one with a row for every backend, and the README's, with a row for every
// shape and what was aimed at. Either as text, Markdown or CSV.
#pragma once

#include <string>
#include <vector>

#include "benchmarks/record.h"

namespace eplora {

/// Cells of a table, and how to write them.
struct Grid {
  struct Column {
    std::string header;
    bool is_number = true;
  };
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;

  std::string text(bool color) const;
  std::string markdown() const;
  std::string csv() const;
};

/// The backend that others are compared with: cuda-unfused on a GPU, reference on a host.
std::string baseline_of(const bench::Record& record);

/// Every timing of the suite: median, spread, launches, bytes, rate, ratios.
Grid all_timings(const bench::Record& record, bench::Suite suite);

/// A row a shape. Route: the goals' shapes with goal, engines today and the worst skew; slice: the rate of a
/// copy.
Grid summary(const bench::Record& record, bench::Suite suite);

/// One row for every model and batch: a column a backend. Empty if no model was timed.
Grid model_summary(const bench::Record& record);

/// "NVIDIA H100 80GB HBM3, driver 580.159.04, CUDA 13.0, 2026-11-24, commit 0123abc. Floors: ..."
std::string provenance(const bench::Record& record);

/// "1.93", "15.8", "484".
std::string microseconds_text(double microseconds);

}  // namespace eplora
