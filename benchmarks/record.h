// SPDX-License-Identifier: Apache-2.0
// A result file: every sample of a run of `eplora bench`, the machine it ran on, what it was compared with,
// and hashes by which anybody can check on a CPU that the timed outputs were right. As JSON,
// schema "eplora.results/2":
//   {"schema", "device", "memory": "cuda", "driver", "cuda", "date", "commit", "command", "method",
//   "checked",
//    "floors":  [{"name", "kind": "empty" | "copy", "bytes", "median_us", "samples_us": [...]}],
//    "shapes":  [{"suite", "shape", "pattern", ... the shape's integers ..., "goal_us", "engines_today_us",
//                 "bytes", "sets", "inputs_sha256", "outputs_sha256", "parts": [[inputs, outputs], ...],
//                 "copy": {as a timing, of a device copy of the same bytes; slice only},
//                 "timings": [{"backend", "timed_as", "note", "calls", "launches", "other_nodes",
//                              "median_us", "p5_us", "p95_us", "samples_us": [...]}]}],
//    "skipped": [{"what", "why"}]}
// A part is an input set (routing) or a layer (slice); the shape's hashes are those of its parts' hashes, one
// after another. What a part's hash is of stands in routing_workload.h and slice_workload.h. Medians and
// percentiles are for readers: they must agree with the samples, or the file is refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "benchmarks/shapes.h"
#include "benchmarks/workload.h"

namespace eplora::bench {

inline constexpr const char* kResultsSchema = "eplora.results/2";

struct TimingRecord {
  std::string backend, timed_as, note;
  int calls = 1;
  double launches = 0, other_nodes = 0;
  std::vector<double> samples_us;  ///< a call

  double median_us() const;
};

struct FloorRecord {
  std::string name;
  bool is_copy = false;
  std::int64_t bytes = 0;
  std::vector<double> samples_us;

  double median_us() const;
};

struct ShapeRecord {
  Suite suite = Suite::route;
  Pattern pattern = Pattern::uniform;
  RoutingShape routing;  ///< unless the suite is slice
  SliceShape slice;      ///< of suite slice
  std::int64_t bytes = 0;
  int sets = 1;
  std::vector<PartDigests> parts;
  std::vector<TimingRecord> timings;
  std::optional<TimingRecord> copy;

  const std::string& name() const { return suite == Suite::slice ? slice.name : routing.name; }
  std::string inputs_sha256() const;
  std::string outputs_sha256() const;
  const TimingRecord* timing(const std::string& backend) const;  ///< null if it was not timed
};

struct Skipped {
  std::string what, why;
};

struct Record {
  std::string device, memory, driver, cuda, date, commit, command, method, checked;
  std::vector<FloorRecord> floors;
  std::vector<ShapeRecord> shapes;
  std::vector<Skipped> skipped;

  double empty_us() const;                    ///< the cheapest empty kernel or call
  double copy_gb_per_s() const;               ///< the fastest copy, read and written; 10^9 bytes
  double floor_us(std::int64_t bytes) const;  ///< the larger of empty_us and bytes / copy_gb_per_s
  const ShapeRecord* find(Suite suite, const std::string& name, Pattern pattern) const;
};

nlohmann::ordered_json to_json(const Record& record);

/// Throws `InvalidArgument`; `what` opens the sentence, for instance the file's name.
Record record_of(const nlohmann::ordered_json& document, const std::string& what);
Record read_record(const std::filesystem::path& path);

/// The document as text: objects indented, arrays of plain values on one line each.
std::string to_text(const nlohmann::ordered_json& document);

}  // namespace eplora::bench
