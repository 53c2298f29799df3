// SPDX-License-Identifier: Apache-2.0
// Remap: one thread a slot; the thread of a token's first column writes the token's mask.
#include <algorithm>

#include "kernels/remap.h"
#include "kernels/slots.cuh"

namespace eplora::kernels {
namespace {

__global__ void remap_kernel(const IdSource source, const DispatchTable dispatch, const RemapRule rule,
                             std::uint32_t num_slots, std::int32_t* virtual_ids,
                             std::uint8_t* token_lora_mask) {
  const std::int32_t tokens = real_tokens(source);
  for (std::uint32_t slot = blockIdx.x * blockDim.x + threadIdx.x; slot < num_slots;
       slot += gridDim.x * blockDim.x) {
    const std::uint32_t token = divide(slot, source.cols), column = slot - token * source.cols.value;
    std::int32_t id = -1;
    std::uint8_t mask = 0;
    if (token < static_cast<std::uint32_t>(tokens)) {
      const std::int32_t adapter = __ldg(rule.mapping + token);
      id = load_id(source, slot, token);
      if (dispatch.table != nullptr) id = dispatch_id(dispatch, dispatch.table, id, slot);
      id = virtual_id(rule, id, adapter);
      mask = lora_mask(rule, adapter);
    }
    virtual_ids[slot] = id;
    if (column == 0) token_lora_mask[token] = mask;
  }
}

}  // namespace

cudaError_t launch_remap(const IdSource& source, const DispatchTable& dispatch, const RemapRule& rule,
                         std::int32_t* virtual_ids, std::uint8_t* token_lora_mask, cudaStream_t stream) {
  const std::uint32_t num_slots = static_cast<std::uint32_t>(source.num_rows) * source.cols.value;
  if (num_slots == 0) return cudaSuccess;
  remap_kernel<<<std::min((num_slots + 255) / 256, 4096u), 256, 0, stream>>>(
      source, dispatch, rule, num_slots, virtual_ids, token_lora_mask);
  return cudaGetLastError();
}

}  // namespace eplora::kernels
