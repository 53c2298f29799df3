// SPDX-License-Identifier: Apache-2.0
// P7, P8 and P9 for deployments: judges of what every rank holds, does and exchanges for one class of layers
// (contract, sections 2, 3 and 6). They take the description and the plan, re-derive everything from the
// description, and share no code with reference/layout.
#pragma once

#include "reference/contract/verdict.h"
#include "reference/layout/class_plan.h"

namespace eplora::contract {

// `Violation::place` is the rank; where P8 speaks of an expert, the expert. Every judge reads the class from
// `plan.spec()`, which must be one of `spec.classes`; the judges of one deployment read all its grids.

/// P9, grids: for every grid of the deployment and every kind of group that attention or a class forms on it
/// (each axis alone, each dimension's axes), every rank stands in exactly one group, at the index of its
/// coordinates, with ranks that differ in those coordinates alone.
Verdict p9_grids(const DeploymentSpec& spec, const Deployment& deployment);

/// P9, one class: every rank's own indices are its coordinates', and the groups over which the plan sums and
/// gathers are those of the axes that the class's cuts ask for.
Verdict p9_class(const DeploymentSpec& spec, const ClassPlan& plan);

/// P7, slices: every rank's columns (with padding), hidden rows, LoRA ranks, shared columns, tokens and
/// layers are its coordinates' parts; parts tile their dimension without gap or overlap.
Verdict p7_slices(const DeploymentSpec& spec, const ClassPlan& plan);

/// P7, homes: home parts tile the batch by the attention grid, and every pipeline stage holds every token.
Verdict p7_homes(const DeploymentSpec& spec, const ClassPlan& plan);

/// P8, owners: the experts that EP ranks load follow the declared rule, every id has an owner, replicas stand
/// on distinct ranks unless a table says otherwise, and dispatch sends an id where its weights are: one map,
/// in both directions.
Verdict p8_owners(const DeploymentSpec& spec, const ClassPlan& plan);

/// P8, replicas: the declared rule picks exactly one existing replica for every slot of a batch of `tokens`
/// tokens with `top_k` slots each.
Verdict p8_replicas(const DeploymentSpec& spec, const ClassPlan& plan, std::int64_t tokens,
                    std::int64_t top_k);

/// P7, reductions: counted member by member, without axes. In every group of a sum each (expert place,
/// column) of the base, each (expert place, column, hidden row) of the delta and each shared column stands
/// exactly once: not missing (a sum too small), not twice (a delta counted twice). Gathers bring every row
/// exactly once.
Verdict p7_reductions(const DeploymentSpec& spec, const ClassPlan& plan);

}  // namespace eplora::contract
