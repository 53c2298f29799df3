// SPDX-License-Identifier: Apache-2.0
// P8 for deployments: who loads which expert, where dispatch sends an id, and which replica serves a slot.
#include <set>

#include "reference/contract/class_reading.h"
#include "reference/contract/deployments.h"
#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

using Rows = std::vector<std::vector<std::int32_t>>;

std::string list_words(const std::vector<std::int32_t>& values) {
  std::string words = "[";
  for (std::size_t i = 0; i < values.size() && i < 16; ++i)
    words += (i ? ", " : "") + std::to_string(values[i]);
  return words + (values.size() > 16 ? ", ...]" : "]");
}

/// Global ids of every EP rank in local order, by the rule's definition.
Rows declared_rows(const LayerClassSpec& c, std::int64_t ep) {
  const ExpertPlacementSpec& placement = c.placement;
  const std::int64_t E = placement.num_experts, slots = E + placement.redundant;
  Rows rows(ep);
  if (placement.rule == PlacementRule::table) {
    rows = placement.table;
    rows.resize(ep);
  } else if (placement.rule == PlacementRule::linear) {
    std::int32_t e = 0;
    for (std::int64_t q = 0; q < ep; ++q)
      for (std::int64_t i = 0; i < E / ep + (q < E % ep ? 1 : 0); ++i) rows[q].push_back(e++);
  } else if (placement.rule == PlacementRule::round_robin) {
    for (std::int32_t e = 0; e < E; ++e) rows[e % ep].push_back(e);
  } else if (placement.rule == PlacementRule::redundant) {
    for (std::int64_t p = 0; p < slots; ++p)
      rows[p / (slots / ep)].push_back(static_cast<std::int32_t>(p % E));
  } else {
    for (std::int64_t q = 0; q < ep; ++q)
      for (std::int64_t s = 0; s < slots / ep; ++s)
        rows[q].push_back(static_cast<std::int32_t>((q * E / ep + s) % E));
  }
  if (c.shared_experts.kind == SharedExpertsKind::fused)
    for (auto& row : rows)
      for (std::int32_t i = 0; i < c.shared_experts.count; ++i) row.push_back(placement.num_experts + i);
  return rows;
}

struct Place {
  std::int32_t q, j;
};

Verdict wrong_tables(const ClassReading& reading, const ClassPlan& plan,
                     const std::vector<std::vector<Place>>& places) {
  std::vector<std::int32_t> offsets = {0};
  bool replicated = false;
  for (const auto& of : places) {
    offsets.push_back(offsets.back() + static_cast<std::int32_t>(of.size()));
    replicated = replicated || of.size() != 1;
  }
  for (std::size_t q = 0; q < plan.dispatch.size(); ++q) {
    const DispatchTable& table = plan.dispatch[q];
    const std::string of = reading.at() + "dispatch table of EP rank " + std::to_string(q);
    if (table.offsets != (replicated ? offsets : std::vector<std::int32_t>{}))
      return violation("P8", static_cast<std::int64_t>(q), of + "; its offsets",
                       replicated ? list_words(offsets) : "none", list_words(table.offsets));
    if (static_cast<std::int64_t>(table.local_ids.size()) != offsets.back())
      return violation("P8", static_cast<std::int64_t>(q), of + "; its length",
                       std::to_string(offsets.back()), std::to_string(table.local_ids.size()));
    for (std::size_t e = 0; e < places.size(); ++e)
      for (std::size_t i = 0; i < places[e].size(); ++i) {
        const Place& at = places[e][i];
        const std::int32_t found = table.local_ids[offsets[e] + i];
        const std::int32_t want = at.q == static_cast<std::int32_t>(q) ? at.j : -1;
        if (want < 0 ? found < 0 : found == want) continue;
        return violation("P8", static_cast<std::int64_t>(e),
                         of + "; where it sends expert " + std::to_string(e) +
                             (places[e].size() > 1 ? " (replica " + std::to_string(i) + ")" : ""),
                         want < 0 ? "nowhere: EP rank " + std::to_string(at.q) + " loads it"
                                  : "local id " + std::to_string(want) + ", where its weights are",
                         std::to_string(found));
      }
  }
  return std::nullopt;
}

}  // namespace

Verdict p8_owners(const DeploymentSpec& spec, const ClassPlan& plan) {
  const ClassReading reading(spec, plan);
  const LayerClassSpec& c = reading.declared();
  const std::int64_t ep = reading.mesh().extent(c.sharding.experts);
  const std::int64_t ids = c.placement.num_experts +
                           (c.shared_experts.kind == SharedExpertsKind::fused ? c.shared_experts.count : 0);
  const Rows rows = declared_rows(c, ep);
  for (const auto& [what, found] : {std::pair{"rows of loaded experts", plan.loaded.size()},
                                    std::pair{"dispatch tables", plan.dispatch.size()}})
    if (static_cast<std::int64_t>(found) != ep)
      return violation("P8", -1, reading.at() + "number of " + what, std::to_string(ep),
                       std::to_string(found));
  std::vector<std::vector<Place>> places(ids);
  for (std::int32_t q = 0; q < ep; ++q) {
    std::set<std::int32_t> here;
    for (std::size_t j = 0; j < plan.loaded[q].size(); ++j) {
      const std::int32_t e = plan.loaded[q][j];
      const std::string what =
          reading.at() + "expert at local id " + std::to_string(j) + " of EP rank " + std::to_string(q);
      if (e < 0 || e >= ids)
        return violation("P8", e, what, "one of [0, " + std::to_string(ids) + ")", std::to_string(e));
      if (!here.insert(e).second && c.placement.rule != PlacementRule::table)
        return violation("P8", e, what, "replicas on distinct ranks",
                         "expert " + std::to_string(e) + ", which the rank holds already");
      places[e].push_back({q, static_cast<std::int32_t>(j)});
    }
  }
  for (std::int64_t e = 0; e < ids; ++e)
    if (places[e].empty())
      return violation("P8", e, reading.at() + "owners of expert " + std::to_string(e), "at least 1", "0");
  for (std::int64_t q = 0; q < ep; ++q)
    if (plan.loaded[q] != rows[q])
      return violation("P8", q,
                       reading.at() + "experts of EP rank " + std::to_string(q) + " under the rule " +
                           std::string(to_string(c.placement.rule)),
                       list_words(rows[q]), list_words(plan.loaded[q]));
  return wrong_tables(reading, plan, places);
}

Verdict p8_replicas(const DeploymentSpec& spec, const ClassPlan& plan, std::int64_t tokens,
                    std::int64_t top_k) {
  const ClassReading reading(spec, plan);
  const LayerClassSpec& c = reading.declared();
  const std::int64_t ids = c.placement.num_experts +
                           (c.shared_experts.kind == SharedExpertsKind::fused ? c.shared_experts.count : 0);
  std::vector<std::int64_t> copies(ids, 0);
  for (const auto& row : plan.loaded)
    for (const std::int32_t e : row)
      if (0 <= e && e < ids) ++copies[e];
  const AttentionSpec attention = reading.attention();
  const std::int64_t D = MeshReading(grid_of(spec, attention.grid).axes).extent(attention.tokens);
  std::int64_t home = 0, home_end = tokens / D + (tokens % D > 0 ? 1 : 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    while (t >= home_end) {
      ++home;
      home_end += tokens / D + (home < tokens % D ? 1 : 0);
    }
    for (std::int64_t e = 0; e < ids; ++e) {
      if (copies[e] == 0) continue;  // P8 owners says so
      for (std::int64_t k = 0; k < top_k; ++k) {
        const std::int64_t basis[] = {t * top_k + k, t, home, 0};  // slot, token, source, first
        const std::int64_t want = basis[static_cast<std::size_t>(c.placement.replicas)] % copies[e];
        const std::int64_t found = plan.layer_class.replica_of(static_cast<std::int32_t>(e), t, k, top_k,
                                                               static_cast<std::int32_t>(home));
        if (found != want)
          return violation("P8", e,
                           reading.at() + "replica of expert " + std::to_string(e) + " (of " +
                               std::to_string(copies[e]) + ") for slot " + std::to_string(t * top_k + k) +
                               ", token " + std::to_string(t) + ", under the rule " +
                               std::string(to_string(c.placement.replicas)),
                           std::to_string(want), std::to_string(found));
      }
    }
  }
  return std::nullopt;
}

}  // namespace eplora::contract
