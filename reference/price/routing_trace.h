// SPDX-License-Identifier: Apache-2.0
// What a router chose, recorded or made up: the load that a layout is priced under. One trace stands for
// every layer. Synthetic traces follow from a seed through integers alone; the weights q^-s are rounded to
// integers.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace eplora {

/// One batch: ids as a router writes them, any int32 (values are data: an id outside `[0, E)` is computed
/// nowhere).
struct RoutingTrace {
  std::int64_t num_tokens = 0;                   ///< T
  std::int32_t top_k = 1;                        ///< K
  std::vector<std::int32_t> topk_ids;            ///< `[T, K]`
  std::vector<std::int32_t> token_lora_mapping;  ///< `[T]`, or empty: no token has an adapter
  std::int32_t id(std::int64_t t, std::int64_t k) const { return topk_ids[t * top_k + k]; }
  std::int32_t lora(std::int64_t t) const { return token_lora_mapping.empty() ? -1 : token_lora_mapping[t]; }
};

/// Throws `InvalidArgument` unless the arrays have the sizes that T and K say, T >= 0, K >= 1, n < 2^31.
void validate(const RoutingTrace& trace);

/// The first `num_tokens` rows; a trace that is shorter is repeated from its start. Throws for an empty trace
/// unless `num_tokens` is 0.
RoutingTrace with_tokens(const RoutingTrace& trace, std::int64_t num_tokens);

/// Columns E .. E+count-1 behind the routed ones, whose ids outside `[0, E)` become negative: the slots of
/// fused shared experts. A trace of `top_k + count` columns has them already and is returned as it is.
RoutingTrace with_fused_columns(const RoutingTrace& trace, std::int32_t top_k, std::int32_t num_experts,
                                std::int32_t count);

enum class TraceKind : std::uint8_t {
  uniform,  ///< K distinct experts a token, each equally likely
  zipf,     ///< expert of rank q = 1, 2, ... with weight q^-s; which expert has which rank is a shuffle
  adapter   ///< as zipf, but every adapter has a shuffle of its own: tokens of an adapter like the same
            ///< experts
};
std::string_view to_string(TraceKind kind);

struct SyntheticTrace {
  TraceKind kind = TraceKind::uniform;
  double exponent = 1.1;  ///< s, of zipf and adapter, in [0, 8]
  std::uint64_t seed = 1;
};

/// "uniform", "zipf", "zipf:1.1", "adapter", "adapter:0.8". Throws `InvalidArgument` for anything else.
SyntheticTrace parse_synthetic_trace(std::string_view text);
/// Whether the text begins as a synthetic trace does; else it is a file.
bool names_synthetic_trace(std::string_view text);

/// T tokens of K distinct experts; with L > 0 each token has one of L adapters, each equally likely. Throws
/// for K > E, E > 2^20.
RoutingTrace make_trace(const SyntheticTrace& how, std::int64_t num_tokens, std::int32_t top_k,
                        std::int32_t num_experts, std::int32_t max_loras);

}  // namespace eplora
