// SPDX-License-Identifier: Apache-2.0
// Dispatch: read an id, look it up, write the local id. One pass, one dependent load.
#include <algorithm>

#include "kernels/dispatch.h"
#include "kernels/slots.cuh"

namespace eplora::kernels {
namespace {

__global__ void dispatch_kernel(const IdSource source, const DispatchTable dispatch, std::uint32_t num_slots,
                                std::int32_t* local_ids) {
  const std::int32_t tokens = real_tokens(source);
  for (std::uint32_t slot = blockIdx.x * blockDim.x + threadIdx.x; slot < num_slots;
       slot += gridDim.x * blockDim.x) {
    const std::uint32_t token = divide(slot, source.cols);
    std::int32_t id = -1;
    if (token < static_cast<std::uint32_t>(tokens))
      id = dispatch_id(dispatch, dispatch.table, load_id(source, slot, token), slot);
    local_ids[slot] = id;
  }
}

}  // namespace

cudaError_t launch_dispatch(const IdSource& source, const DispatchTable& dispatch, std::int32_t* local_ids,
                            cudaStream_t stream) {
  const std::uint32_t num_slots = static_cast<std::uint32_t>(source.num_rows) * source.cols.value;
  if (num_slots == 0) return cudaSuccess;
  dispatch_kernel<<<std::min((num_slots + 255) / 256, 4096u), 256, 0, stream>>>(source, dispatch, num_slots,
                                                                                local_ids);
  return cudaGetLastError();
}

}  // namespace eplora::kernels
