// SPDX-License-Identifier: Apache-2.0
// Recorded routing as files:
//   .npy          topk_ids [T, K], int32 or int64
//   .safetensors  topk_ids [T, K] and, optionally, token_lora_mapping [T]; I32 or I64; nothing else
// and loads of experts: .npy [E] or [layers, E], counts.
#pragma once

#include <filesystem>

#include "reference/price/routing_trace.h"

namespace eplora {

/// Reads a trace. An int64 value outside int32 stays what it is: negative values a sentinel, others invalid
/// (contract, section 1). Throws `InvalidArgument` naming file, tensor, shape or type and what is allowed.
RoutingTrace read_routing_trace(const std::filesystem::path& path);

/// Counts of experts, one row a layer. Throws for negative counts, no expert, more than two dimensions.
std::vector<std::vector<std::int64_t>> read_expert_load(const std::filesystem::path& path);

}  // namespace eplora
