// SPDX-License-Identifier: Apache-2.0
// Timings recorded on other machines, mostly GPUs, so that a machine without one can show them, labelled with
// device and date. A file of benchmarks/results is read when it is a result file of `eplora bench` made on a
// GPU (benchmarks/record.h), or says
//   {"schema": "eplora.results/1", "device": "NVIDIA H100 80GB HBM3", "date": "2026-11-30", "commit": "...",
//    "results": [{"backend": "cuda", "operation": "route", "model": "Qwen3-30B-A3B", "layout": "tp=4,ep=4",
//                 "tokens": 64, "adapters": 8, "block_size": 64, "median_us": 4.2}, ...]}
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace eplora {

/// What was timed; two timings compare only if this is equal.
struct TimedProblem {
  std::string operation, model, layout;
  std::int64_t tokens = 0, adapters = 0, block_size = 0;
  bool operator==(const TimedProblem&) const = default;
};

struct RecordedColumn {
  std::string backend, device, date;
  std::vector<std::pair<TimedProblem, double>> medians;  ///< microseconds

  std::optional<double> median(const TimedProblem& problem) const;
};

/// One column for each backend on a device, of the latest date recorded there, by file name. Files of another
/// schema are left alone; one that claims ours and breaks it is `InvalidArgument`.
std::vector<RecordedColumn> read_recorded_results(const std::filesystem::path& folder);

}  // namespace eplora
