// SPDX-License-Identifier: Apache-2.0
// `eplora check`: the property suite, or one saved case, from the command line. One line a property and
// backend; a counterexample in full, its replay line last.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "cli/check_corpus.h"
#include "cli/check_output.h"
#include "cli/check_report.h"
#include "cli/child_run.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/atomic_file.h"
#include "cli/progress.h"
#include "cli/project_files.h"
#include "optimized/backend.h"
#include "optimized/external/external_backend.h"
#include "property_tests/suite/suite.h"
#include "reference/check.h"

namespace eplora {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kNoCaseLimit = 100'000'000;  // --for alone: time ends the run

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A backend, or a mutant by its name: how one sees what a failure looks like.
std::unique_ptr<Backend> make_backend_or_mutant(const std::string& name) {
  for (const suite::Mutant& mutant : suite::list_mutants())
    if (mutant.id == name || "mutant-" + mutant.id == name) return mutant.make();
  return make_backend(name);
}

std::vector<std::unique_ptr<Backend>> chosen_backends(const std::vector<std::string>& names) {
  if (names.empty()) return available_backends();
  std::vector<std::unique_ptr<Backend>> backends;
  backends.reserve(names.size());
  for (const std::string& name : names) backends.push_back(make_backend_or_mutant(name));
  return backends;
}

/// Without what differs between a run and a child of one.
suite::RunOptions common_options(const CheckOptions& options) {
  suite::RunOptions run;
  run.cases = options.cases == 0 && options.seconds > 0 ? kNoCaseLimit : options.cases;
  run.seed = options.seed;
  run.reruns = options.reruns;
  run.shrink_limit = options.shrink_limit;
  return run;
}

suite::RunOptions run_options(const CheckOptions& options, Progress& line) {
  suite::RunOptions run = common_options(options);
  run.save_dir = failures_folder(options.save);
  run.progress = [&line](const suite::Progress& progress) {
    line.say(progress.shrinking
                 ? fmt::format("{}: shrinking, {} tried", progress.property->full_name(), progress.shrinks)
                 : fmt::format("{}: case {} of {}, {} discarded", progress.property->full_name(),
                               progress.cases, progress.wanted, progress.discarded));
    return true;
  };
  return run;
}

/// Why a library is not asked: besides what it lacks, it has no layouts, and ours would be judged in its
/// name.
std::optional<std::string> why_not_of(const suite::PropertyInfo& property, const Backend& library) {
  if (property.operation == "layout") return std::string(library.name()) + " offers no layouts";
  return suite::reason_not_asked(property, library);
}

suite::Outcome outcome_of(const suite::PropertyInfo& property, Backend& backend, const suite::RunOptions& run,
                          double case_limit) {
  if (!is_external_backend(backend.name())) return suite::run_property(property, backend, run);
  const std::optional<std::string> reason = why_not_of(property, backend);
  if (!reason) return run_in_child(property, std::string(backend.name()), run, case_limit);
  suite::Outcome skipped;  // no process for it: one may take seconds to wake a device
  skipped.property = property;
  skipped.backend = backend.name();
  skipped.status = suite::Status::skipped;
  skipped.reason = *reason;
  skipped.seed = run.seed;
  return skipped;
}

suite::Outcome outcome_of_file(const std::string& file, Backend& backend, const suite::RunOptions& run,
                               double case_limit) {
  if (!is_external_backend(backend.name())) return suite::replay_file(file, backend, run);
  return replay_in_child(file, std::string(backend.name()), run, case_limit);
}

/// One property or one file on one library, in the process that may be lost.
[[noreturn]] void run_as_child(const CheckOptions& options) {
  try {
    begin_as_child(options.child);
    // A bridge to another process starts it now, before the first case.
    setenv("EPLORA_CASE_PROCESS", "1", 1);
    const auto backend = make_backend(options.backends.at(0));
    wake_device(*backend);
    suite::RunOptions run = common_options(options);
    run.time_limit = options.seconds;
    run.save_dir = options.save;
    report_to_parent(options.child,
                     options.replay.empty()
                         ? suite::run_property(suite::find_properties(options.property).at(0), *backend, run)
                         : suite::replay_file(options.replay, *backend, run));
  } catch (const std::exception& e) {
    refuse_to_parent(options.child, e.what());
  }
  std::fflush(nullptr);
  _exit(kAgreement);  // what a library does when a process ends is no case's
}

/// What a library says of itself, so that a reader sees what was asked and what was not.
void introduce(const Backend& backend) {
  const ReportedBackend words = reported(backend);
  fmt::print("{}: {}\n  offers {} in {} memory{}; declares the form: {}; {}\n", words.name, words.description,
             words.offered, words.memory, words.lacking.empty() ? "" : ", does not offer " + words.lacking,
             words.form, words.determinism);
}

/// Runs what the corpus holds on every backend; a file that is no case is said and left.
void replay_corpus(Corpus& corpus, const std::vector<std::unique_ptr<Backend>>& backends,
                   const suite::RunOptions& run, double case_limit, Progress& line, CheckOutput& report) {
  for (const std::filesystem::path& file : corpus.files()) {
    bool replayed = false;
    for (const auto& backend : backends) {
      try {
        const suite::Outcome outcome = outcome_of_file(file.string(), *backend, run, case_limit);
        line.clear();
        report.add(outcome);
        replayed = true;
      } catch (const InvalidArgument& error) {
        line.clear();
        fmt::print(stderr, "eplora: corpus file refused: {}\n", error.what());
        corpus.refuse(error.what());
        break;
      }
    }
    if (replayed) corpus.count_replay();
  }
}

/// The page, and the exit code.
int conclude(const CheckOptions& options, CheckOutput& report, const Corpus* corpus, double seconds,
             std::int64_t not_reached) {
  if (!options.report.empty()) {
    report.page.seed = options.seed;
    report.page.not_reached = not_reached;
    if (corpus != nullptr) {
      report.page.notes.push_back(corpus->summary());
      for (const std::string& sentence : corpus->refused())
        report.page.notes.push_back("refused: " + sentence);
    }
    write_report(options.report, report.page);
  }
  return report.finish(options.seed, seconds, not_reached, options.backends.empty(), corpus);
}

}  // namespace

int run_check(const CheckOptions& options, const Output& output) {
  if (!options.child.empty()) run_as_child(options);
  if (!options.replay.empty() && !options.property.empty())
    reject("--property", "'" + options.property + "' beside --replay",
           "a saved case names its property itself");
  if (!options.replay.empty() && !options.corpus.empty())
    reject("--corpus", options.corpus + " beside --replay", "one of the two");
  // Said before an hour of work, not after it.
  if (!options.report.empty()) AtomicFile(options.report);
  if (!options.save.empty()) make_folder("--save", options.save);
  const auto backends = chosen_backends(options.backends);
  const Clock::time_point start = Clock::now();
  Progress line;
  suite::RunOptions run = run_options(options, line);
  CheckOutput report(output, options.verbose);
  std::size_t backend_width = 0, name_width = 0;
  for (const auto& backend : backends) backend_width = std::max(backend_width, backend->name().size());
  const std::vector<suite::PropertyInfo> properties = suite::find_properties(options.property);
  for (const suite::PropertyInfo& property : properties)
    name_width = std::max(name_width, property.full_name().size());
  report.widths(name_width, backend_width);
  for (const auto& backend : backends) report.page.backends.push_back(reported(*backend));
  if (!options.replay.empty()) {
    for (const auto& backend : backends) {
      const suite::Outcome outcome = outcome_of_file(options.replay, *backend, run, options.case_limit);
      line.clear();
      report.widths(outcome.property.full_name().size(), backend_width);
      report.add(outcome);
    }
    return conclude(options, report, nullptr, seconds_since(start), 0);
  }
  if (!output.json) {
    for (const auto& backend : backends)
      if (is_external_backend(backend->name())) introduce(*backend);
    fmt::print("seed {}\n", options.seed);
  }
  std::optional<Corpus> corpus;
  if (!options.corpus.empty()) {
    corpus.emplace(options.corpus, properties);
    replay_corpus(*corpus, backends, run, options.case_limit, line, report);
  }
  std::int64_t left = static_cast<std::int64_t>(properties.size() * backends.size()), not_reached = 0;
  for (const suite::PropertyInfo& property : properties) {
    for (const auto& backend : backends) {
      if (options.seconds > 0) {
        const double rest = options.seconds - seconds_since(start);
        if (rest <= 0) {
          ++not_reached;
          continue;
        }
        run.time_limit = rest / static_cast<double>(left);  // what one leaves over, the others share
      }
      --left;
      const suite::Outcome outcome = outcome_of(property, *backend, run, options.case_limit);
      line.clear();
      report.add(outcome);
      if (corpus && outcome.counterexample) corpus->add(*outcome.counterexample);
    }
  }
  return conclude(options, report, corpus ? &*corpus : nullptr, seconds_since(start), not_reached);
}

}  // namespace eplora
