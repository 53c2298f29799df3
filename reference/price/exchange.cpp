// SPDX-License-Identifier: Apache-2.0
#include "reference/price/exchange.h"

#include <algorithm>
#include <map>
#include <string>

#include "reference/check.h"
#include "reference/price/slot_server.h"

namespace eplora {
namespace {

/// Along the axes that cut nothing: 0 for the copy whose results are used.
std::vector<std::int32_t> copy_index(const LayerClass& c) {
  const ClassSharding& cut = c.spec.sharding;
  std::vector<std::string> free;
  for (const Axis& axis : c.layout.mesh.axes()) {
    bool cuts = false;
    for (const auto* names : {&cut.tokens, &cut.experts, &cut.intermediate, &cut.layers})
      cuts |= std::find(names->begin(), names->end(), axis.name) != names->end();
    if (!cuts) free.push_back(axis.name);
  }
  std::vector<std::int32_t> index;
  for (std::int32_t rank = 0; rank < c.layout.mesh.num_ranks(); ++rank)
    index.push_back(c.layout.mesh.index_along(free, rank));
  return index;
}

class AllToAll {
 public:
  AllToAll(const Deployment& deployment, const LayerClass& c, const RoutingTrace& trace, std::int64_t row,
           const TrafficRules& rules, std::vector<RankTraffic>& ranks)
      : deployment_(deployment),
        c_(c),
        trace_(trace),
        row_(row),
        rules_(rules),
        ranks_(ranks),
        server_(c),
        ep_(c.layout.placement.ep()),
        shards_(c.layout.places.front().token_shards),
        copy_(copy_index(c)) {
    const std::int64_t cells = std::int64_t{ep_} * shards_;
    members_ = deployment.num_ranks / (cells * c.stages);
    first_copies_ = c.layout.places.front().moe_tp;
    units_.resize(ep_);
    last_token_.assign(ep_, -1);
    served_.resize(cells * c.stages);
    holders_of_cell_.resize(cells * c.stages);
    served_at_home_.resize(cells * c.stages);
    own_.resize(deployment.num_ranks);
    held_.resize(deployment.num_ranks);
    find_holders();
  }

  void run() {
    for (std::int32_t h = 0; h < deployment_.home_parts; ++h) home_part(h);
    for (std::int32_t rank = 0; rank < deployment_.num_ranks; ++rank) {
      const std::int64_t served = served_[cell_of(rank)];
      RankTraffic& at = ranks_[rank];
      at.dispatch_received.between += (served - held_[rank]) * row_ - at.dispatch_received.inside;
      if (copy_[rank] == 0) at.combine.between += (served - own_[rank]) * row_ - at.combine.inside;
    }
  }

 private:
  /// (stage, token shard, EP rank): ranks of one cell compute for the same tokens and experts.
  std::int64_t cell(std::int32_t stage, std::int32_t shard, std::int32_t ep_rank) const {
    return (std::int64_t{stage} * shards_ + shard) * ep_ + ep_rank;
  }
  std::int64_t cell_of(std::int32_t rank) const {
    const RankPlace& at = c_.layout.place(rank);
    return cell(c_.stage[rank], at.token_shard, at.ep_rank);
  }

  void find_holders() {
    holders_.resize(std::int64_t{deployment_.home_parts} * c_.stages);
    for (std::int32_t rank = 0; rank < deployment_.num_ranks; ++rank)
      holders_[std::int64_t{deployment_.home[rank]} * c_.stages + c_.stage[rank]].push_back(rank);
    for (std::int32_t h = 0; h < deployment_.home_parts; ++h)
      for (std::int32_t g = 0; g < c_.stages; ++g)
        if (holders(h, g).empty())
          reject("class " + c_.spec.name + ": pipeline stage " + std::to_string(g), "without holders",
                 "every stage must hold all tokens; part " + std::to_string(h) + " of " +
                     std::to_string(deployment_.home_parts) + " stands on other stages alone");
  }
  const std::vector<std::int32_t>& holders(std::int32_t h, std::int32_t stage) const {
    return holders_[std::int64_t{h} * c_.stages + stage];
  }

  void home_part(std::int32_t h) {
    std::map<std::size_t, std::vector<std::int32_t>> stages_of;  // by number of holders: those cut alike
    for (std::int32_t g = 0; g < c_.stages; ++g) {
      stages_of[holders(h, g).size()].push_back(g);
      for (const std::int32_t rank : holders(h, g)) ++holders_of_cell_[cell_of(rank)];
    }
    const Range tokens = contiguous_part(trace_.num_tokens, deployment_.home_parts, h);
    for (const auto& [count, stages] : stages_of) {
      for (std::size_t j = 0; j < count; ++j) {
        const Range cut =
            contiguous_part(tokens.size(), static_cast<std::int32_t>(count), static_cast<std::int32_t>(j));
        sender(h, {tokens.begin + cut.begin, tokens.begin + cut.end}, j, stages);
      }
      for (const std::int32_t g : stages) gather(holders(h, g), tokens.size());
    }
    for (std::int32_t g = 0; g < c_.stages; ++g)
      for (const std::int32_t rank : holders(h, g)) {
        holders_of_cell_[cell_of(rank)] = 0;
        held_[rank] = served_at_home_[cell_of(rank)];
      }
    for (const std::int64_t here : touched_cells_) served_at_home_[here] = 0;
    touched_cells_.clear();
  }

  /// One sender's cut, shard by shard, for all stages that cut alike.
  void sender(std::int32_t h, Range cut, std::size_t j, const std::vector<std::int32_t>& stages) {
    while (cut.size() > 0) {
      while (cut.begin >= contiguous_part(trace_.num_tokens, shards_, shard_).end) ++shard_;
      while (cut.begin < contiguous_part(trace_.num_tokens, shards_, shard_).begin) --shard_;
      const std::int64_t end = std::min(cut.end, contiguous_part(trace_.num_tokens, shards_, shard_).end);
      count_units(h, {cut.begin, end});
      for (const std::int32_t g : stages) send(holders(h, g)[j], g);
      for (const std::int32_t q : touched_) units_[q] = 0;
      touched_.clear();
      cut.begin = end;
    }
  }

  /// units_[q]: messages from the holder of these tokens to one rank of EP rank q.
  void count_units(std::int32_t h, Range tokens) {
    for (std::int64_t t = tokens.begin; t < tokens.end; ++t) {
      ++stamp_;
      for (std::int32_t k = 0; k < trace_.top_k; ++k) {
        const std::int32_t physical = server_.serve(trace_.id(t, k), t, k, trace_.top_k, h);
        if (physical < 0) continue;
        const std::int32_t q = server_.ep_of(physical);
        if (rules_.once_a_rank && last_token_[q] == stamp_) continue;
        last_token_[q] = stamp_;
        if (units_[q]++ == 0) touched_.push_back(q);
      }
    }
  }

  void send(std::int32_t from, std::int32_t stage) {
    RankTraffic& at = ranks_[from];
    std::int64_t dispatched = 0, returned = 0;
    for (const std::int32_t q : touched_) {
      const std::int64_t here = cell(stage, shard_, q);
      dispatched += units_[q] * (members_ - holders_of_cell_[here]);
      returned += units_[q] * first_copies_;
      served_[here] += units_[q];
      if (served_at_home_[here] == 0) touched_cells_.push_back(here);
      served_at_home_[here] += units_[q];
    }
    const RankPlace& place = c_.layout.place(from);
    const bool serves = place.token_shard == shard_;
    if (serves && copy_[from] == 0) returned -= units_[place.ep_rank];
    if (serves) own_[from] += units_[place.ep_rank];
    std::int64_t near_dispatched = 0, near_returned = 0;
    const std::int32_t first = from / rules_.ranks_per_node * rules_.ranks_per_node;
    const std::int32_t end = std::min(rules_.ranks_per_node, deployment_.num_ranks - first);
    for (std::int32_t i = 0; i < end; ++i) {
      const std::int32_t rank = first + i;
      const RankPlace& near = c_.layout.place(rank);
      if (near.token_shard != shard_ || c_.stage[rank] != stage) continue;
      const std::int64_t units = units_[near.ep_rank];
      if (deployment_.home[rank] != deployment_.home[from]) {
        near_dispatched += units;
        ranks_[rank].dispatch_received.inside += units * row_;
      }
      if (rank != from && copy_[rank] == 0) {
        near_returned += units;
        ranks_[rank].combine.inside += units * row_;
      }
    }
    at.dispatch += {near_dispatched * row_, (dispatched - near_dispatched) * row_};
    at.combine_received += {near_returned * row_, (returned - near_returned) * row_};
  }

  void gather(const std::vector<std::int32_t>& ring, std::int64_t tokens) {
    const auto members = static_cast<std::int32_t>(ring.size());
    for (std::int32_t j = 0; j < members && members > 1; ++j) {
      const std::int32_t next = (j + 1) % members;
      const std::int64_t sent = (tokens - contiguous_part(tokens, members, next).size()) * row_;
      const bool inside = ring[j] / rules_.ranks_per_node == ring[next] / rules_.ranks_per_node;
      ranks_[ring[j]].home_gather += inside ? LinkBytes{sent, 0} : LinkBytes{0, sent};
    }
  }

  const Deployment& deployment_;
  const LayerClass& c_;
  const RoutingTrace& trace_;
  std::int64_t row_;
  const TrafficRules& rules_;
  std::vector<RankTraffic>& ranks_;
  SlotServer server_;
  std::int32_t ep_, shards_, shard_ = 0;
  std::vector<std::int32_t> copy_;
  std::int64_t members_ = 1, first_copies_ = 1;  ///< ranks of a cell; those of them in the first copy
  std::int64_t stamp_ = 0;
  std::vector<std::int64_t> units_, last_token_;
  std::vector<std::int32_t> touched_;
  std::vector<std::int64_t> served_, holders_of_cell_,
      served_at_home_;  ///< by cell; of all, of one home part
  std::vector<std::int64_t> touched_cells_;
  std::vector<std::int64_t> own_, held_;  ///< by rank: units of its own cut, of its home part
  std::vector<std::vector<std::int32_t>> holders_;
};

}  // namespace

void add_all_to_all(const Deployment& deployment, const LayerClass& c, const RoutingTrace& trace,
                    std::int64_t row, const TrafficRules& rules, std::vector<RankTraffic>& ranks) {
  AllToAll(deployment, c, trace, row, rules, ranks).run();
}

}  // namespace eplora
