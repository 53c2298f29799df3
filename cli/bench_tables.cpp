// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_tables.h"

#include <fmt/format.h>

#include <algorithm>

#include "benchmarks/statistics.h"
#include "cli/table.h"

namespace eplora {
namespace {

using bench::Pattern;
using bench::Record;
using bench::ShapeRecord;
using bench::Suite;
using bench::TimingRecord;

double gb_per_s(std::int64_t bytes, double microseconds) {
  return static_cast<double>(bytes) / microseconds * 1e-3;
}

std::string percent(double share) { return fmt::format("{:.0f}%", 100 * share); }

std::string median_text(const ShapeRecord& shape, const std::string& backend) {
  const TimingRecord* const timing = shape.timing(backend);
  return timing == nullptr ? "-" : microseconds_text(timing->median_us());
}

/// The backends of a suite, in the order of the file.
std::vector<std::string> backends_of(const Record& record, Suite suite) {
  std::vector<std::string> names;
  for (const ShapeRecord& shape : record.shapes)
    for (const TimingRecord& timing : shape.timings)
      if (shape.suite == suite && std::ranges::find(names, timing.backend) == names.end())
        names.push_back(timing.backend);
  return names;
}

/// The one that the summary is about: cuda, else the last.
std::string subject_of(const std::vector<std::string>& backends) {
  if (backends.empty() || std::ranges::find(backends, "cuda") != backends.end()) return "cuda";
  return backends.back();
}

std::string shape_text(const bench::RoutingShape& shape) {
  std::string text =
      fmt::format("{} x {}, {}, {}", shape.tokens, shape.top_k, shape.buckets(), shape.block_size);
  if (shape.ep == 4) text += ", three quarters sentinels";
  return text;
}

/// "1.31 zipf": how much longer the worst pattern takes than uniform ids.
std::string worst_skew(const Record& record, const ShapeRecord& uniform, const std::string& backend) {
  const TimingRecord* const base = uniform.timing(backend);
  double worst = 0;
  std::string which;
  for (const Pattern pattern : {Pattern::zipf, Pattern::one_expert, Pattern::sentinels}) {
    const ShapeRecord* const skewed = record.find(uniform.suite, uniform.name(), pattern);
    const TimingRecord* const timing = skewed == nullptr ? nullptr : skewed->timing(backend);
    if (base == nullptr || timing == nullptr) continue;
    const double ratio = timing->median_us() / base->median_us();
    if (ratio <= worst) continue;
    worst = ratio;
    which = to_string(pattern);
  }
  return which.empty() ? "-" : fmt::format("{:.2f} {}", worst, which);
}

std::string verdict_on(double time_us, double goal_us) {
  return time_us <= goal_us ? "met" : fmt::format("missed, {:.2f} x", time_us / goal_us);
}

Grid routing_summary(const Record& record, Suite suite) {
  std::vector<std::string> backends = backends_of(record, suite);
  std::stable_partition(backends.begin(), backends.end(),
                        [&](const std::string& name) { return name == baseline_of(record); });
  const std::string subject = subject_of(backends);
  const bool goals = suite == Suite::route && subject == "cuda";
  Grid grid;
  grid.columns = {{"tokens x top-k, virtual experts, block", false}, {subject + " us"}};
  if (goals) grid.columns.insert(grid.columns.end(), {{"goal us"}, {"goal", false}, {"engines today us"}});
  for (const std::string& backend : backends)
    if (backend != subject) grid.columns.push_back({backend + " us"});
  grid.columns.insert(grid.columns.end(), {{"floor us"}, {"of the copy's rate"}});
  if (suite == Suite::route) grid.columns.push_back({"worst skew"});
  for (const ShapeRecord& shape : record.shapes) {
    if (shape.suite != suite || shape.pattern != Pattern::uniform || !shape.routing.model.empty()) continue;
    const TimingRecord* const timing = shape.timing(subject);
    std::vector<std::string>& row = grid.rows.emplace_back();
    row = {shape_text(shape.routing), median_text(shape, subject)};
    if (goals) {
      const auto& goal = shape.routing.goal_us;
      const auto& engines = shape.routing.engines_today_us;
      row.push_back(goal ? fmt::format("{}", *goal) : "-");
      row.push_back(goal && timing != nullptr ? verdict_on(timing->median_us(), *goal) : "-");
      row.push_back(engines ? fmt::format("{}", *engines) : goal ? "cannot" : "-");
    }
    for (const std::string& backend : backends)
      if (backend != subject) row.push_back(median_text(shape, backend));
    row.push_back(microseconds_text(record.floor_us(shape.bytes)));
    row.push_back(timing == nullptr
                      ? "-"
                      : percent(gb_per_s(shape.bytes, timing->median_us()) / record.copy_gb_per_s()));
    if (suite == Suite::route) row.push_back(worst_skew(record, shape, subject));
  }
  return grid;
}

Grid slice_summary(const Record& record) {
  const std::vector<std::string> backends = backends_of(record, Suite::slice);
  const std::string subject = subject_of(backends);
  Grid grid;
  grid.columns = {{"layout", false},   {"layers"},    {"MB moved"},           {subject + " us"},  {"copy us"},
                  {subject + " GB/s"}, {"copy GB/s"}, {"of the copy's rate"}, {"goal 85%", false}};
  for (const std::string& backend : backends)
    if (backend != subject) grid.columns.push_back({backend + " us"});
  for (const ShapeRecord& shape : record.shapes) {
    if (shape.suite != Suite::slice) continue;
    const TimingRecord* const timing = shape.timing(subject);
    if (timing == nullptr || !shape.copy) continue;
    const double copy_us = shape.copy->median_us(), time_us = timing->median_us(), rate = copy_us / time_us;
    std::vector<std::string>& row = grid.rows.emplace_back();
    row = {shape.name(),
           fmt::format("{}", shape.slice.layers),
           fmt::format("{:.0f}", static_cast<double>(shape.bytes) * 1e-6),
           microseconds_text(time_us),
           microseconds_text(copy_us),
           fmt::format("{:.0f}", gb_per_s(shape.bytes, time_us)),
           fmt::format("{:.0f}", gb_per_s(shape.bytes, copy_us)),
           percent(rate),
           rate >= bench::kSliceGoal ? "met" : "missed"};
    for (const std::string& backend : backends)
      if (backend != subject) row.push_back(median_text(shape, backend));
  }
  return grid;
}

std::string cell_for_csv(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

template <class Cell>
std::string joined(const std::vector<std::string>& cells, const char* separator, const Cell& cell) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) line += (i == 0 ? "" : separator) + cell(cells[i]);
  return line;
}

}  // namespace

std::string microseconds_text(double microseconds) {
  return microseconds < 9.995   ? fmt::format("{:.2f}", microseconds)
         : microseconds < 99.95 ? fmt::format("{:.1f}", microseconds)
                                : fmt::format("{:.0f}", microseconds);
}

std::string Grid::text(bool color) const {
  Table table;
  for (const Column& column : columns)
    table.column(column.header, column.is_number ? Table::Align::right : Table::Align::left);
  for (const std::vector<std::string>& row : rows) table.row({row.begin(), row.end()});
  return table.render(color);
}

std::string Grid::markdown() const {
  const auto same = [](const std::string& cell) { return cell; };
  std::vector<std::string> headers, rules;
  for (const Column& column : columns) {
    headers.push_back(column.header);
    rules.push_back(column.is_number ? "---:" : "---");
  }
  std::string lines = "| " + joined(headers, " | ", same) + " |\n| " + joined(rules, " | ", same) + " |\n";
  for (const std::vector<std::string>& row : rows) lines += "| " + joined(row, " | ", same) + " |\n";
  return lines;
}

std::string Grid::csv() const {
  std::vector<std::string> headers;
  for (const Column& column : columns) headers.push_back(column.header);
  std::string lines = joined(headers, ",", cell_for_csv) + "\n";
  for (const std::vector<std::string>& row : rows) lines += joined(row, ",", cell_for_csv) + "\n";
  return lines;
}

std::string baseline_of(const Record& record) {
  return record.memory == "cuda" ? "cuda-unfused" : "reference";
}

Grid all_timings(const Record& record, Suite suite) {
  const std::string baseline = baseline_of(record);
  Grid grid;
  grid.columns = {{"suite", false},   {"shape", false},       {"pattern", false},
                  {"backend", false}, {"median us"},          {"p5 us"},
                  {"p95 us"},         {"launches"},           {"bytes"},
                  {"GB/s"},           {"of the copy's rate"}, {"to the floor"},
                  {"to " + baseline}, {"timed as", false}};
  for (const ShapeRecord& shape : record.shapes) {
    if (shape.suite != suite) continue;
    const TimingRecord* const base = shape.timing(baseline);
    const double copy_rate =
        shape.copy ? gb_per_s(shape.bytes, shape.copy->median_us()) : record.copy_gb_per_s();
    for (const TimingRecord& timing : shape.timings) {
      const double time_us = timing.median_us(), rate = gb_per_s(shape.bytes, time_us);
      grid.rows.push_back(
          {std::string(to_string(suite)), shape.name(), std::string(to_string(shape.pattern)), timing.backend,
           microseconds_text(time_us), microseconds_text(bench::percentile(timing.samples_us, 0.05)),
           microseconds_text(bench::percentile(timing.samples_us, 0.95)),
           timing.launches == 0 ? "-" : fmt::format("{:.4g}", timing.launches),
           fmt::format("{}", shape.bytes), fmt::format("{:.1f}", rate), percent(rate / copy_rate),
           fmt::format("{:.2f}", time_us / record.floor_us(shape.bytes)),
           base == nullptr ? "-" : fmt::format("{:.3f}", time_us / base->median_us()), timing.timed_as});
    }
  }
  return grid;
}

Grid summary(const Record& record, Suite suite) {
  return suite == Suite::slice ? slice_summary(record) : routing_summary(record, suite);
}

Grid model_summary(const Record& record) {
  const std::vector<std::string> backends = backends_of(record, Suite::route);
  Grid grid;
  grid.columns = {{"model", false}, {"tokens"}, {"virtual experts"}};
  for (const std::string& backend : backends) grid.columns.push_back({backend + " us"});
  for (const ShapeRecord& shape : record.shapes) {
    if (shape.suite != Suite::route || shape.routing.model.empty()) continue;
    std::vector<std::string>& row = grid.rows.emplace_back();
    row = {shape.routing.model, fmt::format("{}", shape.routing.tokens),
           fmt::format("{}", shape.routing.buckets())};
    for (const std::string& backend : backends) row.push_back(median_text(shape, backend));
  }
  return grid;
}

std::string provenance(const Record& record) {
  std::string line = record.device;
  if (!record.driver.empty()) line += ", driver " + record.driver;
  if (!record.cuda.empty()) line += ", CUDA " + record.cuda;
  line += ", " + record.date + ", commit " + record.commit + ". Floors measured in the same run:";
  for (const bench::FloorRecord& floor : record.floors) {
    line += fmt::format("{} {} {} us", &floor == &record.floors.front() ? "" : ",", floor.name,
                        microseconds_text(floor.median_us()));
    if (floor.is_copy)
      line += fmt::format(" ({:.0f} GB/s read and written)", gb_per_s(floor.bytes, floor.median_us()));
  }
  return line + ".";
}

}  // namespace eplora
