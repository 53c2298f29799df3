// SPDX-License-Identifier: Apache-2.0
#include "reference/price/slot_server.h"

namespace eplora {

SlotServer::SlotServer(const LayerClass& c)
    : rule_(c.spec.placement.replicas), num_ids_(c.layout.placement.num_experts()) {
  const Placement& placement = c.layout.placement;
  first_of_ep_.push_back(0);
  for (std::int32_t q = 0; q < placement.ep(); ++q) {
    ep_of_physical_.insert(ep_of_physical_.end(), placement.local_experts(q).size(), q);
    first_of_ep_.push_back(static_cast<std::int32_t>(ep_of_physical_.size()));
  }
  first_of_id_.push_back(0);
  for (std::int32_t e = 0; e < num_ids_; ++e) {
    for (const ExpertReplica& replica : placement.replicas(e))
      physical_.push_back(first_of_ep_[replica.ep_rank] + replica.local_id);
    first_of_id_.push_back(static_cast<std::int32_t>(physical_.size()));
  }
}

}  // namespace eplora
