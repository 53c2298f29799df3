// SPDX-License-Identifier: Apache-2.0
// The backend `thrust-cuda`: the Thrust sources beside this file, the very ones of `thrust-host`, compiled
// for the GPU. Scratch memory comes from CUDA's stream-ordered pool, so a call enqueues its work and returns;
// dispatch and remap need none.
#pragma once

#include <memory>

#include "optimized/backend.h"

namespace eplora {

/// For the current device. Throws `cuda::CudaError` where there is none.
std::unique_ptr<Backend> make_thrust_cuda_backend();

}  // namespace eplora
