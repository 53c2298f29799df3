// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/deployment_presets.h"

#include <algorithm>
#include <array>
#include <string>

#include "reference/check.h"
#include "reference/layout/layout_rule.h"

namespace eplora {
namespace {

using Names = std::vector<std::string>;

/// Attention and experts on two grids over the same ranks; `tokens` and `heads` are attention's.
DeploymentSpec two_grids(std::vector<Axis> attention, Names tokens, Names heads, std::vector<Axis> moe,
                         ClassSharding sharding, std::int32_t num_experts) {
  DeploymentSpec spec;
  spec.grids = {{"attention", std::move(attention)}, {"moe", std::move(moe)}};
  spec.attention = {"attention", std::move(tokens), std::move(heads)};
  LayerClassSpec c;
  c.grid = "moe";
  c.sharding = std::move(sharding);
  c.placement.num_experts = num_experts;
  spec.classes = {std::move(c)};
  return spec;
}

/// Slots beyond the experts: physical slot p on rank p / (P/ep) holds expert p mod E.
void add_redundant(const PresetArguments& a, DeploymentSpec& spec, std::int32_t ep, ReplicaRule replicas) {
  ExpertPlacementSpec& place = spec.classes.front().placement;
  place.redundant = a.size("redundant", 0, 0);
  a.require_divides("num_experts + redundant", std::int64_t{place.num_experts} + place.redundant, "ep", ep);
  if (place.redundant == 0) return;
  place.rule = PlacementRule::redundant;
  place.replicas = replicas;
}

// SGLang. A stage is tp ranks; attention's and the experts' sizes are carved out of it:
//   attn_tp = tp / attn_dp / attn_cp, fastest, then attn_cp, then attn_dp;
//   moe_tp  = tp / ep / moe_dp,       fastest, then moe_ep,  then moe_dp;  pp = r / tp.
// Source: initialize_model_parallel in srt/distributed/parallel_state.py; experts: the fused MoE layer, a
// rank owns [moe_ep_rank * E/ep, (moe_ep_rank + 1) * E/ep), E % ep == 0; checks of the sizes: the server's
// arguments.
DeploymentSpec sglang(const PresetArguments& a, std::int32_t E) {
  const std::int32_t tp = a.size("tp"), pp = a.size("pp"), ep = a.size("ep"), moe_dp = a.size("moe_dp");
  const std::int32_t attn_dp = a.size("attn_dp"), attn_cp = a.size("attn_cp");
  a.ranks({tp, pp});
  a.require_divides("tp", tp, "attn_dp * attn_cp", saturating_product(attn_dp, attn_cp));
  a.require_divides("tp", tp, "ep * moe_dp", saturating_product(ep, moe_dp));
  if (moe_dp > 1 && pp > 1) a.refuse("moe_dp", std::to_string(moe_dp), "with pp > 1 it must be 1");
  if (moe_dp > 1 && ep > 1 && ep * moe_dp != tp)
    a.refuse("ep * moe_dp", std::to_string(ep * moe_dp),
             "where both are above 1 it must be tp = " + std::to_string(tp));
  if (moe_dp > 1 && attn_cp != moe_dp)
    a.refuse("attn_cp", std::to_string(attn_cp), "it must be moe_dp = " + std::to_string(moe_dp));
  DeploymentSpec spec =
      two_grids({{"pp", pp}, {"attn_dp", attn_dp}, {"attn_cp", attn_cp}, {"attn_tp", tp / attn_dp / attn_cp}},
                {"attn_dp", "attn_cp"}, {"attn_tp"},
                {{"pp", pp}, {"moe_dp", moe_dp}, {"moe_ep", ep}, {"moe_tp", tp / ep / moe_dp}},
                {{"moe_dp"}, {"moe_ep"}, {"moe_tp"}, {}, {}, {"pp"}}, E);
  a.require_divides("num_experts", E, "ep", ep);
  add_redundant(a, spec, ep, ReplicaRule::source);
  if (const std::int32_t shared = a.size("shared", 0, 0); shared > 0)
    spec.classes.front().shared_experts = {SharedExpertsKind::fused, shared, 0, {}};
  return spec;
}

// vLLM. r = (((x*dp + d)*pp + p)*pcp + c)*tp + t. Of the ranks of one stage, f = d*pcp*tp + c*tp + t; without
// `ep` the columns are cut into dp*pcp*tp parts and f picks one; with `ep` the experts are, and no column.
// E/ep experts a rank, the first E % ep ranks one more; or dealt in turn, expert g on rank g % ep.
// Source: initialize_model_parallel in vllm/distributed/parallel_state.py; FusedMoEParallelConfig in
// fused_moe/config.py; determine_expert_map; replicas: the slot's position modulo their number.
DeploymentSpec vllm(const PresetArguments& a, std::int32_t E) {
  const std::int32_t tp = a.size("tp"), dp = a.size("dp"), pp = a.size("pp"), pcp = a.size("pcp");
  const std::int32_t external = a.size("external_dp");
  a.ranks({external, dp, pp, pcp, tp});
  const bool round_robin = a.one_of("placement", {"linear", "round_robin"}) == "round_robin";
  const std::vector<Axis> axes = {
      {"external_dp", external}, {"dp", dp}, {"pp", pp}, {"pcp", pcp}, {"tp", tp}};
  const Names flat = {"dp", "pcp", "tp"};
  ClassSharding cut{{"external_dp"}, {}, {}, {}, {}, {"pp"}};
  (a.flag("ep") ? cut.experts : cut.intermediate) = flat;
  DeploymentSpec spec = two_grids(axes, {"external_dp", "dp", "pcp"}, {"tp"}, axes, cut, E);
  if (!a.flag("ep") && (round_robin || a.has("redundant")))
    a.refuse(round_robin ? "placement" : "redundant", "given without ep",
             "without expert parallelism every rank has every expert");
  if (a.size("redundant", 0, 0) > 0) {
    if (round_robin) a.refuse("placement", "round_robin", "with redundant experts it is linear");
    add_redundant(a, spec, dp * pcp * tp, ReplicaRule::slot);
  }
  if (round_robin) spec.classes.front().placement.rule = PlacementRule::round_robin;
  return spec;
}

// TensorRT-LLM. world = tp*cp*pp, pp = r / (tp*cp); moe_tp * moe_ep = tp. moe_ep = tp_rank % moe_ep is the
// faster one, moe_tp = tp_rank / moe_ep. Versions differ in whether tp or cp is faster: cp_order says it.
// Source: Mapping in tensorrt_llm/mapping.py. Slots: slot s of EP rank q holds (q*E/ep + s) mod E.
DeploymentSpec trtllm(const PresetArguments& a, std::int32_t E) {
  const std::int32_t moe_tp = a.size("moe_tp"), moe_ep = a.size("moe_ep"), cp = a.size("cp");
  const std::int32_t pp = a.size("pp");
  const std::int32_t moe = a.ranks({moe_tp, moe_ep}), tp = a.size("tp", moe);
  a.ranks({tp, cp, pp});
  if (tp != moe) a.refuse("moe_tp * moe_ep", std::to_string(moe), "it must be tp = " + std::to_string(tp));
  const bool tp_faster = a.one_of("cp_order", {"tp_inner", "cp_inner"}) == "tp_inner";
  std::vector<Axis> attention = {{"pp", pp}, {"tp", tp}},
                    experts = {{"pp", pp}, {"moe_tp", moe_tp}, {"moe_ep", moe_ep}};
  for (std::vector<Axis>* axes : {&attention, &experts})
    axes->insert(tp_faster ? axes->begin() + 1 : axes->end(), Axis{"cp", cp});
  const bool attention_dp = a.flag("attention_dp");
  DeploymentSpec spec = two_grids(attention, attention_dp ? Names{"cp", "tp"} : Names{"cp"},
                                  attention_dp ? Names{} : Names{"tp"}, experts,
                                  {{"cp"}, {"moe_ep"}, {"moe_tp"}, {}, {}, {"pp"}}, E);
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

/// The words of "tp-cp-ep-dp-pp", fastest first. Those left out must have size 1 in both grids and come last.
Names order_of(const PresetArguments& a, std::int32_t etp, std::int32_t edp) {
  constexpr std::array<std::string_view, 5> kTokens = {"tp", "cp", "ep", "dp", "pp"};
  const std::string text = a.word("order", "tp-cp-ep-dp-pp");
  Names order;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('-', begin), text.size());
    const std::string token = text.substr(begin, end - begin);
    if (std::find(kTokens.begin(), kTokens.end(), token) == kTokens.end() ||
        std::find(order.begin(), order.end(), token) != order.end())
      a.refuse("order", "'" + text + "'",
               "it must name tp, cp, ep, dp and pp, each at most once, with - between");
    order.push_back(token);
    begin = end + 1;
  }
  for (const std::string_view token : kTokens) {
    if (std::find(order.begin(), order.end(), token) != order.end()) continue;
    const std::int32_t of_experts = token == "tp" ? etp : token == "dp" ? edp : 1;
    const std::int32_t size = std::max(a.size(token), of_experts);
    if (size != 1) a.refuse(std::string(token), std::to_string(size), "order leaves it out, so it must be 1");
    order.emplace_back(token);
  }
  return order;
}

// Megatron-LM. An order string, leftmost fastest, is read twice: for the dense layers with ep = 1, for the
// experts with cp = 1, tp = etp and dp = edp = world / (etp*ep*pp). Both must give the same pipeline groups.
// Experts are contiguous, E % ep == 0. Source: RankGenerator and initialize_model_parallel in
// megatron/core/parallel_state.py; megatron/core/transformer/moe/moe_layer.py.
DeploymentSpec megatron(const PresetArguments& a, std::int32_t E) {
  const std::int32_t tp = a.size("tp"), cp = a.size("cp"), dp = a.size("dp"), pp = a.size("pp");
  const std::int32_t ep = a.size("ep"), etp = a.size("etp", tp);
  const std::int32_t world = a.ranks({tp, cp, dp, pp});
  const std::int64_t inner = saturating_product(saturating_product(etp, ep), pp);
  a.require_divides("tp * cp * dp * pp", world, "etp * ep * pp", inner);
  const auto edp = static_cast<std::int32_t>(world / inner);
  std::vector<Axis> dense, experts;
  for (const std::string& token : order_of(a, etp, edp)) {  // leftmost is fastest, a grid's last axis is
    if (token == "tp") dense.insert(dense.begin(), {"tp", tp}), experts.insert(experts.begin(), {"etp", etp});
    if (token == "cp") dense.insert(dense.begin(), {"cp", cp});
    if (token == "ep") experts.insert(experts.begin(), {"ep", ep});
    if (token == "dp") dense.insert(dense.begin(), {"dp", dp}), experts.insert(experts.begin(), {"edp", edp});
    if (token == "pp") dense.insert(dense.begin(), {"pp", pp}), experts.insert(experts.begin(), {"pp", pp});
  }
  if (pp > 1 && Mesh(dense).groups({"pp"}) != Mesh(experts).groups({"pp"}))
    a.refuse("order", "'" + a.word("order", "tp-cp-ep-dp-pp") + "'",
             "with these sizes the pipeline groups of dense layers and of experts differ; let it end in pp");
  a.require_divides("num_experts", E, "ep", ep);
  return two_grids(dense, {"dp", "cp"}, {"tp"}, experts, {{"edp"}, {"ep"}, {"etp"}, {}, {}, {"pp"}}, E);
}

// DeepSpeed-MoE. mp = r % MP, d = r / MP; ep = d % EP, expert data parallel = d / EP: with model parallelism
// the EP groups have stride MP, and an expert's columns are cut over mp. E / EP experts a rank. Source:
// deepspeed/utils/groups.py; deepspeed/moe/layer.py.
DeploymentSpec deepspeed(const PresetArguments& a, std::int32_t E) {
  const std::int32_t world = a.size("world"), mp = a.size("mp"), ep = a.size("ep");
  a.ranks({world});
  a.require_divides("world", world, "mp * ep", saturating_product(mp, ep));
  a.require_divides("num_experts", E, "ep", ep);
  return two_grids({{"dp", world / mp}, {"mp", mp}}, {"dp"}, {"mp"},
                   {{"edp", world / mp / ep}, {"ep", ep}, {"mp", mp}}, {{"edp"}, {"ep"}, {"mp"}, {}, {}, {}},
                   E);
}

}  // namespace

const std::vector<DeploymentPreset>& deployment_presets() {
  static const std::vector<DeploymentPreset> kPresets = {
      {"sglang",
       {"tp=", "pp=", "attn_dp=", "attn_cp=", "ep=", "moe_dp=", "redundant=", "shared="},
       "t = r % tp; moe_tp = tp/ep/moe_dp; moe_tp_rank = t % moe_tp, moe_ep_rank = t / moe_tp % ep",
       "SGLang: srt/distributed/parallel_state.py",
       sglang},
      {"vllm",
       {"tp=", "dp=", "pp=", "pcp=", "external_dp=", "ep", "placement=*", "redundant="},
       "f = (dp_rank*pcp + pcp_rank)*tp + tp_rank cuts experts with ep, else columns",
       "vLLM: vllm/distributed/parallel_state.py, fused_moe/config.py",
       vllm},
      {"trtllm",
       {"tp=", "cp=", "pp=", "moe_tp=", "moe_ep=", "cp_order=*", "attention_dp", "slots="},
       "moe_ep_rank = tp_rank % moe_ep, moe_tp_rank = tp_rank / moe_ep, moe_tp * moe_ep = tp",
       "TensorRT-LLM: tensorrt_llm/mapping.py",
       trtllm},
      {"megatron",
       {"order=*", "tp=", "cp=", "dp=", "pp=", "ep=", "etp="},
       "order, leftmost fastest, read with ep=1 for attention and with cp=1, tp=etp for experts",
       "Megatron-LM: megatron/core/parallel_state.py",
       megatron},
      {"deepspeed",
       {"world=", "mp=", "ep="},
       "mp_rank = r % mp, d = r / mp; ep_rank = d % ep, expert data parallel rank = d / ep",
       "DeepSpeed: deepspeed/utils/groups.py",
       deepspeed},
  };
  return kPresets;
}

std::optional<DeploymentSpec> preset_deployment(std::string_view text,
                                                std::optional<std::int32_t> num_experts) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos ||
      text.substr(0, colon).find_first_of("=,/.") != std::string_view::npos)
    return {};
  const std::string_view name = text.substr(0, colon), sizes = text.substr(colon + 1);
  std::string known;
  for (const DeploymentPreset& preset : deployment_presets()) known += std::string(preset.name) + ", ";
  const auto preset = std::find_if(deployment_presets().begin(), deployment_presets().end(),
                                   [&](const DeploymentPreset& one) { return one.name == name; });
  if (preset == deployment_presets().end() && name != kRulePrefix)
    reject("layout preset", "'" + std::string(name) + "'",
           "the presets are " + known + "and " + std::string(kRulePrefix) + ":NAME for a rule in C++");
  if (!num_experts)
    reject("--experts", "missing", "give the model's number of experts beside " + std::string(text));
  require_in_range("num_experts", *num_experts, 1, kMaxIndex);
  DeploymentSpec spec = name == kRulePrefix
                            ? rule_deployment(sizes, *num_experts)
                            : preset->build(PresetArguments(name, sizes, preset->keys), *num_experts);
  spec.name = text;
  return spec;
}

}  // namespace eplora
