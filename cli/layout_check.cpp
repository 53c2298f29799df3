// SPDX-License-Identifier: Apache-2.0
// `eplora layout check`: a layout proven against the unsharded layer, a row a proof; a broken one with the
// smallest mesh, expert count and batch that show it. With --mutants, the bugs of other layouts, all of which
// must be noticed.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "cli/apart.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/deployment_json.h"
#include "cli/json_output.h"
#include "cli/layout_proof_rows.h"
#include "cli/layout_text.h"
#include "cli/project_files.h"
#include "cli/table.h"
#include "reference/check.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;
using State = ProofRow::State;
constexpr double kLibraryLimit = 120;  // seconds without a step forward

Backends chosen_backends(const std::vector<std::string>& names) {
  if (names.empty()) return available_backends();
  Backends backends;
  if (std::find(names.begin(), names.end(), "reference") == names.end())
    backends.push_back(make_backend("reference"));
  for (const std::string& name : names) backends.push_back(make_backend(name));
  return backends;
}

std::string state_word(State state) {
  return state == State::holds ? "holds" : state == State::broken ? "BROKEN" : "skipped";
}

Style style_of(State state) {
  return state == State::holds ? Style::good : state == State::broken ? Style::bad : Style::caution;
}

std::string file_name(const ProofRow& row) {
  std::string name = "layout." + row.id + (row.layer_class.empty() ? "" : "." + row.layer_class);
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-') c = '-';
  return name;
}

struct Printed {
  ProofRow row;
  std::string file;  ///< of the smallest case
};

std::string replay_line(const std::string& file) { return "eplora layout check --replay " + file; }

void print_rows(const std::vector<Printed>& rows, bool several_classes, const Output& output) {
  Table table;
  table.column("proof").column("judge");
  if (several_classes) table.column("class");
  table.column("verdict").column("tried on");
  for (const Printed& one : rows) {
    std::vector<Cell> cells = {one.row.words, one.row.contract};
    if (several_classes) cells.emplace_back(one.row.layer_class.empty() ? "all" : one.row.layer_class);
    cells.emplace_back(state_word(one.row.state), style_of(one.row.state));
    cells.emplace_back(one.row.tried);
    table.row(std::move(cells));
  }
  fmt::print("{}", table.render(output.color));
}

void print_broken(const Printed& one, const Output& output) {
  fmt::print("\n{} {}\n  {}\n", styled("BROKEN", Style::bad, output.color), one.row.words, one.row.sentence);
  if (!one.row.smallest) return;
  const LayoutCase& small = *one.row.smallest;
  fmt::print("  smallest: {}\n  there:    {}\n  replay:   {}\n", suite::describe(small.trial),
             one.row.smallest_sentence, replay_line(one.file));
}

Json json_of(const Printed& one) {
  Json entry = {{"proof", one.row.id},
                {"words", one.row.words},
                {"contract", one.row.contract},
                {"class", one.row.layer_class},
                {"verdict", one.row.state == State::holds    ? "holds"
                            : one.row.state == State::broken ? "broken"
                                                             : "skipped"},
                {"tried", one.row.tried},
                {"sentence", one.row.sentence},
                {"seconds", one.row.seconds}};
  if (one.row.smallest)
    entry["smallest"] = {{"summary", suite::describe(one.row.smallest->trial)},
                         {"sentence", one.row.smallest_sentence},
                         {"file", one.file},
                         {"replay", replay_line(one.file)},
                         {"deployment", to_json(one.row.smallest->trial.spec)}};
  return entry;
}

int check_layout(const LayoutCheckOptions& options, const Output& output) {
  Apart apart;
  const bool library = names_a_library(options.backends);
  if (library) {
    if (const auto code = apart.run(kLibraryLimit)) return *code;
    apart.enter("layout check");
  }
  const Backends backends = chosen_backends(options.backends);
  ProofRun run;
  if (!options.model.empty()) run.model = model_argument(options.model);
  std::optional<std::int32_t> experts;
  if (options.experts != 0) experts = options.experts;
  if (!experts && run.model) experts = run.model->num_experts;
  run.spec = read_deployment(options.layout, experts);
  if (options.has_sum_over) run.sum_over = options.sum_over;
  run.batches = options.batches;
  run.seed = options.seed;
  Progress progress;
  if (library) progress.listener = [&](const std::string& what) { apart.enter("layout check, " + what); };
  std::vector<Printed> rows;
  for (ProofRow& row : prove_layout(run, backends, progress)) {
    Printed& one = rows.emplace_back();
    one.row = std::move(row);
    if (one.row.smallest)
      one.file =
          save_layout_case(failures_folder(options.save), file_name(one.row), *one.row.smallest).string();
  }
  progress.clear();
  apart.leave();
  const auto count = [&](State state) {
    return std::count_if(rows.begin(), rows.end(),
                         [&](const Printed& one) { return one.row.state == state; });
  };
  const auto held = count(State::holds), broken = count(State::broken), skipped = count(State::skipped);
  const Deployment deployment = make_deployment(run.spec);
  if (output.json) {
    Json document = json_document("layout_check");
    document["layout"] = options.layout;
    document["ranks"] = deployment.num_ranks;
    document["seed"] = options.seed;
    document["deployment"] = to_json(run.spec);
    document["proofs"] = Json::array();
    for (const Printed& one : rows) document["proofs"].push_back(json_of(one));
    document["holds"] = held;
    document["broken"] = broken;
    document["skipped"] = skipped;
    document["proven"] = broken == 0 && held > 0;
    print_json(document);
  } else {
    std::string experts_words;
    for (const LayerClass& c : deployment.classes)
      experts_words +=
          (experts_words.empty() ? "" : ", ") + describe_count(c.spec.placement.num_experts, "expert");
    fmt::print("{}\n{}, {}\n\n", styled("Layout " + options.layout, Style::heading, output.color),
               describe_count(deployment.num_ranks, "rank"), experts_words);
    print_rows(rows, deployment.classes.size() > 1, output);
    for (const Printed& one : rows)
      if (one.row.state == State::broken) print_broken(one, output);
    fmt::print("\n{}: {} proofs hold, {} broken, {} skipped.\n",
               broken == 0 ? styled("Proven", Style::good, output.color)
                           : styled("NOT proven", Style::bad, output.color),
               held, broken, skipped);
    if (options.backends.empty()) fmt::print("{}", describe_missing_backends());
  }
  if (held + broken == 0) return kNothingRan;
  return broken == 0 ? kAgreement : kDifference;
}

int replay(const LayoutCheckOptions& options, const Output& output) {
  const LayoutCase one = load_layout_case(options.replay);
  Apart apart;
  if (names_a_library({one.backend})) {
    if (const auto code = apart.run(kLibraryLimit)) return *code;
    apart.enter("layout check, replay");
  }
  const std::unique_ptr<Backend> backend = one.backend.empty() ? nullptr : make_backend(one.backend);
  const contract::Verdict bad = suite::prove(one.proof, suite::resolve(one.trial, spoil_of(one)),
                                             backend ? guarded_steps(*backend) : reference::LayerSteps{});
  apart.leave();
  if (output.json) {
    Json document = json_document("layout_check");
    document["replay"] = options.replay;
    document["proof"] = to_string(one.proof);
    document["summary"] = suite::describe(one.trial);
    document["broken"] = bad.has_value();
    document["sentence"] = bad ? bad->sentence : "";
    print_json(document);
  } else {
    fmt::print("{}\n{}: {}\n{}\n", suite::describe(one.trial),
               bad ? styled("BROKEN", Style::bad, output.color) : styled("holds", Style::good, output.color),
               words_of(one.proof), bad ? bad->sentence : "no violation");
  }
  return bad ? kDifference : kAgreement;
}

std::string proofs_words(const std::vector<suite::Proof>& proofs) {
  std::string words;
  for (const suite::Proof proof : proofs)
    words += (words.empty() ? "" : ", ") + std::string(to_string(proof));
  return words;
}

int check_mutants(const LayoutCheckOptions& options, const Output& output) {
  Table table;
  table.column("bug").column("origin").column("caught by").column("smallest case");
  Json entries = Json::array();
  std::int64_t survivors = 0, ran = 0;
  std::string names;
  Progress progress;
  for (const suite::LayoutMutant& mutant : suite::layout_mutant_list()) {
    names += (names.empty() ? "" : ", ") + mutant.id;
    if (!options.mutant.empty() && mutant.id != options.mutant) continue;
    ++ran;
    progress.say(mutant.id);
    const suite::LayoutMutantOutcome outcome = suite::run_layout_mutant(mutant);
    const bool caught = !outcome.caught_by.empty();
    survivors += caught ? 0 : 1;
    std::string file;
    if (caught && !options.save.empty())
      file = save_layout_case(options.save, "layout-mutant-" + mutant.id,
                              {outcome.smallest.trial, outcome.shown, mutant.id, std::nullopt, ""})
                 .string();
    const std::string smallest = caught ? suite::describe(outcome.smallest.trial) : mutant.wrong;
    table.row({mutant.id, mutant.origin,
               caught ? Cell(proofs_words(outcome.caught_by), Style::good) : Cell("SURVIVED", Style::bad),
               smallest});
    Json entry = {{"name", mutant.id},
                  {"origin", mutant.origin},
                  {"wrong", mutant.wrong},
                  {"caught", caught},
                  {"caught_by", Json::array()},
                  {"smallest", caught ? smallest : ""},
                  {"sentence", caught ? outcome.smallest.violation.sentence : ""},
                  {"file", file}};
    for (const suite::Proof proof : outcome.caught_by) entry["caught_by"].push_back(to_string(proof));
    entries.push_back(std::move(entry));
    if (!output.json && !options.mutant.empty() && caught) {
      progress.clear();
      fmt::print("{}: {}\n{}\n", mutant.id, mutant.wrong, outcome.smallest.violation.sentence);
      if (!file.empty()) fmt::print("replay: {}\n", replay_line(file));
      fmt::print("\n");
    }
  }
  progress.clear();
  if (ran == 0) reject("--mutant", "'" + options.mutant + "'", "it must be one of " + names);
  if (output.json) {
    Json document = json_document("layout_mutants");
    document["mutants"] = std::move(entries);
    document["survivors"] = survivors;
    print_json(document);
  } else {
    fmt::print("{}\n{} of {} caught.\n", table.render(output.color), ran - survivors, ran);
  }
  return survivors == 0 ? kAgreement : kDifference;
}

}  // namespace

int run_layout_check(const LayoutCheckOptions& options, const Output& output) {
  const bool mutants = options.mutants || !options.mutant.empty();
  const int jobs = (options.layout.empty() ? 0 : 1) + (options.replay.empty() ? 0 : 1) + (mutants ? 1 : 0);
  if (jobs != 1)
    reject("layout check", std::to_string(jobs) + " things to do",
           "give a layout, or --replay, or --mutants");
  if (mutants) return check_mutants(options, output);
  return options.replay.empty() ? check_layout(options, output) : replay(options, output);
}

}  // namespace eplora
