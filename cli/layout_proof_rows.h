// SPDX-License-Identifier: Apache-2.0
// One row a proof: what `eplora layout check` runs and prints. The judges run at full size, numbers on a mesh
// that is small enough, golden fixtures where their sizes fit, and every backend in the sharded layer.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/compare.h"
#include "cli/layout_input.h"
#include "cli/progress.h"

namespace eplora {

struct ProofRow {
  enum class State : std::uint8_t { holds, broken, skipped } state = State::holds;
  std::string id, words, contract, layer_class;  ///< `words`: the proof's name as a sentence
  std::string tried;                             ///< on what; why, where it was skipped
  std::string sentence;                          ///< of the violation
  std::optional<LayoutCase> smallest;            ///< where the violation could be made smaller
  std::string smallest_sentence;
  double seconds = 0;
};

struct ProofRun {
  DeploymentSpec spec;
  std::optional<std::vector<std::string>> sum_over;
  std::optional<ModelConfig> model;  ///< sizes for the judges
  int batches = 24;                  ///< random batches a class and backend
  std::uint64_t seed = 1;
  std::int32_t most_ranks = 16;  ///< for numbers
};

/// All rows, in the order of the table. Throws `InvalidArgument` where the description is no deployment, or
/// does not fit the model.
std::vector<ProofRow> prove_layout(const ProofRun& run, const Backends& backends, Progress& progress);

/// Whether a backend has the steps that the sharded layer leaves to it.
bool routes_and_slices(const Backend& backend);
/// Steps of the sharded layer that go through a backend, in guarded memory; the reference's own are plain.
reference::LayerSteps guarded_steps(Backend& backend);
reference::LayerSteps steps_of(Backend& backend);

}  // namespace eplora
