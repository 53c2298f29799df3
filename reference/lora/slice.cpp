// SPDX-License-Identifier: Apache-2.0
// The contract's table of section 6, one loop nest per tensor. p is the rank's MoE-TP coordinate, i = I/P its
// width.
#include "reference/lora/slice.h"

#include <string>

#include "reference/check.h"

namespace eplora::reference {
namespace {

/// One adapter slot of one buffer tensor.
struct Slot {
  void* data;
  DType dtype;
  std::int64_t begin;  // elements before the slot

  /// Element `to` becomes `from[expert, row, col]`, or zero where that is padding.
  void put(std::int64_t to, bool inside, const StridedTensor& from, std::int64_t expert, std::int64_t row,
           std::int64_t col) const {
    if (inside)
      convert_element(from.data, from.dtype, from.index(expert, row, col), data, dtype, begin + to);
    else
      store_float(data, dtype, begin + to, 0.0F);
  }
};

struct LayerSlice {
  const SliceProblem& problem;
  const BufferShape& shape = *problem.shape;
  const std::int64_t c = shape.halves(), R = shape.max_lora_rank, H = shape.hidden, i = shape.intermediate;
  const std::int64_t first =
      problem.place.moe_tp_rank * i;  // first column of the intermediate size on this rank

  /// Rank of a pair; a pair the adapter lacks has none, so that everything is padding.
  static std::int64_t rank_of(const LoraPair& pair) { return pair.present() ? pair.rank() : 0; }

  /// Global expert whose shared-or-not tensor stands at place `a` of E_a.
  std::int64_t outer_expert(std::int64_t a) const {
    return shape.shared_outer ? 0 : problem.local_experts[a];
  }

  /// `[E_a, c, R, H]`, whole on every rank.
  void gate_up_A(const AdapterLayer& layer, const Slot& slot) const {
    for (std::int64_t a = 0; a < shape.outer_experts(); ++a)
      for (std::int64_t h = 0; h < c; ++h)
        for (std::int64_t j = 0, r = rank_of(layer.gate_up[h]); j < R; ++j)
          for (std::int64_t d = 0; d < H; ++d)
            slot.put(((a * c + h) * R + j) * H + d, j < r, layer.gate_up[h].A, outer_expert(a), j, d);
  }

  /// `[E_b, c*i, R]`: rows `[p*i, (p+1)*i)` of each half, in the model's form.
  void gate_up_B(const AdapterLayer& layer, const Slot& slot) const {
    for (std::int64_t b = 0; b < shape.local_experts; ++b)
      for (std::int64_t h = 0; h < c; ++h)
        for (std::int64_t q = 0, r = rank_of(layer.gate_up[h]); q < i; ++q)
          for (std::int64_t j = 0; j < R; ++j)
            slot.put((b * c * i + gate_up_row(shape.form, c, i, h, q)) * R + j, j < r, layer.gate_up[h].B,
                     problem.local_experts[b], first + q, j);
  }

  /// `[E_b, R, i]`: columns `[p*i, (p+1)*i)`.
  void down_A(const AdapterLayer& layer, const Slot& slot) const {
    for (std::int64_t b = 0, r = rank_of(layer.down); b < shape.local_experts; ++b)
      for (std::int64_t j = 0; j < R; ++j)
        for (std::int64_t q = 0; q < i; ++q)
          slot.put((b * R + j) * i + q, j < r, layer.down.A, problem.local_experts[b], j, first + q);
  }

  /// `[E_a, H, R]`, whole on every rank.
  void down_B(const AdapterLayer& layer, const Slot& slot) const {
    for (std::int64_t a = 0, r = rank_of(layer.down); a < shape.outer_experts(); ++a)
      for (std::int64_t d = 0; d < H; ++d)
        for (std::int64_t j = 0; j < R; ++j)
          slot.put((a * H + d) * R + j, j < r, layer.down.B, outer_expert(a), d, j);
  }
};

void validate_view(const BufferShape& shape, const BufferView& buffers) {
  if (buffers.tensor.size() != shape.layers.size())
    reject("buffer view layers", std::to_string(buffers.tensor.size()),
           "the buffer shape has " + std::to_string(shape.layers.size()));
  require_pointer("scale", buffers.scale, shape.scale_elements());
  for (std::size_t n = 0; n < shape.layers.size(); ++n)
    for (BufferTensor tensor : kBufferTensors)
      if (shape.layers[n].layer_id && shape.active(n, tensor))
        require_pointer(
            "layer " + std::to_string(*shape.layers[n].layer_id) + " " + std::string(to_string(tensor)),
            buffers.tensor[n][static_cast<std::size_t>(tensor)], shape.slot_elements(tensor));
}

}  // namespace

void slice(const SliceProblem& problem, const BufferView& buffers) {
  validate(problem);
  validate_view(*problem.shape, buffers);
  const LayerSlice cut{problem};
  const BufferShape& shape = cut.shape;
  const AdapterLayer nothing;
  for (std::size_t n = 0; n < shape.layers.size(); ++n) {
    const BufferLayer& target = shape.layers[n];
    if (!target.layer_id) continue;
    const auto found = problem.adapter->layers.find(*target.layer_id);
    const AdapterLayer& layer = found == problem.adapter->layers.end() ? nothing : found->second;
    const auto slot_of = [&](BufferTensor tensor) {
      return Slot{buffers.tensor[n][static_cast<std::size_t>(tensor)], shape.dtype,
                  problem.slot * shape.slot_elements(tensor)};
    };
    float* const scale = buffers.scale + n * 2 * static_cast<std::size_t>(shape.max_loras) + problem.slot;
    if (target.has_gate_up) {
      cut.gate_up_A(layer, slot_of(BufferTensor::gate_up_A));
      cut.gate_up_B(layer, slot_of(BufferTensor::gate_up_B));
      scale[0] = layer.gate_up[0].present() ? layer.gate_up_scale : 0.0F;
    }
    if (target.has_down) {
      cut.down_A(layer, slot_of(BufferTensor::down_A));
      cut.down_B(layer, slot_of(BufferTensor::down_B));
      scale[shape.max_loras] = layer.down.present() ? layer.down_scale : 0.0F;
    }
  }
}

}  // namespace eplora::reference
