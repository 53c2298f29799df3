// SPDX-License-Identifier: Apache-2.0
// The all_to_all part of a layer's traffic: who sends hidden states to whom, and partial sums back.
#pragma once

#include "reference/price/traffic.h"

namespace eplora {

/// Adds dispatch, combine and home_gather of one layer to `ranks`. `row` = bytes of a hidden state. Messages
/// are counted per (sender, EP rank), never per pair of ranks: time O(T*K + sum over senders of EP ranks
/// reached + ranks * ranks_per_node), memory O(ranks).
void add_all_to_all(const Deployment& deployment, const LayerClass& layer_class, const RoutingTrace& trace,
                    std::int64_t row, const TrafficRules& rules, std::vector<RankTraffic>& ranks);

}  // namespace eplora
