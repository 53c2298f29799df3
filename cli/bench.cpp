// SPDX-License-Identifier: Apache-2.0
// `eplora bench`: times the backends of this machine side by side and records what was measured. A run whose
// outputs differ from the reference is reported and recorded nowhere.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "benchmarks/run.h"
#include "cli/apart.h"
#include "cli/bench_tables.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/atomic_file.h"
#include "cli/json_output.h"
#include "cli/known_models.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "reference/check.h"

namespace eplora {
namespace {

constexpr double kLibraryLimit = 30;  // seconds that a library may take for one sample

std::string today() {
  const auto days = std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now());
  const std::chrono::year_month_day date(days);
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()));
}

/// The command line that does the same again, without where its results go.
std::string command_of(const BenchOptions& options) {
  std::string words = "eplora bench";
  const auto add = [&](const char* flag, const std::vector<std::string>& values) {
    for (const std::string& value : values)
      words += fmt::format(" {} {}", flag,
                           value.find_first_of("*?[ ") == std::string::npos ? value : "'" + value + "'");
  };
  add("--suite", options.suites);
  add("--backend", options.backends);
  add("--shape", options.shapes);
  add("--pattern", options.patterns);
  return options.quick ? words + " --quick" : words;
}

bench::Request request_of(const BenchOptions& options) {
  bench::Request request;
  for (const std::string& name : options.suites) request.suites.push_back(bench::suite_of(name));
  for (const std::string& name : options.patterns) request.patterns.push_back(bench::pattern_of(name));
  request.backends = options.backends;
  request.shapes = options.shapes;
  request.quick = options.quick;
  if (!options.quick)
    for (const ModelConfig& model : timed_models())
      for (const std::int64_t tokens : bench::kModelTokens)
        request.models.push_back(bench::model_shape(model.name, model.num_experts, model.top_k, tokens));
  return request;
}

void print_tables(const bench::Record& record, const BenchOptions& options, const Output& output) {
  for (const bench::Suite suite : bench::kSuites) {
    const Grid grid = all_timings(record, suite);
    if (grid.rows.empty()) continue;
    if (options.format == "csv")
      fmt::print("{}", grid.csv());
    else if (options.format == "markdown")
      fmt::print("{}\n", grid.markdown());
    else
      fmt::print("{}\n", grid.text(output.color));
  }
  if (options.format == "csv") return;
  fmt::print("{}\n", provenance(record));
  fmt::print("Checked: {}.\n", record.checked);
  std::vector<std::pair<std::string, std::string>> reasons;  // why, and what was left out for it
  for (const bench::Skipped& skipped : record.skipped) {
    const auto same = std::ranges::find(reasons, skipped.why, &std::pair<std::string, std::string>::first);
    if (same == reasons.end())
      reasons.emplace_back(skipped.why, skipped.what);
    else
      same->second += ", " + skipped.what;
  }
  for (const auto& [why, what] : reasons) fmt::print("Not timed: {} ({}).\n", what, why);
}

}  // namespace

int run_bench(const BenchOptions& options, const Output& output) {
  if (output.json && !options.format.empty())
    reject("--json", "given beside --" + options.format, "one format at a time");
  bench::Request request = request_of(options);
  if (!options.output.empty()) AtomicFile(options.output);  // a place that cannot be written is refused now
  Apart apart;
  bool loading = false;
  std::string entered;
  if (names_a_library(options.backends)) {
    if (const auto code = apart.run(kLibraryLimit)) return *code;
    request.enter = [&](const std::string& what) {
      apart.enter(what);
      loading = what.starts_with("loading ");
      entered = what;
    };
    request.leave = [&] { apart.leave(); };
  }
  Progress progress;
  bench::Outcome outcome;
  try {
    outcome = bench::run(request, [&](const std::string& what) { progress.say("timing " + what); });
  } catch (const std::exception& error) {
    if (!apart.inside() || loading) throw;
    progress.clear();
    fmt::print(stderr, "eplora: FAILED: {}: {}\n", entered, error.what());
    return kDifference;
  }
  progress.clear();
  for (const std::string& time : outcome.impossible) fmt::print(stderr, "eplora: IMPOSSIBLE: {}\n", time);
  for (const std::string& difference : outcome.differences)
    fmt::print(stderr, "eplora: DIFFERENT: {}\n", difference);
  if (!outcome.differences.empty())
    fmt::print(stderr, "eplora: a timed output differs from the reference: nothing is recorded\n");
  else if (!outcome.impossible.empty())
    fmt::print(stderr, "eplora: a time is below what the machine can do: nothing is recorded\n");
  if (!outcome.differences.empty() || !outcome.impossible.empty()) return kDifference;
  bench::Record& record = outcome.record;
  if (record.shapes.empty()) {
    for (const bench::Skipped& skipped : record.skipped)
      if (names_a_library(options.backends) && skipped.what.find(" on ") != std::string::npos)
        fmt::print(stderr, "eplora: not timed: {} ({})\n", skipped.what, skipped.why);
    fmt::print(stderr, "eplora: nothing was timed\n");
    return kNothingRan;
  }
  record.date = options.date.empty() ? today() : options.date;
  record.commit = options.commit.empty() ? "not given" : options.commit;
  record.command = command_of(options);
  nlohmann::ordered_json document = json_document("results");
  document.update(bench::to_json(record));
  const std::string text = bench::to_text(document);
  if (!options.output.empty()) write_text_file(options.output, text);
  if (output.json)
    fmt::print("{}", text);
  else
    print_tables(record, options, output);
  return kAgreement;
}

}  // namespace eplora
