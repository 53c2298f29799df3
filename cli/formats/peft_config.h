// SPDX-License-Identifier: Apache-2.0
// A PEFT adapter's adapter_config.json: rank, alpha and scale of every module, and a refusal by name for
// every setting that makes the adapter something else than scale * B A on top of the unchanged base weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/formats/peft_pattern.h"

namespace eplora {

struct PeftConfig {
  std::string file;
  std::int64_t r = 0;
  double lora_alpha = 0;
  bool use_rslora = false;
  std::vector<std::pair<PeftPattern, std::int64_t>> rank_pattern;  ///< in file order: the first match wins
  std::vector<std::pair<PeftPattern, double>> alpha_pattern;
  std::optional<std::vector<std::string>> target_parameters;
  std::string peft_version;  ///< empty when the file has none

  /// Rank and alpha are looked up separately. `name` as in `PeftPattern::matches`.
  std::int64_t rank_of(std::string_view name) const;
  double alpha_of(std::string_view name) const;
  /// alpha / r, with rsLoRA alpha / sqrt(r).
  float scale_of(std::string_view name) const;

  /// Whether the PEFT that wrote the file read a 3-D parameter as [E, in, out] (before 0.19), so that for a
  /// model that stores [E, out, in] its tensors hold the transposed delta. Empty when the version is missing,
  /// unreadable, or a development version of 0.18.
  std::optional<bool> reads_parameters_as_in_out() const;

  /// Whether `target_parameters` names this parameter; true when the file has no such list.
  bool targets_parameter(std::string_view name) const;
};

/// Reads and checks `adapter_config.json`. Throws `InvalidArgument` naming file, setting, value and what is
/// allowed.
PeftConfig read_peft_config(const std::filesystem::path& path);

}  // namespace eplora
