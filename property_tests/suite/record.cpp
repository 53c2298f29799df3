// SPDX-License-Identifier: Apache-2.0
#include "property_tests/suite/record.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "reference/check.h"

namespace eplora::suite {

Record::Record(std::filesystem::path path, const RunOptions& options)
    : path_(std::move(path)), options_(options) {
  write(false);
}

void Record::add(const Outcome& outcome) {
  outcomes_.push_back(outcome);
  write(false);
}

void Record::finish() { write(true); }

void Record::write(bool finished) const {
  if (path_.empty()) return;
  nlohmann::ordered_json document = {{"schema", "eplora.property_run/1"},
                                     {"finished", finished},
                                     {"seed", options_.seed},
                                     {"threads", options_.threads},
                                     {"outcomes", nlohmann::ordered_json::array()}};
  for (const Outcome& outcome : outcomes_) {
    nlohmann::ordered_json entry = {{"property", outcome.property.full_name()}, {"backend", outcome.backend},
                                    {"status", to_string(outcome.status)},      {"cases", outcome.cases},
                                    {"discarded", outcome.discarded},           {"seconds", outcome.seconds}};
    if (!outcome.reason.empty()) entry["reason"] = outcome.reason;
    if (outcome.counterexample) {
      entry["violated"] = outcome.counterexample->contract + ": " + outcome.counterexample->sentence;
      entry["smallest_case"] = outcome.counterexample->summary;
      entry["file"] = outcome.counterexample->shrunk_path;
    }
    document["outcomes"].push_back(std::move(entry));
  }
  const std::filesystem::path draft = path_.string() + ".part";
  std::ofstream file(draft, std::ios::binary | std::ios::trunc);
  file << document.dump(1) << "\n" << std::flush;
  if (!file) reject("--json", path_.string(), "a file that can be written");
  file.close();
  std::filesystem::rename(draft, path_);
}

}  // namespace eplora::suite
