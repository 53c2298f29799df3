// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/class_plan.h"

#include <algorithm>

#include "reference/check.h"

namespace eplora {
namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void check_sizes(const LayerClassSpec& spec, const PlanSizes& sizes) {
  const std::string at = "class " + spec.name + ": ";
  require_in_range(at + "tokens (T)", sizes.tokens, 0, kMaxIndex);
  require_in_range(at + "hidden (H)", sizes.hidden, 1, kMaxIndex);
  require_in_range(at + "intermediate (I)", sizes.intermediate, 1, kMaxIndex);
  require_in_range(at + "max_lora_rank (R)", sizes.max_lora_rank, 1, kMaxIndex);
  require_in_range(at + "num_layers", sizes.num_layers, 0, kMaxIndex);
  const bool apart = spec.shared_experts.kind == SharedExpertsKind::replicated ||
                     spec.shared_experts.kind == SharedExpertsKind::sharded;
  require_in_range(at + "shared experts' columns", sizes.shared_intermediate, apart ? 1 : 0, kMaxIndex);
}

}  // namespace

std::int32_t ClassPlan::fused_shared() const {
  return spec().shared_experts.kind == SharedExpertsKind::fused ? spec().shared_experts.count : 0;
}

std::int32_t ClassPlan::num_ids() const { return spec().placement.num_experts + fused_shared(); }

std::vector<std::string> joined_axes(std::vector<std::string> a, const std::vector<std::string>& b) {
  for (const std::string& axis : b)
    if (!contains(a, axis)) a.push_back(axis);
  return a;
}

std::vector<std::string> common_axes(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::string> common;
  for (const std::string& axis : a)
    if (contains(b, axis)) common.push_back(axis);
  return common;
}

std::vector<std::int32_t> group_of_rank(const GroupSet& set, std::int32_t num_ranks) {
  std::vector<std::int32_t> group(num_ranks, -1);
  for (std::size_t g = 0; g < set.groups.size(); ++g)
    for (const std::int32_t rank : set.groups[g])
      if (0 <= rank && rank < num_ranks) group[rank] = static_cast<std::int32_t>(g);
  return group;
}

ClassPlan make_class_plan(const Deployment& deployment, const LayerClass& c, const PlanSizes& sizes) {
  check_sizes(c.spec, sizes);
  ClassPlan plan;
  plan.layer_class = c;
  plan.sizes = sizes;
  plan.home_parts = deployment.home_parts;
  plan.base_form = plan.lora_form = c.spec.weight_form;
  const bool shared_apart = c.spec.shared_experts.kind == SharedExpertsKind::replicated ||
                            c.spec.shared_experts.kind == SharedExpertsKind::sharded;
  for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank) {
    RankPlan one;
    one.place = c.layout.place(rank);
    one.layers = c.layers_of(sizes.num_layers, rank);
    one.home = deployment.home_tokens(sizes.tokens, rank);
    one.tokens = c.layout.token_range(sizes.tokens, rank);
    one.columns = c.columns(sizes.intermediate, rank);
    one.hidden = c.hidden_rows(sizes.hidden, rank);
    one.hidden_offset = one.hidden.begin;
    one.lora_rank = c.lora_rank_rows(sizes.max_lora_rank, rank);
    if (shared_apart) one.shared_columns = c.shared_columns(sizes.shared_intermediate, rank);
    plan.ranks.push_back(one);
  }
  const Placement& placement = c.layout.placement;
  plan.loaded = placement.experts_of_rank();
  for (std::int32_t q = 0; q < placement.ep(); ++q) plan.dispatch.push_back(placement.dispatch_table(q));
  const auto over = [&](std::vector<std::string> axes) {
    GroupSet set;
    set.groups = c.layout.mesh.groups(axes);
    set.axes = std::move(axes);
    return set;
  };
  const ClassSharding& cut = c.spec.sharding;
  plan.routed_sum = over(c.spec.sum_over.value_or(joined_axes(cut.experts, cut.intermediate)));
  plan.delta_sum = over(joined_axes(plan.routed_sum.axes, cut.hidden));
  plan.shared_sum = over(c.spec.shared_experts.axes);
  plan.token_gather = over(cut.tokens);
  plan.lora_rank_gather = over(cut.lora_rank);
  plan.shrink_sum = over(common_axes(cut.hidden, cut.intermediate));
  return plan;
}

}  // namespace eplora
