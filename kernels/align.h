// SPDX-License-Identifier: Apache-2.0
// Align the way engines do it, as three launches: one block counts, scans and labels; many scatter; a last
// pass makes the sentinel bucket's labels -1. Unlike theirs the ranks are stable, so the bytes are canonical
// (contract, section 5). This is the in-project baseline; the fast align is kernels/route.h without dispatch
// and remap.
#pragma once

#include <cstddef>

#include "kernels/route.h"

namespace eplora::kernels {

/// For `n` slots and `V` buckets.
std::size_t align_workspace_bytes(std::uint32_t num_slots, std::uint32_t num_buckets);

/// Every byte of the outputs is written. `arguments.dispatch` and `.remap` act as in route; the mask is not
/// written.
cudaError_t launch_align_count(const RouteArguments& arguments, void* workspace, cudaStream_t stream);
cudaError_t launch_align_scatter(const RouteArguments& arguments, void* workspace, cudaStream_t stream);
cudaError_t launch_align_sanitise(const RouteArguments& arguments, cudaStream_t stream);

}  // namespace eplora::kernels
