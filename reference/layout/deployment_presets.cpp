// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/deployment_presets.h"

#include <algorithm>
#include <string>

#include "reference/check.h"
#include "reference/layout/engines/engine_presets.h"
#include "reference/layout/eplb_deployment.h"
#include "reference/layout/layout_rule.h"

namespace eplora {

const std::vector<DeploymentPreset>& deployment_presets() {
  static const std::vector<DeploymentPreset> kPresets = {
      {"sglang",
       {"tp=", "pp=", "attn_dp=", "attn_cp=", "ep=", "moe_dp=", "redundant=", "shared=", "dispatch=*"},
       "t = r % tp; moe_tp = tp/ep/moe_dp; moe_tp_rank = t % moe_tp, moe_ep_rank = t / moe_tp % ep",
       "SGLang: srt/distributed/parallel_state.py",
       engines::sglang},
      {"vllm",
       {"tp=", "dp=", "pp=", "pcp=", "external_dp=", "ep", "placement=*", "redundant="},
       "f = (dp_rank*pcp + pcp_rank)*tp + tp_rank cuts experts with ep, else columns",
       "vLLM: vllm/distributed/parallel_state.py, fused_moe/config.py",
       engines::vllm},
      {"trtllm",
       {"tp=", "cp=", "pp=", "moe_tp=", "moe_ep=", "moe_cluster=", "cp_type=*", "cp_order=*", "attention_dp",
        "slots="},
       "moe_ep_rank = tp_rank % moe_ep, moe_tp_rank = tp_rank / (moe_ep * moe_cluster)",
       "TensorRT-LLM: tensorrt_llm/mapping.py",
       engines::trtllm},
      {"megatron",
       {"order=*", "tp=", "cp=", "dp=", "pp=", "ep=", "etp="},
       "order, leftmost fastest, read with ep=1 for attention and with cp=1, tp=etp for experts",
       "Megatron-LM: megatron/core/parallel_state.py",
       engines::megatron},
      {"deepspeed",
       {"world=", "mp=", "ep=", "layers=*"},
       "mp_rank = r % mp, d = r / mp; ep_rank = d % ep, expert data parallel rank = d / ep",
       "DeepSpeed: deepspeed/utils/groups.py",
       engines::deepspeed},
      {"eplb",
       {"ranks=", "nodes=", "groups=", "redundant=", "tp=", "load=*", "first_layer=", "duplicates",
        "replicas=*"},
       "replicas and ranks from a recorded load: groups to nodes, replicas inside a node, then to its ranks",
       "DeepSeek EPLB: eplb.py",
       eplb_preset},
  };
  return kPresets;
}

std::optional<DeploymentSpec> preset_deployment(std::string_view text,
                                                std::optional<std::int32_t> num_experts,
                                                decltype(PresetInput::read_load) read_load) {
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
  const PresetInput input{*num_experts, std::move(read_load)};
  DeploymentSpec spec = name == kRulePrefix
                            ? rule_deployment(sizes, *num_experts)
                            : preset->build(PresetArguments(name, sizes, preset->keys), input);
  spec.name = text;
  return spec;
}

}  // namespace eplora
