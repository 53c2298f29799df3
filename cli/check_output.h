// SPDX-License-Identifier: Apache-2.0
// What `eplora check` prints: a line a verdict as it goes, so that a long run can be watched and an
// interrupted one leaves what it found, or one JSON document at the end; and the exit code.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/check_corpus.h"
#include "cli/check_report.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "property_tests/suite/suite.h"

namespace eplora {

class CheckOutput {
 public:
  CheckOutput(const Output& output, bool verbose) : output_(output), verbose_(verbose) {}

  /// Of the longest names to come.
  void widths(std::size_t name_width, std::size_t backend_width);
  void add(const suite::Outcome& outcome);
  /// The sums; `name_missing` also names the backends that cannot run here. Returns the exit code.
  int finish(std::uint64_t seed, double seconds, std::int64_t not_reached, bool name_missing,
             const Corpus* corpus);

  ReportPage page;  ///< the same for `--report`

 private:
  void header() const;
  void print(const std::string& text, Style style) const;
  void distribution(const suite::Outcome& outcome) const;
  std::int64_t failed() const;
  std::int64_t count(suite::Status status) const;
  std::string sums(std::int64_t not_reached) const;
  nlohmann::ordered_json document(std::uint64_t seed, double seconds, std::int64_t not_reached,
                                  const Corpus* corpus) const;

  Output output_;
  bool verbose_ = false;
  std::size_t name_width_ = 8, backend_width_ = 7;
  std::map<suite::Status, std::int64_t> count_;
  std::int64_t cases_ = 0, lines_ = 0;
  nlohmann::ordered_json entries_ = nlohmann::ordered_json::array();
};

}  // namespace eplora
