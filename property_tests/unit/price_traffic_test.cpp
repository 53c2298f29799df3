// SPDX-License-Identifier: Apache-2.0
// Bytes on the links against a cluster that sends every message: hidden states and partial sums one by one,
// rings step by step with the chunk that travels.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "property_tests/unit/price_cases.h"

namespace eplora::price_test {
namespace {

class Cluster {
 public:
  Cluster(const Case& test, const LayerClass& c) : test_(test), c_(c), trace_(widened(test, c)) {
    for (std::int32_t rank = 0; rank < test.deployment.num_ranks; ++rank)
      stands_.emplace_back(test.deployment, c, rank);
    ranks.resize(stands_.size());
    shard_ = part_of_item(trace_.num_tokens, stands_[0].shards);
    home_ = part_of_item(trace_.num_tokens, stands_[0].homes);
  }

  std::vector<RankTraffic> ranks;
  bool can_all_reduce() const {
    for (const Stand& at : stands_)
      if (at.shards != at.homes || at.shard != at.home) return false;
    return true;
  }
  /// False where a stage lacks holders of some home part.
  bool every_stage_holds_all() const {
    std::set<std::pair<std::int32_t, std::int32_t>> seen;
    for (const Stand& at : stands_) seen.insert({at.stage, at.home});
    return static_cast<std::int32_t>(seen.size()) == stands_[0].stages * stands_[0].homes;
  }

  void all_to_all() {
    for (std::int32_t stage = 0; stage < stands_[0].stages; ++stage) {
      std::map<std::int32_t, std::vector<std::int32_t>> holders;
      for (std::int32_t rank = 0; rank < size(); ++rank)
        if (stands_[rank].stage == stage) holders[stands_[rank].home].push_back(rank);
      std::vector<std::int32_t> sender;
      for (std::int32_t h = 0; h < stands_[0].homes; ++h) {
        const auto tokens = std::count(home_.begin(), home_.end(), h);
        for (const std::int64_t j : part_of_item(tokens, static_cast<std::int64_t>(holders[h].size())))
          sender.push_back(holders[h][j]);
        std::map<std::int32_t, std::int64_t> chunk;
        for (std::size_t t = sender.size() - tokens; t < sender.size(); ++t) chunk[sender[t]] += row();
        ring_all_gather(
            holders[h], [&](std::int32_t rank) { return chunk[rank]; }, 1, &RankTraffic::home_gather);
      }
      for (std::int64_t t = 0; t < trace_.num_tokens; ++t)
        for (std::int32_t rank = 0; rank < size(); ++rank) exchange(t, sender[t], rank, stage);
    }
  }

  void all_reduce() {
    for (const auto& ring : rings(both(c_.spec.sharding.experts, c_.spec.sharding.intermediate))) {
      const auto tokens = std::count(shard_.begin(), shard_.end(), stands_[ring[0]].shard);
      ring_all_reduce(ring, tokens * test_.model.hidden, &RankTraffic::all_reduce);
    }
  }

  /// False where the ranks of a sum hold different tokens.
  bool shared_reduce(bool all_reduced) {
    if (c_.spec.shared_experts.kind != SharedExpertsKind::sharded) return true;
    const auto sum = rings(both(c_.spec.sharding.experts, c_.spec.sharding.intermediate));
    for (const auto& ring : rings(c_.spec.shared_experts.axes)) {
      if (all_reduced && std::find(sum.begin(), sum.end(), ring) != sum.end()) continue;
      for (const std::int32_t rank : ring)
        if (stands_[rank].home != stands_[ring[0]].home) return false;
      const auto tokens = std::count(home_.begin(), home_.end(), stands_[ring[0]].home);
      ring_all_reduce(ring, tokens * test_.model.hidden, &RankTraffic::shared_reduce);
    }
    return true;
  }

  void lora() {
    if (test_.options.adapters.max_loras == 0) return;
    const ClassSharding& cut = c_.spec.sharding;
    const std::int64_t R = test_.options.adapters.max_lora_rank;
    const std::int64_t halves = test_.model.gated ? 2 : 1;
    for (const auto& ring : rings(cut.lora_rank))
      ring_all_gather(
          ring,
          [&](std::int32_t rank) {
            const auto part = part_of_item(R, stands_[rank].digits.parts(cut.lora_rank));
            return adapter_slots(rank) * halves *
                   std::count(part.begin(), part.end(), stands_[rank].digits.index(cut.lora_rank));
          },
          test_.options.bytes.activations, &RankTraffic::lora);
    std::vector<std::string> reduced, alone;
    for (const std::string& axis : cut.hidden)
      (Digits::has(cut.intermediate, axis) ? reduced : alone).push_back(axis);
    for (const auto& ring : rings(reduced))
      ring_all_reduce(ring, adapter_slots(ring[0]) * R, &RankTraffic::lora);
    for (const auto& ring : rings(alone))
      ring_all_gather(
          ring,
          [&](std::int32_t rank) {
            const auto part = part_of_item(test_.model.hidden, stands_[rank].digits.parts(cut.hidden));
            return adapter_slots(rank) *
                   std::count(part.begin(), part.end(), stands_[rank].digits.index(cut.hidden));
          },
          test_.options.bytes.activations, &RankTraffic::lora);
  }

 private:
  std::int32_t size() const { return static_cast<std::int32_t>(stands_.size()); }
  std::int64_t row() const { return test_.model.hidden * test_.options.bytes.activations; }
  bool near(std::int32_t a, std::int32_t b) const {
    return a / test_.options.traffic.ranks_per_node == b / test_.options.traffic.ranks_per_node;
  }
  void message(std::int32_t from, std::int32_t to, std::int64_t bytes, LinkBytes RankTraffic::*sent,
               LinkBytes RankTraffic::*received = nullptr) {
    (near(from, to) ? (ranks[from].*sent).inside : (ranks[from].*sent).between) += bytes;
    if (received != nullptr)
      (near(from, to) ? (ranks[to].*received).inside : (ranks[to].*received).between) += bytes;
  }

  /// Token t's hidden state to `rank` and its partial sum back.
  void exchange(std::int64_t t, std::int32_t sender, std::int32_t rank, std::int32_t stage) {
    const Stand& at = stands_[rank];
    if (at.stage != stage || at.shard != shard_[t]) return;
    std::int64_t slots = 0;
    for (std::int32_t k = 0; k < trace_.top_k; ++k)
      slots +=
          server_of(c_, trace_.topk_ids[t * trace_.top_k + k], t, k, trace_.top_k, home_[t]).first == at.ep;
    if (test_.options.traffic.once_a_rank && slots > 1) slots = 1;
    for (std::int64_t i = 0; i < slots; ++i) {
      if (at.home != home_[t])
        message(sender, rank, row(), &RankTraffic::dispatch, &RankTraffic::dispatch_received);
      if (at.copy == 0 && rank != sender)
        message(rank, sender, row(), &RankTraffic::combine, &RankTraffic::combine_received);
    }
  }

  std::int64_t adapter_slots(std::int32_t rank) const {
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < trace_.num_tokens && !trace_.token_lora_mapping.empty(); ++t) {
      const std::int32_t l = trace_.token_lora_mapping[t];
      if (shard_[t] != stands_[rank].shard || l < 0 || l >= test_.options.adapters.max_loras) continue;
      for (std::int32_t k = 0; k < trace_.top_k; ++k)
        count += server_of(c_, trace_.topk_ids[t * trace_.top_k + k], t, k, trace_.top_k, home_[t]).first ==
                 stands_[rank].ep;
    }
    return count;
  }

  static std::vector<std::string> both(std::vector<std::string> a, const std::vector<std::string>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }
  /// Ranks that agree in every digit outside `axes`, in the order of those inside.
  std::vector<std::vector<std::int32_t>> rings(const std::vector<std::string>& axes) const {
    std::map<std::vector<std::int32_t>, std::map<std::int32_t, std::int32_t>> found;
    for (std::int32_t rank = 0; rank < size(); ++rank) {
      std::vector<std::int32_t> outside;
      for (const std::string& name : stands_[rank].digits.order)
        if (!Digits::has(axes, name)) outside.push_back(stands_[rank].digits.digit.at(name));
      found[outside][stands_[rank].digits.index(axes)] = rank;
    }
    std::vector<std::vector<std::int32_t>> out;
    for (const auto& [outside, members] : found) {
      out.emplace_back();
      for (const auto& [index, rank] : members) out.back().push_back(rank);
    }
    return out;
  }

  /// Every rank starts with its own chunk and passes on, g-1 times, what it got last.
  void ring_all_gather(const std::vector<std::int32_t>& ring,
                       const std::function<std::int64_t(std::int32_t)>& chunk, std::int64_t element,
                       LinkBytes RankTraffic::*where) {
    const std::size_t g = ring.size();
    std::vector<std::size_t> holds(g);
    for (std::size_t i = 0; i < g; ++i) holds[i] = i;
    for (std::size_t step = 0; step + 1 < g; ++step) {
      std::vector<std::size_t> got(g);
      for (std::size_t i = 0; i < g; ++i) {
        message(ring[i], ring[(i + 1) % g], chunk(ring[holds[i]]) * element, where);
        got[(i + 1) % g] = holds[i];
      }
      holds = got;
    }
  }

  /// Reduce-scatter, then all-gather, with the set of contributions that every chunk carries: it must end
  /// whole.
  void ring_all_reduce(const std::vector<std::int32_t>& ring, std::int64_t elements,
                       LinkBytes RankTraffic::*where) {
    const std::size_t g = ring.size();
    const auto part = part_of_item(elements, static_cast<std::int64_t>(g));
    std::vector<std::vector<std::set<std::size_t>>> sum(g, std::vector<std::set<std::size_t>>(g));
    for (std::size_t i = 0; i < g; ++i)
      for (std::size_t j = 0; j < g; ++j) sum[i][j] = {i};
    for (std::size_t step = 0; step < 2 * (g - 1); ++step) {
      auto after = sum;
      for (std::size_t i = 0; i < g; ++i) {
        // Rank i sends chunk i - step of the reduce-scatter, then i + 1 - step of the all-gather.
        const std::size_t j = (i + 2 * g - step + (step >= g - 1 ? g : 0)) % g;
        const std::size_t to = (i + 1) % g;
        message(ring[i], ring[to],
                std::count(part.begin(), part.end(), static_cast<std::int64_t>(j)) *
                    test_.options.bytes.activations,
                where);
        after[to][j].insert(sum[i][j].begin(), sum[i][j].end());
      }
      sum = after;
    }
    for (std::size_t i = 0; i < g; ++i)
      for (std::size_t j = 0; j < g; ++j) EXPECT_EQ(sum[i][j].size(), g) << "the ring did not reduce";
  }

  const Case& test_;
  const LayerClass& c_;
  RoutingTrace trace_;
  std::vector<Stand> stands_;
  std::vector<std::int64_t> shard_, home_;
};

void expect_equal(const RankTraffic& got, const RankTraffic& want, std::int32_t rank) {
  const auto same = [&](const char* what, LinkBytes a, LinkBytes b) {
    EXPECT_EQ(a.inside, b.inside) << what << " inside, rank " << rank;
    EXPECT_EQ(a.between, b.between) << what << " between, rank " << rank;
  };
  same("dispatch", got.dispatch, want.dispatch);
  same("dispatch_received", got.dispatch_received, want.dispatch_received);
  same("combine", got.combine, want.combine);
  same("combine_received", got.combine_received, want.combine_received);
  same("home_gather", got.home_gather, want.home_gather);
  same("all_reduce", got.all_reduce, want.all_reduce);
  same("shared_reduce", got.shared_reduce, want.shared_reduce);
  same("lora", got.lora, want.lora);
}

TEST(PriceTraffic, EqualsSendingEveryMessageOverRandomDeployments) {
  std::map<std::string, int> met;
  for (std::uint64_t seed = 1; seed <= 900; ++seed) {
    const Case test = random_case(seed);
    SCOPED_TRACE(test.name());
    const LayerClass& c = test.deployment.classes.front();
    Cluster cluster(test, c);
    const bool all_reduced =
        cluster.can_all_reduce() && test.options.traffic.exchange != Exchange::all_to_all;
    const bool possible =
        (all_reduced || cluster.every_stage_holds_all()) && cluster.shared_reduce(all_reduced);
    const RoutingTrace trace = widened(test, c);
    const ClassLoad load = routing_load(test.deployment, c, trace, test.options.adapters.max_loras, 1);
    const auto price = [&] {
      return class_traffic(test.deployment, c, test.model, trace, load, test.options.bytes,
                           test.options.adapters, test.options.traffic);
    };
    if (!possible) {
      EXPECT_THROW(price(), InvalidArgument);
      ++met["refused"];
      continue;
    }
    if (all_reduced)
      cluster.all_reduce();
    else
      cluster.all_to_all();
    cluster.lora();
    const ClassTraffic got = price();
    EXPECT_EQ(got.exchange, all_reduced ? Exchange::all_reduce : Exchange::all_to_all);
    for (std::int32_t rank = 0; rank < test.deployment.num_ranks; ++rank) {
      expect_equal(got.ranks[rank], cluster.ranks[rank], rank);
      met["dispatch"] += got.ranks[rank].dispatch.total() > 0;
      met["combine"] += got.ranks[rank].combine.total() > 0;
      met["gather"] += got.ranks[rank].home_gather.total() > 0;
      met["all_reduce"] += got.ranks[rank].all_reduce.total() > 0;
      met["shared"] += got.ranks[rank].shared_reduce.total() > 0;
      met["lora"] += got.ranks[rank].lora.total() > 0;
    }
    met["stages, all_to_all"] += c.stages > 1 && !all_reduced;
    met["replicas, all_to_all"] += c.layout.placement.has_replicas() && !all_reduced;
    ASSERT_FALSE(HasFailure());
  }
  for (const char* kind : {"dispatch", "combine", "gather", "all_reduce", "shared", "lora",
                           "stages, all_to_all", "replicas, all_to_all"})
    EXPECT_GT(met[kind], 25) << kind;
}

}  // namespace
}  // namespace eplora::price_test
