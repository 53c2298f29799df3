// SPDX-License-Identifier: Apache-2.0
// A command that calls somebody's library runs in a process of its own, so that a crash or a hang of the
// library is a sentence and an exit code, not the end of the terminal's program without a word.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace eplora {

/// Whether one of the names is a shared library's path.
bool names_a_library(const std::vector<std::string>& backends);

/// What stands between the two processes. In the process that works: `enter` before the library may run,
/// `leave` after.
class Apart {
 public:
  /// Forks. In the child nothing is returned and the caller goes on; in the parent, when the child has ended,
  /// the exit code: the child's own, or `kDifference` with a sentence on stderr where a signal ended it or
  /// where it stayed longer than `limit` seconds in one stretch of the library.
  std::optional<int> run(double limit);

  void enter(const std::string& what) const;
  void leave() const;
  /// Whether the library was entered and has not come back: what is thrown then is the library's doing.
  bool inside() const;

 private:
  struct Page;
  Page* page_ = nullptr;
};

}  // namespace eplora
