// SPDX-License-Identifier: Apache-2.0
// Remap alone, or after a dispatch in the same pass: (expert, adapter) -> virtual expert (contract, section
// 4).
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/slots.h"

namespace eplora::kernels {

/// `virtual_ids [T, K]` contiguous int32 and `token_lora_mask [T]`, every element written. `dispatch.table`
/// null = the ids are local already. Negative ids pass through bit for bit.
cudaError_t launch_remap(const IdSource& source, const DispatchTable& dispatch, const RemapRule& rule,
                         std::int32_t* virtual_ids, std::uint8_t* token_lora_mask, cudaStream_t stream);

}  // namespace eplora::kernels
