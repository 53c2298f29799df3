// SPDX-License-Identifier: Apache-2.0
// The suite's own tests: what it does with a backend that is wrong, flaky or slow to reach, what it writes
// down, and that a case read back is the case that was written.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "property_tests/generators/delta_cases.h"
#include "property_tests/generators/layer_cases.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/generators/slice_cases.h"
#include "property_tests/suite/property.h"
#include "property_tests/suite/suite.h"
#include "reference/check.h"

namespace eplora::suite {
namespace {

std::string read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() / ("eplora-suite-test-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

const Mutant& mutant_called(std::string_view id) {
  for (const Mutant& m : list_mutants())
    if (m.id == id) return m;
  throw std::runtime_error("no such mutant");
}

PropertyInfo property_called(std::string_view name) { return find_properties(name).front(); }

TEST(PropertySuite, SeveralThreadsJudgeAsManyCasesAndFindTheLowestFailingOne) {
  RunOptions options;
  options.cases = 3000;
  options.threads = 4;
  const Outcome held =
      run_property(property_called("Align.EqualsTheReference"), *make_backend("reference"), options);
  EXPECT_EQ(held.status, Status::held);
  EXPECT_EQ(held.cases, 3000);
  std::int64_t after = 0;
  for (const int threads : {2, 4, 7}) {
    options.threads = threads;
    const Outcome found = run_property(property_called("NegativeIdsPassThroughBitForBit"),
                                       *mutant_called("remap-neg").make(), options);
    ASSERT_EQ(found.status, Status::violated);
    EXPECT_EQ(found.counterexample->summary, "remap T=1 K=1 ids=[-1] adapters=[1] E=1 L=2");
    EXPECT_TRUE(after == 0 || found.counterexample->after_cases == after) << after;
    after = found.counterexample->after_cases;
  }
}

TEST(PropertySuite, ACaseThatFailsOnlyAmongOthersIsFlaky) {
  struct FailsOnce : ReferenceBackend {
    void remap(const RemapProblem& problem, const RemapOutput& output,
               const ExecutionContext& context) override {
      ReferenceBackend::remap(problem, output, context);
      if (problem.topk_ids.rows > 3 && !failed.exchange(true)) output.token_lora_mask[0] ^= 1;
    }
    std::atomic<bool> failed = false;
  } backend;
  RunOptions options;
  options.threads = 3;
  const Outcome outcome = run_property(property_called("Remap.EqualsTheReference"), backend, options);
  EXPECT_EQ(outcome.status, Status::flaky);
  EXPECT_EQ(outcome.counterexample->failed, 0);
}

TEST(PropertySuite, ACounterexampleIsSavedUnshrunkAndShrunkAndReplays) {
  const Folder folder;
  RunOptions options;
  options.save_dir = folder.path();
  const auto backend = mutant_called("remap-neg").make();
  const Outcome outcome = run_property(property_called("NegativeIdsPassThroughBitForBit"), *backend, options);
  ASSERT_EQ(outcome.status, Status::violated);
  const Counterexample& found = *outcome.counterexample;
  EXPECT_EQ(found.failed, found.reruns);
  EXPECT_EQ(found.summary, "remap T=1 K=1 ids=[-1] adapters=[1] E=1 L=2");
  EXPECT_EQ(read(found.shrunk_path), found.json);
  EXPECT_GE(read(found.unshrunk_path).size(), found.json.size());
  for (const std::string& path : {found.shrunk_path, found.unshrunk_path}) {
    EXPECT_EQ(replay_file(path, *backend).status, Status::violated) << path;
    EXPECT_EQ(replay_file(path, *make_backend("reference")).status, Status::held) << path;
  }
  EXPECT_EQ(found.replay, "eplora check --backend mutant-remap-neg --replay " + found.shrunk_path);
  EXPECT_NE(describe(outcome).find(found.replay), std::string::npos);
}

TEST(PropertySuite, EqualSeedsGiveEqualCasesAndAnotherSeedOthers) {
  const auto backend = make_backend("reference");
  RunOptions options;
  options.cases = 100;
  const PropertyInfo property = property_called("Align.EqualsTheReference");
  const auto first = run_property(property, *backend, options).distribution;
  EXPECT_EQ(run_property(property, *backend, options).distribution, first);
  options.seed = 2;
  EXPECT_NE(run_property(property, *backend, options).distribution, first);
}

/// Wrong in every other call.
class EveryOtherCall : public ReferenceBackend {
 public:
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::remap(p, out, context);
    if (++calls_ % 2 == 0 && p.topk_ids.size() > 0) out.virtual_ids[0] = 12345;
  }

 private:
  int calls_ = 0;
};

TEST(PropertySuite, ABackendThatFailsNowAndThenIsFlaky) {
  EveryOtherCall backend;
  const Outcome outcome = run_property(property_called("NegativeIdsPassThroughBitForBit"), backend);
  EXPECT_EQ(outcome.status, Status::flaky);
  EXPECT_GT(outcome.counterexample->failed, 0);
  EXPECT_LT(outcome.counterexample->failed, outcome.counterexample->reruns);
}

TEST(PropertySuite, AnExceptionAndAWriteOutsideAreCounterexamples) {
  struct Throws : ReferenceBackend {
    void align(const AlignProblem&, const AlignOutput&, const ExecutionContext&) override {
      throw std::runtime_error("no kernel for this");
    }
    void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& context) override {
      ReferenceBackend::remap(p, out, context);
      out.virtual_ids[p.topk_ids.size()] = 7;
    }
  } backend;
  const Outcome thrown = run_property(property_called("Align.FillerIsNoSlot"), backend);
  ASSERT_EQ(thrown.status, Status::violated);
  EXPECT_EQ(thrown.counterexample->contract, "exception");
  EXPECT_NE(thrown.counterexample->sentence.find("no kernel for this"), std::string::npos);
  const Outcome written = run_property(property_called("Remap.EqualsTheReference"), backend);
  ASSERT_EQ(written.status, Status::violated);
  EXPECT_EQ(written.counterexample->contract, "guard");
}

TEST(PropertySuite, AnotherFormSkipsTheComparisonOfBytesAndSaysSo) {
  struct Unordered : ReferenceBackend {
    contract::Form form() const override {
      contract::Form form;
      form.order = contract::Order::free;
      return form;
    }
  } backend;
  const Outcome outcome = run_property(property_called("Align.EqualsTheReference"), backend);
  EXPECT_EQ(outcome.status, Status::skipped);
  EXPECT_NE(outcome.reason.find("order=free"), std::string::npos) << outcome.reason;
  RunOptions options;
  options.cases = 100;
  EXPECT_EQ(run_property(property_called("EverySlotStandsOnceInABlockOfItsOwnId"), backend, options).status,
            Status::held);
}

TEST(PropertySuite, ABackendThatTakesFewIdsIsGivenThoseAlone) {
  struct Narrow : ReferenceBackend {
    contract::Form form() const override {
      contract::Form form;
      form.ids = contract::AcceptedIds::minus_one_to_V;
      return form;
    }
  } backend;
  RunOptions options;
  options.cases = 200;
  const Outcome outcome =
      run_property(property_called("EverySlotStandsOnceInABlockOfItsOwnId"), backend, options);
  EXPECT_EQ(outcome.status, Status::held) << describe(outcome);
  EXPECT_EQ(outcome.discarded, 0);
  EXPECT_EQ(outcome.distribution.count("ids: >= E"), 0U);
  EXPECT_EQ(outcome.distribution.count("ids: below -1"), 0U);
}

TEST(PropertySuite, TheEarlierOfTimeAndCasesEndsARun) {
  RunOptions options;
  options.cases = 100'000'000;
  options.time_limit = 0.2;
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome =
      run_property(property_called("Remap.EqualsTheReference"), *make_backend("reference"), options);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_EQ(outcome.status, Status::held);
  EXPECT_TRUE(outcome.ended_by_time);
  EXPECT_GT(outcome.cases, 0);
}

TEST(PropertySuite, TheProgressCallbackCanStopARun) {
  RunOptions options;
  options.progress = [](const Progress& progress) { return progress.cases < 10; };
  const Outcome outcome =
      run_property(property_called("Remap.EqualsTheReference"), *make_backend("reference"), options);
  EXPECT_EQ(outcome.status, Status::interrupted);
  EXPECT_EQ(outcome.cases, 10);
}

TEST(PropertySuite, NamesAreFoundAndUnknownOnesRefused) {
  EXPECT_EQ(find_properties("remap.negativeidspassthroughbitforbit").size(), 1U);
  EXPECT_EQ(find_properties("").size(), list_properties().size());
  EXPECT_GT(find_properties("align").size(), 5U);
  EXPECT_THROW(find_properties("NoSuchLaw"), InvalidArgument);
}

/// Draws cases, writes and reads them back; and follows a path of smaller cases, each of which must be valid
/// too.
template <class C>
void expect_round_trips(C (*draw)(Draw&, int, const contract::Form&)) {
  for (int i = 0; i < 150; ++i) {
    Draw random(hash_at(99, static_cast<std::uint64_t>(i)));
    C c = draw(random, i % 101, {});
    for (int step = 0; step < 6; ++step) {
      const nlohmann::json json = nlohmann::json::parse(c.json().dump());
      ASSERT_TRUE(C::from_json(json) == c) << json.dump(1);
      const auto smaller = c.shrinks();
      if (smaller.empty()) break;
      c = smaller[random.in(0, static_cast<std::int64_t>(smaller.size()) - 1)]();
    }
  }
}

TEST(PropertySuite, DispatchCasesAndSmallerOnesRoundTrip) { expect_round_trips(draw_dispatch); }
TEST(PropertySuite, RemapCasesAndSmallerOnesRoundTrip) { expect_round_trips(draw_remap); }
TEST(PropertySuite, AlignCasesAndSmallerOnesRoundTrip) { expect_round_trips(draw_align); }
TEST(PropertySuite, RouteCasesAndSmallerOnesRoundTrip) { expect_round_trips(draw_route); }
TEST(PropertySuite, LayoutCasesAndSmallerOnesRoundTrip) { expect_round_trips(draw_layout_case); }
TEST(PropertySuite, SliceCasesAndSmallerOnesRoundTrip) { expect_round_trips(draw_slice); }
TEST(PropertySuite, DeltaCasesAndSmallerOnesRoundTrip) { expect_round_trips(draw_delta); }
TEST(PropertySuite, LayerCasesAndSmallerOnesRoundTrip) { expect_round_trips(draw_layer); }

TEST(PropertySuite, AFileThatIsNoCaseIsRefusedWithItsName) {
  const Folder folder;
  std::filesystem::create_directories(folder.path());
  const auto backend = make_backend("reference");
  const std::string path = (folder.path() / "case.json").string();
  const auto refused = [&](const std::string& text) {
    std::ofstream(path) << text;
    try {
      replay_file(path, *backend);
    } catch (const InvalidArgument& e) {
      return std::string(e.what()).find(path) != std::string::npos;
    }
    return false;
  };
  EXPECT_TRUE(refused("not json"));
  EXPECT_TRUE(refused("{}"));
  EXPECT_TRUE(
      refused(R"({"schema": "eplora.case/9", "kind": "remap", "property": "Remap.EqualsTheReference"})"));
  EXPECT_TRUE(
      refused(R"({"schema": "eplora.case/1", "kind": "remap", "property": "Remap.NoSuchLaw", "case": {}})"));
  EXPECT_TRUE(refused(
      R"({"schema": "eplora.case/1", "kind": "align", "property": "Remap.EqualsTheReference", "case": {}})"));
  const char* const bad_batch =
      R"({"schema": "eplora.case/1", "kind": "align", "property": "Align.EqualsTheReference",
    "case": {"batch": {"type": "int32", "T": 2, "K": 2, "row_stride": 2, "ids": [0], "num_tokens_kind": "all",
    "num_tokens": 0}, "num_buckets": 1, "block_size": 1, "sentinels": "keep"}})";
  EXPECT_TRUE(refused(bad_batch));
  EXPECT_THROW(replay_file(folder.path() / "absent.json", *backend), InvalidArgument);
}

}  // namespace
}  // namespace eplora::suite
