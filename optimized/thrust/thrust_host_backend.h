// SPDX-License-Identifier: Apache-2.0
// The backend `thrust-host`: the Thrust sources beside this file on the host's threads (TBB). A second,
// independent opinion on every result, on machines without a GPU too.
#pragma once

#include <memory>
#include <string>

#include "optimized/backend.h"

namespace eplora {

/// Work of this many slots, buckets or elements and more runs on TBB's threads; less runs on the calling
/// thread, where starting tasks would cost more than the work. Both paths are the same source.
inline constexpr std::int64_t kThrustHostParallelFrom = 4096;

std::unique_ptr<Backend> make_thrust_host_backend();

/// THRUST_VERSION of the Thrust compiled in: 101702 is 1.17.2, 300001 is 3.0.1.
int thrust_host_version();

/// Where that Thrust came from, as the build chose it: "CUDA toolkit (<include folder>)" or "system package
/// (...)".
std::string thrust_host_origin();

}  // namespace eplora
