// SPDX-License-Identifier: Apache-2.0
// TensorRT-LLM. world = tp*cp*pp, pp = r / (tp*cp). moe_ep = tp_rank % moe_ep is the fast one, then
// moe_cluster, then moe_tp = tp_rank / (moe_ep*moe_cluster): the reverse of SGLang. Versions differ in
// whether tp or cp is the faster of the two: cp_order says it. With Ulysses a cp rank has tokens of its own,
// and moe_tp * moe_ep * moe_cluster = tp; with Helix the cp ranks, which share an attention layer's keys,
// become tp ranks for the experts: the product is tp*cp, and tp_rank = r % (tp*cp). Sources: Mapping in
// tensorrt_llm/mapping.py (repurpose_helix_cp_to_tp); slots, slot s of EP rank q holding (q*E/ep + s) mod E:
// the MoE modules' load balancer.
#include <algorithm>

#include "reference/layout/engines/engine_presets.h"

namespace eplora::engines {
namespace {

struct MoeSizes {
  std::int32_t tp = 1;  ///< tensor parallel ranks of a stage, without cp
  std::int32_t moe_tp = 1, moe_ep = 1, cluster = 1;
};

/// What is left out follows from the rest: moe_tp where tp is given (moe_ep, where moe_tp is), else tp.
MoeSizes moe_sizes(const PresetArguments& a, std::int32_t cp_as_tp) {
  MoeSizes s{a.size("tp"), a.size("moe_tp"), a.size("moe_ep"), a.size("moe_cluster")};
  a.ranks({s.moe_tp, s.moe_ep, s.cluster});
  const std::int32_t world = a.ranks({s.tp, cp_as_tp});
  if (a.has("tp") && !a.has("moe_tp")) s.moe_tp = std::max(1, world / s.moe_ep / s.cluster);
  if (a.has("tp") && a.has("moe_tp") && !a.has("moe_ep"))
    s.moe_ep = std::max(1, world / s.moe_tp / s.cluster);
  const std::int32_t product = a.ranks({s.moe_tp, s.moe_ep, s.cluster});
  if (!a.has("tp")) {
    a.require_divides("moe_tp * moe_ep * moe_cluster", product, "cp", cp_as_tp);
    s.tp = product / cp_as_tp;
  } else if (product != world) {
    a.refuse("moe_tp * moe_ep * moe_cluster", std::to_string(product),
             std::string("it must be tp") + (cp_as_tp > 1 ? " * cp" : "") + " = " + std::to_string(world));
  }
  return s;
}

}  // namespace

DeploymentSpec trtllm(const PresetArguments& a, const PresetInput& input) {
  const std::int32_t cp = a.size("cp"), pp = a.size("pp"), E = input.num_experts;
  const bool helix = a.one_of("cp_type", {"ulysses", "helix"}) == "helix";
  const bool tp_faster = a.one_of("cp_order", {"tp_inner", "cp_inner"}) == "tp_inner";
  const auto [tp, moe_tp, moe_ep, cluster] = moe_sizes(a, helix ? cp : 1);
  a.ranks({tp, cp, pp});
  if (cluster > 1 && moe_ep > 1)
    a.refuse("moe_cluster", std::to_string(cluster), "with moe_ep > 1 it must be 1");
  if (cp > 1 && moe_ep > 1 && !helix)
    a.refuse("moe_ep", std::to_string(moe_ep), "with cp > 1 it must be 1, unless cp_type=helix");
  std::vector<Axis> attention = {{"pp", pp}, {"tp", tp}};
  std::vector<Axis> experts = {{"pp", pp}, {"moe_tp", moe_tp}, {"moe_cluster", cluster}, {"moe_ep", moe_ep}};
  const auto add_cp = [&](std::vector<Axis>& axes) {
    axes.insert(tp_faster ? axes.begin() + 1 : axes.end(), Axis{"cp", cp});
  };
  add_cp(attention);
  if (!helix) add_cp(experts);
  const Names cp_tokens = helix ? Names{} : Names{"cp"};
  Names tokens = cp_tokens, heads = {"tp"};
  if (a.flag("attention_dp")) {  // the tp ranks of attention have tokens of their own
    tokens.emplace_back("tp");
    heads.clear();
  }
  DeploymentSpec spec =
      two_grids(attention, tokens, heads, experts, {cp_tokens, {"moe_ep"}, {"moe_tp"}, {}, {}, {"pp"}}, E);
  if (!a.has("slots")) {
    a.require_divides("num_experts", E, "moe_ep", moe_ep);
    return spec;
  }
  const std::int32_t slots = a.size("slots");
  if (slots < E)
    a.refuse("slots", std::to_string(slots), "it must be at least num_experts = " + std::to_string(E));
  a.require_divides("slots", slots, "moe_ep", moe_ep);
  spec.classes.front().placement = {PlacementRule::wrap_around, E, slots - E, {}, ReplicaRule::slot};
  return spec;
}

}  // namespace eplora::engines
