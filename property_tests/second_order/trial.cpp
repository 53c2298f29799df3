// SPDX-License-Identifier: Apache-2.0
#include "property_tests/second_order/trial.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <stdexcept>

#include "property_tests/suite/suite.h"

namespace eplora::second_order {
namespace {

constexpr rlim_t kMostMemory = rlim_t{4} << 30;

/// The reference, wrong inside its operations alone: what draws and judges the cases stays right.
class ChangedReference : public ReferenceBackend {
 public:
  explicit ChangedReference(int change) : change_(change) {}
  std::string_view name() const override { return "changed-reference"; }
  void dispatch(const DispatchProblem& p, const DispatchOutput& out, const ExecutionContext& c) override {
    const Chosen chosen(change_);
    ReferenceBackend::dispatch(p, out, c);
  }
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& c) override {
    const Chosen chosen(change_);
    ReferenceBackend::remap(p, out, c);
  }
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext& c) override {
    const Chosen chosen(change_);
    ReferenceBackend::align(p, out, c);
  }
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext& c) override {
    const Chosen chosen(change_);
    ReferenceBackend::route(p, out, c);
  }
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& c) override {
    const Chosen chosen(change_);
    ReferenceBackend::slice(p, out, c);
  }

 private:
  struct Chosen {
    explicit Chosen(int change) : before(chosen) { chosen = change; }
    ~Chosen() { chosen = before; }
    Chosen(const Chosen&) = delete;
    Chosen& operator=(const Chosen&) = delete;
    int before;
  };
  int change_;
};

bool is_layout(const Change& change) { return change.file.find("/layout/") != std::string::npos; }

/// Starts of the names of properties that reach a file, those that judge it directly first.
std::vector<std::string> properties_for(const Change& change) {
  if (is_layout(change)) return {"Layout.", "Dispatch.Ranks", "Slice.Slices", "Route.Blocks", "Layer."};
  if (change.file.find("/slice") != std::string::npos) return {"Slice.", "Layer."};
  if (change.file.find("/dispatch") != std::string::npos) return {"Dispatch.", "Route."};
  if (change.file.find("/remap") != std::string::npos) return {"Remap.", "Route."};
  if (change.file.find("/align") != std::string::npos) return {"Align.", "Route."};
  return {"Route.", "Layer."};
}

/// The name of the property that fails; empty when all hold.
std::string first_failure(const Change& change, const TrialOptions& options) {
  ChangedReference backend(change.id);
  // A layout's own functions answer long after the backend made it, and its judges compute without them.
  if (is_layout(change)) chosen = change.id;
  for (const int budget : {100, options.cases})
    for (const std::string& start : properties_for(change))
      for (const suite::PropertyInfo& property : suite::find_properties(start)) {
        suite::RunOptions run;
        run.cases = std::min({budget, options.cases, property.default_cases});
        run.shrink_limit = 0;
        run.reruns = 1;
        run.progress = [&](const suite::Progress&) {
          alarm(static_cast<unsigned>(options.case_seconds));
          return true;
        };
        if (suite::run_property(property, backend, run).failed()) return property.full_name();
      }
  return "";
}

[[noreturn]] void run_in_child(const Change& change, const TrialOptions& options, int pipe) {
  const int nowhere = open("/dev/null", O_RDWR);
  dup2(nowhere, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);
  const rlimit memory{kMostMemory, kMostMemory}, core{0, 0};
  setrlimit(RLIMIT_AS, &memory);
  setrlimit(RLIMIT_CORE, &core);
  std::signal(SIGALRM, SIG_DFL);
  alarm(static_cast<unsigned>(options.case_seconds));
  std::string by;
  try {
    by = first_failure(change, options);
  } catch (const std::exception&) {
    by = "crash";  // while a case was drawn, with a changed layout
  }
  const ssize_t written = write(pipe, by.data(), by.size());
  _exit(written == static_cast<ssize_t>(by.size()) ? 0 : 1);
}

Trial trial_of(int status, int pipe) {
  std::string by(256, '\0');
  const ssize_t length = read(pipe, by.data(), by.size());
  close(pipe);
  by.resize(static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  if (WIFSIGNALED(status)) by = WTERMSIG(status) == SIGALRM ? "hang" : "crash";
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) by = "crash";
  return {!by.empty(), by};
}

}  // namespace

std::vector<Trial> try_changes(const std::vector<Change>& changes, const TrialOptions& options,
                               const std::function<void(std::size_t)>& done) {
  struct Child {
    std::size_t change;
    int pipe;
  };
  std::vector<Trial> trials(changes.size());
  std::map<pid_t, Child> running;
  std::size_t next = 0, finished = 0;
  while (finished < changes.size()) {
    while (next < changes.size() && running.size() < static_cast<std::size_t>(options.processes)) {
      int ends[2];
      if (pipe(ends) != 0) throw std::runtime_error("no pipe could be made");
      const pid_t child = fork();
      if (child < 0) throw std::runtime_error("no process could be started");
      if (child == 0) {
        close(ends[0]);
        run_in_child(changes[next], options, ends[1]);
      }
      close(ends[1]);
      running[child] = {next++, ends[0]};
    }
    int status = 0;
    const pid_t child = wait(&status);
    const auto found = running.find(child);
    if (found == running.end()) throw std::runtime_error("a process was lost");
    trials[found->second.change] = trial_of(status, found->second.pipe);
    running.erase(found);
    done(++finished);
  }
  return trials;
}

}  // namespace eplora::second_order
