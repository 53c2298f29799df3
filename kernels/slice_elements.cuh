// SPDX-License-Identifier: Apache-2.0
// What slicing does with one unit: loads that keep raw bits in registers, so that many are in flight at once,
// and stores that convert. To the narrower type round to nearest even, NaN becomes 0x7FFF (that is what the
// conversion instructions do); equal types are copied bit for bit; float16 to float32 keeps a NaN's payload.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/slice.h"

namespace eplora::kernels {

inline __device__ std::uint32_t to_float_bits(std::uint32_t bits, ElementType from) {
  if (from == ElementType::f32) return bits;
  if (from == ElementType::bf16) return bits << 16;
  if ((bits & 0x7C00u) == 0x7C00u) return (bits & 0x8000u) << 16 | 0x7F800000u | (bits & 0x3FFu) << 13;
  return __float_as_uint(__half2float(__ushort_as_half(static_cast<unsigned short>(bits))));
}

inline __device__ std::uint32_t from_float_bits(std::uint32_t bits, ElementType to) {
  if (to == ElementType::f32) return bits;
  if (to == ElementType::bf16) return __bfloat16_as_ushort(__float2bfloat16_rn(__uint_as_float(bits)));
  return __half_as_ushort(__float2half_rn(__uint_as_float(bits)));
}

inline __device__ std::uint32_t convert(std::uint32_t bits, ElementType from, ElementType to) {
  return from == to ? bits : from_float_bits(to_float_bits(bits, from), to);
}

/// 2 to 16 bytes, source and slot of the same type.
template <class Word>
struct WordUnit {
  using Raw = Word;
  static constexpr std::uint32_t kPlainBytes = sizeof(Word);
  static __device__ Raw load(const void* from, ElementType) { return __ldg(static_cast<const Word*>(from)); }
  static __device__ void store(std::byte* slot, std::uint64_t unit, const Raw& raw, ElementType,
                               ElementType) {
    reinterpret_cast<Word*>(slot)[unit] = raw;
  }
};

/// 4 neighbouring elements, aligned to 4 elements on both sides.
struct FourUnit {
  using Raw = uint4;
  static __device__ Raw load(const void* from, ElementType type) {
    if (type == ElementType::f32) return __ldcs(static_cast<const uint4*>(from));
    const uint2 pairs = __ldcs(static_cast<const uint2*>(from));
    return make_uint4(pairs.x & 0xFFFFu, pairs.x >> 16, pairs.y & 0xFFFFu, pairs.y >> 16);
  }
  static __device__ void store(std::byte* slot, std::uint64_t unit, const Raw& raw, ElementType from,
                               ElementType to) {
    const uint4 x = make_uint4(convert(raw.x, from, to), convert(raw.y, from, to), convert(raw.z, from, to),
                               convert(raw.w, from, to));
    if (to == ElementType::f32)
      __stcs(reinterpret_cast<uint4*>(slot) + unit, x);
    else
      __stcs(reinterpret_cast<uint2*>(slot) + unit, make_uint2(x.x | x.y << 16, x.z | x.w << 16));
  }
};

/// One element anywhere. Loads go through the L1: neighbours in the slot may be far apart in the source.
struct ElementUnit {
  using Raw = std::uint32_t;
  static __device__ Raw load(const void* from, ElementType type) {
    return type == ElementType::f32 ? __ldg(static_cast<const unsigned int*>(from))
                                    : __ldg(static_cast<const unsigned short*>(from));
  }
  static __device__ void store(std::byte* slot, std::uint64_t unit, Raw raw, ElementType from,
                               ElementType to) {
    const std::uint32_t bits = convert(raw, from, to);
    if (to == ElementType::f32)
      reinterpret_cast<std::uint32_t*>(slot)[unit] = bits;
    else
      reinterpret_cast<std::uint16_t*>(slot)[unit] = static_cast<std::uint16_t>(bits);
  }
};

}  // namespace eplora::kernels
