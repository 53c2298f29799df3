// SPDX-License-Identifier: Apache-2.0
// EPLB: its invariants as properties over random loads and sizes, and its balance against every placement
// that there is at small sizes.
#include "reference/layout/eplb.h"

#include <gtest/gtest.h>
// After gtest's own header:
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <sstream>
#include <string>

#include "reference/check.h"
#include "reference/layout/placement.h"

namespace eplora {
namespace {

using Ints = std::vector<std::int32_t>;
using Loads = std::vector<std::int64_t>;

struct Problem {
  Loads load;
  EplbSizes sizes;
  std::int32_t experts() const { return static_cast<std::int32_t>(load.size()); }
  std::int32_t a_rank() const { return sizes.slots / sizes.ranks; }
  std::int32_t ranks_a_node() const { return sizes.ranks / sizes.nodes; }
  std::int32_t group_of(std::int32_t e) const { return e / (experts() / sizes.groups); }
};

std::ostream& operator<<(std::ostream& out, const Problem& p) {
  out << p.sizes.ranks << " ranks, " << p.sizes.nodes << " nodes, " << p.sizes.groups << " groups, "
      << p.sizes.slots << " slots, load";
  for (const std::int64_t one : p.load) out << " " << one;
  return out;
}

/// Flat, few distinct values (many ties), Zipf, or wide.
Loads any_load(std::int32_t experts) {
  const int kind = *rc::gen::inRange(0, 4);
  Loads load;
  for (std::int32_t e = 0; e < experts; ++e)
    load.push_back(kind == 0   ? 3
                   : kind == 1 ? *rc::gen::inRange(0, 4)
                   : kind == 2 ? 100'000 / (1 + *rc::gen::inRange(0, 50))
                               : *rc::gen::inRange<std::int64_t>(0, std::int64_t{1} << 40));
  return load;
}

Problem any_problem(std::int32_t most_nodes) {
  Problem p;
  p.sizes.nodes = *rc::gen::inRange(1, most_nodes + 1);
  p.sizes.groups = p.sizes.nodes * *rc::gen::inRange(1, 4);
  p.sizes.ranks = p.sizes.nodes * *rc::gen::inRange(1, 6);
  const std::int32_t E = p.sizes.groups * *rc::gen::inRange(1, 5);
  const std::int32_t fewest = (E + p.sizes.ranks - 1) / p.sizes.ranks;
  p.sizes.slots = p.sizes.ranks * *rc::gen::inRange(fewest, E / p.sizes.nodes + 1);
  p.load = any_load(E);
  return p;
}

double heaviest(const ExpertRows& rows, const Loads& load) {
  const std::vector<double> loads = rank_loads(rows, load);
  return *std::max_element(loads.begin(), loads.end());
}

/// `law` on 2000 problems, the same ones in every run.
template <class Law>
void for_problems(std::int32_t most_nodes, Law law) {
  rc::detail::TestMetadata metadata;
  metadata.id = metadata.description = testing::UnitTest::GetInstance()->current_test_info()->name();
  rc::detail::TestParams params;
  params.seed = 57919718;
  params.maxSuccess = 2000;
  int replicas = 0, hierarchical = 0, to_pack = 0;
  const auto result = rc::detail::checkTestable(
      [&] {
        const Problem p = any_problem(most_nodes);
        RC_LOG() << p << "\n";
        replicas += p.sizes.slots > p.experts() ? 1 : 0;
        hierarchical += p.sizes.nodes > 1 ? 1 : 0;
        to_pack += p.a_rank() > 1 && p.ranks_a_node() > 1 ? 1 : 0;
        law(p, balance_experts(p.load, p.sizes));
      },
      metadata, params);
  EXPECT_GE(replicas, 400);
  EXPECT_GE(to_pack, 400);
  EXPECT_GE(hierarchical, most_nodes > 1 ? 400 : 0);
  rc::detail::SuccessResult success;
  std::ostringstream words;
  rc::detail::printResultMessage(result, words);
  EXPECT_TRUE(result.match(success)) << words.str();
}

TEST(Eplb, EveryExpertHasASlotAndTheMapsAgree) {
  for_problems(3, [](const Problem& p, const ExpertBalance& b) {
    RC_ASSERT(b.phy2log.size() == static_cast<std::size_t>(p.sizes.slots));
    RC_ASSERT(b.log2phy.size() == p.load.size());
    std::vector<Ints> found(p.load.size());
    for (std::int32_t slot = 0; slot < p.sizes.slots; ++slot) found.at(b.phy2log[slot]).push_back(slot);
    RC_ASSERT(found == b.log2phy);
    for (const Ints& slots : b.log2phy) RC_ASSERT(!slots.empty());
  });
}

TEST(Eplb, EveryRankHasExactlyItsShareOfTheSlots) {
  for_problems(3, [](const Problem& p, const ExpertBalance& b) {
    RC_ASSERT(b.experts_of_rank.size() == static_cast<std::size_t>(p.sizes.ranks));
    for (std::int32_t q = 0; q < p.sizes.ranks; ++q) {
      const auto first = b.phy2log.begin() + std::ptrdiff_t{q} * p.a_rank();
      RC_ASSERT(b.experts_of_rank[q] == Ints(first, first + p.a_rank()));
    }
  });
}

TEST(Eplb, ReplicasStandOnDistinctRanks) {
  for_problems(3, [](const Problem&, const ExpertBalance& b) {
    for (const Ints& row : b.experts_of_rank)
      RC_ASSERT(std::set<std::int32_t>(row.begin(), row.end()).size() == row.size());
  });
}

TEST(Eplb, AGroupAndItsReplicasStayOnOneNodeAndNodesHaveEquallyManyGroups) {
  for_problems(4, [](const Problem& p, const ExpertBalance& b) {
    std::vector<std::set<std::int32_t>> nodes_of_group(p.sizes.groups), groups_of_node(p.sizes.nodes);
    for (std::int32_t slot = 0; slot < p.sizes.slots; ++slot) {
      const std::int32_t node = slot / p.a_rank() / p.ranks_a_node(), group = p.group_of(b.phy2log[slot]);
      nodes_of_group[group].insert(node);
      groups_of_node[node].insert(group);
    }
    for (const auto& nodes : nodes_of_group) RC_ASSERT(nodes.size() == 1U);
    for (const auto& groups : groups_of_node)
      RC_ASSERT(groups.size() == static_cast<std::size_t>(p.sizes.groups / p.sizes.nodes));
  });
}

TEST(Eplb, NeverWorseThanTheSameSlotsDealtWithoutLookingAtTheLoad) {
  for_problems(3, [](const Problem& p, const ExpertBalance& b) {
    const std::int32_t width = p.ranks_a_node(), slots = p.sizes.slots / p.sizes.nodes;
    ExpertRows start;  // slot p of a node holds its experts in turn
    for (std::int32_t node = 0; node < p.sizes.nodes; ++node) {
      std::set<std::int32_t> here;
      for (std::int32_t q = node * width; q < (node + 1) * width; ++q)
        here.insert(b.experts_of_rank[q].begin(), b.experts_of_rank[q].end());
      const Ints experts(here.begin(), here.end());
      for (std::int32_t slot = 0; slot < slots; ++slot) {
        if (slot % p.a_rank() == 0) start.emplace_back();
        start.back().push_back(experts[slot % experts.size()]);
      }
    }
    for (Ints& row : start) std::sort(row.begin(), row.end());  // sums in one order: equal to the last bit
    const std::vector<double> got = rank_loads(b.experts_of_rank, p.load), old = rank_loads(start, p.load);
    for (std::int32_t node = 0; node < p.sizes.nodes; ++node) {
      const auto most = [&](const std::vector<double>& loads) {
        const auto first = loads.begin() + std::ptrdiff_t{node} * width;
        return *std::max_element(first, first + width);
      };
      RC_ASSERT(most(got) <= most(old));
    }
  });
}

TEST(Eplb, WithoutRedundantSlotsItIsNeverWorseThanContiguousExperts) {
  for_problems(1, [](Problem p, const ExpertBalance&) {
    RC_PRE(p.experts() % p.sizes.ranks == 0);
    p.sizes.slots = p.experts();
    const ExpertRows linear = Placement::linear(p.experts(), p.sizes.ranks).experts_of_rank();
    RC_ASSERT(heaviest(balance_experts(p.load, p.sizes).experts_of_rank, p.load) <= heaviest(linear, p.load));
  });
}

TEST(Eplb, NoLoadIsLostAndOnlyProportionsCount) {
  for_problems(3, [](const Problem& p, const ExpertBalance& b) {
    const std::vector<double> loads = rank_loads(b.experts_of_rank, p.load);
    const auto whole = static_cast<double>(std::accumulate(p.load.begin(), p.load.end(), std::int64_t{0}));
    RC_ASSERT(std::abs(std::accumulate(loads.begin(), loads.end(), 0.0) - whole) <= 1e-9 * (1 + whole));
    Loads halved = p.load, doubled;
    for (std::int64_t& one : halved) one /= 2;
    for (const std::int64_t one : halved) doubled.push_back(2 * one);
    RC_ASSERT(balance_experts(halved, p.sizes).phy2log == balance_experts(doubled, p.sizes).phy2log);
  });
}

TEST(Eplb, DuplicatesAreRefusedExactlyWhereTheyCannotBeAvoided) {
  for_problems(3, [](Problem p, const ExpertBalance&) {
    p.sizes.slots = p.sizes.ranks * (p.experts() / p.sizes.nodes + 1);
    RC_ASSERT_THROWS_AS(balance_experts(p.load, p.sizes), InvalidArgument);
    p.sizes.distinct = false;  // then by the pigeonhole some rank holds an expert twice
    bool twice = false;
    for (const Ints& row : balance_experts(p.load, p.sizes).experts_of_rank)
      twice = twice || std::set<std::int32_t>(row.begin(), row.end()).size() < row.size();
    RC_ASSERT(twice);
  });
}

// deepseek-ai/EPLB#22: 256 experts and 32 redundant slots on 32 ranks.
TEST(Eplb, PackingWithoutTheRulePutsReplicasTogether) {
  Loads load(256, 10);
  load[236] = 4000;
  const auto doubled = [&](bool distinct) {
    int count = 0;
    for (const Ints& row : balance_experts(load, {32, 1, 1, 288, distinct}).experts_of_rank)
      count += std::set<std::int32_t>(row.begin(), row.end()).size() < row.size() ? 1 : 0;
    return count;
  };
  EXPECT_EQ(doubled(true), 0);
  EXPECT_GT(doubled(false), 0);
}

TEST(Eplb, AWorkedExample) {
  // Two nodes of two ranks, four groups of two experts, of loads 90, 30, 20, 20. To nodes: 90 to the first,
  // 30 to the second, 20 to the second, which is full then, and 20 to the first: experts 0 1 6 7 and 2 3 4 5.
  // Replicas on the first: 60 becomes 30 + 30, then 30 (one replica, like two of 30) becomes 15 + 15. On its
  // ranks: 30 | 30, 15 | 15, 12 | 8. On the second 20 = 10 + 10, 15 = 7.5 + 7.5: 10 + 10 + 7.5 | 10 + 7.5
  // + 5.
  const Loads load = {60, 30, 20, 10, 15, 5, 12, 8};
  const ExpertBalance b = balance_experts(load, {4, 2, 4, 12, true});
  EXPECT_EQ(b.experts_of_rank, (ExpertRows{{0, 1, 6}, {0, 1, 7}, {2, 3, 4}, {2, 4, 5}}));
  EXPECT_EQ(rank_loads(b.experts_of_rank, load), (std::vector<double>{57, 53, 27.5, 22.5}));
  EXPECT_EQ(b.log2phy[0], (Ints{0, 3}));
}

TEST(Eplb, TiesGoWhereTheHeaderSays) {
  EXPECT_EQ(replica_counts({3, 3, 3}, 4, 9), (Ints{2, 1, 1})) << "the lowest expert";
  EXPECT_EQ(replica_counts({4, 2, 0}, 5, 9), (Ints{2, 2, 1})) << "2 for two replicas and for one: the fewest";
  EXPECT_EQ(replica_counts({0, 0, 0}, 7, 3), (Ints{3, 2, 2})) << "nothing is loaded: evenly";
  // 0 0 1 1 2 go to ranks 0 1 0 1 2. The second 2 finds room on rank 2 alone, beside the first: expert 0 of
  // rank 0 moves there and makes room.
  EXPECT_EQ(balance_experts({0, 0, 0}, {3, 1, 1, 6, true}).experts_of_rank,
            (ExpertRows{{1, 2}, {0, 1}, {0, 2}}));
}

TEST(Eplb, ScalesToALargeCluster) {
  Loads load;
  for (int e = 0; e < 512; ++e) load.push_back(1'000'000 / (e + 1));
  const ExpertBalance b = balance_experts(load, {1024, 1, 1, 4096, true});
  EXPECT_EQ(b.phy2log.size(), 4096U);
  EXPECT_LT(imbalance(b.experts_of_rank, load), imbalance(start_map(512, 1024, 4096), load));
}

TEST(Eplb, RefusesSizesByName) {
  const auto refusal = [](const Loads& load, const EplbSizes& sizes) {
    try {
      balance_experts(load, sizes);
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const Loads eight(8, 1);
  const std::vector<std::pair<std::string, std::string>> rows = {
      {refusal({}, {1, 1, 1, 1, true}), "number of experts is 0"},
      {refusal({1, -1}, {1, 1, 1, 2, true}), "load of an expert is -1"},
      {refusal({std::int64_t{1} << 41}, {1, 1, 1, 1, true}), "load of an expert is 2199023255552"},
      {refusal(eight, {2, 1, 1, 6, true}), "slots is 6"},
      {refusal(eight, {3, 1, 1, 8, true}), "slots is 8; it must be divisible by EP ranks = 3"},
      {refusal(eight, {0, 1, 1, 8, true}), "EP ranks is 0"},
      {refusal(eight, {4, 3, 1, 8, true}), "EP ranks is 4; it must be divisible by nodes = 3"},
      {refusal(eight, {4, 2, 3, 8, true}), "number of experts is 8; it must be divisible by groups = 3"},
      {refusal(eight, {4, 2, 1, 8, true}), "groups is 1; it must be divisible by nodes = 2"},
      {refusal(eight, {4, 2, 2, 20, true}), "slots is 20; 5 a rank are more than the 4 experts of a node"}};
  for (const auto& [said, part] : rows) EXPECT_NE(said.find(part), std::string::npos) << said;
}

}  // namespace
}  // namespace eplora
