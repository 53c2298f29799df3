// SPDX-License-Identifier: Apache-2.0
// The property tests as a GoogleTest program: saved counterexamples first, then every property on every
// backend that can run here, then the mutants. Options: --cases N (every property runs that many), --seed S,
// --threads N (cases of a property at once), --backend NAME, --json FILE (cases and verdicts, property by
// property), --regressions DIR, --failures DIR; the environment's EPLORA_CASES does the same as --cases.
// Prints what was generated and the seconds it took.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "property_tests/suite/record.h"
#include "property_tests/suite/suite.h"
#include "reference/check.h"

namespace {

using namespace eplora;
using suite::Outcome;
using suite::PropertyInfo;
using suite::RunOptions;

struct Settings {
  RunOptions run;
  std::string backend;  ///< empty = all that can run here
  std::filesystem::path json;
  std::filesystem::path regressions = EPLORA_REGRESSIONS;
};

/// "thrust-host" as a part of a test's name.
std::string in_test_name(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '/'; }, '-');
  return text;
}

void print_distribution(const Outcome& outcome) {
  std::printf(
      "distribution of %s on %s: %lld cases, %lld discarded, %.2f s:", outcome.property.full_name().c_str(),
      outcome.backend.c_str(), static_cast<long long>(outcome.cases),
      static_cast<long long>(outcome.discarded), outcome.seconds);
  for (const auto& [label, count] : outcome.distribution)
    std::printf(
        " %s %.0f%%;", label.c_str(),
        100.0 * static_cast<double>(count) / static_cast<double>(std::max<std::int64_t>(outcome.cases, 1)));
  std::printf("\n");
}

class PropertyTest : public testing::Test {
 public:
  PropertyTest(PropertyInfo property, std::shared_ptr<Backend> backend, const Settings& settings,
               suite::Record& record)
      : property_(std::move(property)), backend_(std::move(backend)), settings_(settings), record_(record) {}
  void TestBody() override {
    const Outcome outcome = suite::run_property(property_, *backend_, settings_.run);
    record_.add(outcome);
    if (outcome.status == suite::Status::skipped) GTEST_SKIP() << outcome.reason;
    print_distribution(outcome);
    EXPECT_EQ(outcome.status, suite::Status::held) << suite::describe(outcome);
    EXPECT_GT(outcome.cases, 0) << "nothing ran";
  }

 private:
  const PropertyInfo property_;
  const std::shared_ptr<Backend> backend_;
  const Settings& settings_;
  suite::Record& record_;
};

class ReplayTest : public testing::Test {
 public:
  ReplayTest(std::filesystem::path path, std::shared_ptr<Backend> backend)
      : path_(std::move(path)), backend_(std::move(backend)) {}
  void TestBody() override {
    const Outcome outcome = suite::replay_file(path_, *backend_);
    if (outcome.status == suite::Status::skipped) GTEST_SKIP() << outcome.reason;
    EXPECT_EQ(outcome.status, suite::Status::held) << suite::describe(outcome);
  }

 private:
  const std::filesystem::path path_;
  const std::shared_ptr<Backend> backend_;
};

/// The file that carries a mutant's name still shows the mutant's bug: a corpus that finds nothing is no
/// corpus.
class MutantReplayTest : public testing::Test {
 public:
  MutantReplayTest(std::filesystem::path path, suite::Mutant mutant)
      : path_(std::move(path)), mutant_(std::move(mutant)) {}
  void TestBody() override {
    const Outcome outcome = suite::replay_file(path_, *mutant_.make());
    EXPECT_TRUE(outcome.failed()) << suite::describe(outcome);
  }

 private:
  const std::filesystem::path path_;
  const suite::Mutant mutant_;
};

class MutantTest : public testing::Test {
 public:
  MutantTest(suite::Mutant mutant, const Settings& settings)
      : mutant_(std::move(mutant)), settings_(settings) {}
  void TestBody() override {
    RunOptions options = settings_.run;
    options.save_dir.clear();
    const suite::MutantOutcome outcome = suite::run_mutant(mutant_, options);
    EXPECT_TRUE(outcome.killed) << mutant_.id << " survived: " << mutant_.wrong;
    std::printf("    killed by %s (%s) after %lld cases, %.2f s\n    %s\n    %s\n", outcome.killed_by.c_str(),
                outcome.contract.c_str(), static_cast<long long>(outcome.after_cases), outcome.seconds,
                outcome.sentence.c_str(), outcome.summary.c_str());
  }

 private:
  const suite::Mutant mutant_;
  const Settings& settings_;
};

std::vector<std::filesystem::path> saved_cases(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

void register_tests(const Settings& settings, suite::Record& record) {
  std::vector<std::shared_ptr<Backend>> backends;
  for (auto& backend : available_backends())
    if (settings.backend.empty() || settings.backend == backend->name())
      backends.push_back(std::move(backend));

  for (const auto& path : saved_cases(settings.regressions)) {
    for (const auto& backend : backends)
      testing::RegisterTest(in_test_name("Replay/" + std::string(backend->name())).c_str(),
                            path.stem().c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [=]() -> testing::Test* { return new ReplayTest(path, backend); });
    for (const suite::Mutant& mutant : suite::list_mutants())
      if (mutant.id == path.stem())
        testing::RegisterTest("ReplayMutant", path.stem().c_str(), nullptr, nullptr, __FILE__, __LINE__,
                              [=]() -> testing::Test* { return new MutantReplayTest(path, mutant); });
  }
  for (const auto& backend : backends)
    for (const PropertyInfo& property : suite::list_properties()) {
      const std::string full = property.full_name();
      const std::string suite_name = full.substr(0, full.find('.')) + "/" + std::string(backend->name());
      testing::RegisterTest(suite_name.c_str(), property.name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [=, &settings, &record]() -> testing::Test* {
                              return new PropertyTest(property, backend, settings, record);
                            });
    }
  if (settings.backend.empty())
    for (const suite::Mutant& mutant : suite::list_mutants())
      testing::RegisterTest("Mutant", mutant.id.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [=, &settings]() -> testing::Test* { return new MutantTest(mutant, settings); });
}

std::uint64_t number(const std::string& option, const char* text) {
  char* end = nullptr;
  const unsigned long long value = std::strtoull(text, &end, 10);
  if (end == text || *end != '\0') reject(option, text, "a number");
  return value;
}

Settings read_settings(int argc, char** argv) {
  Settings settings;
  settings.run.save_dir = "property-failures";
  if (const char* cases = std::getenv("EPLORA_CASES"))
    settings.run.cases = static_cast<int>(number("EPLORA_CASES", cases));
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (i + 1 == argc) reject("option", option, "followed by a value");
    const char* const value = argv[++i];
    if (option == "--cases")
      settings.run.cases = static_cast<int>(number(option, value));
    else if (option == "--seed")
      settings.run.seed = number(option, value);
    else if (option == "--threads")
      settings.run.threads = static_cast<int>(number(option, value));
    else if (option == "--backend")
      settings.backend = value;
    else if (option == "--json")
      settings.json = value;
    else if (option == "--regressions")
      settings.regressions = value;
    else if (option == "--failures")
      settings.run.save_dir = value;
    else
      reject(
          "option", option,
          "--cases N, --seed S, --threads N, --backend NAME, --json FILE, --regressions DIR, --failures DIR, "
          "or one of GoogleTest's");
  }
  return settings;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    const Settings settings = read_settings(argc, argv);
    suite::Record record(settings.json, settings.run);
    register_tests(settings, record);
    const int status = RUN_ALL_TESTS();
    record.finish();
    return status;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
