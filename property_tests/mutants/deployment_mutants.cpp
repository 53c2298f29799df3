// SPDX-License-Identifier: Apache-2.0
// Bugs of rank maps, placements and reductions as layouts: each changes the plan of a right deployment in
// exactly one way: one that was once shipped, with its report, or a "constructed" one of the same kind.
// `eplora layout check --mutants` runs them through the proofs.
#include <algorithm>

#include "property_tests/suite/layout_proofs.h"
#include "reference/layout/eplb.h"

namespace eplora::suite {
namespace {

using Names = std::vector<std::string>;

/// experts over `ep`, columns over `tp`, tokens over `dp`, stages over `pp`; E experts, contiguous.
LayoutTrial grid(std::vector<Axis> axes, std::int32_t E = 8) {
  LayoutTrial trial;
  trial.spec.name = "mutant";
  LayerClassSpec c;
  c.grid = "moe";
  for (const Axis& axis : axes) {
    if (axis.name == "ep") c.sharding.experts = {axis.name};
    if (axis.name == "tp") c.sharding.intermediate = {axis.name};
    if (axis.name == "dp") c.sharding.tokens = {axis.name};
    if (axis.name == "pp") c.sharding.layers = {axis.name};
  }
  c.placement.num_experts = E;
  trial.spec.grids = {{"moe", std::move(axes)}};
  trial.spec.classes = {c};
  trial.layer_class = c.name;
  return trial;
}

LayoutTrial finished(LayoutTrial trial) {
  const Deployment deployment = make_deployment(trial.spec);
  trial.sizes = proof_sizes(deployment.classes.front());
  trial.sizes.layer = trial.sizes.num_layers - 1;
  return trial;
}

template <class Change>
LayoutTrial with(LayoutTrial trial, Change change) {
  change(trial.spec, trial.spec.classes.front());
  return trial;
}

/// A group set of a plan over other axes, or over the axes of another arrangement of the same ranks.
void regroup(GroupSet& set, const Mesh& mesh, const Names& axes) { set.groups = mesh.groups(axes); }

const Mesh& mesh_of(const ClassPlan& plan) { return plan.layer_class.layout.mesh; }

Mesh reversed(const Mesh& mesh) {
  std::vector<Axis> axes = mesh.axes();
  std::reverse(axes.begin(), axes.end());
  return Mesh(axes);
}

/// Dispatch tables of a placement; the loader keeps its own.
void dispatch_by(ClassPlan& plan, const Placement& placement) {
  plan.dispatch.clear();
  for (std::int32_t q = 0; q < placement.ep(); ++q) plan.dispatch.push_back(placement.dispatch_table(q));
}

std::int32_t ep_of(const ClassPlan& plan) { return static_cast<std::int32_t>(plan.loaded.size()); }

/// Columns, EP row and token rows of a rank as another MoE-TP, EP and token coordinate would have them.
void move_columns(const ClassPlan& plan, RankPlan& rank, std::int32_t p, std::int32_t P) {
  rank.place.moe_tp_rank = p;
  rank.place.moe_tp = P;
  rank.columns.real = contiguous_part(plan.sizes.intermediate, P, std::min(p, P - 1));
}

// The rank in the world is taken for the rank in the expert group.
void world_rank_as_ep(const Deployment&, ClassPlan& plan) {
  for (std::int32_t r = 0; r < plan.num_ranks(); ++r)
    plan.ranks[r].place.ep_rank = std::min(r, ep_of(plan) - 1);
}

// Token shards are folded into tensor parallelism: columns are cut for them too.
void dp_in_tp(const Deployment&, ClassPlan& plan) {
  for (RankPlan& rank : plan.ranks)
    move_columns(plan, rank, rank.place.token_shard * rank.place.moe_tp + rank.place.moe_tp_rank,
                 rank.place.moe_tp * rank.place.token_shards);
}

// The number of experts is passed as the size of the expert group.
void experts_as_group(const Deployment&, ClassPlan& plan) {
  for (RankPlan& rank : plan.ranks) rank.place.ep = plan.num_ids();
}

// The group of ranks with the same experts is used only where there is expert parallelism; else attention's.
void group_only_with_ep(const Deployment& deployment, ClassPlan& plan) {
  if (ep_of(plan) > 1) return;
  plan.token_gather.groups =
      deployment.mesh_of(deployment.spec.attention.grid).groups(deployment.spec.attention.tokens);
}

// Extra groups are built in a fixed order of axes.
void fixed_order(const Deployment&, ClassPlan& plan) {
  std::vector<Axis> axes = mesh_of(plan).axes();
  std::sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.name < b.name; });
  const Mesh fixed(axes);
  regroup(plan.routed_sum, fixed, plan.routed_sum.axes);
  regroup(plan.delta_sum, fixed, plan.delta_sum.axes);
}

// Coordinates are read with the axes in reverse order.
void reversed_axes(const Deployment&, ClassPlan& plan) {
  const Mesh other = reversed(mesh_of(plan));
  const ClassSharding& cut = plan.spec().sharding;
  for (std::int32_t r = 0; r < plan.num_ranks(); ++r) {
    plan.ranks[r].place.ep_rank = other.index_along(cut.experts, r);
    move_columns(plan, plan.ranks[r], other.index_along(cut.intermediate, r), plan.ranks[r].place.moe_tp);
  }
}

// The dispatch map is contiguous where the loader goes round-robin.
void contiguous_dispatch(const Deployment&, ClassPlan& plan) {
  if (plan.spec().placement.rule == PlacementRule::round_robin && plan.fused_shared() == 0)
    dispatch_by(plan, Placement::linear(plan.num_ids(), ep_of(plan)));
}

// The remainder of E / ep all goes to the last rank.
void remainder_last(const Deployment&, ClassPlan& plan) {
  const std::int32_t E = plan.num_ids(), ep = ep_of(plan), few = E / ep;
  if (plan.spec().placement.rule != PlacementRule::linear || plan.fused_shared() != 0 || E % ep == 0) return;
  std::vector<std::vector<std::int32_t>> rows(ep);
  for (std::int32_t e = 0; e < E; ++e) rows[few == 0 ? ep - 1 : std::min(e / few, ep - 1)].push_back(e);
  const Placement placement = Placement::table(E, rows);
  plan.loaded = rows;
  dispatch_by(plan, placement);
}

// The sum goes over consecutive ranks, as many as the right group has.
void consecutive_ranks(const Deployment&, ClassPlan& plan) {
  for (GroupSet* set : {&plan.routed_sum, &plan.delta_sum}) {
    std::int32_t next = 0;
    for (auto& group : set->groups)
      for (std::int32_t& rank : group) rank = next++;
  }
}

// The sum misses its last axis.
void sum_without_last(const Deployment&, ClassPlan& plan) {
  for (GroupSet* set : {&plan.routed_sum, &plan.delta_sum}) {
    if (set->axes.empty()) continue;
    set->axes.pop_back();
    regroup(*set, mesh_of(plan), set->axes);
  }
}

// The delta is summed over axes whose ranks all hold the same delta.
void delta_counted_twice(const Deployment&, ClassPlan& plan) {
  const ClassSharding& cut = plan.spec().sharding;
  for (const Axis& axis : mesh_of(plan).axes()) {
    const Names one = {axis.name};
    if (common_axes(cut.tokens, one).empty() && common_axes(cut.layers, one).empty())
      plan.delta_sum.axes = joined_axes(plan.delta_sum.axes, one);
  }
  regroup(plan.delta_sum, mesh_of(plan), plan.delta_sum.axes);
}

// The rank's offset is subtracted from an id by the host and again by the kernel.
void double_offset(const Deployment&, ClassPlan& plan) {
  for (std::size_t q = 0; q < plan.dispatch.size(); ++q) {
    if (!plan.dispatch[q].offsets.empty() || plan.loaded[q].empty()) continue;
    const std::int32_t first = plan.loaded[q].front(),
                       count = static_cast<std::int32_t>(plan.loaded[q].size());
    std::vector<std::int32_t>& table = plan.dispatch[q].local_ids;
    for (std::int32_t e = 0; e < static_cast<std::int32_t>(table.size()); ++e) {
      const std::int32_t local = e - 2 * first;
      table[e] = 0 <= local && local < count ? local : -1;
    }
  }
}

// The attention group's rank selects the columns.
void attention_rank(const Deployment& deployment, ClassPlan& plan) {
  const Mesh& mesh = deployment.mesh_of(deployment.spec.attention.grid);
  for (std::int32_t r = 0; r < plan.num_ranks(); ++r)
    move_columns(plan, plan.ranks[r],
                 mesh.index_along(deployment.spec.attention.heads, r) % plan.ranks[r].place.moe_tp,
                 plan.ranks[r].place.moe_tp);
}

// Packing puts two replicas of an expert on one rank.
void replicas_together(const Deployment&, ClassPlan& plan) {
  for (std::int32_t e = 0; e < plan.num_ids(); ++e) {
    std::vector<std::size_t> at;
    for (std::size_t q = 0; q < plan.loaded.size(); ++q)
      if (std::count(plan.loaded[q].begin(), plan.loaded[q].end(), e) != 0) at.push_back(q);
    if (at.size() < 2) continue;
    std::erase(plan.loaded[at[1]], e);
    plan.loaded[at[0]].push_back(e);
    dispatch_by(plan, Placement::table(plan.num_ids(), plan.loaded));
    return;
  }
}

// Weights have moved to where EPLB put them; dispatch keeps the map of before, slot p for expert p mod E.
void map_of_before(const Deployment&, ClassPlan& plan) {
  std::int64_t slots = 0;
  for (const auto& row : plan.loaded) slots += static_cast<std::int64_t>(row.size());
  const std::int32_t E = plan.num_ids();
  if (slots < E || slots % ep_of(plan) != 0) return;
  dispatch_by(plan, Placement::table(E, start_map(E, ep_of(plan), static_cast<std::int32_t>(slots))));
}

// Dispatch takes physical slot p to stand on rank p mod ep, where the loader cuts slots contiguously.
void slots_in_turn(const Deployment&, ClassPlan& plan) {
  std::vector<std::vector<std::int32_t>> rows(plan.loaded.size());
  std::size_t slot = 0;
  for (const auto& row : plan.loaded)
    for (const std::int32_t e : row) rows[slot++ % rows.size()].push_back(e);
  dispatch_by(plan, Placement::table(plan.num_ids(), rows));
}

// The map is built from E + redundant ids: the last ranks point at experts that do not exist.
void map_of_slots(const Deployment&, ClassPlan& plan) {
  const ExpertPlacementSpec& placement = plan.spec().placement;
  if (placement.rule != PlacementRule::redundant) return;
  std::int32_t slot = 0;
  for (auto& row : plan.loaded)
    for (std::int32_t& e : row) e = slot++;
}

// Shared experts are added before the sum, by every rank.
void shared_before_sum(const Deployment&, ClassPlan& plan) { plan.shared_sum = plan.routed_sum; }

// Padding columns hold what was in memory.
void padding_left(const Deployment&, ClassPlan& plan) { plan.padding_value = 0.5F; }

// Each rank writes its hidden rows at the start of the output.
void no_hidden_offset(const Deployment&, ClassPlan& plan) {
  for (RankPlan& rank : plan.ranks) rank.hidden_offset = 0;
}

// The shrink is not gathered over the ranks that hold its rows.
void rank_not_gathered(const Deployment&, ClassPlan& plan) {
  regroup(plan.lora_rank_gather, mesh_of(plan), {});
}

// Down B is cut over hidden rows but the shrink before it is not summed.
void shrink_not_summed(const Deployment&, ClassPlan& plan) { regroup(plan.shrink_sum, mesh_of(plan), {}); }

// The local number in a tensor's name is taken for the global one.
void local_names(const Deployment&, ClassPlan& plan) {
  for (auto& row : plan.loaded)
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = static_cast<std::int32_t>(j);
}

// The loader copies the whole fused tensor: row j is expert j on every EP rank.
void loader_without_ep(const Deployment&, ClassPlan& plan) {
  for (auto& row : plan.loaded) {
    row.resize(plan.num_ids());
    for (std::int32_t e = 0; e < plan.num_ids(); ++e) row[e] = e;
  }
}

// A slice that is local already is narrowed again.
void narrowed_again(const Deployment&, ClassPlan& plan) {
  for (RankPlan& rank : plan.ranks) {
    Range& own = rank.columns.real;
    const Range part = contiguous_part(own.end - own.begin, rank.place.moe_tp, rank.place.moe_tp_rank);
    own = {own.begin + part.begin, own.begin + part.end};
  }
}

// Ids that dispatch has made local go through its map again.
void mapped_twice(const Deployment&, ClassPlan& plan) {
  for (DispatchTable& table : plan.dispatch) {
    if (!table.offsets.empty()) continue;
    const std::vector<std::int32_t> once = table.local_ids;
    for (std::int32_t& id : table.local_ids)
      if (id >= 0) id = once[id];
  }
}

// Gate and up of B are cut stacked, though the weight is interleaved (or the other way round).
void other_form(const Deployment&, ClassPlan& plan) {
  if (plan.base_form == WeightForm::non_gated) return;
  plan.lora_form = plan.base_form == WeightForm::stacked ? WeightForm::interleaved : WeightForm::stacked;
}

// Dispatch knows the routed experts alone: the fused shared ones are ids past its end.
void fused_ids_unknown(const Deployment&, ClassPlan& plan) {
  const std::int32_t E = plan.spec().placement.num_experts;
  for (DispatchTable& table : plan.dispatch)
    for (std::size_t i = 0; i < table.local_ids.size(); ++i) {
      const auto end = static_cast<std::int32_t>(i);
      const bool routed = table.offsets.empty() ? end < E : end < table.offsets[E];
      if (!routed) table.local_ids[i] = -1;
    }
}

// Token shards follow the rank in the world.
void world_rank_as_shard(const Deployment&, ClassPlan& plan) {
  for (RankPlan& rank : plan.ranks) {
    rank.place.token_shard = rank.place.rank % rank.place.token_shards;
    rank.tokens = contiguous_part(plan.sizes.tokens, rank.place.token_shards, rank.place.token_shard);
  }
}

// The outer rank cuts columns: its modulus is not the MoE-TP rank once experts or tokens are cut inside.
void outer_rank_slice(const Deployment&, ClassPlan& plan) {
  for (RankPlan& rank : plan.ranks)
    move_columns(plan, rank, std::min(rank.place.rank, rank.place.moe_tp - 1), rank.place.moe_tp);
}

std::vector<LayoutMutant> made() {
  const auto hybrid = [](DeploymentSpec& spec, LayerClassSpec&) {
    spec.grids.push_back({"attention", {{"adp", 2}, {"atp", 2}}});
    spec.attention = {"attention", {"adp"}, {"atp"}};
  };
  const auto fully = [](DeploymentSpec&, LayerClassSpec& c) {
    c.sharding.hidden = c.sharding.lora_rank = {"tp"};
  };
  const auto ep_tp = [] { return grid({{"ep", 2}, {"tp", 2}}); };
  std::vector<LayoutMutant> list;
  const auto add = [&](std::string id, std::string origin, std::string wrong, Spoil spoil,
                       LayoutTrial start) {
    list.push_back(
        {std::move(id), std::move(origin), std::move(wrong), std::move(spoil), finished(std::move(start))});
  };
  add("world-rank-as-ep", "vllm-project/vllm#46441",
      "the rank in the world is taken for the rank in the expert group", world_rank_as_ep,
      grid({{"pp", 2}, {"ep", 2}}));
  add("dp-in-tp", "vllm-project/vllm#36240",
      "columns are cut by data parallelism as well as by tensor parallelism", dp_in_tp,
      grid({{"dp", 2}, {"tp", 4}}));
  add("E-as-ep", "deepspeedai/DeepSpeed#7551",
      "the number of experts is taken for the size of the expert group", experts_as_group, ep_tp());
  add("edp-condition", "NVIDIA-NeMo/Megatron-Bridge#5229",
      "the group of token shards is the experts' own only where there is expert parallelism",
      group_only_with_ep, with(grid({{"dp", 4}}), hybrid));
  add("rankgen-hardcoded", "NVIDIA/Megatron-LM#4261", "groups are built in a fixed order of axes",
      fixed_order, grid({{"tp", 2}, {"dp", 2}}));
  add("reversed-axes", "constructed", "coordinates are read with the fastest axis first", reversed_axes,
      grid({{"ep", 4}, {"tp", 2}}));
  add("router-weight-mismatch", "vllm-project/vllm#23745",
      "dispatch is contiguous where the loader goes round-robin", contiguous_dispatch,
      with(ep_tp(),
           [](DeploymentSpec&, LayerClassSpec& c) { c.placement.rule = PlacementRule::round_robin; }));
  add("uneven-experts", "vllm-project/vllm#21497",
      "experts that do not divide evenly all go to the last rank", remainder_last, grid({{"ep", 4}}, 7));
  add("wrong-sum-group", "constructed", "the sum goes over consecutive ranks", consecutive_ranks,
      grid({{"ep", 2}, {"dp", 2}}));
  add("sum-misses-axis", "constructed", "the sum of expert outputs misses its last axis", sum_without_last,
      ep_tp());
  add("expert-lora-etp", "NVIDIA-NeMo/Megatron-Bridge#5634",
      "the delta is summed over ranks that all hold the same delta", delta_counted_twice,
      grid({{"copy", 2}, {"tp", 2}}));
  add("double-offset", "flashinfer-ai/flashinfer#3547", "the rank's offset is subtracted from an id twice",
      double_offset, ep_tp());
  add("attn-tp-rank", "sgl-project/sglang#32708", "the attention group's rank selects the columns",
      attention_rank, with(grid({{"tp", 2}, {"ep", 2}}), hybrid));
  add("eplb-dup", "deepseek-ai/EPLB#22", "two replicas of an expert stand on one rank", replicas_together,
      with(grid({{"ep", 4}}), [](DeploymentSpec&, LayerClassSpec& c) {
        c.placement.rule = PlacementRule::redundant, c.placement.redundant = 4;
      }));
  const auto balanced = [](DeploymentSpec&, LayerClassSpec& c) {
    const std::vector<std::int64_t> load = {1, 1, 2, 3, 4, 9, 16, 60};
    c.placement.rule = PlacementRule::table;
    c.placement.table = balance_experts(load, {4, 1, 1, 12, true}).experts_of_rank;
  };
  add("eplb-stale-map", "constructed", "weights moved to EPLB's ranks, dispatch keeps the map of before",
      map_of_before, with(grid({{"ep", 4}}), balanced));
  add("eplb-slots-in-turn", "constructed",
      "physical slot p is taken to stand on rank p mod ep, not on p / (P/ep)", slots_in_turn,
      with(grid({{"ep", 4}}), balanced));
  add("redundant-map-tail", "vllm-project/vllm-ascend#4793", "the map is built from E + redundant ids",
      map_of_slots, with(grid({{"ep", 4}}), [](DeploymentSpec&, LayerClassSpec& c) {
        c.placement.rule = PlacementRule::redundant, c.placement.redundant = 4;
      }));
  add("overlap-2x", "radixark/miles#3232", "replicated shared experts are added before the sum, once a rank",
      shared_before_sum, with(ep_tp(), [](DeploymentSpec&, LayerClassSpec& c) {
        c.shared_experts = {SharedExpertsKind::replicated, 1, 0, {}};
      }));
  add("padding-not-zero", "constructed", "padding columns hold what was in memory", padding_left,
      with(ep_tp(), [](DeploymentSpec&, LayerClassSpec& c) { c.padding.multiple = 4; }));
  add("hidden-offset-missing", "constructed", "hidden rows are written at the start of the output",
      no_hidden_offset, with(ep_tp(), fully));
  add("shrink-not-gathered", "constructed", "the shrink is not gathered over the ranks that hold its rows",
      rank_not_gathered, with(ep_tp(), fully));
  add("shrink-not-summed", "constructed", "the shrink before a cut down B is not summed", shrink_not_summed,
      with(ep_tp(), fully));
  add("local-id-into-global", "THUDM/slime#1799",
      "a local number is used as a global one when weights are loaded", local_names, ep_tp());
  add("fused-loader-no-ep", "sgl-project/sglang#22787", "every EP rank loads the experts of the whole model",
      loader_without_ep, ep_tp());
  add("double-shard", "vllm-project/vllm#34291", "columns that are cut already are cut again", narrowed_again,
      ep_tp());
  add("eplb-shared-index", "sgl-project/sglang#25285", "dispatch maps ids that are mapped already",
      mapped_twice, ep_tp());
  add("gate-up-tp-order", "NVIDIA-NeMo/Megatron-Bridge#1817",
      "halves of gate_up B stand in another form than the weight", other_form, ep_tp());
  add("fused-shared-E", "vllm-project/vllm#51632",
      "dispatch knows the routed experts alone, not the fused shared one", fused_ids_unknown,
      with(ep_tp(), [](DeploymentSpec&, LayerClassSpec& c) {
        c.shared_experts = {SharedExpertsKind::fused, 1, 0, {}};
      }));
  add("mask-wrong-group", "NVIDIA/Megatron-LM#7452", "token shards follow the rank in the world",
      world_rank_as_shard, grid({{"dp", 2}, {"tp", 2}}));
  add("outer-rank-slice", "sgl-project/sglang#24171", "the outer rank selects the columns", outer_rank_slice,
      ep_tp());
  return list;
}

}  // namespace

const std::vector<LayoutMutant>& layout_mutant_list() {
  static const std::vector<LayoutMutant> list = made();
  return list;
}

}  // namespace eplora::suite
