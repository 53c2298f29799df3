// SPDX-License-Identifier: Apache-2.0
// What a resharding (reshard.h) is made of: layers that stand alike - same class and stage before, same class
// and stage after - as one step, and in a step the kinds of tensors, cut before and after. Experts that stand
// on the same EP ranks before are counted, not named.
#pragma once

#include <vector>

#include "reference/price/priced_model.h"

namespace eplora::resharding {

using Ranks = std::vector<std::int32_t>;

/// One dimension cut over the ranks of a class.
struct Cut {
  std::vector<Range> parts;         ///< ascending; some may be empty
  std::vector<std::int32_t> index;  ///< `[num_ranks]`
};

/// What moves in one way: a dimension that both layouts cut, and bytes of one of its elements.
struct Kind {
  Cut before, after;
  bool per_expert = false;  ///< else every rank of the layer holds it
  bool is_columns = false;  ///< of the routed experts: what is counted as experts and columns
  std::int64_t weights = 0, adapters = 0;
  std::vector<Ranks> holders;  ///< by EP rank (0 unless per_expert) and part of `before`, ascending
  std::vector<Ranks> beside;   ///< rows of routed experts only: by EP rank, part and MoE-TP rank
  const Ranks& held(std::int32_t ep_rank, std::size_t part) const {
    return holders[ep_rank * before.parts.size() + part];
  }
};

/// Experts that stand on the same EP ranks before, and how many of them an EP rank has after.
struct Sought {
  std::int32_t places = 0;  ///< index of `Step::places`
  std::int64_t experts = 0;
};

/// Layers that stand alike.
struct Step {
  const LayerClass* before = nullptr;
  const LayerClass* after = nullptr;
  std::int32_t stage_before = 0, stage_after = 0;
  std::int64_t layers = 0;
  std::vector<Kind> kinds;
  std::vector<Ranks> places;                ///< sets of EP ranks, ascending
  std::vector<std::vector<Sought>> sought;  ///< `[ep after]`
};

/// Steps that cover every layer with experts once. Throws `InvalidArgument` where the deployments do not hold
/// the same model.
std::vector<Step> steps_of(const Deployment& from, const Deployment& to, const PricedModel& model,
                           const ElementBytes& bytes, const AdapterSizes& adapters);

}  // namespace eplora::resharding
