// SPDX-License-Identifier: Apache-2.0
// Outcomes in words.
#include <fmt/format.h>

#include <chrono>

#include "property_tests/suite/suite.h"

namespace eplora::suite {

std::string_view to_string(Status status) {
  switch (status) {
    case Status::held:
      return "held";
    case Status::violated:
      return "violated";
    case Status::flaky:
      return "flaky";
    case Status::gave_up:
      return "gave up";
    case Status::skipped:
      return "skipped";
    case Status::interrupted:
      return "interrupted";
  }
  return "?";
}

std::string describe(const Outcome& outcome) {
  std::string text =
      fmt::format("{} on {}: {}", outcome.property.full_name(), outcome.backend, to_string(outcome.status));
  if (!outcome.reason.empty()) text += " (" + outcome.reason + ")";
  if (outcome.status != Status::skipped)
    text += fmt::format(", {} cases in {:.1f} s{}{}, seed {}", outcome.cases, outcome.seconds,
                        outcome.discarded > 0 ? fmt::format(", {} discarded", outcome.discarded) : "",
                        outcome.ended_by_time ? ", ended by time" : "", outcome.seed);
  text += "\n";
  if (!outcome.counterexample) return text;
  const Counterexample& found = *outcome.counterexample;
  text += fmt::format("  the law:        {}\n", outcome.property.sentence);
  text += fmt::format("  violated:       {}: {}\n", found.contract, found.sentence);
  text += fmt::format("  smallest case:  {}\n", found.summary);
  text += found.table;
  text += fmt::format("  found in case {}, made smaller {} times; run again it fails {} of {} times\n",
                      found.after_cases, found.shrinks, found.failed, found.reruns);
  if (!found.unshrunk_path.empty()) text += fmt::format("  as found:       {}\n", found.unshrunk_path);
  if (!found.shrunk_path.empty()) text += fmt::format("  made smaller:   {}\n", found.shrunk_path);
  if (!found.replay.empty()) text += fmt::format("  replay with:    {}\n", found.replay);
  return text;
}

MutantOutcome run_mutant(const Mutant& mutant, const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  MutantOutcome result;
  result.id = mutant.id;
  const std::unique_ptr<Backend> backend = mutant.make();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const int budget : {100, 1000, 0}) {
    for (const PropertyInfo& property : list_properties()) {
      RunOptions one = options;
      const int most = options.cases > 0 ? options.cases : property.default_cases;
      one.cases = budget == 0 || budget > most ? most : budget;
      const Outcome outcome = run_property(property, *backend, one);
      if (outcome.status == Status::interrupted) {
        result.seconds = seconds();
        return result;
      }
      if (!outcome.failed()) continue;
      result.killed = true;
      result.killed_by = property.full_name();
      result.contract = outcome.counterexample->contract;
      result.after_cases = outcome.counterexample->after_cases;
      result.sentence = outcome.counterexample->sentence;
      result.summary = outcome.counterexample->summary;
      result.json = outcome.counterexample->json;
      result.seconds = seconds();
      return result;
    }
  }
  result.seconds = seconds();
  return result;
}

}  // namespace eplora::suite
