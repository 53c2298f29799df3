// SPDX-License-Identifier: Apache-2.0
#include "reference/lora/adapter.h"

#include <cmath>
#include <string>

#include "reference/check.h"

namespace eplora {
namespace {

std::string shape_of(const StridedTensor& tensor) {
  std::string text = "[";
  text.append(std::to_string(tensor.experts)).append(", ").append(std::to_string(tensor.rows));
  return text.append(", ").append(std::to_string(tensor.cols)).append("]");
}

/// A symbol with its value, for the sentence: "H=2048".
struct Extent {
  std::string_view symbol;
  std::int64_t value;
};
std::string text(const Extent& extent) {
  return std::string(extent.symbol) + "=" + std::to_string(extent.value);
}

/// A `[experts, r, in]` and B `[experts', out, r]` with 1 <= r <= R.
void validate_pair(const std::string& name, const LoraPair& pair, Extent experts_of_A, Extent experts_of_B,
                   Extent in, Extent out, std::int64_t max_lora_rank) {
  if (pair.A.present() != pair.B.present())
    reject(name + " lora_" + (pair.A.present() ? "B" : "A"), "absent", "A and B come together");
  if (!pair.present()) return;
  bytes_of(pair.A.dtype);
  bytes_of(pair.B.dtype);
  if (pair.A.experts != experts_of_A.value || pair.A.cols != in.value)
    reject(name + " lora_A shape", shape_of(pair.A),
           "it must be [" + text(experts_of_A) + ", r, " + text(in) + "]");
  require_in_range(name + " rank (r)", pair.A.rows, 1, max_lora_rank);
  if (pair.B.experts != experts_of_B.value || pair.B.rows != out.value || pair.B.cols != pair.A.rows)
    reject(name + " lora_B shape", shape_of(pair.B),
           "it must be [" + text(experts_of_B) + ", " + text(out) + ", " + text({"r", pair.A.rows}) + "]");
}

}  // namespace

std::string_view to_string(GateUpForm form) {
  return form == GateUpForm::stacked ? "stacked" : "interleaved";
}

void validate(const MoeGeometry& geometry) {
  require_in_range("num_experts (E)", geometry.num_experts, 1, kMaxIndex);
  require_in_range("hidden size (H)", geometry.hidden, 1, kMaxIndex);
  require_in_range("intermediate size (I)", geometry.intermediate, 1, kMaxIndex / geometry.halves());
  if (geometry.form != GateUpForm::stacked && geometry.form != GateUpForm::interleaved)
    reject("gate_up form", std::to_string(static_cast<int>(geometry.form)),
           "it must be stacked or interleaved");
}

void validate(const std::string& name, const AdapterLayer& layer, const MoeGeometry& geometry,
              std::int64_t max_lora_rank) {
  const Extent each{"E", geometry.num_experts}, outer = geometry.shared_outer ? Extent{"shared", 1} : each;
  const Extent H{"H", geometry.hidden}, I{"I", geometry.intermediate};
  const LoraPair& gate = layer.gate_up[0];
  const LoraPair& up = layer.gate_up[1];
  validate_pair(name + (geometry.gated ? " gate" : " up (not gated)"), gate, outer, each, H, I,
                max_lora_rank);
  if (geometry.gated) {
    validate_pair(name + " up", up, outer, each, H, I, max_lora_rank);
    if (gate.present() != up.present())
      reject(name + (gate.present() ? " up" : " gate"), "absent", "gate and up come together");
  } else if (up.A.present() || up.B.present()) {
    reject(name + " second half of gate_up", "present", "a layer that is not gated has one half");
  }
  validate_pair(name + " down", layer.down, each, outer, I, H, max_lora_rank);
}

void validate(const Adapter& adapter, const MoeGeometry& geometry, std::int64_t max_lora_rank) {
  validate(geometry);
  for (const auto& [layer_id, layer] : adapter.layers)
    validate("adapter layer " + std::to_string(layer_id), layer, geometry, max_lora_rank);
}

float lora_scale(double lora_alpha, std::int64_t r, bool use_rslora) {
  require_in_range("rank (r)", r, 1, kMaxIndex);
  const auto rank = static_cast<double>(r);
  return static_cast<float>(lora_alpha / (use_rslora ? std::sqrt(rank) : rank));
}

}  // namespace eplora
