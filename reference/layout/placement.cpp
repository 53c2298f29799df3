// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/placement.h"

#include <string>

#include "reference/check.h"

namespace eplora {

std::string_view to_string(PlacementKind kind) {
  switch (kind) {
    case PlacementKind::linear:
      return "linear";
    case PlacementKind::round_robin:
      return "round_robin";
    case PlacementKind::table:
      return "table";
  }
  return "?";
}

Placement Placement::table(std::int32_t num_experts, std::vector<std::vector<std::int32_t>> experts_of_rank) {
  require_in_range("num_experts", num_experts, 0, kMaxIndex);
  require_in_range("ep", static_cast<std::int64_t>(experts_of_rank.size()), 1, kMaxIndex);
  Placement placement;
  placement.kind_ = PlacementKind::table;
  placement.num_experts_ = num_experts;
  placement.replicas_.resize(num_experts);
  for (std::size_t q = 0; q < experts_of_rank.size(); ++q) {
    for (std::size_t j = 0; j < experts_of_rank[q].size(); ++j) {
      const std::int32_t expert = experts_of_rank[q][j];
      if (expert < 0 || expert >= num_experts)
        reject("placement table entry [" + std::to_string(q) + "][" + std::to_string(j) + "]",
               std::to_string(expert), "it must be an expert in [0, " + std::to_string(num_experts) + ")");
      placement.replicas_[expert].push_back({static_cast<std::int32_t>(q), static_cast<std::int32_t>(j)});
    }
  }
  for (std::int32_t e = 0; e < num_experts; ++e) {
    if (placement.replicas_[e].empty())
      reject("placement of expert " + std::to_string(e), "empty",
             "every expert must stand on at least one EP rank");
    placement.has_replicas_ |= placement.replicas_[e].size() > 1;
  }
  placement.experts_of_rank_ = std::move(experts_of_rank);
  return placement;
}

Placement Placement::linear(std::int32_t num_experts, std::int32_t ep) {
  require_in_range("num_experts", num_experts, 0, kMaxIndex);
  require_in_range("ep", ep, 1, kMaxIndex);
  std::vector<std::vector<std::int32_t>> experts_of_rank(ep);
  std::int32_t next = 0;
  for (std::int32_t q = 0; q < ep; ++q) {
    const std::int32_t owned = num_experts / ep + (q < num_experts % ep ? 1 : 0);
    for (std::int32_t j = 0; j < owned; ++j) experts_of_rank[q].push_back(next++);
  }
  Placement placement = table(num_experts, std::move(experts_of_rank));
  placement.kind_ = PlacementKind::linear;
  return placement;
}

Placement Placement::round_robin(std::int32_t num_experts, std::int32_t ep) {
  require_in_range("num_experts", num_experts, 0, kMaxIndex);
  require_in_range("ep", ep, 1, kMaxIndex);
  std::vector<std::vector<std::int32_t>> experts_of_rank(ep);
  for (std::int32_t e = 0; e < num_experts; ++e) experts_of_rank[e % ep].push_back(e);
  Placement placement = table(num_experts, std::move(experts_of_rank));
  placement.kind_ = PlacementKind::round_robin;
  return placement;
}

Placement Placement::redundant(std::int32_t num_experts, std::int32_t redundant, std::int32_t ep) {
  require_in_range("num_experts", num_experts, 1, kMaxIndex);
  require_in_range("redundant", redundant, 0, kMaxIndex - num_experts);
  require_in_range("ep", ep, 1, kMaxIndex);
  const std::int32_t slots = num_experts + redundant;
  if (slots % ep != 0)
    reject("num_experts + redundant", std::to_string(num_experts) + " + " + std::to_string(redundant),
           "the sum must be divisible by ep=" + std::to_string(ep));
  if (slots / ep > num_experts)
    reject("redundant", std::to_string(redundant),
           "with ep=" + std::to_string(ep) + " two replicas of an expert would stand on one rank");
  std::vector<std::vector<std::int32_t>> experts_of_rank(ep);
  for (std::int32_t p = 0; p < slots; ++p) experts_of_rank[p / (slots / ep)].push_back(p % num_experts);
  return table(num_experts, std::move(experts_of_rank));
}

const std::vector<std::int32_t>& Placement::local_experts(std::int32_t ep_rank) const {
  require_in_range("ep_rank", ep_rank, 0, static_cast<std::int64_t>(ep()) - 1);
  return experts_of_rank_[ep_rank];
}

const std::vector<ExpertReplica>& Placement::replicas(std::int32_t expert) const {
  require_in_range("expert", expert, 0, static_cast<std::int64_t>(num_experts_) - 1);
  return replicas_[expert];
}

DispatchTable Placement::dispatch_table(std::int32_t ep_rank) const {
  require_in_range("ep_rank", ep_rank, 0, static_cast<std::int64_t>(ep()) - 1);
  DispatchTable result;
  if (has_replicas_) result.offsets.push_back(0);
  for (const std::vector<ExpertReplica>& places : replicas_) {
    for (const ExpertReplica& place : places)
      result.local_ids.push_back(place.ep_rank == ep_rank ? place.local_id : -1);
    if (has_replicas_) result.offsets.push_back(static_cast<std::int32_t>(result.local_ids.size()));
  }
  return result;
}

}  // namespace eplora
