// SPDX-License-Identifier: Apache-2.0
// How the judges of deployments read a description: the class that a plan speaks of, its grid as arithmetic,
// and how attention holds tokens. Shares no code with reference/layout. Internal to reference/contract.
#pragma once

#include <string>
#include <vector>

#include "reference/contract/mesh_reading.h"
#include "reference/contract/verdict.h"
#include "reference/layout/class_plan.h"

namespace eplora::contract {

/// The grid of that name; throws `InvalidArgument` where there is none.
const GridSpec& grid_of(const DeploymentSpec& spec, const std::string& name);

/// "[2, 5)".
std::string range_words(const Range& range);

class ClassReading {
 public:
  /// Throws `InvalidArgument` when the description has no class of the plan's name.
  ClassReading(const DeploymentSpec& spec, const ClassPlan& plan);

  const LayerClassSpec& declared() const { return *declared_; }
  const GridSpec& grid() const { return *grid_; }
  const MeshReading& mesh() const { return mesh_; }
  /// Attention as declared; without a grid, the first class's grid and token axes.
  AttentionSpec attention() const;
  /// "class moe: ", or "" where the deployment has one class.
  const std::string& at() const { return at_; }
  Verdict wrong_number_of_ranks(const char* property) const;

 private:
  const DeploymentSpec& spec_;
  const ClassPlan& plan_;
  const LayerClassSpec* declared_;
  const GridSpec* grid_;
  MeshReading mesh_;
  std::string at_;
};

}  // namespace eplora::contract
