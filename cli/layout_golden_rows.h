// SPDX-License-Identifier: Apache-2.0
// The rows of `eplora layout check` that hold the sharded layer against what transformers and PEFT recorded:
// one a fixture, for one class of layers, by every backend that routes and slices.
#pragma once

#include <string>
#include <vector>

#include "cli/layout_proof_rows.h"

namespace eplora {

struct GoldenRows {
  const DeploymentSpec& spec;
  const LayerClass& layer_class;  ///< of that description
  const Backends& backends;
  const suite::Spoil& spoil;  ///< may be empty
  std::string ranks;          ///< the ranks in words
};

/// The class takes the fixture's experts: linear and round robin as they are, slots beyond E as many as fit,
/// of a table the experts that the fixture has. A fixture that does not fit is a skipped row with the reason.
std::vector<ProofRow> golden_rows(const GoldenRows& run, Progress& progress);

}  // namespace eplora
