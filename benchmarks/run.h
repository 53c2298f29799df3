// SPDX-License-Identifier: Apache-2.0
// One run of `eplora bench`: floors first, then shape by shape all backends interleaved, outputs checked
// after timing.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "benchmarks/record.h"

namespace eplora::bench {

struct Request {
  std::vector<Suite> suites;          ///< empty = all
  std::vector<std::string> backends;  ///< empty = all of the GPU where there is one, else all of the host
  std::vector<std::string> shapes;    ///< names or globs; empty = what the machine can do in a minute or two
  std::vector<Pattern> patterns;      ///< empty = all for route, uniform for the rest
  std::vector<RoutingShape> models;   ///< of suite route, besides the goals' shapes
  bool quick = false;                 ///< fewer shapes, patterns and samples
  std::function<void(const std::string& what)> enter;  ///< somebody's library is about to run; may be empty
  std::function<void()> leave;                         ///< it has come back
};

struct Outcome {
  Record record;  ///< without date, commit and command
  std::vector<std::string>
      differences;  ///< backend, shape and sentence; nothing may be recorded unless empty
  std::vector<std::string>
      impossible;  ///< times of somebody's library below what the machine can do; likewise
};

/// The least time, in microseconds, in which this machine can move `bytes`, as far as its floors tell. Kind:
/// caches are faster than the copy that was measured, and so are several cores of a host, so a call that may
/// find its `working_set` in a cache is given several times the copy's rate.
double least_possible_us(const Record& record, std::int64_t bytes, std::int64_t working_set);

/// `say` is told what is being done. Throws `InvalidArgument` for what does not exist or does not go
/// together, `BackendUnavailable` for a named backend that cannot run here.
Outcome run(const Request& request, const std::function<void(const std::string&)>& say);

}  // namespace eplora::bench
