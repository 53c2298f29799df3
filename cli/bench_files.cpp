// SPDX-License-Identifier: Apache-2.0
// What is done with result files: `eplora bench verify` recomputes hashes, `compare` judges two runs, `show`
// renders the tables that the README holds.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "benchmarks/statistics.h"
#include "benchmarks/verify.h"
#include "cli/bench_tables.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/table.h"
#include "reference/check.h"

namespace eplora {
namespace {

using bench::Change;
using bench::Record;
using bench::ShapeRecord;
using bench::TimingRecord;

/// One backend on one shape in two records.
struct Compared {
  const ShapeRecord* shape;
  const TimingRecord *before, *after;
  Change change;
};

struct Comparison {
  double threshold = bench::kSmallestChange;
  std::vector<Compared> rows;
  std::vector<std::string> not_compared;
  int count(Change change) const {
    int number = 0;
    for (const Compared& row : rows) number += row.change == change ? 1 : 0;
    return number;
  }
};

std::string key_of(const ShapeRecord& shape) {
  return fmt::format("{} {} {}", to_string(shape.suite), shape.name(), to_string(shape.pattern));
}

/// How far apart the two runs' machines were: the largest relative change of a floor. Samples of one run show
/// no drift between runs; the floors, which no change of ours can move, do. Times too short to say are left
/// out.
double drift_of_floors(const Record& before, const Record& after) {
  double drift = 0;
  for (const bench::FloorRecord& floor : after.floors)
    for (const bench::FloorRecord& old : before.floors)
      if (old.name == floor.name && old.median_us() > 0.1)
        drift = std::max(drift, std::abs(floor.median_us() / old.median_us() - 1));
  return drift;
}

Comparison compare_records(const Record& before, const Record& after) {
  Comparison comparison;
  comparison.threshold = std::max(bench::kSmallestChange, drift_of_floors(before, after));
  for (const ShapeRecord& shape : after.shapes) {
    const ShapeRecord* const old = before.find(shape.suite, shape.name(), shape.pattern);
    if (old == nullptr) {
      comparison.not_compared.push_back(key_of(shape) + ": only in the new file");
      continue;
    }
    if (old->inputs_sha256() != shape.inputs_sha256()) {
      comparison.not_compared.push_back(key_of(shape) + ": the inputs differ");
      continue;
    }
    for (const TimingRecord& timing : shape.timings) {
      const TimingRecord* const earlier = old->timing(timing.backend);
      if (earlier == nullptr)
        comparison.not_compared.push_back(key_of(shape) + ", " + timing.backend + ": only in the new file");
      else if (earlier->timed_as != timing.timed_as)
        comparison.not_compared.push_back(key_of(shape) + ", " + timing.backend + ": timed as " +
                                          earlier->timed_as + " before and as " + timing.timed_as + " now");
      else
        comparison.rows.push_back(
            {&shape, earlier, &timing,
             bench::change_between(earlier->samples_us, timing.samples_us, comparison.threshold)});
    }
    for (const TimingRecord& timing : old->timings)
      if (shape.timing(timing.backend) == nullptr)
        comparison.not_compared.push_back(key_of(shape) + ", " + timing.backend + ": only in the old file");
  }
  for (const ShapeRecord& shape : before.shapes)
    if (after.find(shape.suite, shape.name(), shape.pattern) == nullptr)
      comparison.not_compared.push_back(key_of(shape) + ": only in the old file");
  return comparison;
}

void print_comparison(const Comparison& comparison, const Record& before, const Record& after,
                      const Output& output) {
  Table table;
  table.column("suite").column("shape").column("pattern").column("backend");
  for (const char* header : {"old us", "new us", "new / old"}) table.column(header, Table::Align::right);
  table.column("verdict");
  for (const Compared& row : comparison.rows) {
    const double old_us = row.before->median_us(), new_us = row.after->median_us();
    const Style style = row.change == Change::same     ? Style::plain
                        : row.change == Change::faster ? Style::good
                                                       : Style::bad;
    table.row({std::string(to_string(row.shape->suite)), row.shape->name(),
               std::string(to_string(row.shape->pattern)), row.after->backend, microseconds_text(old_us),
               microseconds_text(new_us), fmt::format("{:.3f}", new_us / old_us),
               Cell(std::string(to_string(row.change)), style)});
  }
  fmt::print("{}\n", table.render(output.color));
  for (const std::string& line : comparison.not_compared) fmt::print("not compared: {}\n", line);
  fmt::print("{}: commit {} of {} -> commit {} of {}\n", after.device, before.commit, before.date,
             after.commit, after.date);
  fmt::print(
      "{} SAME, {} FASTER, {} SLOWER. FASTER and SLOWER: medians more than {:.1f}% apart (2%, or as much as "
      "the "
      "floors moved), and their 95% intervals apart too.\n",
      comparison.count(Change::same), comparison.count(Change::faster), comparison.count(Change::slower),
      100 * comparison.threshold);
}

nlohmann::ordered_json comparison_document(const Comparison& comparison, const Record& before,
                                           const Record& after) {
  nlohmann::ordered_json document = json_document("bench_compare");
  for (const auto& [key, record] : {std::pair{"old", &before}, {"new", &after}})
    document[key] = {{"device", record->device}, {"date", record->date}, {"commit", record->commit}};
  document["threshold"] = comparison.threshold;
  document["rows"] = nlohmann::ordered_json::array();
  for (const Compared& row : comparison.rows)
    document["rows"].push_back({{"suite", to_string(row.shape->suite)},
                                {"shape", row.shape->name()},
                                {"pattern", to_string(row.shape->pattern)},
                                {"backend", row.after->backend},
                                {"old_us", row.before->median_us()},
                                {"new_us", row.after->median_us()},
                                {"verdict", to_string(row.change)}});
  document["not_compared"] = comparison.not_compared;
  return document;
}

std::vector<bench::Suite> suites_of(const std::string& name) {
  if (name.empty()) return {std::begin(bench::kSuites), std::end(bench::kSuites)};
  return {bench::suite_of(name)};
}

}  // namespace

int run_bench_compare(const BenchCompareOptions& options, const Output& output) {
  const Record before = bench::read_record(options.before), after = bench::read_record(options.after);
  if (before.device != after.device)
    reject("the device of " + options.after, after.device,
           "the other file's is " + before.device + ", and times of different devices are not compared");
  const Comparison comparison = compare_records(before, after);
  if (output.json)
    print_json(comparison_document(comparison, before, after));
  else
    print_comparison(comparison, before, after, output);
  if (comparison.rows.empty()) {
    fmt::print(stderr, "eplora: the two files have nothing in common\n");
    return kNothingRan;
  }
  return comparison.count(Change::slower) == 0 ? kAgreement : kDifference;
}

int run_bench_verify(const BenchVerifyOptions& options, const Output& output) {
  const Record record = bench::read_record(options.file);
  const std::vector<bench::VerifiedPart> parts = bench::verify(record, options.sample, options.seed);
  bool equal = true;
  Table table;
  table.column("suite").column("shape").column("pattern").column("part").column("inputs").column("outputs");
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  const auto verdict = [](bool same) {
    return same ? Cell("equal", Style::good) : Cell("DIFFERENT", Style::bad);
  };
  for (const bench::VerifiedPart& part : parts) {
    const ShapeRecord& shape = *part.shape;
    const char* const kind = shape.suite == bench::Suite::slice ? "layer" : "set";
    equal &= part.inputs_equal && part.outputs_equal;
    table.row({std::string(to_string(shape.suite)), shape.name(), std::string(to_string(shape.pattern)),
               fmt::format("{} {} of {}", kind, part.part, shape.parts.size()), verdict(part.inputs_equal),
               verdict(part.outputs_equal)});
    rows.push_back({{"suite", to_string(shape.suite)},
                    {"shape", shape.name()},
                    {"pattern", to_string(shape.pattern)},
                    {kind, part.part},
                    {"inputs_equal", part.inputs_equal},
                    {"outputs_equal", part.outputs_equal},
                    {"inputs_sha256", bench::hex(part.computed.inputs)},
                    {"outputs_sha256", bench::hex(part.computed.outputs)}});
  }
  if (output.json) {
    nlohmann::ordered_json document = json_document("bench_verify");
    document["recorded_on"] = record.device;
    document["seed"] = options.seed;
    document["equal"] = equal;
    document["parts"] = rows;
    print_json(document);
  } else {
    fmt::print("Recorded on {}; inputs made again here, outputs by the reference, SHA-256 of both.\n\n{}\n",
               record.device, table.render(output.color));
    fmt::print("{}: {} of {} shapes, {} parts, seed {}\n", equal ? "All equal" : "NOT all equal",
               options.sample == 0 ? record.shapes.size() : parts.size(), record.shapes.size(), parts.size(),
               options.seed);
  }
  if (parts.empty()) return kNothingRan;
  return equal ? kAgreement : kDifference;
}

int run_bench_show(const BenchShowOptions& options, const Output& output) {
  const Record record = bench::read_record(options.file);
  bool any = false;
  const auto print = [&](const Grid& grid, const std::string& title) {
    if (grid.rows.empty()) return;
    if (options.csv)
      fmt::print("{}", grid.csv());
    else if (options.markdown)
      fmt::print("{}{}{}", any ? "\n" : "", options.suite.empty() ? "**" + title + "**\n\n" : "",
                 grid.markdown());
    else
      fmt::print("{}\n{}\n", styled(title, Style::heading, output.color), grid.text(output.color));
    any = true;
  };
  if (options.suite == "models") {
    print(model_summary(record), "route in the geometry of real models");
  } else {
    for (const bench::Suite suite : suites_of(options.suite))
      print(options.all ? all_timings(record, suite) : summary(record, suite), std::string(to_string(suite)));
    if (options.suite.empty() && !options.all)
      print(model_summary(record), "route in the geometry of real models");
  }
  if (!any) {
    fmt::print(stderr, "eplora: {} has no {}\n", options.file,
               options.suite.empty() ? "times" : "suite " + options.suite);
    return kNothingRan;
  }
  if (!options.csv) fmt::print("{}{}\n", options.markdown ? "\n" : "", provenance(record));
  return kAgreement;
}

}  // namespace eplora
