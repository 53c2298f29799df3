// SPDX-License-Identifier: Apache-2.0
// EP-rank slicing (contract, section 6) as one launch: every LoRA tensor of an adapter, cut for one rank,
// into one slot of its buffers. The work is an array of descriptors, one a buffer tensor and layer; who fills
// it is optimized/cuda/cuda_slice.h. A slot of a tensor is `[places, lines, width]`, contiguous; each line
// comes from one of two strided sources (the halves of gate_up), or is zero past the adapter's rank. An
// adapter whose experts stand in unrelated memory takes one descriptor an expert, with one place each.
//
// Descriptors are counted in units: a 16, 8, 4 or 2 byte word, 4 neighbouring elements or one element,
// whichever the alignment and the strides allow. Every output byte is written once, no other byte at all.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/slots.h"

namespace eplora::kernels {

enum class ElementType : std::uint8_t { f32, f16, bf16 };

enum class SliceUnit : std::uint8_t {
  word16,  ///< bits as they are, 16 bytes a thread
  word8,
  word4,
  word2,
  four,            ///< 4 elements of contiguous rows, converted
  element,         ///< one element, any strides, converted where the types differ
  transpose,       ///< one element; reads run along experts, writes along the slot
  transpose_pairs  ///< the same in 2-byte elements of equal types, those of two neighbouring experts a word
};

/// Where lines come from. Strides in bytes; a column is one unit.
struct SliceSource {
  const void* data = nullptr;  ///< expert 0, line 0, column 0 of this rank's cut
  std::int64_t expert_stride = 0, line_stride = 0, column_stride = 0;
};

/// One slot of one tensor. Line `l` is line `l / 2` of half `l % 2` where `interleaved`, else line `l %
/// half_lines` of half `l / half_lines`. `width.value` and `lines.value` may exceed a Divisor's range, up to
/// 2^32-1: the quotient is only taken of numbers below a tile's size.
struct SliceTensor {
  SliceSource source[2];
  void* slot = nullptr;
  float* scale = nullptr;  ///< null: none to write
  float scale_value = 0.0F;
  std::uint32_t first_tile = 0;  ///< tiles of all tensors before this one
  Divisor width;                 ///< units a line
  Divisor lines;                 ///< lines a place
  std::uint32_t places = 0, half_lines = 0;
  std::uint32_t valid_lines[2] = {}, valid_columns[2] = {};  ///< past these: zero
  SliceUnit unit = SliceUnit::element;
  ElementType from[2] = {ElementType::f32, ElementType::f32}, to = ElementType::f32;
  bool interleaved = false;
};

/// Units a thread block does.
inline constexpr std::uint32_t kSliceThreads = 256, kSliceItems = 8,
                               kSliceTileUnits = kSliceThreads * kSliceItems;
/// A tile of `SliceUnit::transpose` and `transpose_pairs`: this many places by this many consecutive elements
/// of each, in runs that one thread takes.
inline constexpr std::uint32_t kTransposePlaces = 32, kTransposeElements = 512, kTransposeRun = 16;

/// Descriptors in device memory; `first_tile` ascends from 0. `experts[place]` is the source's expert at a
/// place, at least one entry.
struct SliceTable {
  const SliceTensor* tensors = nullptr;
  const std::int32_t* experts = nullptr;
  std::uint32_t num_tensors = 0;
};

/// The same table inside the kernel's parameters (up to 32 764 bytes since sm_70): nothing to bring to the
/// device, and a captured graph holds its own copy. Tensors first, then experts.
struct SliceInlineTable {
  static constexpr std::size_t kBytes = 32 * 1024 - 64;
  std::uint32_t num_tensors = 0;
  alignas(16) std::byte bytes[kBytes];
};

/// One launch of `tiles` >= 1 blocks. Neither allocates nor synchronises.
cudaError_t launch_slice(const SliceTable& table, std::uint32_t tiles, cudaStream_t stream);
cudaError_t launch_slice(const SliceInlineTable& table, std::uint32_t tiles, cudaStream_t stream);

}  // namespace eplora::kernels
