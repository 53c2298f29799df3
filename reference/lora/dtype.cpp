// SPDX-License-Identifier: Apache-2.0
// Integer arithmetic on the bit patterns, so that rounding depends on no processor mode and NaNs on no
// instruction.
#include "reference/lora/dtype.h"

#include <bit>
#include <cstring>

#include "reference/check.h"

namespace eplora {
namespace {

constexpr std::uint32_t kInfinity = 0x7F80'0000;  // of float32, without sign
constexpr std::uint16_t kCanonicalNan = 0x7FFF;

/// value / 2^shift, rounded to nearest, ties to even.
constexpr std::uint32_t shift_right_rounding(std::uint32_t value, std::uint32_t shift) {
  const std::uint32_t quotient = value >> shift;
  const std::uint32_t remainder = value & ((1U << shift) - 1), half = 1U << (shift - 1);
  return quotient + (remainder > half || (remainder == half && quotient % 2 == 1) ? 1 : 0);
}

constexpr std::uint16_t with_sign(std::uint32_t float_bits, std::uint32_t magnitude) {
  return static_cast<std::uint16_t>((float_bits >> 31) << 15 | magnitude);
}

/// A carry out of the mantissa raises the exponent, up to infinity: the pattern rounds as one number.
std::uint16_t bf16_bits(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value), magnitude = bits & 0x7FFF'FFFF;
  if (magnitude > kInfinity) return kCanonicalNan;
  return with_sign(bits, shift_right_rounding(magnitude, 16));
}

/// Exponent bias 127 -> 15; below 2^-14 the result counts units of 2^-24.
std::uint16_t f16_bits(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value), magnitude = bits & 0x7FFF'FFFF;
  const std::uint32_t exponent = magnitude >> 23;
  if (magnitude > kInfinity) return kCanonicalNan;
  if (exponent >= 143) return with_sign(bits, 0x7C00);  // 2^16 and more
  if (exponent >= 113) return with_sign(bits, shift_right_rounding(magnitude - (112U << 23), 13));
  if (exponent < 102) return with_sign(bits, 0);  // below 2^-25: less than half a unit
  const std::uint32_t significand = (magnitude & 0x7F'FFFF) | 0x80'0000;
  return with_sign(bits, shift_right_rounding(significand, 126 - exponent));
}

float float_of_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

float float_of_f16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits} >> 15 << 31, exponent = bits >> 10 & 31U,
                      mantissa = bits & 0x3FFU;
  if (exponent == 31) return std::bit_cast<float>(sign | kInfinity | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

/// Elements of a mapped file may stand at any byte.
template <class T>
T read(const void* data, std::int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + index * static_cast<std::int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}

template <class T>
void write(void* data, std::int64_t index, T value) {
  std::memcpy(static_cast<char*>(data) + index * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
}

[[noreturn]] void reject_dtype(DType dtype) {
  reject("dtype", std::to_string(static_cast<int>(dtype)), "it must be F32, F16 or BF16");
}

}  // namespace

std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
  }
  return "?";
}

std::size_t bytes_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
  }
  reject_dtype(dtype);
}

float load_as_float(const void* data, DType dtype, std::int64_t index) {
  switch (dtype) {
    case DType::f32:
      return read<float>(data, index);
    case DType::f16:
      return float_of_f16(read<std::uint16_t>(data, index));
    case DType::bf16:
      return float_of_bf16(read<std::uint16_t>(data, index));
  }
  reject_dtype(dtype);
}

void store_float(void* data, DType dtype, std::int64_t index, float value) {
  switch (dtype) {
    case DType::f32:
      return write(data, index, value);
    case DType::f16:
      return write(data, index, f16_bits(value));
    case DType::bf16:
      return write(data, index, bf16_bits(value));
  }
  reject_dtype(dtype);
}

void convert_element(const void* from, DType from_type, std::int64_t from_index, void* to, DType to_type,
                     std::int64_t to_index) {
  if (from_type != to_type)
    return store_float(to, to_type, to_index, load_as_float(from, from_type, from_index));
  if (bytes_of(from_type) == 4) return write(to, to_index, read<std::uint32_t>(from, from_index));
  write(to, to_index, read<std::uint16_t>(from, from_index));
}

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x1p-24;
    case DType::f16:
      return 0x1p-11;
    case DType::bf16:
      return 0x1p-8;
  }
  reject_dtype(dtype);
}

}  // namespace eplora
