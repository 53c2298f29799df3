// SPDX-License-Identifier: Apache-2.0
// Which kernel, and in what shape, serves a problem. The choice depends on sizes and the device alone, never
// on values, so that workspaces and captured graphs stay valid (contract P17).
#pragma once

#include <string>
#include <vector>

#include "kernels/route.h"

namespace eplora::cuda {

struct DeviceInfo {
  std::uint32_t multiprocessors = 1;
  std::size_t shared_bytes = 0;  ///< a block may opt in to
  bool clusters = false;         ///< sm_90 and newer

  /// The current device. Throws `CudaError`.
  static DeviceInfo current();
};

enum class RouteTier : std::uint8_t { pairs, small, cluster, medium, grid, stream };
std::string_view to_string(RouteTier tier);

struct RoutePlan {
  RouteTier tier = RouteTier::stream;
  std::uint32_t blocks = 1, threads = 1024, items = 1;
  kernels::TwoBarrierShape shape;  ///< tiers grid and stream
  std::size_t workspace_bytes = 0;
};
std::string to_string(const RoutePlan& plan);

struct RouteSize {
  std::uint32_t num_slots, num_buckets;
  std::int64_t capacity;
};

/// The plan used.
RoutePlan plan_route(const RouteSize& size, const DeviceInfo& device);

/// A plan of the given tier for this size, if the tier can serve it; `blocks` 0 = the tier's own choice.
/// Tests visit all.
std::vector<RoutePlan> plans_of_tier(RouteTier tier, const RouteSize& size, const DeviceInfo& device,
                                     std::uint32_t blocks = 0);

/// One launch. Throws `CudaError`.
void run_route(const kernels::RouteArguments& arguments, const RoutePlan& plan, void* workspace,
               cudaStream_t stream);

}  // namespace eplora::cuda
