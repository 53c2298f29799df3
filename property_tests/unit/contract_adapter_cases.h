// SPDX-License-Identifier: Apache-2.0
// Adapters for the tests of the judges of weights: every element another number, strides of every storage
// form.
#pragma once

#include <deque>
#include <vector>

#include "property_tests/unit/contract_expect.h"
#include "reference/layout/presets.h"
#include "reference/lora/slice.h"

namespace eplora::contract {

/// Owns an adapter and the memory behind its views.
struct AdapterCase {
  MoeGeometry geometry;
  DType dtype = DType::f32;
  Adapter adapter;
  std::deque<std::vector<std::byte>> memory;

  /// `[experts, rows, cols]` of small distinct numbers, exact in every dtype; `fastest_expert` as PEFT stores
  /// a fused B.
  StridedTensor tensor(Random& random, std::int64_t experts, std::int64_t rows, std::int64_t cols,
                       bool fastest_expert) {
    auto& bytes = memory.emplace_back(static_cast<std::size_t>(experts * rows * cols) * bytes_of(dtype));
    for (std::int64_t i = 0; i < experts * rows * cols; ++i)
      store_float(bytes.data(), dtype, i,
                  static_cast<float>(random.in(-100, 100)) / 4.0F + (i % 2 == 0 ? 32.0F : -32.0F));
    StridedTensor view{bytes.data(), dtype, experts, rows, cols, rows * cols, cols, 1};
    if (fastest_expert) view.expert_stride = 1, view.row_stride = cols * experts, view.col_stride = experts;
    return view;
  }
  AdapterLayer layer(Random& random, std::int64_t r, bool with_gate_up, bool with_down) {
    const std::int64_t E = geometry.num_experts, H = geometry.hidden, I = geometry.intermediate;
    const std::int64_t outer = geometry.shared_outer ? 1 : E;
    const bool fused = random.one_in(2);
    AdapterLayer layer;
    for (int half = 0; with_gate_up && half < geometry.halves(); ++half)
      layer.gate_up[half] = {tensor(random, outer, r, H, false), tensor(random, E, I, r, fused)};
    if (with_down) layer.down = {tensor(random, E, r, I, false), tensor(random, outer, H, r, fused)};
    if (with_gate_up) layer.gate_up_scale = 0.5F + static_cast<float>(random.in(0, 9));
    if (with_down) layer.down_scale = 0.25F + static_cast<float>(random.in(0, 9));
    return layer;
  }
};

inline MoeGeometry random_geometry(Random& random, std::int64_t moe_tp) {
  MoeGeometry geometry;
  geometry.num_experts = static_cast<std::int32_t>(random.in(1, 5));
  geometry.hidden = random.in(1, 5);
  geometry.intermediate = moe_tp * random.in(1, 3);
  geometry.gated = !random.one_in(3);
  geometry.form = random.one_in(2) ? GateUpForm::interleaved : GateUpForm::stacked;
  geometry.shared_outer = random.one_in(3);
  return geometry;
}

/// Layers 3 (everything), 5 (down alone) and one without an id; the adapter has layer 3, sometimes 5.
inline std::vector<BufferLayer> three_layers() {
  return {{3, true, true}, {std::nullopt, true, true}, {5, false, true}};
}

inline void fill_adapter(AdapterCase& c, Random& random, std::int64_t max_rank) {
  c.adapter.layers[3] = c.layer(random, random.in(1, max_rank), !random.one_in(3), !random.one_in(3));
  if (random.one_in(2)) c.adapter.layers[5] = c.layer(random, random.in(1, max_rank), false, true);
}

}  // namespace eplora::contract
