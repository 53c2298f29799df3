// SPDX-License-Identifier: Apache-2.0
// The golden half of `eplora compare`: for each fixture a row for every layout - errors of the recombined
// sharded layer against what transformers and PEFT recorded, in float and double, judged by the contract's
// section 7, and the backends against the reference on that layout's ranks.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/backend_equality.h"
#include "cli/compare.h"
#include "cli/formats/golden_fixture.h"
#include "cli/layout_text.h"
#include "cli/project_files.h"
#include "cli/table.h"
#include "reference/check.h"
#include "reference/lora/sharded_moe_layer.h"

namespace eplora {
namespace {

using reference::Matrix;

// Contract, section 7.
constexpr double kFloatBound = 1e-6, kDoubleBound = 3.5e-7, kMaximumBound = 2e-6, kShardedBound = 1e-13;

struct CaseError {
  std::string name;
  OutputError in_float, in_double;
  double sharded_to_whole = 0;  ///< Frobenius, double

  /// Written so that a NaN is never within a bound.
  bool within() const {
    return in_float.frobenius <= kFloatBound && in_double.frobenius <= kDoubleBound &&
           in_float.maximum <= kMaximumBound && in_double.maximum <= kMaximumBound &&
           sharded_to_whole <= kShardedBound;
  }
};

struct GoldenRow {
  const NamedLayout* layout = nullptr;
  std::vector<CaseError> cases;
  std::vector<BackendVerdict> backends;

  bool within() const {
    return std::all_of(cases.begin(), cases.end(), [](const CaseError& c) { return c.within(); });
  }
  bool agrees() const {
    return within() &&
           std::all_of(backends.begin(), backends.end(), [](const BackendVerdict& b) { return b.agrees(); });
  }
  double sharded_to_whole() const {
    double worst = 0;
    for (const CaseError& one : cases) worst = one.sharded_to_whole <= worst ? worst : one.sharded_to_whole;
    return worst;
  }
};

/// The largest of each error over rows; NaN wins.
struct Worst {
  double in_float = 0, in_double = 0, maximum = 0, sharded = 0;
  std::int64_t rows = 0, uneven = 0, outside = 0, different = 0;

  static void raise(double& worst, double value) { worst = value <= worst ? worst : value; }
  void add(const GoldenRow& row) {
    ++rows;
    uneven += row.layout->uneven ? 1 : 0;
    outside += row.within() ? 0 : 1;
    for (const BackendVerdict& backend : row.backends) different += backend.agrees() ? 0 : 1;
    for (const CaseError& one : row.cases) {
      raise(in_float, one.in_float.frobenius);
      raise(in_double, one.in_double.frobenius);
      raise(maximum, one.in_float.maximum);
      raise(maximum, one.in_double.maximum);
      raise(sharded, one.sharded_to_whole);
    }
  }
  void add(const Worst& other) {
    raise(in_float, other.in_float);
    raise(in_double, other.in_double);
    raise(maximum, other.maximum);
    raise(sharded, other.sharded);
    rows += other.rows;
    uneven += other.uneven;
    outside += other.outside;
    different += other.different;
  }
  bool agreed() const { return outside == 0 && different == 0; }
};

OutputError error_of(const Matrix<double>& got, const Matrix<double>& want) {
  const Matrix<double> difference = got - want;
  return {difference.norm() / want.norm(), difference.cwiseAbs().maxCoeff() / want.cwiseAbs().maxCoeff()};
}

/// A fixture with what does not depend on the layout: recorded outputs and the whole layer's.
class FixtureRun {
 public:
  explicit FixtureRun(const GoldenFixture& fixture) : fixture_(fixture) {
    for (const GoldenCase& golden : fixture.cases) {
      recorded_.push_back(
          Eigen::Map<const Matrix<float>>(golden.output.data(), fixture.num_tokens, fixture.geometry.hidden)
              .cast<double>());
      whole_.push_back(reference::moe_layer<double>(fixture.problem(golden)));
      whole_errors_.push_back(
          {golden.name,
           error_of(reference::moe_layer<float>(fixture.problem(golden)).cast<double>(), recorded_.back()),
           error_of(whole_.back(), recorded_.back()), 0});
    }
    data_.topk_ids = IdMatrix::of(fixture.topk_ids, fixture.top_k);
    data_.token_lora_mapping = fixture.cases.back().token_lora_mapping;  // the mixed batch
    data_.geometry = fixture.geometry;
    for (const PeftAdapter& adapter : fixture.adapters) data_.adapters.push_back(&adapter.adapter());
  }

  const std::vector<CaseError>& whole() const { return whole_errors_; }

  GoldenRow row(const NamedLayout& named, const Backends& backends) const {
    GoldenRow row;
    row.layout = &named;
    for (std::size_t i = 0; i < fixture_.cases.size(); ++i) {
      const reference::MoeLayerProblem problem = fixture_.problem(fixture_.cases[i]);
      const Matrix<double> in_double = reference::sharded_moe_layer<double>(problem, named.layout);
      const Matrix<double> in_float =
          reference::sharded_moe_layer<float>(problem, named.layout).cast<double>();
      row.cases.push_back({fixture_.cases[i].name, error_of(in_float, recorded_[i]),
                           error_of(in_double, recorded_[i]), error_of(in_double, whole_[i]).frobenius});
    }
    for (const auto& backend : backends)
      row.backends.push_back(compare_backend(*backend, named.layout, data_));
    return row;
  }

 private:
  const GoldenFixture& fixture_;
  EqualityData data_;
  std::vector<Matrix<double>> recorded_, whole_;
  std::vector<CaseError> whole_errors_;
};

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
