// SPDX-License-Identifier: Apache-2.0
// What is proven of a deployment, one proof a sentence: the judges on every rank at full size, then the
// sharded layer against the whole one, and the reduction axes one by one. A broken proof is made smaller:
// mesh, experts, features, batch.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "property_tests/generators/deployed_cases.h"
#include "reference/contract/verdict.h"

namespace eplora::suite {

enum class Proof : std::uint8_t {
  groups,      ///< P9, grids
  places,      ///< P9, one class
  slices,      ///< P7
  homes,       ///< P7
  owners,      ///< P8
  replicas,    ///< P8
  reductions,  ///< P7, counted
  whole,       ///< P7, sharded = whole in double
  necessity    ///< P7, each axis of a sum changes the result
};
inline constexpr std::array kProofs = {Proof::groups,     Proof::places, Proof::slices,
                                       Proof::homes,      Proof::owners, Proof::replicas,
                                       Proof::reductions, Proof::whole,  Proof::necessity};
std::string_view to_string(Proof proof);    ///< one word
std::string_view words_of(Proof proof);     ///< the law as a sentence
std::string_view contract_of(Proof proof);  ///< "P7"
/// Judged on the plan alone: at any number of ranks.
constexpr bool is_structural(Proof proof) { return proof < Proof::whole; }

/// What is tried: one class of a deployment, sizes, a seed.
struct LayoutTrial {
  DeploymentSpec spec;
  std::string layer_class;
  DeployedSizes sizes;
  std::uint64_t seed = 1;
};

/// Changes a right plan into the one on trial: a bug, or what an engine claims to do. May be empty.
using Spoil = std::function<void(const Deployment&, ClassPlan&)>;

/// A trial resolved: the deployment, and the plan of its class after `spoil`. Throws `InvalidArgument` where
/// the description cannot be a deployment of these sizes.
struct ResolvedTrial {
  LayoutTrial trial;
  Deployment deployment;
  ClassPlan plan;
};
ResolvedTrial resolve(const LayoutTrial& trial, const Spoil& spoil = {});

/// The first violation, told in words, or nothing. A plan that cannot be run is a violation; what the steps
/// of a backend throw is one too. `steps` serve `whole` alone.
contract::Verdict prove(Proof proof, const ResolvedTrial& trial, const reference::LayerSteps& steps = {});

/// Sharded against whole on one random batch; `kWholeBound` in relative Frobenius norm, on every rank.
contract::Verdict differs_from_whole(const ResolvedTrial& trial, const reference::LayerSteps& steps = {});
inline constexpr double kWholeBound = 1e-13;

/// The default sizes for a class: small, odd where they may be, and what the class's cuts ask for.
DeployedSizes proof_sizes(const LayerClass& layer_class);

/// The same description on at most `max_ranks` ranks: axes are divided, the largest first, experts become
/// few. Equal to `spec` where that is small already.
DeploymentSpec shrunk_deployment(const DeploymentSpec& spec, std::int32_t max_ranks);

struct SmallestTrial {
  LayoutTrial trial;
  contract::Violation violation;
  int tried = 0;  ///< smaller candidates that were run
};
/// Makes `trial` smaller while `proof` stays broken: mesh, expert count, features, batch. `trial` must be
/// broken, by these steps.
SmallestTrial smallest(Proof proof, const LayoutTrial& trial, const Spoil& spoil,
                       const reference::LayerSteps& steps = {});

/// "4 ranks (ep 2 x tp 2), E=2, T=1, K=1": the sizes that a person compares.
std::string describe(const LayoutTrial& trial);

/// A layout bug as a change of a plan. `origin` is the report of one that was shipped, or "constructed".
struct LayoutMutant {
  std::string id, origin, wrong;
  Spoil spoil;
  LayoutTrial start;  ///< a deployment on which the bug can show
};
const std::vector<LayoutMutant>& layout_mutant_list();

struct LayoutMutantOutcome {
  std::vector<Proof> caught_by;  ///< every proof that is broken on the start; empty: it survived
  SmallestTrial smallest;        ///< for the most telling one: whole where it is broken, else the first
  Proof shown = Proof::groups;
};
LayoutMutantOutcome run_layout_mutant(const LayoutMutant& mutant);

}  // namespace eplora::suite
