// SPDX-License-Identifier: Apache-2.0
// Outcomes in words.
#include <fmt/format.h>

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

}  // namespace eplora::suite
