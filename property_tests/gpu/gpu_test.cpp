// SPDX-License-Identifier: Apache-2.0
// The fixture, and the program: GoogleTest's own, with the number of skipped tests and the reason last.
#include "property_tests/gpu/gpu_test.h"

#include <algorithm>
#include <cstdio>

#include "optimized/cuda/cuda_backend.h"
#include "optimized/guarded_run.h"

namespace eplora::gpu {

const std::string& no_gpu() {
  static const std::string reason = cuda_unavailable();
  return reason;
}

void GpuTest::SetUp() {
  if (!no_gpu().empty()) GTEST_SKIP() << no_gpu();
  device_ = cuda::DeviceInfo::current();
}

void GpuTest::TearDown() {
  if (IsSkipped()) return;
  RecordProperty("checks", std::to_string(checks_));
  EXPECT_GT(checks_, 0) << "nothing was judged";
}

bool GpuTest::count(const std::string& who, const std::string& difference) {
  constexpr std::int64_t kEnough = 5;
  ++checks_;
  if (difference.empty()) return true;
  ADD_FAILURE() << who << ": " << difference;
  return ++wrong_ < kEnough;
}

bool GpuTest::judge(Backend& backend, const GpuCase& c, const RouteResult& want, std::uint8_t poison) {
  const GuardedRun run(backend, poison);
  std::string difference;
  try {
    difference =
        first_difference(c.align_only ? RouteResult{run.align(c.align()), {}} : run.route(c.route()), want);
  } catch (const std::exception& error) {
    difference = error.what();
  }
  if (difference.empty()) return count({}, {});
  return count(std::string(backend.name()) + ", poison " + std::to_string(poison) + ", " + c.text(),
               difference);
}

bool GpuTest::judge(Backend& backend, const GpuCase& c, const RouteResult& want) {
  return std::ranges::all_of(kPoisons, [&](std::uint8_t poison) { return judge(backend, c, want, poison); });
}

bool GpuTest::judge_tiers(const GpuCase& c, const RouteResult& want, std::span<const std::uint32_t> blocks) {
  for (const cuda::RouteTier tier : kAllTiers)
    for (const std::uint32_t number : blocks)
      for (const cuda::RoutePlan& plan :
           cuda::plans_of_tier(tier, size_of(c.n(), c.V(), c.capacity()), device_, number))
        if (!judge(*make_plan_backend(plan), c, want, kPoisons[number % 2])) return false;
  return true;
}

std::vector<std::uint32_t> GpuTest::block_counts() const {
  const std::uint32_t all = device_.multiprocessors;
  return {0, 1, 2, 3, 7, 16, all / 2, all};
}

std::string backend_in_test_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

}  // namespace eplora::gpu

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int status = RUN_ALL_TESTS();
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  if (all.skipped_test_count() > 0)
    std::printf("%d GPU tests ran, %d were skipped: %s\n", all.test_to_run_count() - all.skipped_test_count(),
                all.skipped_test_count(), eplora::gpu::no_gpu().c_str());
  return status;
}
