// SPDX-License-Identifier: Apache-2.0
// The config.json of a Mixture-of-Experts model, in the form Hugging Face publishes it, reduced to what the
// parallel layout and the LoRA buffers need (contract, end of section 6). A field that contradicts another is
// an error, never a choice.
//
// The project's own examples/models/*.json have the same form plus one object of ours, which may be left out:
//   "eplora": {"name": "DeepSeek-V3", "moe_layers": 58}    moe_layers must agree with what the other fields
//   say
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "reference/lora/adapter.h"

namespace eplora {

struct ModelConfig {
  std::string name;              ///< eplora.name, else model_type
  std::string model_type;        ///< as in the file, of text_config where there is one; may be empty
  std::int32_t num_experts = 0;  ///< E: num_experts, n_routed_experts or num_local_experts
  std::int32_t top_k = 0;        ///< K: num_experts_per_tok
  std::int64_t hidden = 0;  ///< H as the experts see it: hidden_size, or moe_latent_size where there is one
  std::int64_t moe_intermediate =
      0;                        ///< I: moe_intermediate_size; intermediate_size for types that have no other
  std::int32_t num_layers = 0;  ///< num_hidden_layers; 0 when the file does not say
  bool gated = true;            ///< false for squared-ReLU experts (mlp_hidden_act relu2)
  GateUpForm form = GateUpForm::stacked;  ///< interleaved for gpt_oss
  std::vector<std::int32_t>
      moe_layers;  ///< ids of the layers with experts, ascending; empty when num_layers is 0

  MoeGeometry geometry() const;
};

/// Reads a config.json, the language model's part of it where it is nested in `text_config`. Throws
/// `InvalidArgument` naming file, key, value and what is allowed.
ModelConfig read_model_config(const std::filesystem::path& path);

/// The same from text; `what` opens every sentence.
ModelConfig parse_model_config(std::string_view text, const std::string& what);

}  // namespace eplora
