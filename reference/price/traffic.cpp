// SPDX-License-Identifier: Apache-2.0
#include "reference/price/traffic.h"

#include <string>

#include "reference/check.h"
#include "reference/layout/class_plan.h"
#include "reference/price/exchange.h"

namespace eplora {
namespace {

using Names = std::vector<std::string>;

/// Every rank computes for exactly the tokens that stand on it.
bool computes_what_it_holds(const Deployment& deployment, const LayerClass& c) {
  for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank) {
    const RankPlace& at = c.layout.place(rank);
    if (at.token_shards != deployment.home_parts || at.token_shard != deployment.home[rank]) return false;
  }
  return true;
}

/// A layer's rings: `sent(group, index)` bytes go from the group's rank `index` to the next one.
template <class Sent>
void add_rings(const LayerClass& c, const Names& axes, const TrafficRules& rules,
               std::vector<RankTraffic>& ranks, LinkBytes RankTraffic::*where, const Sent& sent) {
  if (c.layout.mesh.extent(axes) == 1) return;
  for (const std::vector<std::int32_t>& ring : c.layout.mesh.groups(axes)) {
    for (std::size_t i = 0; i < ring.size(); ++i) {
      const std::int64_t bytes = sent(ring, i);
      const std::int32_t next = ring[(i + 1) % ring.size()];
      const bool inside = ring[i] / rules.ranks_per_node == next / rules.ranks_per_node;
      ranks[ring[i]].*where += inside ? LinkBytes{bytes, 0} : LinkBytes{0, bytes};
    }
  }
}

struct Pricing {
  const Deployment& deployment;
  const LayerClass& c;
  const PricedModel& model;
  const ClassLoad& load;
  const ElementBytes& bytes;
  const AdapterSizes& adapters;
  const TrafficRules& rules;
  std::int64_t tokens;  ///< T

  void all_reduce(std::vector<RankTraffic>& ranks) const {
    const Names axes = joined_axes(c.spec.sharding.experts, c.spec.sharding.intermediate);
    add_rings(c, axes, rules, ranks, &RankTraffic::all_reduce, [&](const auto& ring, std::size_t i) {
      const std::int64_t elements = c.layout.token_range(tokens, ring[i]).size() * model.hidden;
      return bytes.activations * ring_all_reduce_elements(elements, static_cast<std::int64_t>(ring.size()),
                                                          static_cast<std::int64_t>(i));
    });
  }

  void shared_reduce(std::vector<RankTraffic>& ranks, bool all_reduced) const {
    const Names& axes = c.spec.shared_experts.axes;
    const Names sum = joined_axes(c.spec.sharding.experts, c.spec.sharding.intermediate);
    const Mesh& mesh = c.layout.mesh;
    if (all_reduced && common_axes(axes, sum) == axes && mesh.extent(axes) == mesh.extent(sum)) return;
    add_rings(c, axes, rules, ranks, &RankTraffic::shared_reduce, [&](const auto& ring, std::size_t i) {
      if (deployment.home[ring[i]] != deployment.home[ring[0]])
        reject("class " + c.spec.name + ": shared_experts.axes", axes.front(),
               "ranks " + std::to_string(ring[0]) + " and " + std::to_string(ring[i]) +
                   " hold different tokens; a sum of their shared experts' parts has no price here");
      const std::int64_t elements = deployment.home_tokens(tokens, ring[i]).size() * model.hidden;
      return bytes.activations * ring_all_reduce_elements(elements, static_cast<std::int64_t>(ring.size()),
                                                          static_cast<std::int64_t>(i));
    });
  }

  void lora(std::vector<RankTraffic>& ranks) const {
    if (adapters.max_loras == 0) return;
    const std::int64_t R = adapters.max_lora_rank, element = bytes.activations;
    std::int64_t total = 0;  // of the ring at hand, summed at its first rank
    const auto gathered = [&](const auto& ring, std::size_t i, const auto& width) {
      const auto chunk = [&](std::int32_t rank) { return load.ranks[rank].adapter_slots * width(rank); };
      if (i == 0) {
        total = 0;
        for (const std::int32_t rank : ring) total += chunk(rank);
      }
      return element * (total - chunk(ring[(i + 1) % ring.size()]));
    };
    add_rings(
        c, c.spec.sharding.lora_rank, rules, ranks, &RankTraffic::lora, [&](const auto& ring, std::size_t i) {
          return gathered(
              ring, i, [&](std::int32_t rank) { return model.halves() * c.lora_rank_rows(R, rank).size(); });
        });
    const Names reduced = common_axes(c.spec.sharding.hidden, c.spec.sharding.intermediate);
    add_rings(c, reduced, rules, ranks, &RankTraffic::lora, [&](const auto& ring, std::size_t i) {
      return element * ring_all_reduce_elements(load.ranks[ring[i]].adapter_slots * R,
                                                static_cast<std::int64_t>(ring.size()),
                                                static_cast<std::int64_t>(i));
    });
    Names alone;
    for (const std::string& axis : c.spec.sharding.hidden)
      if (common_axes({axis}, reduced).empty()) alone.push_back(axis);
    add_rings(c, alone, rules, ranks, &RankTraffic::lora, [&](const auto& ring, std::size_t i) {
      return gathered(ring, i, [&](std::int32_t rank) { return c.hidden_rows(model.hidden, rank).size(); });
    });
  }
};

}  // namespace

std::string_view to_string(Exchange exchange) {
  switch (exchange) {
    case Exchange::automatic:
      return "automatic";
    case Exchange::all_reduce:
      return "all_reduce";
    case Exchange::all_to_all:
      return "all_to_all";
  }
  return "?";
}

LinkBytes RankTraffic::sent() const {
  LinkBytes sum;
  for (const LinkBytes& part : {dispatch, combine, home_gather, all_reduce, shared_reduce, lora}) sum += part;
  return sum;
}

std::int64_t ring_all_reduce_elements(std::int64_t elements, std::int64_t members, std::int64_t index) {
  const auto chunk = [&](std::int64_t j) {
    return contiguous_part(elements, static_cast<std::int32_t>(members),
                           static_cast<std::int32_t>(j % members))
        .size();
  };
  return members == 1 ? 0 : 2 * elements - chunk(index + 1) - chunk(index + 2);
}

ClassTraffic class_traffic(const Deployment& deployment, const LayerClass& c, const PricedModel& model,
                           const RoutingTrace& trace, const ClassLoad& load, const ElementBytes& bytes,
                           const AdapterSizes& adapters, const TrafficRules& rules) {
  validate(trace);
  require_in_range("ranks per node", rules.ranks_per_node, 1, kMaxIndex);
  const bool possible = computes_what_it_holds(deployment, c);
  if (rules.exchange == Exchange::all_reduce && !possible)
    reject("exchange", "all_reduce",
           "class " + c.spec.name + " has ranks that compute for tokens which stand on other ranks");
  ClassTraffic out;
  out.exchange =
      possible && rules.exchange != Exchange::all_to_all ? Exchange::all_reduce : Exchange::all_to_all;
  out.ranks.resize(deployment.num_ranks);
  const Pricing pricing{deployment, c, model, load, bytes, adapters, rules, trace.num_tokens};
  if (out.exchange == Exchange::all_reduce)
    pricing.all_reduce(out.ranks);
  else
    add_all_to_all(deployment, c, trace, model.hidden * bytes.activations, rules, out.ranks);
  if (c.spec.shared_experts.kind == SharedExpertsKind::sharded)
    pricing.shared_reduce(out.ranks, out.exchange == Exchange::all_reduce);
  pricing.lora(out.ranks);
  return out;
}

}  // namespace eplora
