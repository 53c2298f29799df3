// SPDX-License-Identifier: Apache-2.0
// The three element types of LoRA weights and exact rules for going between them: conversion to a narrower
// type rounds to nearest even, a NaN becomes the canonical NaN 0x7FFF (as NVIDIA GPUs convert), equal types
// are copied bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace eplora {

enum class DType : std::uint8_t { f32, f16, bf16 };

std::string_view to_string(DType dtype);  ///< "F32", "F16", "BF16": the names of safetensors
std::size_t bytes_of(DType dtype);

/// Reads element `index` of a host array as float (exact).
float load_as_float(const void* data, DType dtype, std::int64_t index);

/// Writes `value` rounded to `dtype` at element `index` of a host array.
void store_float(void* data, DType dtype, std::int64_t index, float value);

/// Copies one element, converting through float32; same type: bit for bit, NaN payloads included.
void convert_element(const void* from, DType from_type, std::int64_t from_index, void* to, DType to_type,
                     std::int64_t to_index);

/// 2^-24, 2^-11, 2^-8: the unit roundoff of the type.
double unit_roundoff(DType dtype);

}  // namespace eplora
