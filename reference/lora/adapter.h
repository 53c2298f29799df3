// SPDX-License-Identifier: Apache-2.0
// An adapter in memory, unsharded: for each layer the two LoRA factors of gate, up and down, as strided views
// over whatever holds them (a mapped file, a test's vector). Every storage form - per expert, PEFT's fused
// tensors, stacked or interleaved halves - is only a choice of strides, so slicing never needs a repacked
// copy (contract, section 6).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "reference/lora/dtype.h"

namespace eplora {

/// How the two halves of gate_up stand in `[2I, ...]` rows, in the base weight and in LoRA B alike.
enum class GateUpForm : std::uint8_t { stacked, interleaved };
std::string_view to_string(GateUpForm form);

/// Row of a gate_up tensor `[halves*width, ...]` at which row `q` of half `h` stands.
inline std::int64_t gate_up_row(GateUpForm form, std::int64_t halves, std::int64_t width, std::int64_t h,
                                std::int64_t q) {
  return form == GateUpForm::interleaved ? q * halves + h : h * width + q;
}

/// Sizes of one MoE layer of the model.
struct MoeGeometry {
  std::int32_t num_experts = 0;   ///< E
  std::int64_t hidden = 0;        ///< H
  std::int64_t intermediate = 0;  ///< I, of the model
  bool gated = true;
  GateUpForm form = GateUpForm::stacked;
  bool shared_outer = false;  ///< gate_up A and down B exist once for all experts

  std::int32_t halves() const { return gated ? 2 : 1; }  ///< c
  bool operator==(const MoeGeometry&) const = default;
};

/// A strided 3-D view `[experts, rows, cols]`; strides in elements, may be anything (0 repeats). `data` null
/// = absent.
struct StridedTensor {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t experts = 0;  ///< E, or 1: shared by all experts
  std::int64_t rows = 0, cols = 0;
  std::int64_t expert_stride = 0, row_stride = 0, col_stride = 1;

  bool present() const { return data != nullptr; }
  /// Element index of (expert, row, col); a shared tensor answers every expert alike.
  std::int64_t index(std::int64_t expert, std::int64_t row, std::int64_t col) const {
    return (experts == 1 ? 0 : expert * expert_stride) + row * row_stride + col * col_stride;
  }
  float at(std::int64_t expert, std::int64_t row, std::int64_t col) const {
    return load_as_float(data, dtype, index(expert, row, col));
  }
  bool operator==(const StridedTensor&) const = default;
};

/// The two factors of one weight: delta = scale * B A.
struct LoraPair {
  StridedTensor A;  ///< `[E | 1, r, in]`
  StridedTensor B;  ///< `[E | 1, out, r]`
  bool present() const { return A.present(); }
  std::int64_t rank() const { return A.rows; }
};

/// One layer of an adapter. Halves of gate_up: [0] gate (or the only one when not gated), [1] up. A fused A
/// appears in both halves. Absent pairs are modules the adapter does not touch.
struct AdapterLayer {
  std::array<LoraPair, 2>
      gate_up;    ///< A `[E|1, r, H]`, B `[E, I, r]` (the half's own rows, strided when interleaved)
  LoraPair down;  ///< A `[E, r, I]`, B `[E|1, H, r]`
  float gate_up_scale = 0.0F;  ///< multiplies both halves
  float down_scale = 0.0F;
};

/// Layers by the model's layer id. Views only: the owner of the memory must outlive it.
struct Adapter {
  std::map<std::int32_t, AdapterLayer> layers;
};

/// Shapes, ranks and expert counts against the geometry: throws `InvalidArgument` naming layer, tensor, found
/// and expected shape; also when a rank exceeds `max_lora_rank`, or one half is there without the other.
void validate(const Adapter& adapter, const MoeGeometry& geometry, std::int64_t max_lora_rank);

/// The same for one layer; `name` opens the sentence ("adapter layer 3").
void validate(const std::string& name, const AdapterLayer& layer, const MoeGeometry& geometry,
              std::int64_t max_lora_rank);

/// Sizes of the geometry itself: E, H and I at least 1, every weight's row count below 2^31.
void validate(const MoeGeometry& geometry);

/// `lora_alpha / r`, or with rsLoRA `lora_alpha / sqrt(r)`.
float lora_scale(double lora_alpha, std::int64_t r, bool use_rslora);

}  // namespace eplora
