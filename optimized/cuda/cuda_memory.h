// SPDX-License-Identifier: Apache-2.0
// GPU memory for guarded calls: what `memory_access(MemorySpace::cuda)` gives in a build with the CUDA
// toolkit.
#pragma once

#include "optimized/guarded_memory.h"

namespace eplora::cuda {

/// The current device's memory, in the order of the default stream. Freed blocks stay with the process, since
/// a suite allocates small buffers by the hundred thousand. Throws `BackendUnavailable` where no device can
/// be used.
MemoryAccess& device_memory();

}  // namespace eplora::cuda
