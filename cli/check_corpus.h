// SPDX-License-Identifier: Apache-2.0
// `eplora check --corpus DIR`: a folder of saved cases that a run replays first and grows by what it finds.
// A file's name is its property and a hash of the case, so that equal cases are one file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "property_tests/suite/suite.h"

namespace eplora {

class Corpus {
 public:
  /// Reads the folder; one that is not there is an empty corpus. Only cases of `properties` are kept.
  Corpus(std::filesystem::path folder, const std::vector<suite::PropertyInfo>& properties);

  const std::vector<std::filesystem::path>& files() const { return files_; }
  /// Adds the counterexample's case unless it is there, whole or not at all; true when it was added.
  bool add(const suite::Counterexample& found);
  /// A file that is no case of this build, in words.
  void refuse(const std::string& sentence) { refused_.push_back(sentence); }
  const std::vector<std::string>& refused() const { return refused_; }
  void count_replay() { ++replayed_; }

  /// "corpus DIR: 12 cases replayed, 1 added, 1 file refused".
  std::string summary() const;

 private:
  std::filesystem::path folder_;
  std::vector<std::filesystem::path> files_;
  std::vector<std::string> refused_;
  std::int64_t replayed_ = 0, added_ = 0;
};

}  // namespace eplora
