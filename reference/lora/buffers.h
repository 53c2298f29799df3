// SPDX-License-Identifier: Apache-2.0
// The adapter buffers of one rank: what engines keep in GPU memory and kernels index by virtual expert. Per
// layer, row-major (contract, section 6):
//   gate_up_A [L, E_a, c, R, H]   gate_up_B [L, E_b, c*i, R]   down_A [L, E_b, R, i]   down_B [L, E_a, H, R]
// with c = 2 gated, 1 not; i = I/P; E_b = E_local; E_a = E_local, or 1 when shared-outer. `scale [layer,
// module, L]` float32 (module 0 gate_up, 1 down) stands beside them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "reference/layout/layout.h"
#include "reference/lora/adapter.h"

namespace eplora {

enum class BufferTensor : std::uint8_t { gate_up_A, gate_up_B, down_A, down_B };
inline constexpr std::array<BufferTensor, 4> kBufferTensors = {
    BufferTensor::gate_up_A, BufferTensor::gate_up_B, BufferTensor::down_A, BufferTensor::down_B};
std::string_view to_string(BufferTensor tensor);

/// One layer of the model as the buffers see it. A layer without an id (hybrid architectures: a module whose
/// name holds no layer number) has no adapter weights and is skipped by a load.
struct BufferLayer {
  std::optional<std::int32_t> layer_id;
  bool has_gate_up = true;  ///< active_target_modules: buffers exist only for what is active
  bool has_down = true;
  bool operator==(const BufferLayer&) const = default;
};

struct BufferShape {
  std::vector<BufferLayer> layers;
  std::int32_t max_loras = 0;      ///< L
  std::int64_t max_lora_rank = 0;  ///< R
  std::int64_t local_experts = 0;  ///< E_local, may be 0
  std::int64_t hidden = 0;         ///< H
  std::int64_t intermediate = 0;   ///< i = I / P, this rank's
  bool gated = true;
  GateUpForm form = GateUpForm::stacked;
  bool shared_outer = false;
  DType dtype = DType::f32;

  std::int64_t halves() const { return gated ? 2 : 1; }
  std::int64_t outer_experts() const { return shared_outer ? 1 : local_experts; }  ///< E_a
  /// Elements of one adapter slot of `tensor` (one layer); the whole tensor is `max_loras` times that.
  std::int64_t slot_elements(BufferTensor tensor) const;
  bool active(std::size_t layer, BufferTensor tensor) const;
  std::int64_t scale_elements() const { return static_cast<std::int64_t>(layers.size()) * 2 * max_loras; }
  bool operator==(const BufferShape&) const = default;
};

/// Where the buffers stand (any memory space): `tensor[layer][which]`, null where the layer lacks the module.
struct BufferView {
  std::vector<std::array<void*, 4>> tensor;
  float* scale = nullptr;
};

/// Cut one adapter for one rank into one slot of its buffers. "EP-rank slicing".
struct SliceProblem {
  MoeGeometry geometry;
  RankPlace place;  ///< columns are chosen by `place.moe_tp_rank` of `place.moe_tp`
  std::span<const std::int32_t> local_experts;  ///< global ids this rank owns, in local order
  const Adapter* adapter = nullptr;             ///< unsharded views
  const BufferShape* shape = nullptr;
  std::int32_t slot = 0;  ///< in [0, L)
};

/// The buffer shape that fits `geometry` on `place`. Throws when I % P != 0, naming the layer.
BufferShape buffer_shape(const MoeGeometry& geometry, const RankPlace& place, std::int64_t num_local_experts,
                         std::vector<BufferLayer> layers, std::int32_t max_loras, std::int64_t max_lora_rank,
                         DType dtype);

/// Shapes, slot, ownership, adapter (contract, sections 6 and 8). Throws `InvalidArgument`. An adapter module
/// that no active layer takes is refused by name (P16).
void validate(const SliceProblem& problem);

/// Buffers in host memory, owned.
class LoraBuffers {
 public:
  /// Every byte is `fill` (0 in use; a poison pattern in tests).
  explicit LoraBuffers(BufferShape shape, std::uint8_t fill = 0);
  const BufferShape& shape() const { return shape_; }
  BufferView view();
  std::span<const std::byte> bytes(std::size_t layer, BufferTensor tensor) const;
  std::span<std::byte> bytes(std::size_t layer, BufferTensor tensor);
  /// Element (exact, as float) of slot `l`: `offset` counts within the slot.
  float at(std::size_t layer, BufferTensor tensor, std::int32_t l, std::int64_t offset) const;
  float& scale(std::size_t layer, int module, std::int32_t l);
  float scale(std::size_t layer, int module, std::int32_t l) const;
  std::span<const float> scales() const { return scale_; }
  bool operator==(const LoraBuffers&) const =
      default;  ///< byte equality of tensors, value equality of scales

 private:
  BufferShape shape_;
  std::vector<std::array<std::vector<std::byte>, 4>> tensors_;
  std::vector<float> scale_;
};

}  // namespace eplora
