// SPDX-License-Identifier: Apache-2.0
// Expert placement: which (EP rank, local id) serves a global expert. One object answers for the dispatch
// table and for weight loading, so the two cannot disagree (contract, sections 2 and 3).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace eplora {

enum class PlacementKind : std::uint8_t { linear, round_robin, table };
std::string_view to_string(PlacementKind kind);

/// A place where an expert's weights stand.
struct ExpertReplica {
  std::int32_t ep_rank = 0;
  std::int32_t local_id = 0;
  bool operator==(const ExpertReplica&) const = default;
};

/// What one EP rank needs to translate ids (contract, section 3): replica j of expert e is
/// `local_ids[offsets[e] + j]`, a local id or -1 when that replica stands on another rank.
/// Without replicas `offsets` is empty and `local_ids` is the plain table, int32 `[E]`.
struct DispatchTable {
  std::vector<std::int32_t> local_ids;
  std::vector<std::int32_t> offsets;  ///< empty, or `[E+1]`, ascending, each expert with at least one replica
};

class Placement {
 public:
  Placement() = default;

  /// Contiguous: the first `E % ep` ranks own one expert more.
  static Placement linear(std::int32_t num_experts, std::int32_t ep);
  /// Expert e on rank `e % ep`, local id `e / ep`.
  static Placement round_robin(std::int32_t num_experts, std::int32_t ep);
  /// `experts_of_rank[q][j]` is the global expert at local id j of EP rank q. An expert may stand on several
  /// ranks (replicas). Throws when an id is outside `[0, num_experts)` or an expert stands nowhere.
  static Placement table(std::int32_t num_experts, std::vector<std::vector<std::int32_t>> experts_of_rank);
  /// Physical slots `p` in `[0, E + redundant)` cut contiguously over the ranks, slot p holding expert `p %
  /// E` (the start map of expert-parallel load balancers). `(E + redundant) % ep` must be 0.
  static Placement redundant(std::int32_t num_experts, std::int32_t redundant, std::int32_t ep);

  PlacementKind kind() const { return kind_; }
  std::int32_t num_experts() const { return num_experts_; }
  std::int32_t ep() const { return static_cast<std::int32_t>(experts_of_rank_.size()); }
  bool has_replicas() const { return has_replicas_; }

  /// Global experts of an EP rank in local order; `E_local` is its size.
  const std::vector<std::int32_t>& local_experts(std::int32_t ep_rank) const;
  /// Replicas of a global expert, ordered by (EP rank, local id).
  const std::vector<ExpertReplica>& replicas(std::int32_t expert) const;
  /// Table for `dispatch` on one EP rank.
  DispatchTable dispatch_table(std::int32_t ep_rank) const;
  const std::vector<std::vector<std::int32_t>>& experts_of_rank() const { return experts_of_rank_; }

  bool operator==(const Placement&) const = default;

 private:
  PlacementKind kind_ = PlacementKind::linear;
  std::int32_t num_experts_ = 0;
  bool has_replicas_ = false;
  std::vector<std::vector<std::int32_t>> experts_of_rank_;
  std::vector<std::vector<ExpertReplica>> replicas_;
};

}  // namespace eplora
