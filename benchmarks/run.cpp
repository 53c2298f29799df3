// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <thread>

#include "benchmarks/machine.h"
#include "benchmarks/routing_workload.h"
#include "benchmarks/slice_workload.h"
#include "optimized/external/external_backend.h"
#include "reference/check.h"

namespace eplora::bench {
namespace {

using Clock = std::chrono::steady_clock;

/// How many samples: at least `fewest`, then more until `seconds` are over or there are `most`.
struct Effort {
  int fewest, most;
  double seconds;
};

constexpr const char* kGpuMethod =
    "a sample is a replay of a CUDA graph that holds `calls` calls in a row, timed by events right behind an "
    "untimed replay of the same graph, divided by `calls`, so that a kernel which may be launched before the "
    "one in front of it has ended hides a part of its launch there; calls rotate over `sets` input sets, "
    "each "
    "with inputs, outputs and workspace of its own; backends take turns, sample by sample; floors were "
    "measured first, in the same way";
constexpr const char* kHostMethod =
    "a sample is a row of `calls` calls, timed by a steady clock, divided by `calls`; calls rotate over "
    "`sets` "
    "input sets, each with inputs, outputs and workspace of its own; backends take turns, sample by sample; "
    "floors were measured first, in the same way";
constexpr const char* kChecked =
    "outputs were poisoned before timing and read back afterwards: routing outputs of every input set "
    "compared "
    "byte for byte with the reference on the host; slicing outputs of every layer compared with the "
    "reference "
    "by SHA-256, and the other adapter slot byte for byte with what stood there";

/// Samples of everything, in turns; who goes first changes from round to round.
void take_turns(const std::vector<Calls*>& all, const std::vector<std::vector<double>*>& samples,
                const Effort& effort) {
  Clock::time_point start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  for (int round = 0; round < 2 || seconds() < 0.03; ++round)  // warm: caches, and clocks that idled
    for (Calls* calls : all) calls->sample();
  start = Clock::now();
  for (int round = 0; round < effort.most; ++round) {
    if (round >= effort.fewest && seconds() > effort.seconds) break;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::size_t turn = (i + static_cast<std::size_t>(round)) % all.size();
      samples[turn]->push_back(std::round(all[turn]->sample() * 1e4) / 1e4);  // as a file holds it
    }
  }
}

std::vector<FloorRecord> measure_floors(Machine& machine, bool quick) {
  std::vector<FloorCalls> floors = machine.prepare_floors();
  std::vector<FloorRecord> records;
  for (const FloorCalls& floor : floors) records.push_back({floor.name, floor.is_copy, floor.bytes, {}});
  std::vector<Calls*> calls;
  std::vector<std::vector<double>*> samples;
  for (std::size_t i = 0; i < floors.size(); ++i) {
    calls.push_back(floors[i].calls.get());
    samples.push_back(&records[i].samples_us);
  }
  take_turns(calls, samples, quick ? Effort{5, 11, 0.2} : Effort{21, 41, 1});
  return records;
}

TimingRecord timing_of(const std::string& name, const Calls& calls) {
  return {name, calls.timed_as, calls.note, calls.count, calls.launches, calls.other_nodes, {}};
}

/// Somebody's library: before every sample other inputs stand in the same memory and outputs are poisoned,
/// and after it every output is judged. Neither is timed.
class JudgedCalls final : public Calls {
 public:
  JudgedCalls(std::unique_ptr<Calls> calls, Loaded& loaded, Machine& machine, const Request& request,
              std::string what)
      : calls_(std::move(calls)),
        loaded_(loaded),
        machine_(machine),
        request_(request),
        what_(std::move(what)) {
    count = calls_->count;
    timed_as = calls_->timed_as;
    note =
        "before every sample other inputs are brought into the same memory; every output is judged after it";
  }
  double sample() override {
    loaded_.refresh(
        [this](void* memory, std::size_t bytes, std::uint8_t value) { machine_.fill(memory, bytes, value); },
        ++round_);
    machine_.memory().synchronize();
    if (request_.enter) request_.enter(what_);
    const double microseconds = calls_->sample();
    machine_.memory().synchronize();
    if (request_.leave) request_.leave();
    if (difference.empty()) difference = loaded_.difference();
    return microseconds;
  }

  std::string difference;  ///< the first of any sample

 private:
  std::unique_ptr<Calls> calls_;
  Loaded& loaded_;
  Machine& machine_;
  const Request& request_;
  std::string what_;
  int round_ = 0;
};

class Run {
 public:
  Run(const Request& request, const std::function<void(const std::string&)>& say)
      : request_(request), say_(say) {}

  Outcome go() {
    require_shapes();
    choose_backends();
    Record& record = outcome_.record;
    record.device = machine_->device();
    record.memory = to_string(machine_->space());
    record.driver = machine_->driver();
    record.cuda = machine_->cuda();
    record.method = on_gpu() ? kGpuMethod : kHostMethod;
    record.checked = kChecked;
    say_("floors");
    record.floors = measure_floors(*machine_, request_.quick);
    for (const Suite suite : kSuites)
      if (asked(suite)) suite == Suite::slice ? slice_suite() : routing_suite(suite);
    return std::move(outcome_);
  }

 private:
  bool on_gpu() const { return machine_->space() == MemorySpace::cuda; }
  void skip(const std::string& what, const std::string& why) {
    outcome_.record.skipped.push_back({what, why});
  }

  void choose_backends() {
    for (const std::string& name : request_.backends) {
      const bool library = is_external_backend(name);
      if (library && request_.enter) request_.enter("loading " + name);
      backends_.push_back(make_backend(name));
      if (library && request_.leave) request_.leave();
    }
    if (request_.backends.empty()) {
      std::vector<std::unique_ptr<Backend>> here = available_backends();
      const bool gpu =
          std::ranges::any_of(here, [](const auto& b) { return b->memory_space() == MemorySpace::cuda; });
      for (std::unique_ptr<Backend>& backend : here)
        if ((backend->memory_space() == MemorySpace::cuda) == gpu)
          backends_.push_back(std::move(backend));
        else
          skip(std::string(backend->name()), "it runs on the host; name it with --backend to time it");
      for (const BackendEntry& entry : list_backends())
        if (!entry.unavailable.empty()) skip(entry.name, entry.unavailable);
    }
    const MemorySpace space = backends_.front()->memory_space();
    for (const auto& backend : backends_)
      if (backend->memory_space() != space)
        reject("backend", std::string(backend->name()),
               "one run times either backends of the host or of the GPU; " +
                   std::string(backends_.front()->name()) + " is of the other kind");
    machine_ = space == MemorySpace::cuda ? make_cuda_machine() : make_host_machine();
  }

  /// Whether a shape is asked for; with no --shape at all, whether it is one of the defaults.
  bool chosen(const std::string& name, bool by_default) const {
    if (request_.shapes.empty()) return by_default;
    return std::ranges::any_of(request_.shapes, [&](const std::string& glob) { return fits(name, glob); });
  }

  bool asked(Suite suite) const {
    return request_.suites.empty() || std::ranges::find(request_.suites, suite) != request_.suites.end();
  }

  /// Every --shape must fit something in the suites asked for.
  void require_shapes() const {
    std::vector<std::string> names;
    if (asked(Suite::route) || asked(Suite::remap) || asked(Suite::align))
      for (const RoutingShape& shape : goal_shapes()) names.push_back(shape.name);
    if (asked(Suite::route))
      for (const RoutingShape& shape : request_.models) names.push_back(shape.name);
    if (asked(Suite::slice))
      for (const SliceShape& shape : slice_shapes()) names.push_back(shape.name);
    for (const std::string& glob : request_.shapes) {
      if (std::ranges::any_of(names, [&](const std::string& name) { return fits(name, glob); })) continue;
      std::string list;
      for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
      reject("shape", glob, "the suites asked for have " + list);
    }
  }

  std::vector<Pattern> patterns(Suite suite, const RoutingShape& shape) const {
    if (!request_.patterns.empty()) return request_.patterns;
    if (request_.quick || suite != Suite::route || !shape.model.empty()) return {Pattern::uniform};
    return {std::begin(kPatterns), std::end(kPatterns)};
  }

  void routing_suite(Suite suite) {
    std::vector<RoutingShape> shapes = goal_shapes();
    if (suite == Suite::route) shapes.insert(shapes.end(), request_.models.begin(), request_.models.end());
    const std::int64_t largest = on_gpu() ? std::int64_t{1} << 31 : 1 << 18;
    for (const RoutingShape& shape : shapes) {
      const bool small = shape.slots() <= largest && !(request_.quick && shape.slots() > (1 << 16));
      if (!chosen(shape.name, small)) {
        if (request_.shapes.empty())
          skip(std::string(to_string(suite)) + " " + shape.name,
               request_.quick ? "not among the shapes of --quick"
                              : "too large for a short run on a host; name it with --shape");
        continue;
      }
      for (const Pattern pattern : patterns(suite, shape)) {
        say_(std::string(to_string(suite)) + " " + shape.name + " " + std::string(to_string(pattern)));
        const int sets = !on_gpu() && shape.slots() > (1 << 16) ? 2 : rotating_sets(shape);
        const auto workload = make_routing_workload(suite, shape, pattern, sets);
        ShapeRecord record;
        record.suite = suite;
        record.pattern = pattern;
        record.routing = shape;
        if (suite != Suite::route) record.routing.goal_us = record.routing.engines_today_us = {};
        const int rounds = !on_gpu()                    ? 1
                           : shape.slots() <= (1 << 12) ? 16
                           : shape.slots() <= (1 << 16) ? 4
                                                        : 1;
        Effort effort = on_gpu() ? shape.slots() <= (1 << 18) ? Effort{41, 61, 0.4} : Effort{21, 31, 0.4}
                                 : Effort{5, 41, 0.2};
        if (request_.quick) effort = {5, 11, 0.05};
        time(*workload, std::move(record), rounds, effort);
      }
    }
  }

  static bool slices_as_cuda_does(const Backend& backend) { return backend.name() == "cuda-unfused"; }

  void slice_suite() {
    if (std::ranges::any_of(backends_, [](const auto& b) { return slices_as_cuda_does(*b); }))
      skip("slice on cuda-unfused", "its slicing is that of cuda");
    if (std::ranges::all_of(backends_, [](const auto& b) { return slices_as_cuda_does(*b); })) return;
    for (SliceShape shape : slice_shapes()) {
      if (!chosen(shape.name, !request_.quick || shape.name == slice_shapes().front().name)) {
        if (request_.shapes.empty()) skip("slice " + shape.name, "not among the shapes of --quick");
        continue;
      }
      if (!on_gpu() && shape.layers != slice_shapes().front().layers && request_.shapes.empty()) {
        skip("slice " + shape.name, "a host cuts one layer, which other shapes do");
        continue;
      }
      if (!on_gpu()) shape.layers = 1;
      if (on_gpu() && request_.quick) shape.layers = 4;
      say_("slice " + shape.name);
      const auto workload = make_slice_workload(shape);
      ShapeRecord record;
      record.suite = Suite::slice;
      record.slice = shape;
      time(*workload, std::move(record), 1,
           request_.quick || !on_gpu() ? Effort{3, 11, 0.3} : Effort{21, 21, 0});
    }
  }

  void time(const Workload& workload, ShapeRecord record, int rounds, const Effort& effort) {
    record.bytes = workload.bytes();
    record.sets = workload.sets();
    record.parts = workload.parts();
    std::vector<std::unique_ptr<Loaded>> loaded;
    std::vector<std::unique_ptr<Calls>> prepared;
    std::vector<JudgedCalls*> judged;  // null for ours
    for (const auto& backend : backends_) {
      if (record.suite == Suite::slice && slices_as_cuda_does(*backend)) continue;
      const std::string name(backend->name());
      const bool library = is_external_backend(name);
      if (library && !can_time(*backend, record)) continue;
      const std::string what = name + ", " + std::string(to_string(record.suite)) + " " + record.name() +
                               " " + std::string(to_string(record.pattern));
      if (library && request_.enter) request_.enter(what);
      Loaded& own = *loaded.emplace_back(workload.load(*backend, machine_->memory()));
      for (int set = 0; set < workload.sets(); ++set) own.enqueue(set, nullptr);
      machine_->memory().synchronize();
      if (library && request_.leave) request_.leave();
      if (library) {
        auto calls = machine_->prepare_calls([&own](int set, void* stream) { own.enqueue(set, stream); },
                                             workload.sets());
        auto own_calls = std::make_unique<JudgedCalls>(std::move(calls), own, *machine_, request_, what);
        judged.push_back(own_calls.get());
        prepared.push_back(std::move(own_calls));
        record.timings.push_back(timing_of(name, *prepared.back()));
        continue;
      }
      judged.push_back(nullptr);
      own.poison([this](void* memory, std::size_t bytes, std::uint8_t value) {
        machine_->fill(memory, bytes, value);
      });
      prepared.push_back(machine_->prepare([&own](int set, void* stream) { own.enqueue(set, stream); },
                                           workload.sets(), rounds));
      record.timings.push_back(timing_of(std::string(backend->name()), *prepared.back()));
    }
    if (loaded.empty()) return;
    if (record.suite == Suite::slice) {
      prepared.push_back(machine_->prepare_copy(record.bytes));
      record.copy = timing_of("copy", *prepared.back());
    }
    std::vector<Calls*> all;
    std::vector<std::vector<double>*> samples;
    for (std::size_t i = 0; i < prepared.size(); ++i) {
      all.push_back(prepared[i].get());
      samples.push_back(i < record.timings.size() ? &record.timings[i].samples_us : &record.copy->samples_us);
    }
    take_turns(all, samples, effort);
    machine_->memory().synchronize();
    for (std::size_t i = 0; i < loaded.size(); ++i) {
      const std::string what = record.timings[i].backend + ", " + std::string(to_string(record.suite)) + " " +
                               record.name() + " " + std::string(to_string(record.pattern)) + ": ";
      const std::string difference = judged[i] == nullptr ? loaded[i]->difference() : judged[i]->difference;
      if (!difference.empty())
        outcome_.differences.push_back(what + difference);
      else if (judged[i] != nullptr)
        refuse_impossible(what, record, record.timings[i].median_us());
    }
    outcome_.record.shapes.push_back(std::move(record));
  }

  /// Whether a library can be timed on this shape; if not, says so once.
  bool can_time(const Backend& backend, const ShapeRecord& record) {
    const std::string suite(to_string(record.suite)), what = suite + " on " + std::string(backend.name());
    std::string why;
    if (!backend.supports(operation_of(record.suite)))
      why = "the library does not offer " + suite;
    else if (record.suite == Suite::slice && backend.form().scale_in_B)
      why = "it declares the scale in B, and outputs are compared with the canonical ones";
    else if (backend.form().ids == contract::AcceptedIds::distinct_in_token &&
             record.pattern == Pattern::one_expert)
      why = "it accepts distinct ids in a token alone, and the pattern one-expert has none";
    if (backend.supports(Operation::delta))
      skip_once("delta on " + std::string(backend.name()),
                "no suite times it; eplora check --property delta judges it");
    if (why.empty()) return true;
    skip_once(what, why);
    return false;
  }

  void skip_once(const std::string& what, const std::string& why) {
    if (std::ranges::none_of(outcome_.record.skipped,
                             [&](const Skipped& s) { return s.what == what && s.why == why; }))
      skip(what, why);
  }

  static Operation operation_of(Suite suite) {
    switch (suite) {
      case Suite::route:
        return Operation::route;
      case Suite::remap:
        return Operation::remap;
      case Suite::align:
        return Operation::align;
      case Suite::slice:
        break;
    }
    return Operation::slice;
  }

  void refuse_impossible(const std::string& what, const ShapeRecord& record, double median_us) {
    const double least =
        least_possible_us(outcome_.record, record.bytes, record.bytes * std::max(record.sets, 1));
    if (median_us >= least) return;
    char sentence[160];
    std::snprintf(sentence, sizeof sentence,
                  "%.4f us is less than the %.4f us that this machine needs at least for %lld bytes",
                  median_us, least, static_cast<long long>(record.bytes));
    outcome_.impossible.push_back(what + sentence);
  }

  const Request& request_;
  const std::function<void(const std::string&)>& say_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::unique_ptr<Machine> machine_;
  Outcome outcome_;
};

}  // namespace

double least_possible_us(const Record& record, std::int64_t bytes, std::int64_t working_set) {
  constexpr double kOfAGpu = 1.25, kOfAHost = 2;  // reading alone or writing alone may beat a copy
  constexpr double kCache = 8;
  const bool gpu = record.memory == "cuda";
  const bool cached = working_set <= (gpu ? std::int64_t{128} << 20 : std::int64_t{64} << 20);
  const double cores = gpu ? 1 : std::max(1U, std::thread::hardware_concurrency());
  const double rate = record.copy_gb_per_s() * (gpu ? kOfAGpu : kOfAHost) * cores * (cached ? kCache : 1);
  return std::max(record.empty_us(), static_cast<double>(bytes) / rate * 1e-3);
}

Outcome run(const Request& request, const std::function<void(const std::string&)>& say) {
  return Run(request, say).go();
}

}  // namespace eplora::bench
