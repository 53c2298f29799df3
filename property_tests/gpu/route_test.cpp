// SPDX-License-Identifier: Apache-2.0
// Route and align on the GPU where sizes change: slots around a warp, buckets where engines stop, both sides
// of every tier's boundary, every kernel that can serve a problem. Byte for byte against the reference, under
// guard, with two poisons.
#include <set>

#include "property_tests/gpu/gpu_test.h"

namespace eplora::gpu {
namespace {

constexpr std::int64_t kSlots[] = {0, 1, 31, 32, 33, 500, 4100};
constexpr std::int64_t kBuckets[] = {0, 1, 2, 1023, 1024, 1025, 8191, 8192, 16385, 65536};

class Route : public GpuBackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Route, kGpuBackends, backend_in_test_name);

TEST_P(Route, equalsTheReferenceAtBoundarySizes) {
  for (const std::int64_t n : kSlots)
    for (const std::int64_t V : kBuckets)
      for (std::uint64_t i = 0; i < 2 * kPatterns; ++i) {
        const GpuCase c = make_case(n, V, i + static_cast<std::uint64_t>(n + V));
        if (!judge(*backend, c, expected(c))) return;
      }
}

TEST_P(Route, equalsTheReferenceForEveryPatternAndOption) {
  constexpr std::int64_t kSizes[][2] = {{24, 60},     {130, 1024},  {700, 7},      {1500, 300},
                                        {5000, 2048}, {20000, 512}, {70000, 4096}, {300000, 1024}};
  for (const auto& [n, V] : kSizes)
    for (std::uint64_t i = 0; i < (n < 10000 ? 20 : 4) * kPatterns; ++i) {
      const GpuCase c = make_case(n, V, i);
      if (!judge(*backend, c, expected(c), kPoisons[i / kPatterns % 2])) return;
    }
}

class Tiers : public GpuTest {
 protected:
  /// Slots at which the kind of plan for `V` buckets changes: the last of each kind.
  static std::set<std::int64_t> boundaries(std::int64_t V, std::int64_t most,
                                           const cuda::DeviceInfo& device) {
    const auto kind = [&](std::int64_t n) {
      return kind_of(cuda::plan_route(size_of(n, V, align_capacity(n, V, 16, Sentinels::keep)), device));
    };
    std::set<std::int64_t> found;
    const auto search = [&](const auto& self, std::int64_t low, const std::string& at_low, std::int64_t high,
                            const std::string& at_high) -> void {
      if (high - low <= 1) {
        if (at_low != at_high) found.insert(low);
        return;
      }
      if (at_low == at_high && high - low < low / 8) return;
      const std::int64_t middle = low + (high - low) / 2;
      const std::string at_middle = kind(middle);
      self(self, low, at_low, middle, at_middle);
      self(self, middle, at_middle, high, at_high);
    };
    search(search, 0, kind(0), most, kind(most));
    return found;
  }
};

TEST_F(Tiers, bothSidesOfEveryBoundaryInSlotsEqualTheReference) {
  const auto cuda = make_backend("cuda"), unfused = make_backend("cuda-unfused");
  std::int64_t crossed = 0;
  for (const std::int64_t V :
       {1, 12, 128, 512, 1024, 1025, 2047, 2048, 4096, 8192, 8193, 16384, 16385, 40960})
    for (const std::int64_t last : boundaries(V, 1300000, device())) {
      ++crossed;
      for (std::int64_t n = std::max<std::int64_t>(last - 1, 0); n <= last + 2; ++n) {
        const auto number = static_cast<std::uint64_t>(n + V);
        const GpuCase c = n < 100000 ? make_case(n, V, number)
                                     : plain_case(n, V, 16, static_cast<Pattern>(number % kPatterns));
        const RouteResult want = expected(c);
        if (!judge(*cuda, c, want) || (n < 20000 && !judge(*unfused, c, want, kPoisons[0]))) return;
      }
    }
  std::printf("    %lld boundaries\n", static_cast<long long>(crossed));
  EXPECT_GT(crossed, 0);
}

TEST_F(Tiers, bothSidesOfEveryBoundaryInBucketsEqualTheReference) {
  const auto cuda = make_backend("cuda");
  std::int64_t crossed = 0;
  for (const std::int64_t n :
       {1, 33, 64, 65, 256, 257, 1024, 1500, 4096, 4097, 16384, 65536, 65537, 200000, 262143, 262144}) {
    const auto kind = [&](std::int64_t V) {
      return kind_of(cuda::plan_route(size_of(n, V, align_capacity(n, V, 16, Sentinels::keep)), device()));
    };
    std::int64_t low = 0;
    for (std::int64_t high = 1; low < 70000; high += high / 16 + 1) {
      if (kind(low) != kind(high)) {
        std::int64_t last = low, next = high;
        while (next - last > 1) (kind((last + next) / 2) == kind(low) ? last : next) = (last + next) / 2;
        ++crossed;
        for (std::int64_t V = std::max<std::int64_t>(last - 1, 0); V <= last + 2; ++V) {
          const GpuCase c = make_case(n, V, static_cast<std::uint64_t>(n + V));
          if (!judge(*cuda, c, expected(c))) return;
        }
      }
      low = high;
    }
  }
  std::printf("    %lld boundaries\n", static_cast<long long>(crossed));
  EXPECT_GT(crossed, 0);
}

TEST_F(Tiers, everyTierThatCanServeAProblemEqualsTheReference) {
  const std::vector<std::uint32_t> blocks = block_counts();
  constexpr std::int64_t kManySlots[] = {0, 1, 31, 32, 33, 64, 255, 256, 1000, 1025, 4096, 4099, 33000};
  constexpr std::int64_t kManyBuckets[] = {0, 1, 5, 128, 1024, 1025, 4096, 4097, 8193, 16385, 65536};
  std::uint64_t number = 0;
  for (const std::int64_t n : kManySlots)
    for (const std::int64_t V : kManyBuckets)
      for (int i = 0; i < (n < 5000 ? 3 : 1); ++i) {
        const GpuCase c = make_case(n, V, number++);
        if (!judge_tiers(c, expected(c), blocks)) return;
      }
}

TEST_F(Tiers, everyTierEqualsTheReferenceForEveryPatternAndOption) {
  const std::uint32_t own_choice[] = {0, 5};
  for (const auto& [n, V] :
       {std::pair{200, 77}, std::pair{900, 300}, std::pair{2500, 1024}, std::pair{9000, 500}})
    for (std::uint64_t i = 0; i < 6 * kPatterns; ++i) {
      const GpuCase c = make_case(n, V, 1000 + i);
      if (!judge_tiers(c, expected(c), own_choice)) return;
    }
}

TEST_F(Tiers, everyTierEqualsTheReferenceOnUsualCalls) {
  const std::uint32_t blocks[] = {0, 2, 3};
  for (const std::int64_t n : {8, 200, 1024, 1032, 4096, 20000})
    for (const std::int64_t V : {16, 512, 1024, 1025, 4096, 4097})
      for (const Pattern pattern : {Pattern::uniform, Pattern::zipf, Pattern::one_bucket, Pattern::outside})
        for (const std::int32_t block_size : {4, 16, 64})
          for (const auto make : {plain_case, dispatched_case}) {
            const GpuCase c = make(n, V, block_size, pattern);
            if (!judge_tiers(c, expected(c), blocks)) return;
          }
}

TEST_F(Tiers, everyTierServesSomething) {
  for (const cuda::RouteTier tier : kAllTiers) {
    const GpuCase c = make_case(200, 60, 5);
    const auto plans = cuda::plans_of_tier(tier, size_of(c.n(), c.V(), c.capacity()), device());
    EXPECT_TRUE(count(std::string(to_string(tier)), plans.empty() ? "serves nothing" : ""));
  }
}

class Large : public GpuBackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Large, kGpuBackends, backend_in_test_name);

TEST_P(Large, sixteenMillionSlotsEqualTheReference) {
  constexpr std::int64_t kMillions = INT64_C(16) << 20;
  const bool slow = backend->name() == std::string_view("cuda-unfused");  // one block counts
  for (const auto& [n, V, pattern] :
       {std::tuple{kMillions, 4096, Pattern::uniform}, std::tuple{kMillions, 65536, Pattern::uniform},
        std::tuple{kMillions + 5, 77, Pattern::zipf},
        std::tuple{kMillions - 8, 65536, Pattern::mostly_sentinels},
        std::tuple{kMillions, 1024, Pattern::one_bucket}}) {
    if (slow && V != 65536) continue;
    GpuCase c = plain_case(n, V, 64, pattern);
    if (!judge(*backend, c, expected(c), kPoisons[0])) return;
    c.align_only = true;
    c.keep = false;
    if (pattern != Pattern::one_bucket && !judge(*backend, c, expected(c), kPoisons[1])) return;
  }
}

TEST_P(Large, sixtyFiveThousandBucketsEqualTheReference) {
  for (const std::int64_t n : {8, 300, 5000, 70000, 1000000})
    for (std::uint64_t i = 0; i < (n < 100000 ? 2U : 1U) * kPatterns; ++i) {
      const GpuCase c = make_case(n, 65536, i);
      if (!judge(*backend, c, expected(c), kPoisons[i % 2])) return;
    }
}

}  // namespace
}  // namespace eplora::gpu
