// SPDX-License-Identifier: Apache-2.0
// float32 <-> float16 and bfloat16 on bit patterns, for host and device alike: to the narrower type round to
// nearest, ties to even, every NaN becoming 0x7FFF; to float32 exact, NaN payloads kept. Written apart from
// the reference's conversions, so that the two check each other.
#pragma once

#include <cstdint>

#include "optimized/thrust/scratch.h"

namespace eplora::on_thrust {

/// Drops the low `shift` bits (1 to 31) of `bits`, rounding to nearest even; a carry runs into the exponent.
EPLORA_HD inline std::uint32_t round_off(std::uint32_t bits, std::uint32_t shift) {
  const std::uint32_t odd = (bits >> shift) & 1U, below_half = (1U << (shift - 1)) - 1U;
  return (bits + below_half + odd) >> shift;
}

EPLORA_HD inline std::uint16_t f32_to_bf16(std::uint32_t f) {
  if ((f << 1) > 0xFF00'0000U) return 0x7FFF;  // NaN
  return static_cast<std::uint16_t>(round_off(f, 16));
}

EPLORA_HD inline std::uint32_t bf16_to_f32(std::uint16_t b) { return static_cast<std::uint32_t>(b) << 16; }

EPLORA_HD inline std::uint16_t f32_to_f16(std::uint32_t f) {
  const std::uint32_t sign = (f >> 16) & 0x8000U, magnitude = f & 0x7FFF'FFFFU, exponent = magnitude >> 23;
  if (magnitude > 0x7F80'0000U) return 0x7FFF;
  if (exponent < 102) return static_cast<std::uint16_t>(sign);  // below half of the smallest float16
  if (exponent < 113) {                                         // a float16 subnormal, in units of 2^-24
    const std::uint32_t significand = (magnitude & 0x007F'FFFFU) | 0x0080'0000U;
    return static_cast<std::uint16_t>(sign | round_off(significand, 126 - exponent));
  }
  if (exponent > 142) return static_cast<std::uint16_t>(sign | 0x7C00U);
  return static_cast<std::uint16_t>(sign |
                                    round_off(magnitude - (112U << 23), 13));  // may carry into infinity
}

EPLORA_HD inline std::uint32_t f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000U) << 16;
  std::uint32_t exponent = (h >> 10) & 31U, fraction = h & 0x3FFU;
  if (exponent == 31) return sign | 0x7F80'0000U | (fraction << 13);
  if (exponent == 0) {
    if (fraction == 0) return sign;
    exponent = 1;
    while ((fraction & 0x400U) == 0) {  // every float16 subnormal is a normal float32
      fraction <<= 1;
      --exponent;  // wraps below zero; the sum with 112 comes out right
    }
    fraction &= 0x3FFU;
  }
  return sign | ((exponent + 112U) << 23) | (fraction << 13);
}

}  // namespace eplora::on_thrust
