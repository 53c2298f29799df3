// SPDX-License-Identifier: Apache-2.0
// The harness behind `eplora bench`: inputs are the same on every machine, hashes are SHA-256, wrong outputs
// are noticed, verdicts know noise, files that lie are refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "benchmarks/machine.h"
#include "benchmarks/record.h"
#include "benchmarks/routing_workload.h"
#include "benchmarks/run.h"
#include "benchmarks/slice_workload.h"
#include "benchmarks/statistics.h"
#include "benchmarks/synthetic.h"
#include "benchmarks/verify.h"
#include "reference/check.h"

namespace eplora::bench {
namespace {

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "";
}

RoutingShape small_shape() {
  RoutingShape shape;
  shape.name = "small";
  shape.tokens = 9;
  shape.top_k = 3;
  shape.num_experts = 10;
  shape.ep = 4;
  shape.max_loras = 2;
  shape.block_size = 4;
  return shape;
}

TEST(Synthetic, ZipfWeightsAreTheLargestIntegersBelowThePower) {
  EXPECT_EQ(zipf_weight(1), std::uint64_t{1} << 20);
  for (const std::uint64_t rank : {2, 3, 10, 128, 896, 65536}) {
    const auto w = static_cast<double>(zipf_weight(rank));
    const double exact = 0x1p20 / std::pow(static_cast<double>(rank), 1.2);
    EXPECT_LE(w, exact * (1 + 1e-12)) << rank;
    EXPECT_GT(w + 1, exact * (1 - 1e-12)) << rank;
  }
}

TEST(Synthetic, ZipfExpertsAreDistinctInATokenAndSkewed) {
  constexpr std::int32_t kExperts = 16, kTopK = 4;
  constexpr std::int64_t kTokens = 2000;
  const std::vector<std::int32_t> ids = zipf_topk_ids(3, kTokens, kExperts, kTopK);
  std::vector<int> count(kExperts);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    const std::set<std::int32_t> token(ids.begin() + t * kTopK, ids.begin() + (t + 1) * kTopK);
    EXPECT_EQ(token.size(), std::size_t{kTopK});
    EXPECT_TRUE(*token.begin() >= 0 && *token.rbegin() < kExperts);
    for (const std::int32_t id : token) ++count[static_cast<std::size_t>(id)];
  }
  const auto [least, most] = std::ranges::minmax(count);
  EXPECT_GT(most, 6 * least);
  EXPECT_EQ(zipf_topk_ids(3, kTokens, kExperts, kTopK), ids);
  EXPECT_NE(zipf_topk_ids(4, kTokens, kExperts, kTopK), ids);
  const std::vector<std::int32_t> all = zipf_topk_ids(1, 1, 3, 3);
  EXPECT_EQ(std::set<std::int32_t>(all.begin(), all.end()).size(), 3U);
}

TEST(BenchHash, IsSha256) {  // FIPS 180-2, appendix B.1, and the empty message
  const std::string abc = "abc";
  EXPECT_EQ(hex(sha256_of(std::as_bytes(std::span(abc)))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(Sha256().finish()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 parts;
  EXPECT_EQ(parts.add(std::as_bytes(std::span("a", 1))).add(std::as_bytes(std::span("bc", 2))).finish(),
            sha256_of(std::as_bytes(std::span(abc))));
}

TEST(BenchShapes, AreTheGoalsAndTenLayouts) {
  const std::vector<std::int64_t> buckets = {1024, 512,  128,  4096, 512,  512,
                                             1024, 1024, 2048, 4096, 4096, 14336};
  ASSERT_EQ(goal_shapes().size(), buckets.size());
  std::set<std::string> names;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    EXPECT_EQ(goal_shapes()[i].buckets(), buckets[i]);
    EXPECT_TRUE(goal_shapes()[i].goal_us.has_value());
    names.insert(goal_shapes()[i].name);
    validate(goal_shapes()[i]);
  }
  EXPECT_EQ(slice_shapes().size(), 10U);
  for (const SliceShape& shape : slice_shapes()) {
    names.insert(shape.name);
    validate(shape);
  }
  EXPECT_EQ(names.size(), 22U);
  EXPECT_TRUE(fits("64x8-v512-b16", "64x8*"));
  EXPECT_FALSE(fits("64x8-v512-b16", "64x8"));
}

TEST(BenchShapes, BytesAreEveryArrayOnce) {
  const RoutingShape shape = small_shape();  // n = 27, E_local = 3, V = 6
  const std::int64_t capacity = align_capacity(27, 6, 4, Sentinels::keep);
  const std::int64_t blocks = 4 * (capacity + capacity / 4 + 1);
  EXPECT_EQ(routing_bytes(Suite::route, shape), 4 * (27 + 9 + 10) + blocks + 9);
  EXPECT_EQ(routing_bytes(Suite::remap, shape), 4 * (27 + 9 + 27) + 9);
  EXPECT_EQ(routing_bytes(Suite::align, shape), 4 * 27 + blocks);
  SliceShape slice;  // tp=4 ep=2, a layer: source 717225984 / 48, destination the same
  slice.layers = 1;
  EXPECT_EQ(slice_bytes(slice), 2 * 717225984 / 48);
  slice.r = 8;
  EXPECT_EQ(slice_bytes(slice), 717225984 / 48 + 717225984 / 96);
}

TEST(BenchWorkloads, EveryHostBackendGivesTheReferencesBytesInEverySuiteAndPattern) {
  const auto machine = make_host_machine();
  for (const char* name : {"reference", "thrust-host"}) {
    const auto backend = make_backend(name);
    for (const Suite suite : {Suite::route, Suite::remap, Suite::align}) {
      for (const Pattern pattern : kPatterns) {
        const auto workload = make_routing_workload(suite, small_shape(), pattern, 3);
        const auto loaded = workload->load(*backend, machine->memory());
        loaded->poison(
            [&](void* to, std::size_t bytes, std::uint8_t value) { machine->fill(to, bytes, value); });
        EXPECT_NE(loaded->difference(), "") << "poison is no result";
        for (int set = 0; set < 3; ++set) {
          loaded->enqueue(set, nullptr);
          EXPECT_EQ(loaded->difference().empty(), set == 2) << "every input set is looked at";
          EXPECT_EQ(routing_digests(suite, small_shape(), pattern, set), workload->parts()[set]);
        }
      }
    }
  }
}

TEST(BenchWorkloads, PatternsAreWhatTheirNamesSay) {
  RoutingShape shape = small_shape();
  const auto align_outputs = [&](Pattern pattern) {
    return routing_digests(Suite::align, shape, pattern, 0).outputs;
  };
  // All sentinels: the same as an align of -1 alone, whatever the mapping.
  const std::vector<std::int32_t> none(27, -1), one(27, 0);
  const auto digest_of = [&](const std::vector<std::int32_t>& ids) {
    Sha256 hash;
    return hash.add_values(std::span<const std::int32_t>(ids)).finish();
  };
  EXPECT_EQ(routing_digests(Suite::align, shape, Pattern::sentinels, 0).inputs, digest_of(none));
  EXPECT_EQ(routing_digests(Suite::align, shape, Pattern::one_expert, 0).inputs, digest_of(one));
  EXPECT_NE(align_outputs(Pattern::uniform), align_outputs(Pattern::zipf));
}

/// Right, but touches what is not its own, or leaves a byte as it stood.
struct WrongSlice : ReferenceBackend {
  bool touches_other_slot = false;
  void slice(const SliceProblem& problem, const BufferView& buffers,
             const ExecutionContext& context) override {
    ReferenceBackend::slice(problem, buffers, context);
    const std::int64_t elements = problem.shape->slot_elements(BufferTensor::down_B);
    auto* const last = static_cast<std::uint16_t*>(buffers.tensor.back()[3]) + 2 * elements - 1;
    touches_other_slot ? last[-elements] = 0 : * last ^= 1;
  }
};

TEST(BenchWorkloads, ASlicingThatIsWrongInOneBitIsNoticed) {
  SliceShape shape;
  shape.layers = 2;
  shape.shared_outer = true;
  const auto machine = make_host_machine();
  const auto fill = [&](void* to, std::size_t bytes, std::uint8_t value) { machine->fill(to, bytes, value); };
  const auto workload = make_slice_workload(shape);
  ASSERT_EQ(workload->parts().size(), 2U);
  EXPECT_EQ(slice_digests(shape, 1), workload->parts()[1]);
  EXPECT_NE(workload->parts()[0], workload->parts()[1]);
  WrongSlice wrong;
  const auto right = make_backend("thrust-host");
  const auto run_on = [&](Backend& backend) {
    const auto loaded = workload->load(backend, machine->memory());
    loaded->poison(fill);
    loaded->enqueue(0, nullptr);
    return loaded->difference();
  };
  EXPECT_EQ(run_on(*right), "");
  EXPECT_EQ(run_on(wrong), "layer 1: slot 1 differs from the reference");
  wrong.touches_other_slot = true;
  EXPECT_EQ(run_on(wrong), "layer 1, down_B: slot 0 was changed");
}

TEST(BenchStatistics, PercentilesAndIntervals) {
  EXPECT_DOUBLE_EQ(median({3, 1, 2}), 2);
  EXPECT_DOUBLE_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_DOUBLE_EQ(percentile({10, 0}, 0.05), 0.5);
  std::vector<double> hundred;
  for (int i = 0; i < 100; ++i) hundred.push_back(i);
  const Interval interval = median_interval(hundred);
  EXPECT_DOUBLE_EQ(interval.low, 40);
  EXPECT_DOUBLE_EQ(interval.high, 60);
  EXPECT_DOUBLE_EQ(median_interval({5}).low, 5);
  EXPECT_DOUBLE_EQ(median_interval({5, 7}).high, 7);
}

TEST(BenchStatistics, AVerdictNeedsBothADistanceAndNoOverlap) {
  const std::vector<double> base(21, 10.0), little(21, 10.1), more(21, 10.5), less(21, 9.5);
  EXPECT_EQ(change_between(base, base, 0.02), Change::same);
  EXPECT_EQ(change_between(base, little, 0.02), Change::same);
  EXPECT_EQ(change_between(base, more, 0.02), Change::slower);
  EXPECT_EQ(change_between(base, less, 0.02), Change::faster);
  EXPECT_EQ(change_between(base, more, 0.06), Change::same);
  std::vector<double> wide_old, wide_new;
  for (int i = 0; i < 21; ++i) {
    wide_old.push_back(10 + i);
    wide_new.push_back(12 + i);
  }
  EXPECT_EQ(change_between(wide_old, wide_new, 0.02), Change::same);
}

class BenchRecord : public testing::Test {
 protected:
  static const Record& record() {
    static const Record made = [] {
      Request request;
      request.backends = {"reference", "thrust-host"};
      request.shapes = {"1x8-*", "tp4-ep2-shared-outer"};
      request.quick = true;
      Outcome outcome = run(request, [](const std::string&) {});
      EXPECT_TRUE(outcome.differences.empty());
      outcome.record.date = "2026-01-31";
      outcome.record.commit = "0123abc";
      outcome.record.command = "eplora bench --quick";
      return outcome.record;
    }();
    return made;
  }
  static std::string refused(const std::function<void(nlohmann::ordered_json&)>& change) {
    nlohmann::ordered_json document = to_json(record());
    change(document);
    return refusal([&] { record_of(document, "f.json"); });
  }
};

TEST_F(BenchRecord, ComesBackFromItsJson) {
  const nlohmann::ordered_json document = to_json(record());
  EXPECT_TRUE(to_json(record_of(document, "f.json")) == document);
  EXPECT_TRUE(nlohmann::ordered_json::parse(to_text(document)) == document);
  ASSERT_EQ(record().shapes.size(), 4U);  // route, remap, align, slice
  for (const ShapeRecord& shape : record().shapes) {
    EXPECT_EQ(shape.timings.size(), 2U);
    EXPECT_EQ(shape.copy.has_value(), shape.suite == Suite::slice);
  }
  EXPECT_GT(record().copy_gb_per_s(), 0);
  EXPECT_GE(record().floor_us(1), record().empty_us());
}

TEST_F(BenchRecord, IsVerifiedByTheReference) {
  const std::vector<VerifiedPart> parts = verify(record(), 0, 1);
  EXPECT_EQ(parts.size(), 8U + 8 + 8 + 1);
  for (const VerifiedPart& part : parts) EXPECT_TRUE(part.inputs_equal && part.outputs_equal);
  EXPECT_EQ(verify(record(), 3, 1).size(), 3U);
  Record wrong = record();
  wrong.shapes[1].parts[7].outputs[31] ^= std::byte{1};
  int different = 0;
  for (const VerifiedPart& part : verify(wrong, 0, 1)) different += part.outputs_equal ? 0 : 1;
  EXPECT_EQ(different, 1);
  wrong = record();
  wrong.shapes[0].bytes += 4;
  EXPECT_NE(refusal([&] { verify(wrong, 1, 1); }).find("its shape gives 585"), std::string::npos);
}

TEST_F(BenchRecord, ThatLiesIsRefused) {
  using Json = nlohmann::ordered_json;
  const auto mentions = [](const std::string& sentence, const char* words) {
    return sentence.find(words) != std::string::npos ? "" : "'" + sentence + "' lacks '" + words + "'";
  };
  EXPECT_EQ(mentions(refused([](Json& d) { d["schema"] = "eplora.results/9"; }), "eplora.results/2"), "");
  EXPECT_EQ(mentions(refused([](Json& d) { d.erase("device"); }), "'device' is missing"), "");
  EXPECT_EQ(mentions(refused([](Json& d) { d["floors"].erase(0); }), "'floors' is incomplete"), "");
  EXPECT_EQ(
      mentions(refused([](Json& d) { d["shapes"][0]["suite"] = "rout"; }), "route, remap, align, slice"), "");
  EXPECT_EQ(mentions(refused([](Json& d) { d["shapes"][0]["tokens"] = -1; }), "'tokens' is -1"), "");
  EXPECT_EQ(mentions(refused([](Json& d) { d["shapes"][0]["tokens"] = 1.5; }), "integer"), "");
  EXPECT_EQ(mentions(refused([](Json& d) { d["shapes"][0]["timings"][0]["median_us"] = 0.001; }),
                     "the samples say"),
            "");
  EXPECT_EQ(
      mentions(refused([](Json& d) { d["shapes"][0]["timings"][0]["samples_us"] = Json::array(); }), "empty"),
      "");
  EXPECT_EQ(mentions(refused([](Json& d) { d["shapes"][0]["parts"].erase(0); }), "7 long"), "");
  EXPECT_EQ(mentions(refused([](Json& d) { d["shapes"][0]["parts"][0][1] = "xyz"; }), "64 lower-case"), "");
  EXPECT_EQ(mentions(refused([](Json& d) { d["shapes"][0]["outputs_sha256"] = std::string(64, '0'); }),
                     "its parts' hashes give"),
            "");
  EXPECT_EQ(mentions(refused([](Json& d) { d["shapes"] = 3; }), "array"), "");
}

TEST(BenchRun, RefusesWhatDoesNotExist) {
  const auto attempt = [](const std::function<void(Request&)>& change) {
    Request request;
    request.quick = true;
    request.suites = {Suite::remap};
    request.backends = {"reference"};
    change(request);
    return refusal([&] { run(request, [](const std::string&) {}); });
  };
  EXPECT_NE(attempt([](Request& r) { r.backends = {"nope"}; }).find("backend is nope"), std::string::npos);
  EXPECT_NE(attempt([](Request& r) {
              r.shapes = {"1x8*", "nope*"};
            }).find("shape is nope*"),
            std::string::npos);
  EXPECT_EQ(refusal([] { suite_of("route"); }), "");
  EXPECT_NE(refusal([] { suite_of("routes"); }), "");
  EXPECT_NE(refusal([] { pattern_of("zipff"); }), "");
}

TEST(Bench, ATimeThatNoMachineReachesIsBelowTheLeastPossible) {
  Record record;
  record.memory = "cuda";
  record.floors = {{"empty kernel", false, 0, {0.8}}, {"copy", true, 2'000'000'000, {1000}}};  // 2000 GB/s
  const std::int64_t gb = 1'000'000'000;
  EXPECT_DOUBLE_EQ(least_possible_us(record, gb, 8 * gb), 400);  // 2500 GB/s: 1.25 times the copy
  EXPECT_DOUBLE_EQ(least_possible_us(record, 1000, 8000), 0.8);  // never less than an empty launch
  EXPECT_DOUBLE_EQ(least_possible_us(record, 100'000'000, 100'000'000), 5);  // may stand in a cache
}

}  // namespace
}  // namespace eplora::bench
