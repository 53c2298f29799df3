// SPDX-License-Identifier: Apache-2.0
#include "cli/apart.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "cli/exit_code.h"
#include "optimized/external/external_backend.h"

namespace eplora {
namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

/// In memory that both processes see.
struct Apart::Page {
  std::atomic<std::int64_t> entered{0};  // when, by the clock of both; 0 outside of the library
  char what[256]{};                      // the last stretch; written before `entered`
};

bool names_a_library(const std::vector<std::string>& backends) {
  return std::ranges::any_of(backends, [](const std::string& name) { return is_external_backend(name); });
}

std::optional<int> Apart::run(double limit) {
  void* const memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory for a child process");
  page_ = new (memory) Page;
  std::fflush(nullptr);
  const pid_t parent = getpid(), child = fork();
  if (child < 0) throw std::runtime_error("no child process: " + std::string(std::strerror(errno)));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(kInterrupted);
    return std::nullopt;
  }
  int status = 0;
  bool late = false;
  while (true) {
    const pid_t ended = waitpid(child, &status, late ? 0 : WNOHANG);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR) throw std::runtime_error("the child process was lost");
    const std::int64_t entered = page_->entered;
    if (!late && entered != 0 && static_cast<double>(now_ns() - entered) > limit * 1e9) {
      late = true;
      kill(child, SIGKILL);
      continue;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const std::string what = page_->what;
  if (late) {
    fmt::print(stderr, "eplora: HANG: {}: it had not come to its end after {:g} s; its process was killed\n",
               what, limit);
    return kDifference;
  }
  if (WIFSIGNALED(status)) {
    fmt::print(stderr, "eplora: CRASH: {}: its process was ended by signal {} ({})\n", what, WTERMSIG(status),
               strsignal(WTERMSIG(status)));
    return kDifference;
  }
  if (page_->entered != 0 && WEXITSTATUS(status) == kAgreement) {
    fmt::print(stderr, "eplora: EXIT: {}: the library left the process by a call of exit\n", what);
    return kDifference;
  }
  return WEXITSTATUS(status);
}

void Apart::enter(const std::string& what) const {
  if (page_ == nullptr) return;
  const std::size_t size = std::min(what.size(), sizeof page_->what - 1);
  std::memcpy(page_->what, what.data(), size);
  page_->what[size] = '\0';
  page_->entered = now_ns();
}

bool Apart::inside() const { return page_ != nullptr && page_->entered != 0; }

void Apart::leave() const {
  if (page_ != nullptr) page_->entered = 0;
}

}  // namespace eplora
