// SPDX-License-Identifier: Apache-2.0
#include "cli/recorded_results.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "benchmarks/record.h"
#include "cli/formats/strict_json.h"
#include "cli/project_files.h"
#include "reference/check.h"

namespace eplora {
namespace {

constexpr const char* kFirstSchema = "eplora.results/1";

RecordedColumn& column_for(std::vector<RecordedColumn>& columns, const std::string& backend,
                           const std::string& device, const std::string& date) {
  for (RecordedColumn& column : columns)
    if (column.backend == backend && column.device == device && column.date == date) return column;
  return columns.emplace_back(RecordedColumn{backend, device, date, {}});
}

void add_record(std::vector<RecordedColumn>& columns, const bench::Record& record) {
  if (record.memory != "cuda") return;
  for (const bench::ShapeRecord& shape : record.shapes) {
    const bench::RoutingShape& routing = shape.routing;
    if (shape.suite != bench::Suite::route || shape.pattern != bench::Pattern::uniform ||
        routing.model.empty())
      continue;
    for (const bench::TimingRecord& timing : shape.timings)
      column_for(columns, timing.backend, record.device, record.date)
          .medians.push_back({{"route", routing.model, routing.layout, routing.tokens, routing.max_loras,
                               routing.block_size},
                              timing.median_us()});
  }
}

}  // namespace

std::optional<double> RecordedColumn::median(const TimedProblem& problem) const {
  for (const auto& [timed, microseconds] : medians)
    if (timed == problem) return microseconds;
  return {};
}

std::vector<RecordedColumn> read_recorded_results(const std::filesystem::path& folder) {
  std::vector<RecordedColumn> columns;
  for (const std::filesystem::path& path : files_in(folder, ".json")) {
    const nlohmann::ordered_json root = read_json_object(path);
    const auto schema = root.value("schema", nlohmann::ordered_json());
    if (schema == bench::kResultsSchema) add_record(columns, bench::record_of(root, path.string()));
    if (schema != kFirstSchema) continue;
    try {
      for (const auto& result : root.at("results")) {
        RecordedColumn& column =
            column_for(columns, result.at("backend").get<std::string>(), root.at("device").get<std::string>(),
                       root.at("date").get<std::string>());
        column.medians.push_back(
            {{result.at("operation").get<std::string>(), result.at("model").get<std::string>(),
              result.at("layout").get<std::string>(), result.at("tokens").get<std::int64_t>(),
              result.at("adapters").get<std::int64_t>(), result.at("block_size").get<std::int64_t>()},
             result.at("median_us").get<double>()});
      }
    } catch (const nlohmann::json::exception& error) {
      reject(path.string(), "no " + std::string(kFirstSchema) + " document", error.what());
    }
  }
  std::erase_if(columns, [columns](const RecordedColumn& one) {
    return std::any_of(columns.begin(), columns.end(), [&](const RecordedColumn& other) {
      return other.backend == one.backend && other.device == one.device && other.date > one.date;
    });
  });
  return columns;
}

}  // namespace eplora
