// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cli/exit_code.h"

namespace eplora {
namespace {

// What the signal handler may touch.
volatile std::sig_atomic_t line_shown = 0;

extern "C" void leave_on_interrupt(int) {
  if (line_shown != 0) {
    constexpr char kClear[] = "\r\033[K";
    if (write(STDERR_FILENO, kClear, sizeof kClear - 1) < 0) _exit(kInterrupted);
  }
  _exit(kInterrupted);
}

std::size_t terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Progress::Progress() {
  const char* term = std::getenv("TERM");
  visible_ = isatty(STDERR_FILENO) != 0 && (term == nullptr || std::strcmp(term, "dumb") != 0);
}

void Progress::say(const std::string& text) {
  if (listener) listener(text);
  const auto now = std::chrono::steady_clock::now();
  if (!visible_ || (shown_ && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  shown_ = true;
  line_shown = 1;
  fmt::print(stderr, "\r\033[K{}", text.substr(0, std::max<std::size_t>(terminal_width(), 2) - 1));
  std::fflush(stderr);
}

void Progress::clear() {
  if (!shown_) return;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
  shown_ = false;
  line_shown = 0;
}

void install_interrupt_handler() { std::signal(SIGINT, leave_on_interrupt); }

}  // namespace eplora
