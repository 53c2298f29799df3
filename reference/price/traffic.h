// SPDX-License-Identifier: Apache-2.0
// Bytes that a rank sends and receives for one layer of a class, message by message.
//
// Where tokens stand: the attention grid cuts them into home parts; every rank of a part holds the part (its
// holders). A pipeline stage has its own ranks; nothing of a layer leaves its stage. Two ways to exchange:
//   all_reduce   every rank computes for exactly the tokens it holds: no dispatch; the outputs [T_rank, H]
//   are
//                summed over the groups of experts x intermediate by a ring.
//   all_to_all   the holders of a part cut it contiguously, in rank order; each *sends* its cut. The sender
//   of a
//                token sends the token's hidden state to every rank that computes it and does not hold it
//                (each copy along an axis that cuts nothing computes, so each gets it). Ranks that computed
//                it - of copies only the first - send their partial sum to the sender, who adds. Then the
//                holders all-gather their cuts by a ring.
// With `once_a_rank` a hidden state (partial sum) travels once between two ranks however many of the token's
// slots the other rank serves; else once a slot.
//
// Rings of g ranks over N elements, chunk j = contiguous part j of N (contract, section 2), rank i sending to
// i+1: reduce-scatter sends all chunks but (i+1) mod g, all-gather all but (i+1) mod g of what is gathered
// (after a reduce-scatter: all but (i+2) mod g). For g | N that is the well-known 2 (g-1)/g N.
#pragma once

#include <string_view>

#include "reference/price/priced_model.h"
#include "reference/price/routing_load.h"
#include "reference/price/routing_trace.h"

namespace eplora {

enum class Exchange : std::uint8_t {
  automatic,  ///< all_reduce where it is possible, else all_to_all
  all_reduce,
  all_to_all
};
std::string_view to_string(Exchange exchange);

struct TrafficRules {
  Exchange exchange = Exchange::automatic;
  bool once_a_rank = true;
  std::int32_t ranks_per_node = 8;  ///< rank r stands on node r / ranks_per_node
};

/// Bytes over links inside a node and between nodes.
struct LinkBytes {
  std::int64_t inside = 0, between = 0;
  std::int64_t total() const { return inside + between; }
  LinkBytes& operator+=(const LinkBytes& other) {
    inside += other.inside;
    between += other.between;
    return *this;
  }
  bool operator==(const LinkBytes&) const = default;
};

struct RankTraffic {
  LinkBytes dispatch, dispatch_received;  ///< hidden states, all_to_all only
  LinkBytes combine, combine_received;    ///< partial sums, all_to_all only
  LinkBytes home_gather;                  ///< outputs among the holders of a home part, all_to_all only
  LinkBytes all_reduce;                   ///< outputs over experts x intermediate, all_reduce only
  LinkBytes shared_reduce;  ///< outputs of shared experts that are cut, unless the all_reduce sums them too
  /// Fully sharded LoRA: gate_up's shrunk slots all-gathered over lora_rank, down's all-reduced over axes
  /// that cut hidden and intermediate, delta rows all-gathered over axes that cut hidden alone.
  LinkBytes lora;
  /// Sent in all.
  LinkBytes sent() const;
  bool operator==(const RankTraffic&) const = default;
};

struct ClassTraffic {
  Exchange exchange = Exchange::all_to_all;  ///< which one it was
  std::vector<RankTraffic> ranks;            ///< `[num_ranks]`, one layer
};

/// Of `elements`, those that rank `index` of `members` sends in a ring all-reduce.
std::int64_t ring_all_reduce_elements(std::int64_t elements, std::int64_t members, std::int64_t index);
/// `trace` and `load` as for `routing_load` (fused columns included). Throws `InvalidArgument` for an
/// all_reduce where ranks do not hold the tokens they compute, for a stage that lacks holders of some tokens,
/// for shared experts that are cut over ranks with different tokens.
ClassTraffic class_traffic(const Deployment& deployment, const LayerClass& layer_class,
                           const PricedModel& model, const RoutingTrace& trace, const ClassLoad& load,
                           const ElementBytes& bytes, const AdapterSizes& adapters,
                           const TrafficRules& rules);

}  // namespace eplora
