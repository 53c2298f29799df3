// SPDX-License-Identifier: Apache-2.0
#include "cli/load_input.h"

#include "cli/formats/routing_trace_file.h"

namespace eplora {

std::vector<std::int64_t> load_of_trace(const RoutingTrace& trace, std::int32_t num_experts) {
  std::vector<std::int64_t> load(num_experts, 0);
  for (const std::int32_t id : trace.topk_ids)
    if (0 <= id && id < num_experts) ++load[id];
  return load;
}

LoadRows read_named_load(const std::string& name, std::int32_t num_experts) {
  constexpr std::int64_t kTokens = 65'536;
  if (!names_synthetic_trace(name)) return read_expert_load(name);
  return {load_of_trace(make_trace(parse_synthetic_trace(name), kTokens, 1, num_experts, 0), num_experts)};
}

}  // namespace eplora
