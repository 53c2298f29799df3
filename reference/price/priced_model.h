// SPDX-License-Identifier: Apache-2.0
// What a price is asked for: the sizes of a Mixture-of-Experts model, the sizes of its elements, the adapters
// that are to be served. Everything outside the MoE layers - attention, embeddings, the router, norms, biases
// - has no price here.
#pragma once

#include <cstdint>
#include <vector>

#include "reference/layout/deployment.h"

namespace eplora {

struct PricedModel {
  std::int32_t num_experts = 0;                          ///< E, routed experts
  std::int32_t top_k = 0;                                ///< K
  std::int64_t hidden = 0;                               ///< H
  std::int64_t intermediate = 0;                         ///< I
  bool gated = true;                                     ///< three matrices an expert, else two
  std::vector<std::int32_t> moe_layers;                  ///< ids of the layers with experts, ascending
  std::int64_t halves() const { return gated ? 2 : 1; }  ///< c
};

/// Bytes of one element. Scales of quantised formats are not counted.
struct ElementBytes {
  std::int64_t weights = 2;      ///< base weights of experts
  std::int64_t adapters = 2;     ///< LoRA buffers
  std::int64_t activations = 2;  ///< hidden states and shrunk vectors on the wire
};

/// Buffers for L adapters of rank up to R. L = 0: no adapters, no buffers.
struct AdapterSizes {
  std::int32_t max_loras = 0;       ///< L
  std::int64_t max_lora_rank = 16;  ///< R
};

/// The model's MoE layers that belong to class `index`: those it names, or those that no class names. Throws
/// `InvalidArgument` when the class names a layer without experts.
std::vector<std::int32_t> layers_of_class(const Deployment& deployment, std::size_t index,
                                          const PricedModel& model);

/// Checks sizes of model, elements and adapters against each other and against the deployment: every class
/// places E experts, fused shared experts are as wide as the routed ones, columns and LoRA ranks divide.
/// Every layer of the model is in one class. Throws `InvalidArgument`.
void validate_price(const Deployment& deployment, const PricedModel& model, const ElementBytes& bytes,
                    const AdapterSizes& adapters);

/// Columns of one shared expert of the class, over all ranks.
std::int64_t shared_intermediate(const LayerClass& layer_class, const PricedModel& model);

}  // namespace eplora
