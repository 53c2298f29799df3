// SPDX-License-Identifier: Apache-2.0
// The second table of `eplora compare`: `route` on synthetic routing in the geometry of real models, timed
// for each backend of this machine beside what was recorded on GPUs. Every timed call gets other inputs at
// another address than the call before it, and every output is compared with the reference afterwards.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

#include "benchmarks/record.h"
#include "benchmarks/run.h"
#include "cli/backend_equality.h"
#include "cli/compare.h"
#include "cli/known_models.h"
#include "cli/layout_input.h"
#include "cli/project_files.h"
#include "cli/recorded_results.h"
#include "cli/table.h"
#include "optimized/external/external_backend.h"
#include "reference/check.h"
#include "reference/routing/route.h"

namespace eplora {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int32_t kBlockSize = 64;
constexpr const char* kDefaultLayout = "tp=4,ep=4";
constexpr double kTimeForOne = 60'000;  // microseconds
constexpr std::size_t kFewest = 5, kMost = 200;

struct Timing {
  std::string backend;
  double median_us = 0;
  std::size_t repeats = 0;
  std::string difference;  ///< empty = equal to the reference
};

/// A routing problem with what it points to.
struct Batch {
  ModelConfig model;
  NamedLayout layout;
  std::int64_t tokens = 0;
  std::int32_t max_loras = 0;
  std::vector<std::int32_t> topk_ids, mapping;
  DispatchTable table;

  RouteProblem problem() const {
    RouteProblem route;
    route.topk_ids = IdMatrix::of(topk_ids, model.top_k);
    route.token_lora_mapping = mapping;
    route.num_experts = model.num_experts;
    route.table = table.local_ids;
    route.offsets = table.offsets;
    route.num_local_experts = static_cast<std::int32_t>(layout.layout.local_experts(0).size());
    route.max_loras = max_loras;
    route.block_size = kBlockSize;
    return route;
  }
  /// The same tokens, beginning with another one, in memory of its own.
  Batch turned(std::size_t by) const {
    Batch other = *this;
    if (mapping.empty()) return other;
    const auto rows = static_cast<std::ptrdiff_t>(by % mapping.size());
    std::rotate(other.mapping.begin(), other.mapping.begin() + rows, other.mapping.end());
    std::rotate(other.topk_ids.begin(), other.topk_ids.begin() + rows * model.top_k, other.topk_ids.end());
    return other;
  }
  std::int64_t slots_here() const {
    return std::count_if(topk_ids.begin(), topk_ids.end(), [&](std::int32_t id) {
      const std::int32_t first = table.offsets.empty() ? id : table.offsets[id];
      return table.local_ids[first] >= 0;
    });
  }
};

Batch make_batch(const ModelConfig& model, const std::string& layout, std::int64_t tokens,
                 std::int32_t max_loras, std::uint64_t seed) {
  Batch batch;
  batch.model = model;
  batch.layout = layouts_for(layout, model.num_experts, model.moe_intermediate).front();
  batch.tokens = tokens;
  batch.max_loras = max_loras;
  const Range here = batch.layout.layout.token_range(tokens, 0);
  batch.topk_ids = random_topk_ids(seed, here.size(), model.num_experts, model.top_k);
  batch.mapping = random_lora_mapping(seed, here.size(), max_loras);
  batch.table = batch.layout.layout.placement.dispatch_table(batch.layout.layout.place(0).ep_rank);
  return batch;
}

/// Somebody's library may offer no route.
bool is_timed(const Backend& backend) {
  return backend.memory_space() == MemorySpace::host && backend.supports(Operation::route);
}

/// One call into memory that is there already, full of garbage, as an engine would make it.
struct TimedCall {
  RouteResult got;
  double microseconds = 0;
};

TimedCall timed_call(Backend& backend, const RouteProblem& problem) {
  const std::int64_t capacity =
      backend.capacity(problem.topk_ids.size(), problem.num_buckets(), problem.block_size, problem.sentinels);
  TimedCall call;
  AlignResult& blocks = call.got.blocks;
  blocks.sorted_token_ids.assign(static_cast<std::size_t>(capacity), -7);
  blocks.expert_ids.assign(static_cast<std::size_t>(capacity / problem.block_size), -7);
  call.got.token_lora_mask.assign(static_cast<std::size_t>(problem.topk_ids.rows), 0xA5);
  const RouteOutput to{
      {blocks.sorted_token_ids.data(), blocks.expert_ids.data(), &blocks.num_tokens_post_padded},
      call.got.token_lora_mask.data()};
  std::vector<std::max_align_t> workspace(backend.workspace_bytes(problem) / sizeof(std::max_align_t) + 1);
  const ExecutionContext context{workspace.data(), workspace.size() * sizeof(std::max_align_t), nullptr};
  const Clock::time_point before = Clock::now();
  backend.route(problem, to, context);
  call.microseconds = std::chrono::duration<double, std::micro>(Clock::now() - before).count();
  return call;
}

/// This machine's rate of copying, as a record that floors are read from.
const bench::Record& copy_of_this_machine() {
  static const bench::Record kRecord = [] {
    bench::FloorRecord copy{"memcpy 16 MiB", true, std::int64_t{32} << 20, {}};
    std::vector<char> from(std::size_t{16} << 20, 1), to(from.size());
    for (int i = 0; i < 7; ++i) {
      const Clock::time_point before = Clock::now();
      std::memcpy(to.data(), from.data(), to.size());
      copy.samples_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - before).count());
    }
    bench::Record record;
    record.memory = "host";
    record.floors = {{"none", false, 0, {0}}, copy};
    return record;
  }();
  return kRecord;
}

/// Why nobody can be that fast; empty where somebody can.
std::string impossible(const RouteProblem& problem, std::int64_t capacity, double microseconds) {
  const std::int64_t n = problem.topk_ids.size(), T = problem.topk_ids.rows;
  const std::int64_t bytes = 4 * (n + T + capacity + capacity / problem.block_size + 1) + T;
  const double least = bench::least_possible_us(copy_of_this_machine(), bytes, 2 * bytes);
  if (microseconds >= least) return "";
  return fmt::format("{:.4f} us is less than the {:.4f} us that this machine needs at least for {} bytes",
                     microseconds, least, bytes);
}

Timing time_backend(Backend& backend, const Batch& batch) {
  Timing timing;
  timing.backend = backend.name();
  std::vector<double> microseconds;
  double sum = 0;
  Batch fresh = batch;
  timed_call(backend, fresh.problem());  // warm
  while (microseconds.size() < kFewest || (sum < kTimeForOne && microseconds.size() < kMost)) {
    fresh = batch.turned(microseconds.size() + 1);  // made before the last one's memory is given back
    const TimedCall call = timed_call(backend, fresh.problem());
    if (timing.difference.empty())
      timing.difference = first_difference(call.got, reference::route(fresh.problem()));
    sum += call.microseconds;
    microseconds.push_back(call.microseconds);
  }
  const auto middle = microseconds.begin() + static_cast<std::ptrdiff_t>(microseconds.size() / 2);
  std::nth_element(microseconds.begin(), middle, microseconds.end());
  timing.median_us = *middle;
  timing.repeats = microseconds.size();
  const RouteProblem problem = batch.problem();
  if (timing.difference.empty() && is_external_backend(backend.name()))
    timing.difference = impossible(problem,
                                   backend.capacity(problem.topk_ids.size(), problem.num_buckets(),
                                                    problem.block_size, problem.sentinels),
                                   timing.median_us);
  return timing;
}

std::vector<ModelConfig> chosen_models(const std::string& name_or_file) {
  if (!name_or_file.empty()) return {model_argument(name_or_file)};
  return timed_models();
}

std::string microseconds_text(double value) {
  return value < 100 ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

/// The table's columns, its rows one by one, and what was wrong.
class SpeedReport {
 public:
  SpeedReport(const Backends& backends, std::vector<RecordedColumn> recorded, const std::string& layout,
              std::uint64_t seed)
      : recorded_(std::move(recorded)), layout_(layout), seed_(seed) {
    table_.column("model");
    for (const char* header : {"tokens", "adapters", "slots", "of them here", "buckets"})
      table_.column(header, Table::Align::right);
    for (const auto& backend : backends)
      if (is_timed(*backend))
        table_.column(std::string(backend->name()), Table::Align::right,
                      backend->name() == "thrust-host" ? "second opinion, not tuned" : "");
    for (const RecordedColumn& column : recorded_)
      table_.column(column.backend, Table::Align::right, column.device + ", recorded " + column.date);
    table_.column("outputs");
  }

  void add(const Batch& batch, const std::vector<Timing>& timings) {
    const RouteProblem problem = batch.problem();
    std::vector<Cell> cells = {batch.model.name,
                               fmt::format("{}", batch.tokens),
                               fmt::format("{}", batch.max_loras),
                               fmt::format("{}", batch.topk_ids.size()),
                               fmt::format("{}", batch.slots_here()),
                               fmt::format("{}", problem.num_buckets())};
    nlohmann::ordered_json entry = {{"model", batch.model.name},        {"layout", layout_},
                                    {"tokens", batch.tokens},           {"adapters", batch.max_loras},
                                    {"block_size", kBlockSize},         {"slots", batch.topk_ids.size()},
                                    {"slots_here", batch.slots_here()}, {"buckets", problem.num_buckets()}};
    bool equal = true;
    for (const Timing& timing : timings) {
      cells.emplace_back(microseconds_text(timing.median_us));
      entry["timings"].push_back({{"backend", timing.backend},
                                  {"median_us", timing.median_us},
                                  {"repeats", timing.repeats},
                                  {"difference", timing.difference}});
      equal &= timing.difference.empty();
      if (!timing.difference.empty())
        differences_.push_back(fmt::format("{} on {}, {} tokens: {}", timing.backend, batch.model.name,
                                           batch.tokens, timing.difference));
    }
    for (const RecordedColumn& column : recorded_) {
      const auto median =
          column.median({"route", batch.model.name, layout_, batch.tokens, batch.max_loras, kBlockSize});
      cells.emplace_back(median ? microseconds_text(*median) : "-");
      if (median)
        entry["recorded"].push_back({{"backend", column.backend},
                                     {"device", column.device},
                                     {"date", column.date},
                                     {"median_us", *median}});
    }
    cells.emplace_back(equal ? Cell("equal", Style::good) : Cell("DIFFERENT", Style::bad));
    table_.row(std::move(cells));
    entries_.push_back(std::move(entry));
  }

  void print(const Output& output) const {
    fmt::print("{}\n", styled("Time of route (dispatch, remap, align) in the geometry of real models",
                              Style::heading, output.color));
    fmt::print(
        "microseconds, median of repeated calls on this machine; rank 0 of {}, blocks of {}, uniform "
        "synthetic "
        "routing, seed {}\n\n",
        layout_, kBlockSize, seed_);
    fmt::print("{}\n", table_.render(output.color));
    for (const std::string& line : differences_)
      fmt::print("{} {}\n", styled("DIFFERENT", Style::bad, output.color), line);
    if (recorded_.empty()) fmt::print("No GPU result is recorded in benchmarks/results yet.\n");
  }

  const nlohmann::ordered_json& entries() const { return entries_; }
  bool has_recorded() const { return !recorded_.empty(); }
  CompareOutcome outcome() const {
    return {differences_.empty(), static_cast<std::int64_t>(entries_.size())};
  }

 private:
  Table table_;
  std::vector<RecordedColumn> recorded_;
  std::string layout_;
  std::uint64_t seed_;
  nlohmann::ordered_json entries_ = nlohmann::ordered_json::array();
  std::vector<std::string> differences_;
};

}  // namespace

CompareOutcome compare_speed(const CompareOptions& options, const Backends& backends, const Output& output,
                             Progress& progress, nlohmann::ordered_json& document) {
  const std::string layout = options.layout.empty() ? kDefaultLayout : options.layout;
  SpeedReport report(backends, read_recorded_results(project_folder("benchmarks/results")), layout,
                     options.seed);
  std::vector<std::string> skipped;
  std::vector<ModelConfig> models = chosen_models(options.model);
  if (std::none_of(backends.begin(), backends.end(), [](const auto& b) { return is_timed(*b); })) {
    models.clear();
    skipped.emplace_back("Time of route: not taken, since no backend named offers route in host memory.");
  }
  for (const ModelConfig& model : models) {
    for (const std::int64_t tokens : options.tokens) {
      for (const std::int32_t max_loras : options.adapters) {
        progress.say(fmt::format("timing {}: {} tokens, {} adapters", model.name, tokens, max_loras));
        Batch batch;
        try {
          batch = make_batch(model, layout, tokens, max_loras, options.seed);
        } catch (const InvalidArgument& error) {
          skipped.push_back(fmt::format("{} skipped: {}", model.name, error.what()));
          continue;
        }
        std::vector<Timing> timings;
        for (const auto& backend : backends)
          if (is_timed(*backend)) timings.push_back(time_backend(*backend, batch));
        report.add(batch, timings);
      }
    }
  }
  progress.clear();
  document["speed"] = {{"operation", "route"},
                       {"layout", layout},
                       {"rows", report.entries()},
                       {"skipped", skipped},
                       {"gpu_results_recorded", report.has_recorded()},
                       {"notes", {{"thrust-host", "second opinion, not tuned"}}}};
  if (output.json) return report.outcome();
  for (const std::string& line : skipped) fmt::print("{}\n", line);
  if (report.outcome().rows > 0) report.print(output);
  return report.outcome();
}

}  // namespace eplora
