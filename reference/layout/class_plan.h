// SPDX-License-Identifier: Apache-2.0
// What every rank does for one class of layers, written out as plain data: the slices it holds, the rows it
// works on, the maps it dispatches with, and the groups over which results are summed or gathered. The driver
// of deployed layers (reference/lora/deployed_moe_layer.h) reads nothing else, and the judges
// (reference/contract/deployments.h) judge it, so that a wrong layout is a value that can be run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reference/layout/deployment.h"

namespace eplora {

/// Sizes that a plan is made for.
struct PlanSizes {
  std::int64_t tokens = 0;               ///< T of the batch
  std::int64_t hidden = 1;               ///< H
  std::int64_t intermediate = 1;         ///< I of a routed expert
  std::int64_t shared_intermediate = 0;  ///< columns of one shared expert; 0 = none are held
  std::int64_t max_lora_rank = 1;        ///< R
  std::int64_t num_layers = 1;           ///< layers of this class, cut over pipeline stages
  bool operator==(const PlanSizes&) const = default;
};

/// Ranks that work together on one thing: the axes that say so, and the groups that follow.
struct GroupSet {
  std::vector<std::string> axes;
  std::vector<std::vector<std::int32_t>> groups;
  bool operator==(const GroupSet&) const = default;
};

struct RankPlan {
  RankPlace place;                 ///< `ep_rank` picks the rows of `ClassPlan::loaded` and `dispatch`
  Range layers;                    ///< of the class's layers, those that this rank has
  Range home;                      ///< tokens that stand here before and after the layer
  Range tokens;                    ///< tokens that this rank computes for
  PaddedRange columns;             ///< of a routed expert's I
  Range hidden;                    ///< rows of down B
  std::int64_t hidden_offset = 0;  ///< row of the output at which `hidden` is written
  Range lora_rank;                 ///< rows of gate_up A
  Range shared_columns;            ///< of one shared expert
};

struct ClassPlan {
  LayerClass layer_class;
  PlanSizes sizes;
  std::vector<RankPlan> ranks;                    ///< `[num_ranks]`
  std::vector<std::vector<std::int32_t>> loaded;  ///< `[ep]`: global experts whose weights a rank loads
  std::vector<DispatchTable> dispatch;            ///< `[ep]`: where ids go (fused shared experts included)
  std::int32_t home_parts = 1;

  GroupSet routed_sum;        ///< outputs of the base experts
  GroupSet delta_sum;         ///< outputs of the down projection's LoRA
  GroupSet shared_sum;        ///< outputs of shared experts that are not fused
  GroupSet token_gather;      ///< rows of token shards
  GroupSet lora_rank_gather;  ///< shrink of gate_up, where its rows are cut
  GroupSet shrink_sum;        ///< shrink of down, before a down B that is cut over hidden rows

  WeightForm base_form = WeightForm::stacked;  ///< of a rank's gate_up weight, and of its output
  WeightForm lora_form = WeightForm::stacked;  ///< of a rank's gate_up B
  float padding_value = 0.0F;                  ///< what stands in padding columns

  std::int32_t num_ranks() const { return static_cast<std::int32_t>(ranks.size()); }
  const LayerClassSpec& spec() const { return layer_class.spec; }
  /// Ids that dispatch knows: routed experts and fused shared ones.
  std::int32_t num_ids() const;
  std::int32_t fused_shared() const;
};

/// The plan of a deployment's class. Throws `InvalidArgument` where the sizes do not divide as the class
/// asks.
ClassPlan make_class_plan(const Deployment& deployment, const LayerClass& layer_class,
                          const PlanSizes& sizes);

/// Per rank, the group of `set` that it stands in, or -1. A rank outside `[0, num_ranks)` is left out.
std::vector<std::int32_t> group_of_rank(const GroupSet& set, std::int32_t num_ranks);

/// Axes of `a`, then those of `b` that are not in `a`.
std::vector<std::string> joined_axes(std::vector<std::string> a, const std::vector<std::string>& b);
/// Axes of `a` that are in `b`.
std::vector<std::string> common_axes(const std::vector<std::string>& a, const std::vector<std::string>& b);

}  // namespace eplora
