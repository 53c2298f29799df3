// SPDX-License-Identifier: Apache-2.0
// Which physical expert serves a slot, for a class of layers: placement and replica rule flattened into
// arrays, so that millions of slots are walked without a call each. Physical experts are numbered over EP
// ranks in order, local ids in order.
#pragma once

#include <cstdint>
#include <vector>

#include "reference/layout/deployment.h"
#include "reference/price/routing_trace.h"

namespace eplora {

class SlotServer {
 public:
  explicit SlotServer(const LayerClass& layer_class);
  std::int32_t num_physical() const { return static_cast<std::int32_t>(ep_of_physical_.size()); }
  std::int32_t ep_of(std::int32_t physical) const { return ep_of_physical_[physical]; }
  /// The physical expert for slot (t, k), or -1 for an id that no expert has. `home` is where the token
  /// stands.
  std::int32_t serve(std::int32_t id, std::int64_t t, std::int64_t k, std::int64_t top_k,
                     std::int32_t home) const {
    if (id < 0 || id >= num_ids_) return -1;
    const std::int32_t first = first_of_id_[id], count = first_of_id_[id + 1] - first;
    if (count == 1) return physical_[first];
    return physical_[first + static_cast<std::int32_t>(number(t, k, top_k, home) % count)];
  }

 private:
  std::int64_t number(std::int64_t t, std::int64_t k, std::int64_t top_k, std::int32_t home) const {
    switch (rule_) {
      case ReplicaRule::slot:
        return t * top_k + k;
      case ReplicaRule::token:
        return t;
      case ReplicaRule::source:
        return home;
      case ReplicaRule::first:
        break;
    }
    return 0;
  }
  ReplicaRule rule_;
  std::int32_t num_ids_;
  std::vector<std::int32_t> first_of_id_, physical_, ep_of_physical_, first_of_ep_;
};

}  // namespace eplora
