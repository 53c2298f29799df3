// SPDX-License-Identifier: Apache-2.0
// What a preset cannot say, or its engine refuses, is refused by name.
#include "property_tests/unit/preset_subject.h"

namespace eplora::preset_test {
namespace {

TEST(DeploymentPresets, RefuseByName) {
  const auto refusal = [](const std::string& text, std::optional<std::int32_t> experts = 8) {
    decltype(PresetInput::read_load) read_load;
    if (text.ends_with("load=ten") || text.ends_with("load=eight"))
      read_load = [&](const std::string& name, std::int32_t) {
        return test_load("one", name == "ten" ? 10 : 8);
      };
    try {
      preset_deployment(text, experts, read_load);
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"nothing:tp=2", "sglang, vllm, trtllm, megatron, deepspeed, eplb"},
      {"sglang:tpp=2", "'tpp'; the keys are tp=, pp="},
      {"sglang:tp=2,tp=2", "given twice"},
      {"sglang:tp", "without a value"},
      {"sglang:tp=", "without a value"},
      {"sglang:tp=two", "whole number"},
      {"sglang:tp=0", "[1, "},
      {"sglang:tp=8,", "key is ''"},
      {"sglang:tp=8,ep=3", "ep * moe_dp = 3"},
      {"sglang:tp=1048576", "number of ranks"},
      {"sglang:tp=16,ep=16", "num_experts is 8"},
      {"sglang:tp=2,ep=2,redundant=1", "num_experts + redundant"},
      {"sglang:tp=4,ep=2,dispatch=dynamic", "drawn at random"},
      {"sglang:tp=4,ep=2,dispatch=fair", "one of static"},
      {"sglang:tp=4,ep=2,attn_cp=2,moe_dp=2,pp=2", "moe_dp is 2; with pp > 1"},
      {"sglang:tp=8,ep=2,attn_cp=2,moe_dp=2", "must be tp = 8"},
      {"sglang:tp=4,ep=2,moe_dp=2", "attn_cp is 1"},
      {"vllm:tp=2,ep=2", "it takes no value"},
      {"vllm:tp=2,redundant=2", "without ep"},
      {"vllm:ep,tp=2,placement=hashed", "linear, round_robin"},
      {"vllm:ep,tp=2,placement=round_robin,redundant=2", "with redundant experts"},
      {"trtllm:tp=8,moe_tp=2,moe_ep=2", "it must be tp = 8"},
      {"trtllm:tp=8,cp=2,cp_type=helix,moe_tp=2,moe_ep=2", "it must be tp * cp = 16"},
      {"trtllm:cp=2,cp_type=helix,moe_tp=3", "must be divisible by cp = 2"},
      {"trtllm:tp=4,moe_ep=8", "moe_cluster is 8; it must be tp = 4"},
      {"trtllm:cp=2,cp_type=ring", "one of ulysses, helix"},
      {"trtllm:cp=2,moe_ep=2", "unless cp_type=helix"},
      {"trtllm:moe_cluster=2,moe_ep=2", "moe_cluster is 2"},
      {"trtllm:moe_ep=3", "moe_ep = 3"},
      {"trtllm:moe_ep=2,slots=7", "at least"},
      {"trtllm:moe_ep=2,slots=9", "slots is 9"},
      {"megatron:order=tp-xp", "it must name"},
      {"megatron:order=tp-tp", "it must name"},
      {"megatron:order=tp-,tp=2", "it must name"},
      {"megatron:order=tp-pp,dp=2", "order leaves it out"},
      {"megatron:order=ep-pp-dp,dp=1,etp=1,ep=3", "etp * ep * pp = 3"},
      {"megatron:order=cp-ep-pp-dp,cp=2,etp=2", "tp is 2; order leaves it out"},
      {"megatron:order=tp-pp-cp-ep-dp,cp=2,tp=2,dp=2,pp=2,ep=4,etp=1", "pipeline groups"},
      {"megatron:order=tp-pp-ep-dp-cp,tp=2,dp=2,pp=2,ep=2", "must be dp = 2"},
      {"deepspeed:world=6,mp=2,ep=2", "mp * ep = 4"},
      {"deepspeed:world=8,ep=2,layers=3@1", "mp * ep = 3"},
      {"deepspeed:world=8,layers=2", "EP=8 in layers"},
      {"deepspeed:world=8,layers=2@3-1", "EP=8 in layers"},
      {"deepspeed:world=8,layers=2@3x", "EP=8 in layers"},
      {"deepspeed:world=8,layers=0@3", "EP=8 in layers"},
      {"deepspeed:world=8,layers=2@99999999", "EP=8 in layers"},
      {"eplb:ranks=4", "load is missing"},
      {"eplb:ranks=4,load=file.npy", "no file can be read"},
      {"eplb:ranks=4,load=", "without a value"},
      {"eplb:ranks=4,replicas=random,load=ten", "one of token, slot, source, first"},
      {"eplb:ranks=5,tp=2,load=eight", "ranks is 5; it must be divisible by tp = 2"},
      {"eplb:ranks=4,first_layer=3,load=eight", "several rows"},
      {"eplb:ranks=4,load=ten", "of 10 experts; the model has 8"},
      {"cpp:nothing", "the rules are snake"},
      {"cpp:snake:ep=0", "snake: ep is '0'"}};
  for (const auto& [text, part] : rows) {
    EXPECT_NE(refusal(text).find(part), std::string::npos) << text << ": " << refusal(text);
  }
  EXPECT_NE(refusal("vllm:tp=2", std::nullopt).find("--experts"), std::string::npos);
  for (const char* other : {"tp=4,ep=2", "order=moe_ep:2", "a.toml", "some/file:x.json"})
    EXPECT_FALSE(preset_deployment(other, 8)) << other;
}

}  // namespace
}  // namespace eplora::preset_test
