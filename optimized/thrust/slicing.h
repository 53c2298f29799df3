// SPDX-License-Identifier: Apache-2.0
// Slicing as gathers, in Thrust: for every element of an adapter slot compute where in the unsharded adapter
// it comes from (contract, section 6) and fetch it, or zero where it is padding. One launch per layer and
// tensor; the same source for host threads and a GPU. The caller has validated the problem.
#pragma once

#include <thrust/fill.h>
#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>

#include <cstdint>

#include "optimized/thrust/float_bits.h"
#include "optimized/thrust/scratch.h"
#include "reference/lora/buffers.h"

namespace eplora::on_thrust {

/// One LoRA factor as a device can see it; `rank` 0 when the adapter lacks it, so that all of it is padding.
struct Source {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rank = 0;
  std::int64_t expert_stride = 0, row_stride = 0, col_stride = 0;

  Source() = default;
  Source(const StridedTensor& tensor, std::int64_t r)
      : data(tensor.data),
        dtype(tensor.dtype),
        rank(tensor.present() ? r : 0),
        expert_stride(tensor.experts == 1 ? 0 : tensor.expert_stride),
        row_stride(tensor.row_stride),
        col_stride(tensor.col_stride) {}
};

EPLORA_HD inline void copy_element(const void* from, DType from_type, std::int64_t from_index, void* to,
                                   DType to_type, std::int64_t to_index) {
  const auto* const narrow_from = static_cast<const std::uint16_t*>(from);
  auto* const narrow_to = static_cast<std::uint16_t*>(to);
  if (from_type == to_type && from_type != DType::f32) {
    narrow_to[to_index] = narrow_from[from_index];
    return;
  }
  std::uint32_t bits = 0;
  switch (from_type) {
    case DType::f32:
      bits = static_cast<const std::uint32_t*>(from)[from_index];
      break;
    case DType::f16:
      bits = f16_to_f32(narrow_from[from_index]);
      break;
    case DType::bf16:
      bits = bf16_to_f32(narrow_from[from_index]);
      break;
  }
  switch (to_type) {
    case DType::f32:
      static_cast<std::uint32_t*>(to)[to_index] = bits;
      break;
    case DType::f16:
      narrow_to[to_index] = f32_to_f16(bits);
      break;
    case DType::bf16:
      narrow_to[to_index] = f32_to_bf16(bits);
      break;
  }
}

EPLORA_HD inline void write_zero(void* to, DType type, std::int64_t index) {
  if (type == DType::f32)
    static_cast<std::uint32_t*>(to)[index] = 0;
  else
    static_cast<std::uint16_t*>(to)[index] = 0;
}

/// Element `index` of a slot of one tensor.
struct GatherElement {
  BufferTensor tensor;
  std::int64_t halves, R, H, width;  // width = i = I/P
  std::int64_t first;                // p*i, where this rank's part of I begins
  bool interleaved, shared_outer;
  const std::int32_t* local_experts;
  Source half[2];
  void* slot;  // the slot's element 0
  DType dtype;

  EPLORA_HD void operator()(std::int64_t index) const {
    std::int64_t h = 0, j = 0, row = 0, col = 0, place = 0;
    switch (tensor) {
      case BufferTensor::gate_up_A:  // [E_a, c, R, H]
        col = index % H;
        j = row = index / H % R;
        h = index / (H * R) % halves;
        place = index / (H * R * halves);
        break;
      case BufferTensor::gate_up_B: {  // [E_b, c*i, R]
        j = col = index % R;
        const std::int64_t line = index / R % (halves * width);
        h = interleaved ? line % halves : line / width;
        row = first + (interleaved ? line / halves : line % width);
        place = index / (R * halves * width);
        break;
      }
      case BufferTensor::down_A:  // [E_b, R, i]
        col = first + index % width;
        j = row = index / width % R;
        place = index / (width * R);
        break;
      case BufferTensor::down_B:  // [E_a, H, R]
        j = col = index % R;
        row = index / R % H;
        place = index / (R * H);
        break;
    }
    const Source& from = half[h];
    if (j >= from.rank) return write_zero(slot, dtype, index);
    const bool outer = tensor == BufferTensor::gate_up_A || tensor == BufferTensor::down_B;
    const std::int64_t expert = outer && shared_outer ? 0 : local_experts[place];
    copy_element(from.data, from.dtype,
                 expert * from.expert_stride + row * from.row_stride + col * from.col_stride, slot, dtype,
                 index);
  }
};

/// `local_experts` is `problem.local_experts` in the policy's memory space, as are the adapter's data and the
/// buffers.
template <class Policy>
void slice(const Policy& policy, const SliceProblem& problem, const std::int32_t* local_experts,
           const BufferView& buffers) {
  const BufferShape& shape = *problem.shape;
  const std::int64_t L = shape.max_loras;
  for (std::size_t n = 0; n < shape.layers.size(); ++n) {
    const BufferLayer& target = shape.layers[n];
    if (!target.layer_id.has_value()) continue;
    const auto found = problem.adapter->layers.find(*target.layer_id);
    const AdapterLayer layer = found != problem.adapter->layers.end() ? found->second : AdapterLayer{};
    const auto gather = [&](BufferTensor tensor, const Source& first_half, const Source& second_half) {
      const std::int64_t elements = shape.slot_elements(tensor);
      char* const base = static_cast<char*>(buffers.tensor[n][static_cast<std::size_t>(tensor)]);
      const std::int64_t element_bytes = shape.dtype == DType::f32 ? 4 : 2;
      if (elements == 0) return;
      thrust::for_each(policy, thrust::counting_iterator<std::int64_t>(0),
                       thrust::counting_iterator<std::int64_t>(elements),
                       GatherElement{tensor,
                                     shape.halves(),
                                     shape.max_lora_rank,
                                     shape.hidden,
                                     shape.intermediate,
                                     problem.place.moe_tp_rank * shape.intermediate,
                                     shape.form == GateUpForm::interleaved,
                                     shape.shared_outer,
                                     local_experts,
                                     {first_half, second_half},
                                     base + problem.slot * elements * element_bytes,
                                     shape.dtype});
    };
    const auto set_scale = [&](std::int64_t module, float value) {
      float* const scale = buffers.scale + (static_cast<std::int64_t>(n) * 2 + module) * L + problem.slot;
      thrust::fill(policy, scale, scale + 1, value);
    };
    if (target.has_gate_up) {
      const LoraPair &gate = layer.gate_up[0], &up = layer.gate_up[1];
      gather(BufferTensor::gate_up_A, Source(gate.A, gate.rank()), Source(up.A, up.rank()));
      gather(BufferTensor::gate_up_B, Source(gate.B, gate.rank()), Source(up.B, up.rank()));
      set_scale(0, gate.present() ? layer.gate_up_scale : 0.0F);
    }
    if (target.has_down) {
      const Source A(layer.down.A, layer.down.rank()), B(layer.down.B, layer.down.rank());
      gather(BufferTensor::down_A, A, Source());
      gather(BufferTensor::down_B, B, Source());
      set_scale(1, layer.down.present() ? layer.down_scale : 0.0F);
    }
  }
}

}  // namespace eplora::on_thrust
