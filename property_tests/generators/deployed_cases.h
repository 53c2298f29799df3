// SPDX-License-Identifier: Apache-2.0
// Random batches through a deployed layer, and random deployments: what the proofs of a layout are tried on.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "reference/layout/class_plan.h"
#include "reference/lora/deployed_moe_layer.h"

namespace eplora::suite {

/// Sizes of one batch through one layer of a class.
struct DeployedSizes {
  std::int64_t tokens = 8;               ///< T
  std::int64_t top_k = 2;                ///< K
  std::int64_t hidden = 6;               ///< H
  std::int64_t intermediate = 8;         ///< I
  std::int64_t shared_intermediate = 0;  ///< Is; used where the class has shared experts
  std::int32_t max_loras = 2;            ///< L; 0 = no adapters at all
  std::int64_t max_lora_rank = 2;        ///< R
  std::int64_t num_layers = 1;           ///< of the class
  std::int64_t layer = 0;                ///< which of them is computed
  bool shared_outer = false;
  bool sentinels = true;  ///< some ids are negative or invalid, some tokens have no adapter

  PlanSizes plan() const;
  bool operator==(const DeployedSizes&) const = default;
};

/// A problem that owns what it points to; movable, not copyable.
struct DeployedCase {
  std::deque<std::vector<float>> memory;
  std::deque<AdapterLayer> layers;
  std::vector<std::int32_t> ids, mapping;
  reference::DeployedProblem problem;

  DeployedCase() = default;
  DeployedCase(DeployedCase&&) = default;
  DeployedCase& operator=(DeployedCase&&) = default;
};

/// Weights, adapters and routing that follow from the seed alone: uniform in [-1, 1], no weight zero.
/// Adapters have every module and ranks 1..R; with `sentinels`, one slot in eight is negative or invalid and
/// one token in four has no adapter. The weights of an expert do not depend on T, K or L.
DeployedCase deployed_case(const LayerClassSpec& spec, const DeployedSizes& sizes, std::uint64_t seed);

/// Columns that every rank can hold under the class's cut, padding and form: the smallest such I at or above
/// `least`; the same for shared experts.
std::int64_t fitting_intermediate(const LayerClass& layer_class, std::int64_t least);
std::int64_t fitting_shared(const LayerClass& layer_class, std::int64_t routed, std::int64_t least);

/// Sizes near `wanted` that the class accepts: I, Is and R are rounded up to what divides.
DeployedSizes fitting_sizes(const LayerClass& layer_class, DeployedSizes wanted);

/// A legal deployment of at most `max_ranks` ranks: axis orders, cuts, placements, replica rules, forms,
/// padding, shared experts, hidden rows and ranks of adapters cut, pipeline stages, attention on a grid of
/// its own.
DeploymentSpec random_deployment(std::uint64_t seed, std::int32_t max_ranks);

}  // namespace eplora::suite
