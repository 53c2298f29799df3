// SPDX-License-Identifier: Apache-2.0
// Dispatch alone: global expert id -> local id of one rank (contract, section 3), one thread a slot.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/slots.h"

namespace eplora::kernels {

/// `local_ids [T, K]` contiguous int32, every element written; rows past `num_tokens` become -1.
/// `dispatch.table` must not be null unless `num_experts` is 0.
cudaError_t launch_dispatch(const IdSource& source, const DispatchTable& dispatch, std::int32_t* local_ids,
                            cudaStream_t stream);

}  // namespace eplora::kernels
