// SPDX-License-Identifier: Apache-2.0
// Writes an `Adapter` as a PEFT folder in any of the key layouts that load_peft_adapter reads: for tests'
// round trips and for handing a generated adapter to another program.
#pragma once

#include <filesystem>
#include <string>

#include "cli/formats/peft_keys.h"
#include "reference/lora/adapter.h"

namespace eplora {

struct PeftWriteOptions {
  DType dtype = DType::f32;            ///< of the file; conversion rounds to nearest even
  bool use_rslora = false;             ///< which alpha belongs to a scale: scale*r, with rsLoRA scale*sqrt(r)
  std::string model_prefix = "model";  ///< keys begin "base_model.model.<model_prefix>.layers."
  std::string block = "mlp";           ///< "block_sparse_moe" for Mixtral
  std::string peft_version =
      "0.21.0";  ///< as recorded; tensors are written untransposed, as 0.19 and later do
};

/// Creates `folder` where needed and writes adapter_model.safetensors and adapter_config.json; ranks and
/// alphas that differ from the first module's become rank_pattern and alpha_pattern. Fused needs one A for
/// both halves. Equal inputs give equal bytes. Throws `InvalidArgument` before anything is written.
void write_peft_adapter(const std::filesystem::path& folder, const Adapter& adapter,
                        const MoeGeometry& geometry, PeftKeyLayout layout,
                        const PeftWriteOptions& options = {});

}  // namespace eplora
