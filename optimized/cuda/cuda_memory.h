// SPDX-License-Identifier: Apache-2.0
// GPU memory for guarded calls: what `memory_access(MemorySpace::cuda)` gives in a build with the CUDA
// toolkit. A suite makes millions of small calls, so regions stay with the process, each with pinned images
// on the host, and every thread works on a stream of its own: a call costs one copy to the device, the
// launch, one copy back and one wait.
//
// EPLORA_POOL=off in the environment turns this off for compute-sanitizer: every buffer is an allocation of
// its own, exactly as large as asked for.
#pragma once

#include "optimized/guarded_memory.h"

namespace eplora::cuda {

/// The current device's memory. Throws `BackendUnavailable` where no device can be used, `InvalidArgument`
/// when EPLORA_POOL is set to anything but `on` or `off`.
MemoryAccess& device_memory();

}  // namespace eplora::cuda
