// SPDX-License-Identifier: Apache-2.0
// The tensors of a PEFT file sorted by layer, projection and factor: every name ends in exactly one of
// `layers`, `outside` or an error, so nothing is silently ignored (contract, P16).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/formats/peft_keys.h"
#include "cli/formats/safetensors.h"

namespace eplora {

/// A tensor with what its name says. The view belongs to the open file.
struct PeftSource {
  const TensorView* view = nullptr;
  PeftKey key;
};

/// One factor of one projection: once per expert, or one stacked tensor.
struct NamedFactor {
  std::map<std::int32_t, PeftSource> per_expert;
  std::optional<PeftSource> stacked;
  bool present() const { return stacked.has_value() || !per_expert.empty(); }
  const PeftSource& any() const { return stacked ? *stacked : per_expert.begin()->second; }
};

struct PeftLayerSources {
  std::string experts;                                            ///< "model.layers.1.mlp.experts"
  std::array<std::array<NamedFactor, 2>, 4> named;                ///< [Projection][Factor]
  std::array<std::array<std::optional<PeftSource>, 2>, 2> fused;  ///< [has base_layer][Factor]

  bool has_fused() const;
  bool has_named() const;
};

struct PeftSources {
  std::map<std::int32_t, PeftLayerSources> layers;
  std::vector<std::string> consumed;  ///< names in `layers`
  std::vector<std::string> outside;   ///< names of other modules (attention, router, shared experts, ...)
};

/// Sorts all tensors of `file`. Throws `InvalidArgument` for a tensor under "experts" whose name fits no
/// form, one that stands twice under different prefixes, A without B, and two key layouts for one projection.
PeftSources sort_peft_tensors(const SafetensorsFile& file);

}  // namespace eplora
