// SPDX-License-Identifier: Apache-2.0
// The search for a failing case on several threads. Where a case costs a round trip to a GPU, one thread
// mostly waits; several fill the time. Whoever runs next takes the next number; a failing case stops only
// numbers above its own, so that the lowest failing number, and with it the report, is the same in every run.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>

#include "property_tests/suite/property.h"

namespace eplora::suite {
namespace {

constexpr std::int64_t kMostDiscards = 10;  // for each case wanted
constexpr std::uint64_t kSizes = 101;       // 0 to 100, as RapidCheck has it

class Search {
 public:
  Search(const PropertyDefinition& property, Backend& backend, const RunOptions& options, std::uint64_t seed)
      : property_(property), backend_(backend), options_(options), seed_(seed), form_(backend.form()) {}

  /// Numbers from `first` up to, not including, `end`.
  void run(std::int64_t first, std::int64_t end, std::int64_t wanted) {
    next_ = first;
    end_ = end;
    wanted_ = wanted;
    std::vector<std::thread> threads;
    for (int i = 0; i < options_.threads; ++i) threads.emplace_back([this] { work(); });
    for (std::thread& thread : threads) thread.join();
    if (error_) std::rethrow_exception(error_);
  }

  Sweep result;

 private:
  void work() {
    try {
      std::map<std::string, std::int64_t> distribution;
      for (std::int64_t i = next_++; i < end_; i = next_++) {
        if (!try_case(i, distribution)) break;
      }
      const std::lock_guard lock(mutex_);
      for (const auto& [label, count] : distribution) result.distribution[label] += count;
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      end_ = 0;
    }
  }

  /// False when the search is over.
  bool try_case(std::int64_t i, std::map<std::string, std::int64_t>& distribution) {
    const auto number = static_cast<std::uint64_t>(i);
    Draw draw(hash_at(seed_, number));
    const CasePtr c = property_.draw(draw, static_cast<int>(number % kSizes), form_);
    contract::Verdict verdict;
    bool discarded = false;
    try {
      verdict = judge(property_, *c, backend_);
    } catch (const Discard&) {
      discarded = true;
    }
    if (!discarded)
      for (const std::string& label : c->labels()) ++distribution[label];
    const std::lock_guard lock(mutex_);
    ++(discarded ? result.discarded : result.cases);
    if (verdict && (!result.found || i < result.found->index)) {
      result.found = {i, c, std::move(verdict)};
      end_ = std::min<std::int64_t>(end_, i);
    }
    if (options_.progress &&
        !options_.progress({&property_.info, result.cases, wanted_, result.discarded, false, 0}))
      result.interrupted = true;
    if (options_.time_limit > 0 &&
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count() >
            options_.time_limit)
      result.ended_by_time = true;
    return !result.interrupted && !result.ended_by_time;
  }

  const PropertyDefinition& property_;
  Backend& backend_;
  const RunOptions& options_;
  const std::uint64_t seed_;
  const contract::Form form_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::atomic<std::int64_t> next_ = 0, end_ = 0;
  std::int64_t wanted_ = 0;
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

Sweep sweep(const PropertyDefinition& property, Backend& backend, const RunOptions& options,
            std::int64_t wanted, std::uint64_t seed) {
  Search search(property, backend, options, seed);
  Sweep& result = search.result;
  std::int64_t drawn = 0;
  const auto over = [&] { return result.found || result.interrupted || result.ended_by_time; };
  while (!over() && result.cases < wanted) {
    const std::int64_t missing = wanted - result.cases;
    search.run(drawn, drawn + missing, wanted);
    drawn += missing;
    if (!over() && result.discarded > kMostDiscards * wanted) {
      result.gave_up = true;
      break;
    }
  }
  return std::move(result);
}

}  // namespace eplora::suite
