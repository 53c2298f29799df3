// SPDX-License-Identifier: Apache-2.0
// A kernel that does nothing: what a launch costs.
#pragma once

#include <cuda_runtime_api.h>

namespace eplora::bench {

cudaError_t launch_empty(unsigned blocks, unsigned threads, cudaStream_t stream);

}  // namespace eplora::bench
