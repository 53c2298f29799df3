// SPDX-License-Identifier: Apache-2.0
// One changed operator through the ordinary suite, in a process of its own: changed code may index out of
// bounds, allocate without end or never come back.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "property_tests/second_order/changes.h"

namespace eplora::second_order {

struct Trial {
  bool killed = false;
  std::string by;  ///< a property's full name, "crash", "hang"
};

struct TrialOptions {
  int cases = 1000;       ///< most cases a property
  int case_seconds = 10;  ///< one case may take
  int processes = 1;      ///< at once
};

/// One trial for each change, in their order. Properties that reach the changed file run, first 100 cases of
/// each, then more; the first that fails ends the trial. `done` is called after each with how many are done.
std::vector<Trial> try_changes(const std::vector<Change>& changes, const TrialOptions& options,
                               const std::function<void(std::size_t)>& done);

}  // namespace eplora::second_order
