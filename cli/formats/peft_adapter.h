// SPDX-License-Identifier: Apache-2.0
// A PEFT adapter folder (adapter_config.json and adapter_model.safetensors) as an `Adapter`: strided views
// straight into the mapped file, whatever the key layout; only tensors that stand one expert at a time are
// gathered once. Loading is strict: every tensor is consumed or refused by name, and an adapter that does not
// fit the model is an error (contract, sections 6 and 8, P16).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/formats/peft_config.h"
#include "cli/formats/peft_keys.h"
#include "cli/formats/safetensors.h"
#include "reference/lora/adapter.h"

namespace eplora {

struct PeftLoadOptions {
  /// Off: tensors of other modules (attention, router, shared experts) make the load fail, with their names.
  /// On: they are listed in `refused` and not applied.
  bool allow_other_modules = false;
  std::optional<std::int32_t> num_layers;  ///< of the model: layer ids must be below
  std::int64_t max_lora_rank = 0;          ///< R; 0 = no limit
};

/// How a fused projection of the file was read.
struct PeftReading {
  std::int32_t layer = 0;
  Projection projection = Projection::down;
  bool transposed =
      false;  ///< (A.in, B.out) is swapped: the file holds the transposed delta (PEFT before 0.19)
  bool by_version = false;  ///< the shapes fitted more than one reading and peft_version decided
};

/// Owns the mapping and the gathered tensors; movable, the views stay valid.
class PeftAdapter {
 public:
  const Adapter& adapter() const { return adapter_; }
  /// The layer's weights, or null when the adapter does not touch it.
  const AdapterLayer* layer(std::int32_t id) const;
  const PeftConfig& config() const { return config_; }
  PeftKeyLayout key_layout() const { return key_layout_; }
  std::int64_t max_rank() const { return max_rank_; }  ///< largest rank of any module
  const std::vector<PeftReading>& readings() const { return readings_; }

  /// For P16: every name of the file is in exactly one of the two.
  const std::vector<std::string>& tensors_in_file() const { return in_file_; }
  const std::vector<std::string>& consumed() const { return consumed_; }
  const std::vector<std::string>& refused() const { return refused_; }

 private:
  friend class PeftLoader;
  PeftConfig config_;
  std::shared_ptr<const SafetensorsFile> file_;
  std::vector<std::unique_ptr<std::byte[]>> gathered_;
  Adapter adapter_;
  PeftKeyLayout key_layout_ = PeftKeyLayout::fused;
  std::int64_t max_rank_ = 0;
  std::vector<PeftReading> readings_;
  std::vector<std::string> in_file_, consumed_, refused_;
};

/// Loads `folder` for a model of this geometry. With `geometry.shared_outer`, gate_up A and down B stand
/// once: as a stacked tensor ([r, in] or [1, r, in]), or, fused, as A [r, H] and B [H, r]. Throws
/// `InvalidArgument` naming the file, the tensor or setting, its value and what is allowed.
PeftAdapter load_peft_adapter(const std::filesystem::path& folder, const MoeGeometry& geometry,
                              const PeftLoadOptions& options = {});

/// Whether the adapter stores the hidden-facing factors once for all experts. All adapters of a pool must
/// agree.
bool peft_adapter_is_shared_outer(const std::filesystem::path& folder);

}  // namespace eplora
