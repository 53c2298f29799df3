// SPDX-License-Identifier: Apache-2.0
// The fixture of every test that needs a GPU: skipped by name with the reason where there is none, stopped
// after a few differences, and the number of guarded calls that it judged is recorded with its result.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "optimized/backend.h"
#include "property_tests/gpu/gpu_case.h"
#include "property_tests/gpu/plan_backend.h"

namespace eplora::gpu {

/// Arrays on a 256-byte boundary, and one element off it.
inline constexpr std::uint8_t kPoisons[] = {0xA4, 0x5B};

class GpuTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  /// One guarded call against `want`; false once the test has seen enough differences.
  bool judge(Backend& backend, const GpuCase& c, const RouteResult& want, std::uint8_t poison);
  bool judge(Backend& backend, const GpuCase& c, const RouteResult& want);  ///< both poisons
  /// Every tier that can serve the case, in the shapes that these numbers of blocks give (0 = its own
  /// choice).
  bool judge_tiers(const GpuCase& c, const RouteResult& want, std::span<const std::uint32_t> blocks);

  /// A judgement of any other kind, counted like the others: `difference` is empty when all is right.
  bool count(const std::string& who, const std::string& difference);

  const cuda::DeviceInfo& device() const { return device_; }
  /// Few, half of the device, all of it.
  std::vector<std::uint32_t> block_counts() const;

 private:
  std::int64_t checks_ = 0, wrong_ = 0;
  cuda::DeviceInfo device_;
};

/// The three GPU backends, by name.
class GpuBackendTest : public GpuTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) backend = make_backend(GetParam());
  }
  std::unique_ptr<Backend> backend;
};
inline const auto kGpuBackends = testing::Values("thrust-cuda", "cuda-unfused", "cuda");
std::string backend_in_test_name(const testing::TestParamInfo<const char*>& info);

/// Why no test can run here; empty = they can.
const std::string& no_gpu();

}  // namespace eplora::gpu
