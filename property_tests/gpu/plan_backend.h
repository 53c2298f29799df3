// SPDX-License-Identifier: Apache-2.0
// A route kernel of the test's choice behind the backend interface: the guard, the poisons and the reference
// judge a forced plan exactly as they judge the backend that chooses for itself.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "optimized/backend.h"
#include "optimized/cuda/route_plan.h"

namespace eplora::gpu {

/// Every tier there is; tests loop over this list alone.
inline constexpr std::array kAllTiers = {cuda::RouteTier::pairs,   cuda::RouteTier::small,
                                         cuda::RouteTier::cluster, cuda::RouteTier::medium,
                                         cuda::RouteTier::grid,    cuda::RouteTier::stream};

/// Offers align and route, for problems of the size that the plan was made for.
std::unique_ptr<Backend> make_plan_backend(const cuda::RoutePlan& plan);

cuda::RouteSize size_of(std::int64_t n, std::int64_t V, std::int64_t capacity);

/// What distinguishes kernels and their loops: the tier, and the items and columns that the plan names.
std::string kind_of(const cuda::RoutePlan& plan);

}  // namespace eplora::gpu
