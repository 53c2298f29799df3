// SPDX-License-Identifier: Apache-2.0
// Slicing, one block a tile. A block finds its tensor by bisecting `first_tile`, places its tile in the
// tensor with one 64-bit division each for line and place, and copies.
//
// Versions (benchmarks/NOTES.md, "Slicing", has their rates):
//   1 streaming hints on loads and stores of words; experts fastest staged in shared memory, an element a
//   thread 2 no hints; experts fastest gathered in registers, a run a thread
//   3 two neighbouring experts a load
#include "kernels/slice_tile.cuh"

namespace eplora::kernels {
namespace {

/// The last tensor that begins at or before `tile`. Tensors without tiles share a beginning with the next
/// one.
__device__ const SliceTensor& tensor_of_tile(const SliceTensor* tensors, std::uint32_t count,
                                             std::uint32_t tile) {
  std::uint32_t low = 0, high = count - 1;
  while (low < high) {
    const std::uint32_t middle = low + (high - low + 1) / 2;
    if (tensors[middle].first_tile <= tile)
      low = middle;
    else
      high = middle - 1;
  }
  return tensors[low];
}

__device__ void slice(const SliceTensor* tensors, const std::int32_t* experts, std::uint32_t count) {
  const SliceTensor& t = tensor_of_tile(tensors, count, blockIdx.x);
  const std::uint32_t tile = blockIdx.x - t.first_tile;
  if (tile == 0 && threadIdx.x == 0 && t.scale != nullptr) *t.scale = t.scale_value;
  switch (t.unit) {
    case SliceUnit::word16:
      return slice_tile<WordUnit<uint4>>(t, experts, tile);
    case SliceUnit::word8:
      return slice_tile<WordUnit<uint2>>(t, experts, tile);
    case SliceUnit::word4:
      return slice_tile<WordUnit<unsigned int>>(t, experts, tile);
    case SliceUnit::word2:
      return slice_tile<WordUnit<unsigned short>>(t, experts, tile);
    case SliceUnit::four:
      return slice_tile<FourUnit>(t, experts, tile);
    case SliceUnit::element:
      return slice_tile<ElementUnit>(t, experts, tile);
    case SliceUnit::transpose:
      return transpose_tile<false>(t, experts, tile);
    case SliceUnit::transpose_pairs:
      return transpose_tile<true>(t, experts, tile);
  }
}

__global__ void __launch_bounds__(kSliceThreads) slice_table(const SliceTable table) {
  slice(table.tensors, table.experts, table.num_tensors);
}

__global__ void __launch_bounds__(kSliceThreads)
    slice_inline_table(const __grid_constant__ SliceInlineTable table) {
  const auto* const tensors = reinterpret_cast<const SliceTensor*>(table.bytes);
  slice(tensors, reinterpret_cast<const std::int32_t*>(tensors + table.num_tensors), table.num_tensors);
}

}  // namespace

cudaError_t launch_slice(const SliceTable& table, std::uint32_t tiles, cudaStream_t stream) {
  slice_table<<<tiles, kSliceThreads, 0, stream>>>(table);
  return cudaGetLastError();
}

cudaError_t launch_slice(const SliceInlineTable& table, std::uint32_t tiles, cudaStream_t stream) {
  slice_inline_table<<<tiles, kSliceThreads, 0, stream>>>(table);
  return cudaGetLastError();
}

}  // namespace eplora::kernels
