// SPDX-License-Identifier: Apache-2.0
// P8: who owns which expert, and whether every way of asking agrees.

#include "reference/contract/layouts.h"
#include "reference/contract/mesh_reading.h"
#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

using Rows = std::vector<std::vector<std::int32_t>>;

/// Section 2's rule: global experts of every EP rank in local order.
Rows declared_owners(const PlacementSpec& spec, std::int64_t ep) {
  if (spec.kind == PlacementKind::table) return spec.table;
  Rows rows(ep);
  for (std::int32_t e = 0; e < spec.num_experts; ++e) {
    std::int64_t q = e % ep;
    if (spec.kind == PlacementKind::linear) {  // the first E % ep ranks own one more
      const std::int64_t few = spec.num_experts / ep, more = spec.num_experts % ep;
      q = e < more * (few + 1) ? e / (few + 1) : more + (e - more * (few + 1)) / few;
    }
    rows[q].push_back(e);
  }
  return rows;
}

std::string list_words(const std::vector<std::int32_t>& values) {
  std::string words = "[";
  for (std::size_t i = 0; i < values.size() && i < 16; ++i)
    words += (i ? ", " : "") + std::to_string(values[i]);
  return words + (values.size() > 16 ? ", ...]" : "]");
}

std::string place_words(std::int64_t q, std::int64_t j) {
  return "(ep_rank " + std::to_string(q) + ", local id " + std::to_string(j) + ")";
}

/// Every rank group that holds all experts once holds each expert the declared number of times.
Verdict wrong_cover(const LayoutSpec& spec, const Layout& layout, const MeshReading& mesh,
                    const Rows& declared) {
  const std::int64_t E = spec.placement.num_experts, ep = mesh.extent(spec.sharding.experts);
  const Rows& owned = layout.placement.experts_of_rank();
  if (static_cast<std::int64_t>(layout.places.size()) != mesh.num_ranks())
    return violation("P8", -1, "number of places", std::to_string(mesh.num_ranks()),
                     std::to_string(layout.places.size()));
  std::vector<std::int64_t> copies(E, 0);
  for (const auto& row : declared)
    for (const std::int32_t e : row)
      if (e >= 0 && e < E) ++copies[e];
  std::vector<std::vector<std::int64_t>> group(mesh.num_ranks() / ep);
  for (std::int64_t rank = 0; rank < mesh.num_ranks(); ++rank)
    group[mesh.index_outside(spec.sharding.experts, rank)].push_back(rank);
  for (const auto& ranks : group) {
    std::vector<std::int64_t> found(E, 0);
    for (const std::int64_t rank : ranks) {
      const std::int64_t q = layout.places[rank].ep_rank;
      if (q < 0 || q >= static_cast<std::int64_t>(owned.size()))
        return violation(
            "P8", rank, mesh.words(rank) + "; its ep_rank",
            "one of the placement's " + count_words(static_cast<std::int64_t>(owned.size()), "row"),
            std::to_string(q));
      for (const std::int32_t e : owned[q]) {
        if (e < 0 || e >= E)
          return violation("P8", rank, mesh.words(rank) + " owns an expert",
                           "in [0, " + std::to_string(E) + ")", std::to_string(e));
        ++found[e];
      }
    }
    for (std::int64_t e = 0; e < E; ++e)
      if (found[e] != copies[e])
        return violation("P8", e,
                         "expert " + std::to_string(e) + " among the ranks that differ from " +
                             mesh.words(ranks.front()) + " in the expert axes alone; its owners",
                         std::to_string(copies[e]), std::to_string(found[e]));
  }
  return std::nullopt;
}

Verdict wrong_owners(const Rows& declared, const Rows& owned) {
  if (owned.size() != declared.size())
    return violation("P8", -1, "number of EP ranks of the placement", std::to_string(declared.size()),
                     std::to_string(owned.size()));
  for (std::size_t q = 0; q < declared.size(); ++q)
    if (owned[q] != declared[q])
      return violation("P8", static_cast<std::int64_t>(q), "experts of EP rank " + std::to_string(q),
                       list_words(declared[q]), list_words(owned[q]));
  return std::nullopt;
}

/// global -> local -> global and local -> global -> local, through the replicas and through the dispatch
/// tables.
Verdict wrong_round_trip(const Placement& placement, std::int64_t E, const Rows& owned) {
  if (placement.num_experts() != E)
    return violation("P8", -1, "number of experts of the placement", std::to_string(E),
                     std::to_string(placement.num_experts()));
  std::vector<std::vector<ExpertReplica>> places(E);  // local -> global, inverted
  for (std::size_t q = 0; q < owned.size(); ++q)
    for (std::size_t j = 0; j < owned[q].size(); ++j)
      places[owned[q][j]].push_back({static_cast<std::int32_t>(q), static_cast<std::int32_t>(j)});
  for (std::int32_t e = 0; e < E; ++e) {
    const auto& got = placement.replicas(e);
    const std::string expert = "expert " + std::to_string(e);
    if (got.size() != places[e].size())
      return violation("P8", e, expert + "; its replicas", std::to_string(places[e].size()),
                       std::to_string(got.size()));
    for (std::size_t i = 0; i < got.size(); ++i)
      if (got[i] != places[e][i])
        return violation("P8", e, expert + "; place of its replica " + std::to_string(i),
                         place_words(places[e][i].ep_rank, places[e][i].local_id),
                         place_words(got[i].ep_rank, got[i].local_id));
  }
  for (std::size_t q = 0; q < owned.size(); ++q) {
    const DispatchTable table = placement.dispatch_table(static_cast<std::int32_t>(q));
    std::vector<std::int32_t> expected, offsets;
    bool replicated = false;
    for (std::int64_t e = 0; e < E; ++e) {
      offsets.push_back(static_cast<std::int32_t>(expected.size()));
      replicated = replicated || places[e].size() != 1;
      for (const ExpertReplica& place : places[e])
        expected.push_back(place.ep_rank == static_cast<std::int32_t>(q) ? place.local_id : -1);
    }
    offsets.push_back(static_cast<std::int32_t>(expected.size()));
    if (!replicated) offsets.clear();
    const std::string of_rank = " of the dispatch table of EP rank " + std::to_string(q);
    if (table.offsets != offsets)
      return violation("P8", static_cast<std::int64_t>(q), "offsets" + of_rank, list_words(offsets),
                       list_words(table.offsets));
    if (table.local_ids.size() != expected.size())
      return violation("P8", static_cast<std::int64_t>(q), "length" + of_rank,
                       std::to_string(expected.size()), std::to_string(table.local_ids.size()));
    for (std::size_t i = 0; i < expected.size(); ++i)
      if (expected[i] < 0 ? table.local_ids[i] >= 0 : table.local_ids[i] != expected[i])
        return violation("P8", static_cast<std::int64_t>(q), "entry " + std::to_string(i) + of_rank,
                         std::to_string(expected[i]), std::to_string(table.local_ids[i]));
  }
  return std::nullopt;
}

}  // namespace

Verdict p8_cover(const LayoutSpec& spec, const Layout& layout) {
  const MeshReading mesh(spec.axes);
  const Rows declared = declared_owners(spec.placement, mesh.extent(spec.sharding.experts));
  if (auto bad = wrong_cover(spec, layout, mesh, declared)) return bad;
  if (auto bad = wrong_owners(declared, layout.placement.experts_of_rank())) return bad;
  return wrong_round_trip(layout.placement, spec.placement.num_experts, layout.placement.experts_of_rank());
}

}  // namespace eplora::contract
