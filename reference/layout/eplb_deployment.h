// SPDX-License-Identifier: Apache-2.0
// A deployment whose experts stand where EPLB puts them, each layer by its own load. Attention is data
// parallel over groups of tp ranks; experts are cut over all of those groups, their columns over tp.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "reference/layout/deployment.h"
#include "reference/layout/deployment_presets.h"
#include "reference/layout/eplb.h"

namespace eplora {

struct EplbDeployment {
  std::int32_t ranks = 1;  ///< in all
  std::int32_t tp = 1;     ///< consecutive ranks that share the columns of an expert
  std::int32_t nodes = 1, groups = 1, redundant = 0;
  bool distinct = true;
  /// Which replica serves: by the token's number they share evenly, which EPLB counts on. By the slot's they
  /// need not: where c and top_k have a factor in common, some replicas meet a router's first choices alone.
  ReplicaRule replicas = ReplicaRule::token;
  /// Throws `InvalidArgument` unless tp divides ranks.
  EplbSizes balance(std::int32_t num_experts) const;
};

/// r = (node * ranks/nodes/tp + gpu) * tp + t: grid (node, gpu, moe_tp), EP rank q = r / tp. One row of
/// `load` is for all layers; several rows give one class of layers each, for the layers of `layers` in turn.
/// Throws `InvalidArgument` where rows and layers are not as many, and as `balance_experts` does.
DeploymentSpec eplb_deployment(const EplbDeployment& sizes, const LoadRows& load,
                               const std::vector<std::int32_t>& layers);

/// By its word, as layout files have it. Throws `InvalidArgument` for any other.
ReplicaRule replica_rule(std::string_view word);

/// The preset "eplb:ranks=16,nodes=2,groups=8,redundant=32,load=FILE".
DeploymentSpec eplb_preset(const PresetArguments& arguments, const PresetInput& input);

}  // namespace eplora
