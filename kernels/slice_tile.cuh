// SPDX-License-Identifier: Apache-2.0
// One tile of slicing: up to kSliceTileUnits consecutive units of a slot, all loads issued before the first
// store.
#pragma once

#include "kernels/slice_elements.cuh"
#include "kernels/slots.cuh"

namespace eplora::kernels {

/// `position + step` in digits of base `by`: the digit, and the carry in `step`. No sum here exceeds 32 bits,
/// and the division sees only numbers below a tile's size.
inline __device__ std::uint32_t advance(std::uint32_t position, std::uint32_t& step, const Divisor& by) {
  const std::uint32_t rest = by.value - position;
  if (step < rest) {
    const std::uint32_t digit = position + step;
    step = 0;
    return digit;
  }
  const std::uint32_t past = step - rest, wraps = divide(past, by);
  step = wraps + 1;
  return past - wraps * by.value;
}

/// Where a tile begins in `[places, lines, width]`.
struct SlicePosition {
  std::uint32_t place, line, column;

  __device__ SlicePosition(const SliceTensor& t, std::uint64_t unit) {
    const std::uint64_t lines_before = unit / t.width.value;
    column = static_cast<std::uint32_t>(unit - lines_before * t.width.value);
    place = static_cast<std::uint32_t>(lines_before / t.lines.value);
    line = static_cast<std::uint32_t>(lines_before - std::uint64_t{place} * t.lines.value);
  }
};

/// The source of one unit of a slot.
struct SliceOrigin {
  const std::byte* line;  ///< expert 0
  std::int64_t expert_stride;
  std::uint32_t half;
  bool inside;  ///< false: zero

  __device__ SliceOrigin(const SliceTensor& t, std::uint32_t line_of_place, std::uint32_t column) {
    half = t.interleaved ? line_of_place & 1 : line_of_place >= t.half_lines;
    const std::uint32_t row = t.interleaved ? line_of_place >> 1 : line_of_place - half * t.half_lines;
    const SliceSource& source = t.source[half];
    inside = row < t.valid_lines[half] && column < t.valid_columns[half];
    line =
        static_cast<const std::byte*>(source.data) + row * source.line_stride + column * source.column_stride;
    expert_stride = source.expert_stride;
  }
};

template <class Unit>
__device__ void slice_tile(const SliceTensor& t, const std::int32_t* experts, std::uint32_t tile) {
  const std::uint64_t total = std::uint64_t{t.places} * t.lines.value * t.width.value;
  const std::uint64_t first = std::uint64_t{tile} * kSliceTileUnits;
  if (first >= total) return;
  const SlicePosition at(t, first);
  const auto count = static_cast<std::uint32_t>(min(std::uint64_t{kSliceTileUnits}, total - first));

  typename Unit::Raw raw[kSliceItems] = {};
  std::uint32_t second_half = 0;
#pragma unroll
  for (std::uint32_t i = 0; i < kSliceItems; ++i) {
    std::uint32_t step = i * kSliceThreads + threadIdx.x;
    if (step >= count) break;
    const std::uint32_t column = advance(at.column, step, t.width);
    const std::uint32_t line = advance(at.line, step, t.lines);
    const SliceOrigin origin(t, line, column);
    second_half |= origin.half << i;
    if (origin.inside)
      raw[i] = Unit::load(origin.line + experts[at.place + step] * origin.expert_stride, t.from[origin.half]);
  }
  auto* const slot = static_cast<std::byte*>(t.slot);
#pragma unroll
  for (std::uint32_t i = 0; i < kSliceItems; ++i) {
    const std::uint32_t unit = i * kSliceThreads + threadIdx.x;
    if (unit < count) Unit::store(slot, first + unit, raw[i], t.from[second_half >> i & 1], t.to);
  }
}

/// Stores a run of 2-byte or 4-byte elements of one place, `count` of them, as words where they are aligned.
/// `words`: the run as 2-byte elements, two a word.
inline __device__ void store_run(std::byte* to, std::uint32_t count,
                                 const std::uint32_t (&raw)[kTransposeRun],
                                 const std::uint32_t (&words)[kTransposeRun / 2], ElementType type) {
  if (count < kTransposeRun || reinterpret_cast<std::uintptr_t>(to) % 16 != 0) {
#pragma unroll
    for (std::uint32_t j = 0; j < kTransposeRun; ++j)
      if (j < count) ElementUnit::store(to, j, raw[j], type, type);
  } else if (type == ElementType::f32) {
#pragma unroll
    for (std::uint32_t j = 0; j < kTransposeRun; j += 4)
      reinterpret_cast<uint4*>(to)[j / 4] = make_uint4(raw[j], raw[j + 1], raw[j + 2], raw[j + 3]);
  } else {
#pragma unroll
    for (std::uint32_t j = 0; j < kTransposeRun / 2; j += 4)
      reinterpret_cast<uint4*>(to)[j / 4] = make_uint4(words[j], words[j + 1], words[j + 2], words[j + 3]);
  }
}

/// Sources whose experts are neighbours (PEFT's fused B, expert fastest): a warp reads one element of 32
/// places at a time; a thread gathers a run of one place, a sector or two of it, and stores that as words.
/// `kPairs`: a thread reads the elements of two places as one word, and a warp two runs of 32 places.
template <bool kPairs>
__device__ void transpose_tile(const SliceTensor& t, const std::int32_t* experts, std::uint32_t tile) {
  constexpr std::uint32_t kPlaces = kPairs ? 2 : 1, kThreads = kTransposePlaces / kPlaces;  // a run
  if (t.places == 0) return;
  const std::uint32_t groups = (t.places + kTransposePlaces - 1) / kTransposePlaces;
  const std::uint64_t elements = std::uint64_t{t.lines.value} * t.width.value;
  const std::uint32_t place = tile % groups * kTransposePlaces + threadIdx.x % kThreads * kPlaces;
  const std::uint64_t first = std::uint64_t{tile / groups} * kTransposeElements;
  if (first >= elements || place >= t.places) return;
  const SlicePosition at(t, first);
  const auto count = static_cast<std::uint32_t>(min(std::uint64_t{kTransposeElements}, elements - first));
  const std::int64_t expert = experts[place];
  const std::uint32_t size = t.to == ElementType::f32 ? 4 : 2;

  for (std::uint32_t begin = threadIdx.x / kThreads * kTransposeRun; begin < count;
       begin += kSliceThreads / kThreads * kTransposeRun) {
    std::uint32_t step = begin;
    std::uint32_t column = advance(at.column, step, t.width);
    std::uint32_t line = at.line + step;  // a tile ends with its place: lines do not carry
    SliceOrigin origin(t, line, column);
    const std::byte* from = origin.line + expert * origin.expert_stride;
    std::uint32_t raw[kTransposeRun] = {}, second_half = 0;
#pragma unroll
    for (std::uint32_t j = 0; j < kTransposeRun; ++j) {
      if (begin + j >= count) break;
      second_half |= origin.half << j;
      if (origin.inside && column < t.valid_columns[origin.half])
        raw[j] = kPairs ? __ldg(reinterpret_cast<const unsigned int*>(from))
                        : ElementUnit::load(from, t.from[origin.half]);
      from += t.source[origin.half].column_stride;
      if (++column == t.width.value && begin + j + 1 < count) {
        column = 0;
        origin = SliceOrigin(t, ++line, 0);
        from = origin.line + expert * origin.expert_stride;
      }
    }
#pragma unroll
    for (std::uint32_t p = 0; p < kPlaces; ++p) {
      std::uint32_t own[kTransposeRun], words[kTransposeRun / 2];
#pragma unroll
      for (std::uint32_t j = 0; j < kTransposeRun; ++j)
        own[j] = kPairs ? raw[j] >> 16 * p & 0xFFFFu : convert(raw[j], t.from[second_half >> j & 1], t.to);
#pragma unroll
      for (std::uint32_t j = 0; j < kTransposeRun; j += 2)
        words[j / 2] =
            kPairs ? __byte_perm(raw[j], raw[j + 1], p == 0 ? 0x5410 : 0x7632) : own[j] | own[j + 1] << 16;
      store_run(static_cast<std::byte*>(t.slot) + ((place + p) * elements + first + begin) * size,
                count - begin, own, words, t.to);
    }
  }
}

}  // namespace eplora::kernels
