// SPDX-License-Identifier: Apache-2.0
// The way of one token through a MoE layer of a deployment: where it stands, which ranks compute its slots,
// who sums their outputs, and where the result goes. The same rules as the driver of deployed layers
// (reference/lora/deployed_moe_layer.h), for people to look at.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reference/layout/deployment.h"

namespace eplora {

struct TokenQuestion {
  std::int64_t token = 0, tokens = 1;  ///< token t of a batch of T
  std::vector<std::int32_t> ids;       ///< its topk_ids, each in [0, E)
  std::int64_t intermediate = 1;       ///< I
  std::int32_t stage = 0;              ///< pipeline stage of the layer
};

/// One routed slot, or one fused shared expert. Its ranks hold the expert's columns between them.
struct SlotPath {
  std::int32_t expert = 0;
  bool shared = false;                     ///< a shared expert that is fused as an extra id
  std::int32_t replica = 0, replicas = 1;  ///< which of the expert's places serves the slot
  std::int32_t ep_rank = 0, local_id = 0;
  std::vector<std::int32_t> ranks;   ///< by MoE-TP rank
  std::vector<PaddedRange> columns;  ///< of each of them
};

struct TokenPath {
  TokenQuestion question;
  std::int32_t home_part = 0, home_parts = 1;
  std::vector<std::int32_t> home;  ///< ranks that hold the token outside the experts
  std::int32_t token_shard = 0, token_shards = 1;
  std::vector<std::int32_t> workers;  ///< ranks that see the token in the experts and sum their outputs
  std::int32_t copies = 1;      ///< sets of workers that compute the same; the first home rank's is told
  std::vector<SlotPath> slots;  ///< fused shared experts last
  std::vector<std::string> sum_axes, gather_axes;  ///< axes of more than one rank
  std::vector<std::int32_t> gathered;  ///< ranks whose rows are concatenated, of the first worker; itself
                                       ///< among them
};

/// Throws `InvalidArgument` for a token outside the batch, an id that is no routed expert, a stage that the
/// class lacks, columns that do not divide.
TokenPath token_path(const Deployment& deployment, const LayerClass& layer_class,
                     const TokenQuestion& question);

}  // namespace eplora
