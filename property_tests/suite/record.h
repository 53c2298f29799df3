// SPDX-License-Identifier: Apache-2.0
// A run's outcomes as a JSON file that is whole after every property: a run that is cut off leaves what it
// found.
#pragma once

#include <filesystem>
#include <vector>

#include "property_tests/suite/suite.h"

namespace eplora::suite {

class Record {
 public:
  /// `path` empty = no file.
  Record(std::filesystem::path path, const RunOptions& options);
  void add(const Outcome& outcome);
  /// Nothing is missing: every property had its turn.
  void finish();

 private:
  void write(bool finished) const;

  std::filesystem::path path_;
  RunOptions options_;
  std::vector<Outcome> outcomes_;
};

}  // namespace eplora::suite
