// SPDX-License-Identifier: Apache-2.0
// vLLM. r = (((x*dp + d)*pp + p)*pcp + c)*tp + t. Of the ranks of one stage, f = d*pcp*tp + c*tp + t; without
// `ep` the columns are cut into dp*pcp*tp parts and f picks one; with `ep` the experts are, and no column.
// E/ep experts a rank, the first E % ep ranks one more; or dealt in turn, expert g on rank g % ep.
// Sources: initialize_model_parallel in vllm/distributed/parallel_state.py; FusedMoEParallelConfig in
// fused_moe/config.py; the expert map's manager; replicas, by the slot's position modulo their number: the
// router's base class.
#include "reference/layout/engines/engine_presets.h"

namespace eplora::engines {

DeploymentSpec vllm(const PresetArguments& a, const PresetInput& input) {
  const std::int32_t tp = a.size("tp"), dp = a.size("dp"), pp = a.size("pp"), pcp = a.size("pcp");
  const std::int32_t external = a.size("external_dp");
  a.ranks({external, dp, pp, pcp, tp});
  const bool round_robin = a.one_of("placement", {"linear", "round_robin"}) == "round_robin";
  if (!a.flag("ep") && (round_robin || a.has("redundant")))
    a.refuse(round_robin ? "placement" : "redundant", "given without ep",
             "without expert parallelism every rank has every expert");
  const std::vector<Axis> axes = {
      {"external_dp", external}, {"dp", dp}, {"pp", pp}, {"pcp", pcp}, {"tp", tp}};
  ClassSharding cut{{"external_dp"}, {}, {}, {}, {}, {"pp"}};
  (a.flag("ep") ? cut.experts : cut.intermediate) = {"dp", "pcp", "tp"};
  DeploymentSpec spec = two_grids(axes, {"external_dp", "dp", "pcp"}, {"tp"}, axes, cut, input.num_experts);
  if (a.size("redundant", 0, 0) > 0) {
    if (round_robin) a.refuse("placement", "round_robin", "with redundant experts it is linear");
    add_redundant(a, spec, dp * pcp * tp, ReplicaRule::slot);
  }
  if (round_robin) spec.classes.front().placement.rule = PlacementRule::round_robin;
  return spec;
}

}  // namespace eplora::engines
