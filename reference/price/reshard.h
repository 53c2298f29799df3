// SPDX-License-Identifier: Apache-2.0
// What moves when a model that stands under one deployment is to stand under another: bytes of expert weights
// and adapter buffers, rank by rank. A rank keeps what it has and needs; every missing rectangle of expert x
// columns (x rows of gate_up A, x rows of down B) comes from one rank that has it:
//   of the ranks that hold it under the old layout, in order of (EP rank, rank), those on the receiver's node
//   if there are any, else all; for rows, of these those that also hold the receiver's first column, if there
//   are any; of the n that are left the one whose number is the sum of the receiver's digits in base n, mod
//   n.
// So rows come along with columns, and those who ask for one expert are spread over its holders. (The
// receiver mod n would send them all to one, as their ranks often differ by multiples of n.) Weight forms and
// local ids may differ: rows move inside a rank, over no link. Padding is written, not sent. A layer, the two
// scales of an adapter and a shared expert move like an expert; adapter slots of fused shared experts move
// where both layouts fuse them, and else start empty.
#pragma once

#include "reference/price/priced_model.h"
#include "reference/price/traffic.h"

namespace eplora {

struct ReshardRules {
  std::int32_t ranks_per_node = 8;  ///< rank r stands on node r / ranks_per_node
  bool keep_messages = true;        ///< false: sums alone, for layouts with millions of messages
};

/// All bytes from one rank to another.
struct Message {
  std::int32_t from = 0, to = 0;
  std::int64_t bytes = 0;
  bool operator==(const Message&) const = default;
};

struct RankReshard {
  std::int64_t kept = 0;          ///< bytes that it had and still needs
  std::int64_t weights = 0;       ///< bytes received: expert weights, shared ones included
  std::int64_t adapters = 0;      ///< bytes received: adapter buffers and scales
  LinkBytes received, sent;       ///< both kinds
  std::int64_t whole = 0;         ///< routed experts, counted in every layer, of which it has all columns
  std::int64_t partly = 0;        ///< those of which it has some
  std::int64_t arriving = 0;      ///< those of which it has none
  std::int64_t columns_kept = 0;  ///< of all of these, columns
  std::int64_t columns_arriving = 0;
  bool operator==(const RankReshard&) const = default;
};

struct Reshard {
  std::vector<RankReshard> ranks;  ///< as many as the larger of the layouts has
  std::vector<Message> messages;   ///< by (to, from); none of 0 bytes
};

/// Throws `InvalidArgument` as `validate_price` does for either, and where the two do not hold the same
/// model: other shared experts, or shared-outer adapters in one only.
Reshard reshard(const Deployment& from, const Deployment& to, const PricedModel& model,
                const ElementBytes& bytes, const AdapterSizes& adapters, const ReshardRules& rules);

}  // namespace eplora
