// SPDX-License-Identifier: Apache-2.0
// SGLang. A stage is tp ranks, t = r % tp and pp = r / tp; attention's and the experts' sizes are carved out
// of it, fastest first:
//   attn_tp = tp / attn_dp / attn_cp, attn_cp, attn_dp        moe_tp = tp / ep / moe_dp, ep, moe_dp
// Sources: initialize_model_parallel in srt/distributed/parallel_state.py; E % ep == 0 and who owns what: the
// fused MoE layer; which sizes go together: the server's arguments; redundant slots:
// srt/eplb/expert_location.py.
#include "reference/check.h"
#include "reference/layout/engines/engine_presets.h"

namespace eplora::engines {

DeploymentSpec sglang(const PresetArguments& a, const PresetInput& input) {
  const std::int32_t tp = a.size("tp"), pp = a.size("pp"), ep = a.size("ep"), moe_dp = a.size("moe_dp");
  const std::int32_t attn_dp = a.size("attn_dp"), attn_cp = a.size("attn_cp"), E = input.num_experts;
  a.ranks({tp, pp});
  a.require_divides("tp", tp, "attn_dp * attn_cp", saturating_product(attn_dp, attn_cp));
  a.require_divides("tp", tp, "ep * moe_dp", saturating_product(ep, moe_dp));
  if (moe_dp > 1 && pp > 1) a.refuse("moe_dp", std::to_string(moe_dp), "with pp > 1 it must be 1");
  if (moe_dp > 1 && ep > 1 && ep * moe_dp != tp)
    a.refuse("ep * moe_dp", std::to_string(ep * moe_dp),
             "where both are above 1 it must be tp = " + std::to_string(tp));
  // attn_cp > moe_dp = 1 is legal: the engine then lends the attn_cp group out as its moe_dp group. Experts
  // still see every token of the stage, as the formula says; what is gathered is attention's shards.
  if (moe_dp > 1 && attn_cp != moe_dp)
    a.refuse("attn_cp", std::to_string(attn_cp), "it must be moe_dp = " + std::to_string(moe_dp));
  if (a.word("dispatch", "static") == "dynamic")
    a.refuse("dispatch", "dynamic", "a replica drawn at random a slot is no rule; it must be static");
  a.one_of("dispatch", {"static"});
  a.require_divides("num_experts", E, "ep", ep);
  DeploymentSpec spec =
      two_grids({{"pp", pp}, {"attn_dp", attn_dp}, {"attn_cp", attn_cp}, {"attn_tp", tp / attn_dp / attn_cp}},
                {"attn_dp", "attn_cp"}, {"attn_tp"},
                {{"pp", pp}, {"moe_dp", moe_dp}, {"moe_ep", ep}, {"moe_tp", tp / ep / moe_dp}},
                {{"moe_dp"}, {"moe_ep"}, {"moe_tp"}, {}, {}, {"pp"}}, E);
  add_redundant(a, spec, ep, ReplicaRule::source);
  if (const std::int32_t shared = a.size("shared", 0, 0); shared > 0)
    spec.classes.front().shared_experts = {SharedExpertsKind::fused, shared, 0, {}};
  return spec;
}

}  // namespace eplora::engines
