// SPDX-License-Identifier: Apache-2.0
// `eplora mutants`: real bugs, re-created, through the ordinary suite. One that survives means that a test is
// missing.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/atomic_file.h"
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

/// What a mutant's runs, one a seed, came to.
struct Kills {
  std::vector<suite::MutantOutcome> runs;

  std::int64_t killed() const {
    return std::count_if(runs.begin(), runs.end(), [](const auto& run) { return run.killed; });
  }
  std::int64_t minimal() const {
    return std::count_if(runs.begin(), runs.end(),
                         [](const auto& run) { return run.killed && run.not_minimal.empty(); });
  }
  std::int64_t worst_cases() const {
    std::int64_t worst = 0;
    for (const auto& run : runs) worst = std::max(worst, run.after_cases);
    return worst;
  }
  double seconds() const {
    double sum = 0;
    for (const auto& run : runs) sum += run.seconds;
    return sum;
  }
  /// The run to show: a survivor, else the first whose case is not minimal, else the first.
  const suite::MutantOutcome& shown() const {
    for (const auto& run : runs)
      if (!run.killed) return run;
    for (const auto& run : runs)
      if (!run.not_minimal.empty()) return run;
    return runs.front();
  }
  /// "Remap.X" or "Remap.X and 2 others": the properties that noticed.
  std::string properties() const {
    std::set<std::string> names;
    for (const auto& run : runs)
      if (run.killed) names.insert(run.killed_by);
    const std::string& first = shown().killed_by;
    if (names.size() < 2) return first;
    return fmt::format("{} and {} other{}", first, names.size() - 1, names.size() > 2 ? "s" : "");
  }
};

nlohmann::ordered_json entry_of(const suite::Mutant& mutant, const Kills& kills) {
  const suite::MutantOutcome& outcome = kills.shown();
  nlohmann::ordered_json entry = {{"name", mutant.id},
                                  {"origin", mutant.origin},
                                  {"wrong", mutant.wrong},
                                  {"killed", kills.killed() == std::ssize(kills.runs)},
                                  {"seeds", kills.runs.size()},
                                  {"killed_in", kills.killed()},
                                  {"minimal_in", kills.minimal()},
                                  {"worst_cases", kills.worst_cases()},
                                  {"killed_by", outcome.killed_by},
                                  {"contract", outcome.contract},
                                  {"after_cases", outcome.after_cases},
                                  {"sentence", outcome.sentence},
                                  {"shrunk_case", outcome.summary},
                                  {"not_minimal", outcome.not_minimal},
                                  {"seconds", kills.seconds()}};
  const auto parsed = nlohmann::ordered_json::parse(outcome.json, nullptr, false);
  entry["case"] = parsed.is_discarded() ? nlohmann::ordered_json() : parsed;
  return entry;
}

void save(const std::filesystem::path& folder, const std::string& id, const std::string& text) {
  make_folder("--save", folder);
  write_text_file(folder / (id + ".json"), text);
}

Table table_of(int seeds) {
  Table table;
  table.column("bug").column("origin").column("killed by").column("judge");
  if (seeds > 1) table.column("killed", Table::Align::right);
  table.column(seeds > 1 ? "most cases" : "after cases", Table::Align::right);
  table.column("minimal").column("shrunk case");
  return table;
}

std::vector<Cell> row_of(const suite::Mutant& mutant, const Kills& kills) {
  const suite::MutantOutcome& outcome = kills.shown();
  const auto runs = std::ssize(kills.runs);
  const bool dead = kills.killed() == runs;
  std::vector<Cell> row = {mutant.id, mutant.origin,
                           dead ? Cell(kills.properties(), Style::good) : Cell("SURVIVED", Style::bad),
                           dead ? outcome.contract : "-"};
  if (runs > 1) row.emplace_back(fmt::format("{} of {}", kills.killed(), runs));
  row.emplace_back(dead ? fmt::format("{}", kills.worst_cases()) : "-");
  if (!dead) {
    row.emplace_back("-");
    row.emplace_back(mutant.wrong);
    return row;
  }
  const bool minimal = kills.minimal() == runs;
  const std::string share = runs > 1  ? fmt::format("{} of {}", kills.minimal(), runs)
                            : minimal ? "yes"
                                      : "no";
  row.emplace_back(minimal ? share : share + ": " + outcome.not_minimal);
  row.emplace_back(outcome.summary);
  return row;
}

}  // namespace

int run_mutants(const MutantsOptions& options, const Output& output) {
  const std::vector<suite::Mutant> mutants = select(options.mutant);
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  Table table = table_of(options.seeds);
  std::int64_t survivors = 0, kills_in_all = 0, minimal_in_all = 0;
  double seconds = 0;
  Progress line;
  for (const suite::Mutant& mutant : mutants) {
    Kills kills;
    for (int i = 0; i < options.seeds; ++i) {
      suite::RunOptions run;
      run.cases = options.cases;
      run.seed = options.seed + static_cast<std::uint64_t>(i);
      run.progress = [&](const suite::Progress& progress) {
        line.say(fmt::format("{} of {}  {}: {} case {}{}", entries.size() + 1, mutants.size(), mutant.id,
                             progress.property->full_name(), progress.cases,
                             progress.shrinking ? ", shrinking" : ""));
        return true;
      };
      kills.runs.push_back(run_mutant(mutant, run));
    }
    survivors += kills.killed() < options.seeds ? 1 : 0;
    kills_in_all += kills.killed();
    minimal_in_all += kills.minimal();
    seconds += kills.seconds();
    if (!options.save.empty() && kills.runs.front().killed)
      save(options.save, mutant.id, kills.runs.front().json);
    table.row(row_of(mutant, kills));
    entries.push_back(entry_of(mutant, kills));
  }
  line.clear();
  if (output.json) {
    nlohmann::ordered_json document = json_document("mutants");
    document["seed"] = options.seed;
    document["seeds"] = options.seeds;
    document["survivors"] = survivors;
    document["killed_runs"] = kills_in_all;
    document["minimal_runs"] = minimal_in_all;
    document["seconds"] = seconds;
    document["mutants"] = std::move(entries);
    print_json(document);
  } else {
    fmt::print("{}\n", table.render(output.color));
    const std::string verdict = survivors == 0
                                    ? fmt::format("all {} mutants were noticed", mutants.size())
                                    : fmt::format("{} of {} mutants SURVIVED", survivors, mutants.size());
    const std::string seeds = options.seeds == 1
                                  ? fmt::format("seed {}", options.seed)
                                  : fmt::format("seeds {} to {}", options.seed,
                                                options.seed + static_cast<std::uint64_t>(options.seeds) - 1);
    fmt::print("{} in {:.1f} s; {} of {} shrunk cases are minimal; {}\n",
               styled(verdict, survivors == 0 ? Style::good : Style::bad, output.color), seconds,
               minimal_in_all, kills_in_all, seeds);
  }
  if (mutants.empty()) return kNothingRan;
  return survivors == 0 ? kAgreement : kDifference;
}

}  // namespace eplora
