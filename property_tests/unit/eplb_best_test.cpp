// SPDX-License-Identifier: Apache-2.0
// EPLB against every choice there is, enumerated at small sizes: its replica counts are the best ones, its
// placements near the best; and the case in which replicas cost balance.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <numeric>
#include <set>

#include "reference/layout/eplb.h"
#include "reference/layout/placement.h"

namespace eplora {
namespace {

using Ints = std::vector<std::int32_t>;
using Loads = std::vector<std::int64_t>;

/// Numbers for the tests that enumerate.
struct Noise {
  std::uint64_t at;
  std::int64_t below(std::int64_t bound) {
    at = at * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::int64_t>(at >> 33) % bound;
  }
};

double heaviest(const ExpertRows& rows, const Loads& load) {
  const std::vector<double> loads = rank_loads(rows, load);
  return *std::max_element(loads.begin(), loads.end());
}

/// Every choice of replica counts: at least 1 and at most `most` each, `slots` in all.
void for_counts(std::size_t experts, std::int32_t slots, std::int32_t most, Ints& counts,
                const std::function<void()>& call) {
  if (counts.size() == experts) {
    if (slots == 0) call();
    return;
  }
  for (std::int32_t c = 1; c <= std::min(most, slots); ++c) {
    counts.push_back(c);
    for_counts(experts, slots - c, most, counts, call);
    counts.pop_back();
  }
}

TEST(Eplb, NoOtherReplicaCountsHaveALighterHeaviestReplica) {
  int tried = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Noise noise{seed};
    const auto E = static_cast<std::int32_t>(1 + seed % 5);
    Loads load;
    while (static_cast<std::int32_t>(load.size()) < E) load.push_back(noise.below(seed % 2 == 0 ? 5 : 1000));
    for (std::int32_t most = 1; most <= 4; ++most)
      for (std::int32_t slots = E; slots <= std::min(most * E, 9); ++slots) {
        const auto worst = [&](const Ints& counts) {
          double heaviest = 0;
          for (std::size_t e = 0; e < load.size(); ++e)
            heaviest = std::max(heaviest, static_cast<double>(load[e]) / counts[e]);
          return heaviest;
        };
        const Ints got = replica_counts(load, slots, most);
        ASSERT_EQ(std::accumulate(got.begin(), got.end(), 0), slots);
        ASSERT_LE(*std::max_element(got.begin(), got.end()), most);
        Ints counts;
        for_counts(load.size(), slots, most, counts, [&] { EXPECT_LE(worst(got), worst(counts)); });
        ++tried;
      }
  }
  EXPECT_GT(tried, 2000);
}

/// The least largest load of a rank over all placements: every rank `a_rank` distinct experts, each expert
/// somewhere. Replica counts follow from the placement.
class EveryPlacement {
 public:
  EveryPlacement(const Loads& load, std::int32_t ranks, std::int32_t a_rank)
      : load_(load), ranks_(ranks), a_rank_(a_rank) {}
  double best() {
    rows_.assign(1, {});
    choose(0);
    return best_;
  }

 private:
  void choose(std::int32_t from) {
    if (static_cast<std::int32_t>(rows_.back().size()) == a_rank_) {
      if (static_cast<std::int32_t>(rows_.size()) == ranks_) {
        std::set<std::int32_t> all;
        for (const Ints& row : rows_) all.insert(row.begin(), row.end());
        if (all.size() == load_.size()) best_ = std::min(best_, heaviest(rows_, load_));
        return;
      }
      const Ints least = rows_.back();
      rows_.emplace_back();
      choose(0);  // ranks are alike: rows may be taken in ascending order, checked below
      rows_.pop_back();
      return;
    }
    for (std::int32_t e = from; e < static_cast<std::int32_t>(load_.size()); ++e) {
      rows_.back().push_back(e);
      const bool ascends = rows_.size() == 1 || static_cast<std::int32_t>(rows_.back().size()) < a_rank_ ||
                           rows_[rows_.size() - 2] <= rows_.back();
      if (ascends) choose(e + 1);
      rows_.back().pop_back();
    }
  }
  const Loads& load_;
  std::int32_t ranks_, a_rank_;
  ExpertRows rows_;
  double best_ = 1e300;
};

TEST(Eplb, IsNearTheBestOfAllPlacements) {
  int tried = 0, optimal = 0;
  double sum = 0, worst = 1;
  for (std::int32_t E = 1; E <= 6; ++E)
    for (std::int32_t ranks = 1; ranks <= 3; ++ranks)
      for (std::int32_t a_rank = (E + ranks - 1) / ranks; a_rank <= E; ++a_rank)
        for (std::uint64_t seed = 1; seed <= 40; ++seed) {
          Noise noise{seed * 977 + E * 31U + ranks * 7U + a_rank};
          Loads load;
          while (static_cast<std::int32_t>(load.size()) < E)
            load.push_back(seed % 3 == 0 ? noise.below(4) : 100'000 / (1 + noise.below(40)));
          const double best = EveryPlacement(load, ranks, a_rank).best();
          const double got =
              heaviest(balance_experts(load, {ranks, 1, 1, ranks * a_rank, true}).experts_of_rank, load);
          ASSERT_GE(got, best * (1 - 1e-12)) << "the enumeration misses a placement";
          const double ratio = best == 0 ? 1 : got / best;
          optimal += ratio < 1 + 1e-9 ? 1 : 0;
          sum += ratio;
          worst = std::max(worst, ratio);
          ++tried;
        }
  std::printf("EPLB against every placement: %d problems, %d met the best, mean %.4f of it, worst %.4f\n",
              tried, optimal, sum / tried, worst);
  EXPECT_GT(tried, 1000);
  EXPECT_GT(optimal, tried / 2);
  EXPECT_LT(sum / tried, 1.05);
  EXPECT_LE(worst, 1.5);
}

// Why "no worse than no replicas at all" is no law: replicas on distinct ranks can cost balance.
TEST(Eplb, DistinctReplicasCanCostBalance) {
  const Loads load = {3, 0, 2, 1};
  EXPECT_EQ(heaviest(Placement::linear(4, 2).experts_of_rank(), load), 3.0);
  EXPECT_EQ(EveryPlacement(load, 2, 2).best(), 3.0);
  EXPECT_EQ(EveryPlacement(load, 2, 3).best(), 3.5) << "of all placements with two slots more";
  EXPECT_EQ(heaviest(balance_experts(load, {2, 1, 1, 6, true}).experts_of_rank, load), 3.5);
}

}  // namespace
}  // namespace eplora
