// SPDX-License-Identifier: Apache-2.0
#include "cli/child_run.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "optimized/guarded_memory.h"
#include "property_tests/suite/journal.h"
#include "reference/check.h"

namespace eplora {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kShrinkCaseLimit = 1;  // seconds: a smaller case of a hang need not hang as long
constexpr double kStartLimit = 60;      // until the first case: a library may have to wake a device
constexpr int kLostReruns = 3;
constexpr double kSlowStart = 0.25;  // seconds: a child that wakes a device takes longer until its first case
constexpr int kSlowStartPatience = 2;  // times as long may then be spent on smaller cases
constexpr int kDeviceLostExit = 74;    // after it wrote down why

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The folder through which parent and child talk; gone when the parent is done with it.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "eplora-check-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error("no temporary folder can be made: " + std::string(std::strerror(errno)));
    path_ = pattern;
  }
  ~Folder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }
  fs::path journal() const { return path_ / "journal"; }
  fs::path outcome() const { return path_ / "outcome.json"; }
  fs::path refusal() const { return path_ / "refusal"; }
  fs::path device_lost() const { return path_ / "device-lost"; }

 private:
  fs::path path_;
};

/// How a child ended.
struct End {
  enum class Kind { outcome, signal, timeout, device_lost, exit } kind = Kind::exit;
  int number = 0;            ///< of the signal, of the device's fault, or the exit code
  std::string fault;         ///< of the device, in words
  double start_seconds = 0;  ///< until the first case began
  bool ends_as(const End& other) const { return kind == other.kind && number == other.number; }
};

pid_t spawn(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::fflush(nullptr);
  const pid_t parent = getpid(), child = fork();
  if (child < 0) throw std::runtime_error("no child process: " + std::string(std::strerror(errno)));
  if (child > 0) return child;
  // Between fork and exec: system calls alone.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  dup2(STDERR_FILENO, STDOUT_FILENO);  // what a library prints is no data of ours
  execv("/proc/self/exe", argv.data());
  _exit(127);
}

/// Runs this program with `words` and waits; a child that begins no case for `case_limit` seconds is killed.
End run_child(const std::vector<std::string>& words, const Folder& folder, double case_limit) {
  for (const fs::path& file : {folder.outcome(), folder.refusal(), folder.device_lost()}) fs::remove(file);
  const suite::Journal journal(folder.journal(), true);
  const Clock::time_point start = Clock::now();
  const pid_t child = spawn(words);
  std::int64_t cases = 0;
  Clock::time_point changed = start;
  double start_seconds = 0;
  bool late = false;
  int status = 0;
  while (true) {
    const pid_t ended = waitpid(child, &status, late ? 0 : WNOHANG);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR) throw std::runtime_error("the child process was lost");
    if (const std::int64_t now = journal.cases(); now != cases) {
      if (cases == 0) start_seconds = seconds_since(start);
      cases = now;
      changed = Clock::now();
    } else if (seconds_since(changed) > (cases == 0 ? std::max(kStartLimit, case_limit) : case_limit)) {
      late = true;
      kill(child, SIGKILL);
      continue;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (fs::exists(folder.refusal())) throw InvalidArgument(text_of(folder.refusal()));
  if (late) return {End::Kind::timeout, 0, {}, start_seconds};
  if (WIFSIGNALED(status)) return {End::Kind::signal, WTERMSIG(status), {}, start_seconds};
  if (fs::exists(folder.device_lost())) {
    std::istringstream words_of_child(text_of(folder.device_lost()));
    End end{End::Kind::device_lost, 0, {}, start_seconds};
    words_of_child >> end.number >> std::ws;
    std::getline(words_of_child, end.fault);
    return end;
  }
  if (fs::exists(folder.outcome())) return {End::Kind::outcome, 0, {}, start_seconds};
  return {End::Kind::exit, WEXITSTATUS(status), {}, start_seconds};
}

std::string kind_of(const End& end) {
  switch (end.kind) {
    case End::Kind::timeout:
      return "hang";
    case End::Kind::signal:
      return "crash";
    case End::Kind::device_lost:
      return "device fault";
    case End::Kind::exit:
    case End::Kind::outcome:
      break;
  }
  return "exit";
}

std::string sentence_of(const End& end, double case_limit) {
  switch (end.kind) {
    case End::Kind::timeout:
      return fmt::format("the case had not come to its end after {:g} s; its process was killed", case_limit);
    case End::Kind::signal:
      return fmt::format("the process that ran the case was ended by signal {} ({})", end.number,
                         strsignal(end.number));
    case End::Kind::device_lost:
      return end.fault;
    case End::Kind::exit:
    case End::Kind::outcome:
      break;
  }
  return fmt::format("the process that ran the case was left with exit code {}, by a call of exit",
                     end.number);
}

nlohmann::json to_json(const suite::Outcome& outcome) {
  nlohmann::json json = {{"status", outcome.status},
                         {"reason", outcome.reason},
                         {"cases", outcome.cases},
                         {"discarded", outcome.discarded},
                         {"seed", outcome.seed},
                         {"ended_by_time", outcome.ended_by_time},
                         {"distribution", outcome.distribution},
                         {"property", outcome.property.full_name()}};
  if (!outcome.counterexample) return json;
  const suite::Counterexample& c = *outcome.counterexample;
  json["counterexample"] = {{"contract", c.contract},
                            {"sentence", c.sentence},
                            {"expected", c.expected},
                            {"found", c.found},
                            {"picture", c.picture},
                            {"failed", c.failed},
                            {"reruns", c.reruns},
                            {"after_cases", c.after_cases},
                            {"shrinks", c.shrinks},
                            {"summary", c.summary},
                            {"table", c.table},
                            {"json", c.json},
                            {"unshrunk_path", c.unshrunk_path},
                            {"shrunk_path", c.shrunk_path},
                            {"replay", c.replay}};
  return json;
}

suite::Outcome outcome_from(const nlohmann::json& json, const std::string& backend) {
  suite::Outcome outcome;
  outcome.property = suite::find_properties(json.at("property").get<std::string>()).front();
  outcome.backend = backend;
  json.at("status").get_to(outcome.status);
  json.at("reason").get_to(outcome.reason);
  json.at("cases").get_to(outcome.cases);
  json.at("discarded").get_to(outcome.discarded);
  json.at("seed").get_to(outcome.seed);
  json.at("ended_by_time").get_to(outcome.ended_by_time);
  json.at("distribution").get_to(outcome.distribution);
  if (!json.contains("counterexample")) return outcome;
  const nlohmann::json& from = json.at("counterexample");
  suite::Counterexample c;
  from.at("contract").get_to(c.contract);
  from.at("sentence").get_to(c.sentence);
  from.at("expected").get_to(c.expected);
  from.at("found").get_to(c.found);
  from.at("picture").get_to(c.picture);
  from.at("failed").get_to(c.failed);
  from.at("reruns").get_to(c.reruns);
  from.at("after_cases").get_to(c.after_cases);
  from.at("shrinks").get_to(c.shrinks);
  from.at("summary").get_to(c.summary);
  from.at("table").get_to(c.table);
  from.at("json").get_to(c.json);
  from.at("unshrunk_path").get_to(c.unshrunk_path);
  from.at("shrunk_path").get_to(c.shrunk_path);
  from.at("replay").get_to(c.replay);
  outcome.counterexample = std::move(c);
  return outcome;
}

std::vector<std::string> command(const Folder& folder, const std::string& backend,
                                 std::initializer_list<std::string> more) {
  std::vector<std::string> words = {"eplora", "check",   "--backend",
                                    backend,  "--child", folder.path().string()};
  words.insert(words.end(), more);
  return words;
}

/// The outcome of a child that ended without telling one.
suite::Outcome lost(const End& end, const Folder& folder, const std::string& backend,
                    const suite::RunOptions& options, double case_limit) {
  const suite::Journal journal(folder.journal(), false);
  const std::string sentence = sentence_of(end, case_limit);
  if (journal.last_case().empty())
    throw std::runtime_error("backend " + backend + ", before a case could be written down: " + sentence);
  suite::RunOptions again = options;
  again.reruns = std::min(options.reruns, kLostReruns);
  if (end.start_seconds > kSlowStart) again.shrink_limit *= kSlowStartPatience;
  const double limit = std::min(case_limit, kShrinkCaseLimit);
  const Folder trial;
  suite::Outcome outcome;
  outcome.backend = backend;
  outcome.seed = options.seed;
  outcome.cases = journal.cases();
  outcome.counterexample =
      suite::settle_lost_case(journal, backend, kind_of(end), sentence, again, [&](const fs::path& file) {
        return run_child(command(trial, backend, {"--replay", file.string()}), trial, limit).ends_as(end);
      });
  const suite::Counterexample& found = *outcome.counterexample;
  outcome.status = found.failed == found.reruns ? suite::Status::violated : suite::Status::flaky;
  return outcome;
}

}  // namespace

suite::Outcome run_in_child(const suite::PropertyInfo& property, const std::string& backend,
                            const suite::RunOptions& options, double case_limit) {
  const Clock::time_point start = Clock::now();
  const Folder folder;
  std::vector<std::string> words = command(folder, backend,
                                           {"--property", property.full_name(), "--seed",
                                            std::to_string(options.seed), "--save", options.save_dir});
  words.insert(words.end(), {"--reruns", std::to_string(options.reruns), "--shrink-for",
                             fmt::format("{}s", options.shrink_limit)});
  if (options.cases > 0) words.insert(words.end(), {"--cases", std::to_string(options.cases)});
  if (options.time_limit > 0) words.insert(words.end(), {"--for", fmt::format("{}s", options.time_limit)});
  const End end = run_child(words, folder, case_limit);
  suite::Outcome outcome = end.kind == End::Kind::outcome
                               ? outcome_from(nlohmann::json::parse(text_of(folder.outcome())), backend)
                               : lost(end, folder, backend, options, case_limit);
  outcome.property = property;
  outcome.seconds = seconds_since(start);
  return outcome;
}

suite::Outcome replay_in_child(const fs::path& file, const std::string& backend,
                               const suite::RunOptions& options, double case_limit) {
  const Clock::time_point start = Clock::now();
  const Folder folder;
  const End end = run_child(
      command(folder, backend, {"--replay", file.string(), "--reruns", std::to_string(options.reruns)}),
      folder, case_limit);
  suite::Outcome outcome;
  if (end.kind == End::Kind::outcome) {
    outcome = outcome_from(nlohmann::json::parse(text_of(folder.outcome())), backend);
  } else {
    suite::RunOptions as_it_is = options;
    as_it_is.shrink_limit = -1;
    as_it_is.save_dir = folder.path();
    outcome = lost(end, folder, backend, as_it_is, case_limit);
    suite::Counterexample& found = *outcome.counterexample;
    outcome.property =
        suite::find_properties(nlohmann::json::parse(found.json).at("property").get<std::string>()).front();
    found.unshrunk_path.clear();
    found.shrunk_path = file.string();
    found.replay = "eplora check --backend " + backend + " --replay " + file.string();
    outcome.cases = found.after_cases = 1;
  }
  outcome.seconds = seconds_since(start);
  return outcome;
}

void begin_as_child(const fs::path& folder) {
  static suite::Journal journal(folder / "journal", false);  // until the process ends
  suite::keep_journal(&journal);
  when_a_device_is_lost([folder](const DeviceLost& lost) {
    std::ofstream(folder / "device-lost", std::ios::binary | std::ios::trunc)
        << lost.code << ' ' << lost.what() << std::flush;
    _exit(kDeviceLostExit);
  });
}

void wake_device(const Backend& backend) {
  MemoryAccess& memory = memory_access(backend.memory_space());
  const Region region = memory.acquire(1);
  memory.upload(region, 0, 1);
  memory.synchronize();
  memory.give_back(region);
}

void report_to_parent(const fs::path& folder, const suite::Outcome& outcome) {
  const fs::path draft = folder / "outcome.part";
  std::ofstream file(draft, std::ios::binary | std::ios::trunc);
  file << to_json(outcome).dump() << std::flush;
  if (!file) throw std::runtime_error("the outcome cannot be written into " + folder.string());
  file.close();
  fs::rename(draft, folder / "outcome.json");
}

void refuse_to_parent(const fs::path& folder, const std::string& sentence) {
  std::ofstream(folder / "refusal", std::ios::binary | std::ios::trunc) << sentence << std::flush;
}

}  // namespace eplora
