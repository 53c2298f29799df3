// SPDX-License-Identifier: Apache-2.0
// A golden fixture: one MoE block, its adapters and its outputs as transformers and PEFT computed and
// recorded them, in the form of the reference's problem struct (contract, section 7). What is in such a
// folder is described in property_tests/golden/README.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cli/formats/model_config.h"
#include "cli/formats/peft_adapter.h"
#include "reference/lora/moe_layer.h"

namespace eplora {

/// One recorded run: which adapter each token had, and what came out.
struct GoldenCase {
  std::string name;                              ///< "base", "adapter 0", ..., "mixed"
  std::vector<std::int32_t> token_lora_mapping;  ///< `[T]`
  std::vector<float> output;                     ///< `[T, H]`
};

/// Owns everything its problems point to; movable.
struct GoldenFixture {
  std::string name;  ///< of the folder
  ModelConfig model;
  MoeGeometry geometry;
  std::int32_t layer = 0;                        ///< the layer that was recorded
  std::map<std::string, std::string> made_with;  ///< versions
  std::int64_t num_tokens = 0;                   ///< T
  std::int64_t top_k = 0;                        ///< K
  std::vector<float> gate_up_proj;               ///< `[E, 2I, H]`
  std::vector<float> down_proj;                  ///< `[E, H, I]`
  std::vector<float> hidden_states;              ///< `[T, H]`
  std::vector<std::int32_t> topk_ids;            ///< `[T, K]`
  std::vector<float> topk_weights;               ///< `[T, K]`
  std::vector<PeftAdapter> adapters;             ///< `[L]`
  std::vector<GoldenCase> cases;                 ///< base, every adapter, mixed

  /// The run as a problem; it points into this object and the case. Throws when `adapters` lacks the layer.
  reference::MoeLayerProblem problem(const GoldenCase& golden_case) const;
};

/// Reads a fixture folder: config.json, fixture.json, base_layer_{layer}.safetensors (fused tensors or one
/// nn.Linear an expert), adapters/0, 1, ..., golden.safetensors. Strict: a missing, unknown or misshapen
/// tensor is `InvalidArgument`.
GoldenFixture load_golden_fixture(const std::filesystem::path& folder);

/// Folders with a golden.safetensors directly below `folder`, by name; `folder` itself when it is one.
std::vector<std::filesystem::path> list_golden_fixtures(const std::filesystem::path& folder);

}  // namespace eplora
