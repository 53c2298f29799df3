// SPDX-License-Identifier: Apache-2.0
// `eplora mutants`: real bugs, re-created, through the ordinary suite. One that survives means that a test is
// missing.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "property_tests/suite/suite.h"
#include "reference/check.h"

namespace eplora {
namespace {

std::vector<suite::Mutant> select(const std::string& name) {
  std::vector<suite::Mutant> selected;
  std::string names;
  for (const suite::Mutant& mutant : suite::list_mutants()) {
    names += (names.empty() ? "" : ", ") + mutant.id;
    if (name.empty() || mutant.id == name) selected.push_back(mutant);
  }
  if (selected.empty() && !name.empty()) reject("--mutant", "'" + name + "'", "it must be one of " + names);
  return selected;
}

nlohmann::ordered_json entry_of(const suite::Mutant& mutant, const suite::MutantOutcome& outcome) {
  nlohmann::ordered_json entry = {{"name", mutant.id},
                                  {"origin", mutant.origin},
                                  {"wrong", mutant.wrong},
                                  {"killed", outcome.killed},
                                  {"killed_by", outcome.killed_by},
                                  {"contract", outcome.contract},
                                  {"after_cases", outcome.after_cases},
                                  {"sentence", outcome.sentence},
                                  {"shrunk_case", outcome.summary},
                                  {"seconds", outcome.seconds}};
  const auto parsed = nlohmann::ordered_json::parse(outcome.json, nullptr, false);
  entry["case"] = parsed.is_discarded() ? nlohmann::ordered_json() : parsed;
  return entry;
}

}  // namespace

int run_mutants(const MutantsOptions& options, const Output& output) {
  const std::vector<suite::Mutant> mutants = select(options.mutant);
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  Table table;
  table.column("bug")
      .column("origin")
      .column("killed by")
      .column("judge")
      .column("after cases", Table::Align::right);
  table.column("shrunk case");
  std::size_t survivors = 0;
  double seconds = 0;
  Progress line;
  for (const suite::Mutant& mutant : mutants) {
    suite::RunOptions run;
    run.cases = options.cases;
    run.seed = options.seed;
    run.progress = [&](const suite::Progress& progress) {
      line.say(fmt::format("{} of {}  {}: {} case {}{}", entries.size() + 1, mutants.size(), mutant.id,
                           progress.property->full_name(), progress.cases,
                           progress.shrinking ? ", shrinking" : ""));
      return true;
    };
    const suite::MutantOutcome outcome = run_mutant(mutant, run);
    survivors += outcome.killed ? 0 : 1;
    seconds += outcome.seconds;
    if (outcome.killed)
      table.row({mutant.id, mutant.origin, Cell(outcome.killed_by, Style::good), outcome.contract,
                 fmt::format("{}", outcome.after_cases), outcome.summary});
    else
      table.row({mutant.id, mutant.origin, Cell("SURVIVED", Style::bad), "-", "-", mutant.wrong});
    entries.push_back(entry_of(mutant, outcome));
  }
  line.clear();
  if (output.json) {
    nlohmann::ordered_json document = json_document("mutants");
    document["seed"] = options.seed;
    document["survivors"] = survivors;
    document["seconds"] = seconds;
    document["mutants"] = std::move(entries);
    print_json(document);
  } else {
    fmt::print("{}\n", table.render(output.color));
    const std::string verdict = survivors == 0
                                    ? fmt::format("all {} mutants were noticed", mutants.size())
                                    : fmt::format("{} of {} mutants SURVIVED", survivors, mutants.size());
    fmt::print("{} in {:.1f} s; seed {}\n",
               styled(verdict, survivors == 0 ? Style::good : Style::bad, output.color), seconds,
               options.seed);
  }
  if (mutants.empty()) return kNothingRan;
  return survivors == 0 ? kAgreement : kDifference;
}

}  // namespace eplora
