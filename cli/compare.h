// SPDX-License-Identifier: Apache-2.0
// The parts of `eplora compare`: the golden fixtures, somebody's adapter, and the timing table. Each prints
// its table (or nothing with --json) and gives back what it found.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "benchmarks/synthetic.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "optimized/backend.h"
#include "reference/layout/layout.h"

namespace eplora {

using Backends = std::vector<std::unique_ptr<Backend>>;

/// What a part of the comparison found.
struct CompareOutcome {
  bool agreed = true;
  std::int64_t rows = 0;  ///< lines compared; 0 = nothing ran
};

/// Errors of one output, as the contract's section 7 measures them.
struct OutputError {
  double frobenius = 0;  ///< ||got - want||_F / ||want||_F
  double maximum = 0;    ///< max |got - want| / max |want|
};

struct NamedLayout {
  std::string name;  ///< as `--layout` takes it
  Layout layout;
  bool uneven = false;  ///< ranks own different numbers of experts
};

/// `text`, or with an empty text every SGLang layout of 1..8 ranks whose moe_tp divides `intermediate`.
std::vector<NamedLayout> layouts_for(const std::string& text, std::int32_t num_experts,
                                     std::int64_t intermediate);

CompareOutcome compare_golden(const CompareOptions& options, const Backends& backends, const Output& output,
                              Progress& progress, nlohmann::ordered_json& document);

CompareOutcome compare_adapter(const CompareOptions& options, const Backends& backends, const Output& output,
                               Progress& progress, nlohmann::ordered_json& document);

CompareOutcome compare_speed(const CompareOptions& options, const Backends& backends, const Output& output,
                             Progress& progress, nlohmann::ordered_json& document);

}  // namespace eplora
