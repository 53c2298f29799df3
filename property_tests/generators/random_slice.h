// SPDX-License-Identifier: Apache-2.0
// Random slicings that visit every way a backend copies: rows of all widths and alignments, halves stacked,
// interleaved in one tensor or in two, experts slowest or fastest, reversed and repeated rows, ranks below R,
// absent modules, all nine pairs of element types, and now and then enough elements for a parallel host.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "reference/lora/buffers.h"

namespace eplora {

struct RandomSlice {
  std::mt19937_64 random;
  std::vector<std::vector<std::uint64_t>> memory;
  Adapter adapter;
  std::vector<std::int32_t> local_experts;
  BufferShape shape;
  SliceProblem problem;

  std::int64_t below(std::int64_t end) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
  }
  bool one_in(std::int64_t n) { return below(n) == 0; }

  /// Random bits of any kind - NaNs, infinities and subnormals of every type are among them - from an element
  /// on that is sometimes not aligned to more than itself.
  const void* bits(std::int64_t elements, DType dtype) {
    const std::int64_t offset = one_in(3) ? below(8) : 0;
    std::vector<std::uint64_t>& words =
        memory.emplace_back(static_cast<std::size_t>((elements + offset) / 2 + 1));
    for (std::uint64_t& word : words) word = random();
    return reinterpret_cast<const std::byte*>(words.data()) +
           offset * static_cast<std::int64_t>(bytes_of(dtype));
  }

  StridedTensor tensor(DType dtype, std::int64_t experts, std::int64_t rows, std::int64_t cols) {
    const std::int64_t size = experts * rows * cols;
    switch (below(8)) {
      case 0:
      case 1:  // PEFT's fused B: expert fastest
        return {bits(size, dtype), dtype, experts, rows, cols, 1, cols * experts, experts};
      case 2:  // transposed
        return {bits(size, dtype), dtype, experts, rows, cols, rows * cols, 1, rows};
      case 3: {  // rows with gaps
        const std::int64_t pitch = cols + below(9);
        return {bits(experts * rows * pitch, dtype), dtype, experts, rows, cols, rows * pitch, pitch, 1};
      }
      case 4: {  // last row first
        const auto* const data = static_cast<const std::byte*>(bits(size, dtype));
        return {data + (rows - 1) * cols * static_cast<std::int64_t>(bytes_of(dtype)),
                dtype,
                experts,
                rows,
                cols,
                rows * cols,
                -cols,
                1};
      }
      default:
        return {bits(size, dtype), dtype, experts, rows, cols, rows * cols, cols, 1};
    }
  }

  explicit RandomSlice(std::uint64_t seed) : random(seed) {
    MoeGeometry& geometry = problem.geometry;
    const bool large = one_in(12);
    // Widths that are multiples of powers of two, or of what is not.
    const std::int64_t unit = large ? 120 : std::int64_t{1} << below(6);
    geometry.num_experts = static_cast<std::int32_t>(!large && one_in(4) ? 8 + below(60) : 1 + below(6));
    geometry.hidden = (1 + below(6)) * unit;
    problem.place.moe_tp = static_cast<std::int32_t>(1 + below(4));
    problem.place.moe_tp_rank = static_cast<std::int32_t>(below(problem.place.moe_tp));
    geometry.intermediate = problem.place.moe_tp * (1 + below(4)) * unit;
    geometry.gated = !one_in(4);
    geometry.form = geometry.gated && one_in(2) ? GateUpForm::interleaved : GateUpForm::stacked;
    geometry.shared_outer = one_in(3);
    const std::int64_t E = geometry.num_experts, H = geometry.hidden, I = geometry.intermediate;
    const std::int64_t outer = geometry.shared_outer ? 1 : E,
                       R = one_in(2) ? std::int64_t{1} << below(6) : 1 + below(9);

    local_experts.resize(static_cast<std::size_t>(E));
    std::iota(local_experts.begin(), local_experts.end(), 0);
    if (one_in(2)) std::shuffle(local_experts.begin(), local_experts.end(), random);
    if (one_in(2)) local_experts.resize(static_cast<std::size_t>(below(E + 1)));

    const DType to = any_type();
    std::vector<BufferLayer> layers;
    const auto num_layers =
        static_cast<std::int32_t>(one_in(50) ? 70 : 3);  // 70: the table goes through memory
    for (std::int32_t id = 0; id < num_layers; ++id) {
      const bool has_gate_up = !one_in(5), has_down = !one_in(5);
      layers.push_back({id * 2, has_gate_up, has_down});
      if (one_in(5) || (num_layers > 3 && !one_in(12))) continue;  // the adapter lacks the layer
      AdapterLayer layer;
      const auto rank = [&] { return one_in(2) ? R : 1 + below(R); };
      const auto type = [&] { return one_in(2) ? to : any_type(); };
      if (has_gate_up && !one_in(5)) {
        const std::int64_t r = rank();
        const DType dtype = type();
        if (geometry.form == GateUpForm::interleaved && one_in(2)) {  // both halves in one tensor, row by row
          const StridedTensor A = tensor(dtype, outer, r, H);
          const StridedTensor gate{bits(E * 2 * I * r, dtype), dtype, E, I, r, 2 * I * r, 2 * r, 1};
          StridedTensor up = gate;
          up.data = static_cast<const std::byte*>(gate.data) + r * static_cast<std::int64_t>(bytes_of(dtype));
          layer.gate_up = {LoraPair{A, gate}, LoraPair{A, up}};
        } else {
          layer.gate_up[0] = {tensor(dtype, outer, r, H), tensor(dtype, E, I, r)};
          const DType up = type();
          const std::int64_t up_rank = rank();
          if (geometry.gated) layer.gate_up[1] = {tensor(up, outer, up_rank, H), tensor(up, E, I, up_rank)};
        }
      }
      if (has_down && !one_in(5)) {
        const std::int64_t r = rank();
        layer.down = {tensor(type(), E, r, I), tensor(type(), outer, H, r)};
      }
      layer.gate_up_scale = static_cast<float>(below(100)) / 7.0F;
      layer.down_scale = static_cast<float>(below(100)) / 3.0F;
      adapter.layers[id * 2] = layer;
    }
    layers.insert(layers.begin() + below(4), BufferLayer{std::nullopt, true, true});
    shape = buffer_shape(geometry, problem.place, static_cast<std::int64_t>(local_experts.size()), layers,
                         static_cast<std::int32_t>(1 + below(3)), R, to);
    problem.local_experts = local_experts;
    problem.adapter = &adapter;
    problem.shape = &shape;
    problem.slot = static_cast<std::int32_t>(below(shape.max_loras));
  }
  RandomSlice(const RandomSlice&) = delete;  // problem points into this
  RandomSlice& operator=(const RandomSlice&) = delete;

 private:
  DType any_type() {
    constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};
    return kTypes[below(3)];
  }
};

/// Byte equality also of the scales: NaN patterns included.
inline bool same_bytes(const LoraBuffers& a, const LoraBuffers& b) {
  for (std::size_t layer = 0; layer < a.shape().layers.size(); ++layer)
    for (BufferTensor tensor : kBufferTensors)
      if (a.shape().active(layer, tensor) &&
          !std::ranges::equal(a.bytes(layer, tensor), b.bytes(layer, tensor)))
        return false;
  return std::ranges::equal(std::as_bytes(a.scales()), std::as_bytes(b.scales()));
}

}  // namespace eplora
