// SPDX-License-Identifier: Apache-2.0
// The names of expert tensors in PEFT adapters. With a prefix that ends in "layers.{L}.<mlp or another
// block>.experts":
//   per expert  {e}.{gate,up,down}_proj.lora_{A,B}.weight         2-D: A [r, in], B [out, r]; w1, w3, w2 are
//   gate, up, down fused       [base_layer.]lora_{A,B}.weight                    2-D: A [E*r, in], B [out,
//   r*E] stacked     {gate_up,gate,up,down}_proj.lora_{A,B}.weight     3-D: A [E | 1, r, in], B [E | 1, out,
//   r]; 2-D = once
// The first two are PEFT's (contract, section 6). The third is how engines exchange shared-outer adapters,
// whose gate_up A and down B stand once for all experts; a shared factor may also stand beside per-expert
// ones.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace eplora {

enum class PeftKeyLayout : std::uint8_t { per_expert, fused, stacked };
std::string_view to_string(PeftKeyLayout layout);

enum class Projection : std::uint8_t { gate, up, gate_up, down };
std::string_view to_string(Projection projection);  ///< "gate_proj", "up_proj", "gate_up_proj", "down_proj"

enum class Factor : std::uint8_t { A, B };
std::string_view to_string(Factor factor);  ///< "lora_A", "lora_B"

struct PeftKey {
  PeftKeyLayout layout = PeftKeyLayout::fused;
  std::int32_t layer = 0;
  std::int32_t expert = 0;               ///< per expert only
  std::optional<Projection> projection;  ///< fused: none, the shapes tell
  bool base_layer = false;               ///< fused only
  Factor factor = Factor::A;
  std::string experts;  ///< the experts' module in the base model: "model.layers.1.mlp.experts"
  std::string
      module;  ///< PEFT's name of the adapted module; fused: `experts`, the parameter's name is to be added
};

/// Whether the name belongs to routed experts at all: it has a component "experts" with something behind it.
bool names_expert_tensor(std::string_view name);

/// The parsed name, or nothing when it fits none of the forms above.
std::optional<PeftKey> parse_peft_key(std::string_view name);

}  // namespace eplora
