// SPDX-License-Identifier: Apache-2.0
// One line of progress on stderr, rewritten in place, only when stderr is a terminal: piped output stays
// clean.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace eplora {

class Progress {
 public:
  Progress();
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Is told everything that `say` is told, shown or not.
  std::function<void(const std::string&)> listener;
  /// Shows `text`, at most ten times a second and cut to the terminal's width.
  void say(const std::string& text);
  /// Takes the line away; call it before anything else is printed.
  void clear();

 private:
  bool visible_ = false;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_{};
};

/// Leaves with exit code 130 on Ctrl-C, the progress line taken away.
void install_interrupt_handler();

}  // namespace eplora
