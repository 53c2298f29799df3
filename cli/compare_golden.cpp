// SPDX-License-Identifier: Apache-2.0
// The golden half of `eplora compare`: for each fixture a row for every layout - errors of the recombined
// sharded layer against what transformers and PEFT recorded, in float and double, judged by the contract's
// section 7, and the backends against the reference on that layout's ranks.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/compare.h"
#include "cli/golden_run.h"
#include "cli/layout_text.h"
#include "cli/project_files.h"
#include "cli/table.h"
#include "reference/check.h"

namespace eplora {
namespace {

std::string error_text(double error) { return fmt::format("{:.1e}", error); }

Cell error_cell(double error, bool within) { return {error_text(error), within ? Style::plain : Style::bad}; }

bool shown(const BackendVerdict& verdict, const std::vector<BackendVerdict>& all) {
  return verdict.backend != "reference" || all.size() == 1;
}

constexpr Operation kShownOperations[] = {Operation::dispatch, Operation::remap, Operation::align,
                                          Operation::slice};

void print_rows(const GoldenFixture& fixture, const std::vector<GoldenRow>& rows, const Output& output) {
  Table table;
  table.column("layout").column("ranks", Table::Align::right);
  table.column("experts", Table::Align::left, "on a rank")
      .column("columns", Table::Align::right, "on a rank");
  for (const CaseError& one : rows.front().cases)
    table.column(one.name, Table::Align::right, "error against the recorded output (double)");
  table.column("to whole", Table::Align::right, "sharded").column("bounds");
  for (const BackendVerdict& verdict : rows.front().backends)
    if (shown(verdict, rows.front().backends))
      for (const Operation operation : kShownOperations)
        table.column(std::string(to_string(operation)), Table::Align::left,
                     verdict.backend + " against the reference");
  for (const GoldenRow& row : rows) {
    const Layout& layout = row.layout->layout;
    std::vector<Cell> cells = {row.layout->name, fmt::format("{}", layout.mesh.num_ranks())};
    const std::string experts = describe_expert_counts(layout.placement);
    cells.emplace_back(row.layout->uneven ? Cell(experts + " uneven", Style::caution) : Cell(experts));
    cells.emplace_back(fmt::format("{}", layout.column_range(fixture.geometry.intermediate, 0).size()));
    for (const CaseError& one : row.cases) cells.push_back(error_cell(one.in_double.frobenius, one.within()));
    cells.push_back(error_cell(row.sharded_to_whole(), row.sharded_to_whole() <= kShardedBound));
    cells.push_back(row.within() ? Cell("held", Style::good) : Cell("BROKEN", Style::bad));
    for (const BackendVerdict& verdict : row.backends)
      if (shown(verdict, row.backends))
        for (const Operation operation : kShownOperations) cells.push_back(verdict.of(operation).cell());
    table.row(std::move(cells));
  }
  fmt::print("{}\n", table.render(output.color));
}

void print_differences(const std::vector<GoldenRow>& rows, const Output& output) {
  for (const GoldenRow& row : rows) {
    for (const CaseError& one : row.cases)
      if (!one.within())
        fmt::print(
            "{} {}, {}: float {} (bound {}), double {} (bound {}), maximum {} and {} (bound {}), sharded to "
            "whole {} "
            "(bound {})\n",
            styled("BROKEN", Style::bad, output.color), row.layout->name, one.name,
            error_text(one.in_float.frobenius), kFloatBound, error_text(one.in_double.frobenius),
            kDoubleBound, error_text(one.in_float.maximum), error_text(one.in_double.maximum), kMaximumBound,
            error_text(one.sharded_to_whole), kShardedBound);
    for (const BackendVerdict& verdict : row.backends)
      if (!verdict.agrees())
        fmt::print("{} {}: {}\n", styled("DIFFERENT", Style::bad, output.color), row.layout->name,
                   verdict.first_difference());
  }
}

void print_fixture_header(const GoldenFixture& fixture, const FixtureRun& run, const Output& output) {
  Worst whole;
  for (const CaseError& one : run.whole()) {
    Worst::raise(whole.in_double, one.in_double.frobenius);
    Worst::raise(whole.in_float, one.in_float.frobenius);
  }
  const auto version = [&](const char* key) {
    const auto found = fixture.made_with.find(key);
    return found == fixture.made_with.end() ? std::string("of unknown version") : found->second;
  };
  fmt::print("{}\n", styled(fixture.name, Style::heading, output.color));
  fmt::print(
      "{} experts, top-{}, hidden {}, intermediate {}, {} tokens, {} adapters; recorded with transformers "
      "{}, PEFT {}\n",
      fixture.geometry.num_experts, fixture.top_k, fixture.geometry.hidden, fixture.geometry.intermediate,
      fixture.num_tokens, fixture.adapters.size(), version("transformers"), version("peft"));
  fmt::print("whole, before any sharding: error at most {} in double, {} in float\n\n",
             error_text(whole.in_double), error_text(whole.in_float));
}

nlohmann::ordered_json to_json(const CaseError& one) {
  return {
      {"output", one.name},
      {"float", {{"relative_frobenius", one.in_float.frobenius}, {"relative_maximum", one.in_float.maximum}}},
      {"double",
       {{"relative_frobenius", one.in_double.frobenius}, {"relative_maximum", one.in_double.maximum}}},
      {"sharded_to_whole", one.sharded_to_whole},
      {"within_bounds", one.within()}};
}

nlohmann::ordered_json to_json(const GoldenRow& row, std::int64_t intermediate) {
  nlohmann::ordered_json entry = {{"layout", row.layout->name},
                                  {"ranks", row.layout->layout.mesh.num_ranks()},
                                  {"uneven_experts", row.layout->uneven},
                                  {"experts_a_rank", describe_expert_counts(row.layout->layout.placement)},
                                  {"columns_a_rank", row.layout->layout.column_range(intermediate, 0).size()},
                                  {"within_bounds", row.within()},
                                  {"agrees", row.agrees()},
                                  {"outputs", nlohmann::ordered_json::array()},
                                  {"backends", nlohmann::ordered_json::array()}};
  for (const CaseError& one : row.cases) entry["outputs"].push_back(to_json(one));
  for (const BackendVerdict& verdict : row.backends) entry["backends"].push_back(to_json(verdict));
  return entry;
}

/// One fixture: all layouts, printed or put into the document.
Worst compare_fixture(const GoldenFixture& fixture, const std::vector<NamedLayout>& layouts,
                      const Backends& backends, const Output& output, Progress& progress,
                      nlohmann::ordered_json& document) {
  const FixtureRun run(fixture);
  std::vector<GoldenRow> rows;
  Worst worst;
  for (const NamedLayout& named : layouts) {
    progress.say(fmt::format("{}: {} ({} of {})", fixture.name, named.name, rows.size() + 1, layouts.size()));
    rows.push_back(run.row(named, backends));
    worst.add(rows.back());
  }
  progress.clear();
  if (output.json) {
    nlohmann::ordered_json entry = {{"fixture", fixture.name}, {"made_with", fixture.made_with}};
    for (const CaseError& one : run.whole()) entry["whole"].push_back(to_json(one));
    for (const GoldenRow& row : rows) entry["layouts"].push_back(to_json(row, fixture.geometry.intermediate));
    document["golden"].push_back(std::move(entry));
  } else {
    print_fixture_header(fixture, run, output);
    print_rows(fixture, rows, output);
    print_differences(rows, output);
  }
  return worst;
}

void print_verdict(const Worst& worst, std::size_t fixtures, const Backends& backends, const Output& output) {
  std::string names;
  for (const auto& backend : backends) names += (names.empty() ? "" : ", ") + std::string(backend->name());
  const std::string words =
      worst.agreed() ? "All agree"
                     : fmt::format("NOT all agree ({} rows outside the bounds, {} with a different backend)",
                                   worst.outside, worst.different);
  fmt::print(
      "{}: {} layouts ({} with uneven experts) of {} fixtures, against what transformers and PEFT "
      "recorded.\n",
      styled(words, worst.agreed() ? Style::good : Style::bad, output.color), worst.rows, worst.uneven,
      fixtures);
  fmt::print(
      "Worst errors: double {} (bound {:.1e}), float {} (bound {:.1e}), largest element {} (bound {:.1e}), "
      "sharded to whole {} (bound {:.1e}).\n",
      error_text(worst.in_double), kDoubleBound, error_text(worst.in_float), kFloatBound,
      error_text(worst.maximum), kMaximumBound, error_text(worst.sharded), kShardedBound);
  fmt::print("Backends compared byte for byte with the reference on every rank, in guarded memory: {}.\n\n",
             names);
}

}  // namespace

CompareOutcome compare_golden(const CompareOptions& options, const Backends& backends, const Output& output,
                              Progress& progress, nlohmann::ordered_json& document) {
  const std::filesystem::path folder = options.golden.empty() ? project_folder("property_tests/golden")
                                                              : std::filesystem::path(options.golden);
  if (folder.empty()) reject("--golden", "missing", "the project's fixtures are not here; give their folder");
  Worst worst;
  std::size_t fixtures = 0;
  std::string last_refusal;
  std::vector<std::string> skipped;
  document["golden"] = nlohmann::ordered_json::array();
  for (const std::filesystem::path& path : list_golden_fixtures(folder)) {
    const GoldenFixture fixture = load_golden_fixture(path);
    std::vector<NamedLayout> layouts;
    try {
      layouts = layouts_for(options.layout, fixture.geometry.num_experts, fixture.geometry.intermediate);
    } catch (const InvalidArgument& error) {
      last_refusal = error.what();
      skipped.push_back(fmt::format("{} skipped: {}", fixture.name, last_refusal));
      document["golden"].push_back({{"fixture", fixture.name}, {"skipped", last_refusal}});
      continue;
    }
    worst.add(compare_fixture(fixture, layouts, backends, output, progress, document));
    ++fixtures;
  }
  if (fixtures == 0) throw InvalidArgument(last_refusal);
  document["golden_worst"] = {{"float", worst.in_float},  {"double", worst.in_double},
                              {"maximum", worst.maximum}, {"sharded_to_whole", worst.sharded},
                              {"layouts", worst.rows},    {"uneven", worst.uneven}};
  document["bounds"] = {{"float", kFloatBound},
                        {"double", kDoubleBound},
                        {"maximum", kMaximumBound},
                        {"sharded_to_whole", kShardedBound}};
  if (output.json) return {worst.agreed(), worst.rows};
  for (const std::string& line : skipped) fmt::print("{}\n", line);
  print_verdict(worst, fixtures, backends, output);
  return {worst.agreed(), worst.rows};
}

}  // namespace eplora
