// SPDX-License-Identifier: Apache-2.0
#include "reference/lora/buffers.h"

#include <algorithm>
#include <cstring>

#include "reference/check.h"

namespace eplora {
namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 46;  // 64 TiB: past any machine, far from overflow

bool is_gate_up(BufferTensor tensor) {
  return tensor == BufferTensor::gate_up_A || tensor == BufferTensor::gate_up_B;
}

void validate(const BufferShape& shape) {
  require_in_range("max_loras (L)", shape.max_loras, 0, kMaxIndex);
  require_in_range("max_lora_rank (R)", shape.max_lora_rank, 1, kMaxIndex);
  require_in_range("local experts (E_local)", shape.local_experts, 0, kMaxIndex);
  require_in_range("hidden size (H)", shape.hidden, 1, kMaxIndex);
  require_in_range("intermediate size of a rank (i)", shape.intermediate, 1, kMaxIndex / shape.halves());
  require_index_range(
      "virtual experts", saturating_product(shape.local_experts, shape.max_loras),
      "E_local=" + std::to_string(shape.local_experts) + " * L=" + std::to_string(shape.max_loras));
  const auto element = static_cast<std::int64_t>(bytes_of(shape.dtype));
  for (BufferTensor tensor : kBufferTensors)
    require_in_range(
        "bytes of " + std::string(to_string(tensor)),
        saturating_product(saturating_product(shape.slot_elements(tensor), element), shape.max_loras), 0,
        kMaxBytes);
}

void require_equal(std::string_view what, std::int64_t value, std::int64_t expected,
                   std::string_view because) {
  if (value == expected) return;
  reject(what, std::to_string(value), "it must be " + std::to_string(expected) + ", " + std::string(because));
}

/// P16: what the adapter holds and no layer takes would be silently ignored, so it is refused.
void require_taken(const Adapter& adapter, const BufferShape& shape) {
  for (const auto& [layer_id, layer] : adapter.layers) {
    const auto taken_by = [&, id = layer_id](bool BufferLayer::*has_module) {
      return std::any_of(shape.layers.begin(), shape.layers.end(), [&](const BufferLayer& candidate) {
        return candidate.layer_id == id && candidate.*has_module;
      });
    };
    const std::string name = "adapter layer " + std::to_string(layer_id);
    if (layer.gate_up[0].present() && !taken_by(&BufferLayer::has_gate_up))
      reject(name + " gate_up", "present", "no active layer of the buffers takes it");
    if (layer.down.present() && !taken_by(&BufferLayer::has_down))
      reject(name + " down", "present", "no active layer of the buffers takes it");
  }
}

}  // namespace

std::string_view to_string(BufferTensor tensor) {
  switch (tensor) {
    case BufferTensor::gate_up_A:
      return "gate_up_A";
    case BufferTensor::gate_up_B:
      return "gate_up_B";
    case BufferTensor::down_A:
      return "down_A";
    case BufferTensor::down_B:
      return "down_B";
  }
  return "?";
}

std::int64_t BufferShape::slot_elements(BufferTensor tensor) const {
  const auto product = [](std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
    return saturating_product(saturating_product(a, b), saturating_product(c, d));
  };
  switch (tensor) {
    case BufferTensor::gate_up_A:
      return product(outer_experts(), halves(), max_lora_rank, hidden);
    case BufferTensor::gate_up_B:
      return product(local_experts, halves(), intermediate, max_lora_rank);
    case BufferTensor::down_A:
      return product(local_experts, 1, max_lora_rank, intermediate);
    case BufferTensor::down_B:
      return product(outer_experts(), 1, hidden, max_lora_rank);
  }
  return 0;
}

bool BufferShape::active(std::size_t layer, BufferTensor tensor) const {
  return is_gate_up(tensor) ? layers.at(layer).has_gate_up : layers.at(layer).has_down;
}

BufferShape buffer_shape(const MoeGeometry& geometry, const RankPlace& place, std::int64_t num_local_experts,
                         std::vector<BufferLayer> layers, std::int32_t max_loras, std::int64_t max_lora_rank,
                         DType dtype) {
  validate(geometry);
  const bool named = !layers.empty() && layers.front().layer_id.has_value();
  const std::string layer = named ? "layer " + std::to_string(*layers.front().layer_id) : "the MoE layer";
  const std::int64_t width = intermediate_per_rank(geometry.intermediate, place.moe_tp, layer);
  BufferShape shape{std::move(layers),     max_loras, max_lora_rank,  num_local_experts,
                    geometry.hidden,       width,     geometry.gated, geometry.form,
                    geometry.shared_outer, dtype};
  validate(shape);
  return shape;
}

void validate(const SliceProblem& problem) {
  require_pointer("adapter", problem.adapter, 1);
  require_pointer("buffer shape", problem.shape, 1);
  const BufferShape& shape = *problem.shape;
  const MoeGeometry& geometry = problem.geometry;
  validate(shape);
  validate(*problem.adapter, geometry, shape.max_lora_rank);
  require_in_range("slot", problem.slot, 0, std::int64_t{shape.max_loras} - 1);
  const std::int64_t width =
      intermediate_per_rank(geometry.intermediate, problem.place.moe_tp, "the MoE layer");
  require_in_range("moe_tp_rank", problem.place.moe_tp_rank, 0, std::int64_t{problem.place.moe_tp} - 1);
  for (std::int32_t expert : problem.local_experts)
    require_in_range("local expert", expert, 0, std::int64_t{geometry.num_experts} - 1);

  require_equal("buffer shape local_experts", shape.local_experts,
                static_cast<std::int64_t>(problem.local_experts.size()), "the experts that the rank owns");
  require_equal("buffer shape hidden", shape.hidden, geometry.hidden, "the model's H");
  require_equal("buffer shape intermediate", shape.intermediate, width, "I / moe_tp");
  require_equal("buffer shape gated", shape.gated, geometry.gated, "as in the geometry");
  require_equal("buffer shape shared_outer", shape.shared_outer, geometry.shared_outer, "as in the geometry");
  if (geometry.gated && shape.form != geometry.form)
    reject("buffer shape form", to_string(shape.form), "it must be " + std::string(to_string(geometry.form)));
  require_taken(*problem.adapter, shape);
}

LoraBuffers::LoraBuffers(BufferShape shape, std::uint8_t fill) : shape_(std::move(shape)) {
  validate(shape_);
  tensors_.resize(shape_.layers.size());
  for (std::size_t layer = 0; layer < tensors_.size(); ++layer) {
    for (BufferTensor tensor : kBufferTensors) {
      if (!shape_.active(layer, tensor)) continue;
      const auto elements = static_cast<std::size_t>(shape_.slot_elements(tensor) * shape_.max_loras);
      tensors_[layer][static_cast<std::size_t>(tensor)].assign(elements * bytes_of(shape_.dtype),
                                                               std::byte{fill});
    }
  }
  scale_.resize(static_cast<std::size_t>(shape_.scale_elements()));
  if (!scale_.empty()) std::memset(scale_.data(), fill, scale_.size() * sizeof(float));
}

BufferView LoraBuffers::view() {
  BufferView view;
  view.scale = scale_.data();
  for (auto& layer : tensors_) {
    std::array<void*, 4>& pointers = view.tensor.emplace_back();
    for (std::size_t i = 0; i < pointers.size(); ++i)
      pointers[i] = layer[i].empty() ? nullptr : layer[i].data();
  }
  return view;
}

std::span<const std::byte> LoraBuffers::bytes(std::size_t layer, BufferTensor tensor) const {
  return tensors_.at(layer)[static_cast<std::size_t>(tensor)];
}

std::span<std::byte> LoraBuffers::bytes(std::size_t layer, BufferTensor tensor) {
  return tensors_.at(layer)[static_cast<std::size_t>(tensor)];
}

float LoraBuffers::at(std::size_t layer, BufferTensor tensor, std::int32_t l, std::int64_t offset) const {
  require_in_range("slot", l, 0, std::int64_t{shape_.max_loras} - 1);
  require_in_range("offset in a slot", offset, 0, shape_.slot_elements(tensor) - 1);
  if (!shape_.active(layer, tensor)) reject(to_string(tensor), "inactive", "the layer lacks this module");
  return load_as_float(bytes(layer, tensor).data(), shape_.dtype, l * shape_.slot_elements(tensor) + offset);
}

float& LoraBuffers::scale(std::size_t layer, int module, std::int32_t l) {
  require_in_range("layer", static_cast<std::int64_t>(layer), 0,
                   static_cast<std::int64_t>(tensors_.size()) - 1);
  require_in_range("module", module, 0, 1);
  require_in_range("slot", l, 0, std::int64_t{shape_.max_loras} - 1);
  return scale_[(layer * 2 + static_cast<std::size_t>(module)) * static_cast<std::size_t>(shape_.max_loras) +
                static_cast<std::size_t>(l)];
}

float LoraBuffers::scale(std::size_t layer, int module, std::int32_t l) const {
  return const_cast<LoraBuffers&>(*this).scale(layer, module, l);
}

}  // namespace eplora
