// SPDX-License-Identifier: Apache-2.0
// What survives a process that an operation ends: the case that was about to run stands in a file before it
// runs. And what is done with such a case: smaller ones are tried, each in a process of its own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "property_tests/suite/suite.h"

namespace eplora::suite {

/// A file in shared memory: what one process writes the other sees at once, and it outlives its writer.
class Journal {
 public:
  /// Makes the file where `create`; throws std::runtime_error where it cannot be made or opened.
  Journal(const std::filesystem::path& path, bool create);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Cases begun so far; 0 at first.
  std::int64_t cases() const;
  /// The last case begun, as a replayable file's text; empty where none was begun or it is too long to keep.
  std::string last_case() const;
  void begin_case(const std::string& case_file);

 private:
  struct Page;
  Page* page_ = nullptr;
};

/// From now on this process writes every case into the journal before it is judged; null ends that.
void keep_journal(Journal* journal);

/// A counterexample from a journal's last case, which did not come back. `runs_again` runs the case of a file
/// and says whether it ends the same way; smaller cases are tried with it for `options.shrink_limit` seconds,
/// then the smallest is run `options.reruns` times. Cases are saved in `options.save_dir`.
Counterexample settle_lost_case(const Journal& journal, const std::string& backend, const std::string& kind,
                                const std::string& sentence, const RunOptions& options,
                                const std::function<bool(const std::filesystem::path&)>& runs_again);

}  // namespace eplora::suite
