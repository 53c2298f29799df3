// SPDX-License-Identifier: Apache-2.0
#include "reference/price/routing_trace.h"

#include <string>

#include "reference/check.h"

namespace eplora {

void validate(const RoutingTrace& trace) {
  require_in_range("tokens of the trace", trace.num_tokens, 0, kMaxIndex);
  require_in_range("columns of the trace", trace.top_k, 1, kMaxIndex);
  const std::int64_t slots = trace.num_tokens * trace.top_k;
  require_index_range("slots of the trace", slots,
                      "tokens=" + std::to_string(trace.num_tokens) + " * K=" + std::to_string(trace.top_k));
  require_in_range("ids of the trace", static_cast<std::int64_t>(trace.topk_ids.size()), slots, slots);
  if (!trace.token_lora_mapping.empty())
    require_in_range("adapters of the trace's tokens",
                     static_cast<std::int64_t>(trace.token_lora_mapping.size()), trace.num_tokens,
                     trace.num_tokens);
}

RoutingTrace with_tokens(const RoutingTrace& trace, std::int64_t num_tokens) {
  validate(trace);
  require_in_range("tokens", num_tokens, 0, kMaxIndex);
  require_index_range("slots", num_tokens * trace.top_k,
                      "tokens=" + std::to_string(num_tokens) + " * K=" + std::to_string(trace.top_k));
  if (trace.num_tokens == 0 && num_tokens > 0)
    reject("tokens of the trace", "0", "an empty trace cannot be repeated");
  RoutingTrace out{num_tokens, trace.top_k, {}, {}};
  out.topk_ids.resize(num_tokens * trace.top_k);
  for (std::size_t i = 0; i < out.topk_ids.size(); ++i)
    out.topk_ids[i] = trace.topk_ids[i % trace.topk_ids.size()];
  if (trace.token_lora_mapping.empty()) return out;
  out.token_lora_mapping.resize(num_tokens);
  for (std::int64_t t = 0; t < num_tokens; ++t)
    out.token_lora_mapping[t] = trace.token_lora_mapping[t % trace.num_tokens];
  return out;
}

RoutingTrace with_fused_columns(const RoutingTrace& trace, std::int32_t top_k, std::int32_t num_experts,
                                std::int32_t count) {
  validate(trace);
  if (count > 0 && trace.top_k == top_k + count) return trace;
  if (trace.top_k != top_k)
    reject("columns of the trace", std::to_string(trace.top_k),
           "the model chooses " + std::to_string(top_k) + " experts a token" +
               (count > 0 ? ", or with its fused shared experts " + std::to_string(top_k + count) : ""));
  if (count == 0) return trace;
  const std::int32_t wide = top_k + count;
  require_index_range("slots", trace.num_tokens * wide,
                      "tokens=" + std::to_string(trace.num_tokens) + " * K=" + std::to_string(wide));
  RoutingTrace out{trace.num_tokens, wide, {}, trace.token_lora_mapping};
  out.topk_ids.reserve(trace.num_tokens * wide);
  for (std::int64_t t = 0; t < trace.num_tokens; ++t) {
    for (std::int32_t k = 0; k < top_k; ++k)
      out.topk_ids.push_back(trace.id(t, k) < num_experts ? trace.id(t, k) : -1);
    for (std::int32_t j = 0; j < count; ++j) out.topk_ids.push_back(num_experts + j);
  }
  return out;
}

}  // namespace eplora
