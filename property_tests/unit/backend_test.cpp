// SPDX-License-Identifier: Apache-2.0
// The backends that are built in, on cases worked by hand and on small random ones against the reference
// functions, and the registry. Every call is a guarded one. The property suite asks the same at scale; these
// tests are quick and local.
#include "optimized/backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <random>

#include "optimized/guarded_run.h"
#include "optimized/thrust/thrust_host_backend.h"
#include "reference/check.h"
#include "reference/lora/slice.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"
#include "reference/routing/route.h"

namespace eplora {
namespace {

using Ints = std::vector<std::int32_t>;

class EveryBackend : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend = make_backend(GetParam());
  GuardedRun guarded{*backend};
};

std::vector<std::string> names_of_available_backends() {
  std::vector<std::string> names;
  for (const auto& backend : available_backends()) names.emplace_back(backend->name());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Backends, EveryBackend, testing::ValuesIn(names_of_available_backends()),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// ---- worked by hand
// ------------------------------------------------------------------------------------------------

TEST_P(EveryBackend, dispatchTranslatesOwnedIdsAndKeepsNegativeOnes) {
  const Ints ids = {0, 2, 3, -2, 4, INT_MAX, INT_MIN, 1}, table = {-1, -1, 0, 1};
  const DispatchProblem problem{IdMatrix::of(ids, 2), 4, table, {}, 0, {}};
  EXPECT_EQ(guarded.dispatch(problem).local_ids, (Ints{-1, 0, 1, -2, -1, -1, INT_MIN, -1}));
}

TEST_P(EveryBackend, dispatchTakesReplicasInTurnBySlot) {
  const Ints ids = {1, 1, 1, 1, 0, 1}, table = {5, 0, -1, 2}, offsets = {0, 1, 4};
  const DispatchProblem problem{IdMatrix::of(ids, 1), 2, table, offsets, 1, {}};
  EXPECT_EQ(guarded.dispatch(problem).local_ids, (Ints{-1, 2, 0, -1, 5, 0}));
}

TEST_P(EveryBackend, dispatchNeverTruncatesAnInt64) {
  const std::vector<std::int64_t> ids = {
      std::int64_t{1} << 32, -(std::int64_t{1} << 32), 1, INT_MIN, LLONG_MIN, LLONG_MAX};
  const Ints table = {7, 8};
  const DispatchProblem problem{{ids.data(), IdType::int64, 2, 3, 3}, 2, table, {}, 0, {}};
  EXPECT_EQ(guarded.dispatch(problem).local_ids, (Ints{-1, -1, 8, INT_MIN, -1, -1}));
}

TEST_P(EveryBackend, remapFollowsTheTableOfCases) {
  const Ints ids = {3, -2, 0, 4, 1, INT_MIN, 2, 3}, mapping = {2, 0, -1, 3};
  RemapProblem problem{IdMatrix::of(ids, 2), mapping, 4, 3, false, NoAdapter::base_slot, {}};
  EXPECT_EQ(guarded.remap(problem).virtual_ids, (Ints{11, -2, 0, -1, 1, INT_MIN, -1, -1}));
  EXPECT_EQ(guarded.remap(problem).token_lora_mask, (std::vector<std::uint8_t>{1, 1, 0, 0}));
  problem.no_adapter = NoAdapter::sentinel;
  EXPECT_EQ(guarded.remap(problem).virtual_ids, (Ints{11, -2, 0, -1, -1, INT_MIN, -1, -1}));
  problem.no_adapter = NoAdapter::base_slot;
  problem.shared_outer = true;
  EXPECT_EQ(guarded.remap(problem).virtual_ids, (Ints{2, -2, 0, -1, 0, INT_MIN, -1, -1}));
  problem.max_loras = 0;
  EXPECT_EQ(guarded.remap(problem).virtual_ids, (Ints{-1, -2, -1, -1, -1, INT_MIN, -1, -1}));
}

TEST_P(EveryBackend, alignPadsEveryBucketAndPutsSentinelsLast) {
  const Ints ids = {2, 0, -1, 2, 3, 2};  // V = 3: bucket 1 has no slot, 3 is no bucket
  AlignProblem problem{IdMatrix::of(ids, 2), 3, 2, Sentinels::keep, {}};
  EXPECT_EQ(guarded.align(problem), (AlignResult{{1, 6, 0, 3, 5, 6, 2, 4, 6, 6}, {0, 2, 2, -1, -1}, 8}));
  problem.sentinels = Sentinels::drop;
  EXPECT_EQ(guarded.align(problem), (AlignResult{{1, 6, 0, 3, 5, 6, 6, 6}, {0, 2, 2, -1}, 6}));
}

TEST_P(EveryBackend, routeIsTheThreeStepsInOne) {
  const Ints ids = {2, 0, 3, -1, 2, 3}, mapping = {1, 0, -1}, table = {-1, -1, 0, 1};
  RouteProblem problem;
  problem.topk_ids = IdMatrix::of(ids, 2);
  problem.token_lora_mapping = mapping;
  problem.num_experts = 4;
  problem.table = table;
  problem.num_local_experts = 2;
  problem.max_loras = 2;
  problem.block_size = 2;
  // virtual ids: 2 -1 | 1 -1 | 0 1
  EXPECT_EQ(guarded.route(problem),
            (RouteResult{{{4, 6, 2, 5, 0, 6, 1, 3, 6, 6}, {0, 1, 2, -1, -1}, 8}, {1, 1, 0}}));
}

TEST_P(EveryBackend, emptyBatchesGiveEmptyResults) {
  const Ints nothing, table = {0};
  const IdMatrix ids{nullptr, IdType::int32, 0, 2, 2};
  EXPECT_EQ(guarded.dispatch({ids, 1, table, {}, 0, {}}), DispatchResult{});
  EXPECT_EQ(guarded.remap({ids, nothing, 4, 2, false, NoAdapter::base_slot, {}}), RemapResult{});
  EXPECT_EQ(guarded.align({ids, 5, 16, Sentinels::keep, {}}), AlignResult{});
  EXPECT_EQ(guarded.align({ids, 0, 16, Sentinels::drop, {}}), AlignResult{});
}

TEST_P(EveryBackend, rowsPastNumTokensAreSentinelRows) {
  const Ints ids = {1, 0, 1, 1}, mapping = {0, 0, 0, 0}, table = {0, 1};
  for (const std::int32_t device_count : {2, -5, 100}) {
    const std::int32_t real = std::clamp(device_count, 0, 4);
    const NumTokens count = NumTokens::at(&device_count);
    Ints expected = ids;
    std::fill(expected.begin() + real, expected.end(), -1);
    EXPECT_EQ(guarded.dispatch({IdMatrix::of(ids, 1), 2, table, {}, 0, count}).local_ids, expected);
    const RemapResult remapped = guarded.remap(
        {IdMatrix::of(ids, 1), mapping, 2, 1, false, NoAdapter::base_slot, NumTokens::of(real)});
    EXPECT_EQ(remapped.virtual_ids, expected);
    EXPECT_EQ(std::count(remapped.token_lora_mask.begin(), remapped.token_lora_mask.end(), 1), real);
    EXPECT_EQ(guarded.align({IdMatrix::of(ids, 1), 2, 1, Sentinels::drop, count}).num_tokens_post_padded,
              real);
  }
}

TEST_P(EveryBackend, capacityIsReachedByTheWorstInput) {
  for (std::int64_t n : {1, 5, 6, 7, 40})
    for (std::int32_t V : {0, 1, 5})
      for (std::int32_t B : {1, 4, 7})
        for (Sentinels sentinels : {Sentinels::keep, Sentinels::drop}) {
          const std::int64_t buckets = sentinels == Sentinels::keep ? V + 1 : V;
          Ints ids(n);  // one slot for each bucket, the rest for the last of them
          for (std::int64_t s = 0; s < n; ++s)
            ids[s] = static_cast<std::int32_t>(std::min(s, std::max<std::int64_t>(buckets, 1) - 1));
          const AlignResult result = guarded.align({IdMatrix::of(ids, 1), V, B, sentinels, {}});
          EXPECT_EQ(result.num_tokens_post_padded, backend->capacity(n, V, B, sentinels))
              << n << " " << V << " " << B;
          EXPECT_EQ(static_cast<std::int64_t>(result.sorted_token_ids.size()),
                    align_capacity(n, V, B, sentinels));
        }
}

TEST_P(EveryBackend, badInputIsRefusedBeforeMemoryIsTouched) {
  const Ints ids = {0, 1}, mapping = {0}, table = {0, 1}, bad_offsets = {0, 0, 2};
  const IdMatrix matrix = IdMatrix::of(ids, 1);
  Ints untouched(64, 77);
  std::int32_t* const out = untouched.data();
  EXPECT_THROW(backend->dispatch({matrix, 3, table, {}, 0, {}}, {out}, {}), InvalidArgument);
  EXPECT_THROW(backend->dispatch({matrix, 2, table, bad_offsets, 0, {}}, {out}, {}), InvalidArgument);
  EXPECT_THROW(backend->dispatch({matrix, 2, table, {}, 0, {}}, {nullptr}, {}), InvalidArgument);
  EXPECT_THROW(backend->remap({matrix, mapping, 2, 1, false, NoAdapter::base_slot, {}},
                              {out, reinterpret_cast<std::uint8_t*>(out)}, {}),
               InvalidArgument);
  EXPECT_THROW(backend->align({matrix, 2, 0, Sentinels::keep, {}}, {out, out, out}, {}), InvalidArgument);
  EXPECT_THROW(backend->align({matrix, 2, 4, Sentinels::keep, {}}, {out, nullptr, out}, {}), InvalidArgument);
  EXPECT_EQ(untouched, Ints(64, 77));
}

// ---- the registry
// --------------------------------------------------------------------------------------------------

TEST(Registry, listsWhatIsBuiltInAndMakesEachByName) {
  const std::vector<BackendEntry> entries = list_backends();
  ASSERT_GE(entries.size(), 2U);
  EXPECT_EQ(entries[0].name, "reference");
  EXPECT_EQ(entries[1].name, "thrust-host");
  for (const BackendEntry& entry : entries) {
    EXPECT_FALSE(entry.description.empty());
    if (entry.unavailable.empty()) {
      EXPECT_EQ(make_backend(entry.name)->name(), entry.name);
    } else {
      EXPECT_THROW(make_backend(entry.name), BackendUnavailable);
    }
  }
}

TEST(Registry, anUnknownNameIsRefusedWithTheNamesThereAre) {
  try {
    make_backend("trust-host");
    FAIL() << "made a backend of an unknown name";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("trust-host"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("reference, thrust-host"), std::string::npos);
  }
}

TEST(ThrustHost, wasCompiledWithTheThrustThatTheBuildChose) {
  std::ifstream header(EPLORA_THRUST_INCLUDE "/thrust/version.h");
  ASSERT_TRUE(header) << EPLORA_THRUST_INCLUDE;
  const std::string definition = "#define THRUST_VERSION ";
  int version = 0;
  for (std::string line; std::getline(header, line);)
    if (line.starts_with(definition)) version = std::stoi(line.substr(definition.size()));
  EXPECT_EQ(thrust_host_version(), version);
  EXPECT_GE(version, 100000);
}

// ---- random problems, thrust-host against the reference
// ------------------------------------------------------------

/// Everything a routing problem points to.
struct RandomCase {
  std::mt19937_64 random;
  std::int32_t E, L, local_experts, num_tokens_value;
  std::int64_t T, K, row_stride;
  bool wide, replicas;
  std::vector<std::int32_t> narrow_ids, mapping, table, offsets;
  std::vector<std::int64_t> wide_ids;
  NumTokens num_tokens;

  std::int64_t below(std::int64_t end) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
  }

  explicit RandomCase(std::uint64_t seed) : random(seed) {
    const std::int64_t most_tokens[] = {1, 4, 40, 300, 1500};
    T = below(most_tokens[below(5)] + 1);
    K = 1 + below(8);
    row_stride = K + (below(2) == 0 ? 0 : below(5));
    E = static_cast<std::int32_t>(1 + below(below(3) == 0 ? 512 : 12));
    L = static_cast<std::int32_t>(below(9));
    local_experts = static_cast<std::int32_t>(1 + below(E));
    wide = below(2) == 1;
    replicas = below(3) == 0;
    const std::int64_t odd_ids[] = {
        -1, -2, INT_MIN, E, E + std::int64_t{3}, INT_MAX, LLONG_MIN, LLONG_MAX, std::int64_t{1} << 32};
    const std::int64_t share_of_odd = below(11);
    for (std::int64_t i = 0; i < (T == 0 ? 0 : (T - 1) * row_stride + K); ++i) {
      const std::int64_t id = below(10) < share_of_odd ? odd_ids[below(wide ? 9 : 6)] : below(E);
      wide_ids.push_back(id);
      narrow_ids.push_back(static_cast<std::int32_t>(id));
    }
    for (std::int64_t t = 0; t < T; ++t)
      mapping.push_back(below(8) == 0 ? INT_MAX : static_cast<std::int32_t>(below(L + 3) - 1));
    for (std::int32_t e = 0; e < E; ++e) {
      if (replicas) offsets.push_back(static_cast<std::int32_t>(table.size()));
      for (std::int64_t c = replicas ? 1 + below(3) : 1; c > 0; --c)
        table.push_back(static_cast<std::int32_t>(below(local_experts + 1) - 1));
    }
    if (replicas) offsets.push_back(static_cast<std::int32_t>(table.size()));
    const std::int64_t kind = below(3);
    num_tokens_value = static_cast<std::int32_t>(kind == 1 ? below(T + 1) : below(T + 5) - 2);
    if (kind == 1) num_tokens = NumTokens::of(num_tokens_value);
    if (kind == 2) num_tokens = NumTokens::at(&num_tokens_value);
  }
  RandomCase(const RandomCase&) = delete;  // num_tokens may point into this
  RandomCase& operator=(const RandomCase&) = delete;

  IdMatrix ids() const {
    return {wide ? static_cast<const void*>(wide_ids.data()) : narrow_ids.data(),
            wide ? IdType::int64 : IdType::int32, T, K, row_stride};
  }
};

class ThrustHostDiffers : public testing::Test {
 protected:
  std::unique_ptr<Backend> backend = make_backend("thrust-host");
  GuardedRun off_boundary{*backend, 0xA5}, on_boundary{*backend, 0x5A};

  template <class Problem, class Result>
  void expect_equal(const Problem& problem, const Result& expected,
                    Result (GuardedRun::*run)(const Problem&) const, std::uint64_t seed) const {
    EXPECT_TRUE((off_boundary.*run)(problem) == expected) << "seed " << seed << ", odd poison";
    EXPECT_TRUE((on_boundary.*run)(problem) == expected) << "seed " << seed << ", even poison";
  }
};

TEST_F(ThrustHostDiffers, inNoByteOfAnyRoutingOperation) {
  int parallel = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    RandomCase c(seed);
    const auto no_adapter = c.below(2) == 0 ? NoAdapter::base_slot : NoAdapter::sentinel;
    const auto sentinels = c.below(2) == 0 ? Sentinels::keep : Sentinels::drop;
    const bool shared_outer = c.below(4) == 0, local_already = c.below(4) == 0;
    const std::int64_t slot_offset = c.below(2) == 0 ? 0 : c.below(1 << 20);
    const auto B = static_cast<std::int32_t>(1 + c.below(c.below(2) == 0 ? 16 : 256));

    const DispatchProblem dispatch{c.ids(), c.E, c.table, c.offsets, slot_offset, c.num_tokens};
    expect_equal(dispatch, reference::dispatch(dispatch), &GuardedRun::dispatch, seed);
    const RemapProblem remap{c.ids(), c.mapping, c.E, c.L, shared_outer, no_adapter, c.num_tokens};
    expect_equal(remap, reference::remap(remap), &GuardedRun::remap, seed);
    const AlignProblem align{c.ids(), c.E * c.L, B, sentinels, c.num_tokens};
    expect_equal(align, reference::align(align), &GuardedRun::align, seed);
    RouteProblem route{c.ids(), c.mapping,    c.E,        c.table, c.offsets, slot_offset, c.local_experts,
                       c.L,     shared_outer, no_adapter, B,       sentinels, c.num_tokens};
    if (local_already) route.table = route.offsets = {};
    expect_equal(route, reference::route(route), &GuardedRun::route, seed);
    parallel += c.T * c.K + align.num_buckets >= kThrustHostParallelFrom;
  }
  EXPECT_GT(parallel, 20) << "cases on TBB's threads";
  EXPECT_LT(parallel, 380) << "cases on the calling thread";
}

}  // namespace
}  // namespace eplora
