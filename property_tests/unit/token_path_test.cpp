// SPDX-License-Identifier: Apache-2.0
// The way of a token against walking over all ranks and asking each what it holds.
#include <gtest/gtest.h>

#include <set>

#include "property_tests/unit/price_cases.h"
#include "reference/layout/token_path.h"

namespace eplora::price_test {
namespace {

/// Ranks for which `holds` says yes, ascending.
template <class Holds>
std::vector<std::int32_t> ranks_where(const Deployment& deployment, const Holds& holds) {
  std::vector<std::int32_t> ranks;
  for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank)
    if (holds(Stand(deployment, deployment.classes.front(), rank))) ranks.push_back(rank);
  return ranks;
}

TokenQuestion question_of(const Case& test, std::mt19937_64& random) {
  TokenQuestion asked;
  asked.tokens = 1 + static_cast<std::int64_t>(random() % 40);
  asked.token = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(asked.tokens));
  for (std::int32_t k = 0; k < test.model.top_k; ++k)
    asked.ids.push_back(
        static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(test.model.num_experts)));
  asked.intermediate = test.model.intermediate;
  return asked;
}

TEST(TokenPath, EverySlotIsServedWhereItsReplicaStandsAndItsColumnsAreWholeOnce) {
  int with_replicas = 0, with_shared = 0, with_copies = 0, with_columns = 0;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    const Case test = random_case(seed);
    SCOPED_TRACE(test.name());
    std::mt19937_64 random(seed);
    const LayerClass& c = test.deployment.classes.front();
    TokenQuestion asked = question_of(test, random);
    asked.stage = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(c.stages));
    const TokenPath path = token_path(test.deployment, c, asked);
    const std::int64_t home = part_of_item(asked.tokens, test.deployment.home_parts)[asked.token];
    const bool fused = c.spec.shared_experts.kind == SharedExpertsKind::fused;
    const std::size_t shared = fused ? c.spec.shared_experts.count : 0;
    ASSERT_EQ(path.slots.size(), asked.ids.size() + shared);
    for (std::size_t k = 0; k < path.slots.size(); ++k) {
      const SlotPath& slot = path.slots[k];
      const auto [ep, local] = server_of(c, slot.expert, asked.token, static_cast<std::int64_t>(k),
                                         static_cast<std::int64_t>(path.slots.size()), home);
      ASSERT_EQ((std::pair{slot.ep_rank, slot.local_id}), (std::pair{ep, local})) << "slot " << k;
      EXPECT_EQ(slot.shared, k >= asked.ids.size());
      std::set<std::int64_t> columns;
      std::int64_t held = 0;
      for (std::size_t p = 0; p < slot.ranks.size(); ++p) {
        const Stand at(test.deployment, c, slot.ranks[p]);
        EXPECT_EQ(at.ep, ep);
        EXPECT_EQ(at.tp, static_cast<std::int32_t>(p));
        EXPECT_EQ(at.stage, asked.stage);
        held += slot.columns[p].real.size();
        for (std::int64_t q = slot.columns[p].real.begin; q < slot.columns[p].real.end; ++q)
          columns.insert(q);
      }
      EXPECT_EQ(held, asked.intermediate);
      EXPECT_EQ(static_cast<std::int64_t>(columns.size()), asked.intermediate);
      with_columns += slot.ranks.size() > 1;
      with_replicas += slot.replicas > 1 && !slot.shared;
    }
    with_shared += shared > 0;
    with_copies += path.copies > 1;
  }
  for (const int count : {with_replicas, with_shared, with_copies, with_columns}) EXPECT_GT(count, 30);
}

TEST(TokenPath, HomeWorkersAndCopiesAreTheRanksThatHoldAndSeeTheToken) {
  int homes_elsewhere = 0;
  for (std::uint64_t seed = 1; seed <= 1200; ++seed) {
    const Case test = random_case(seed);
    SCOPED_TRACE(test.name());
    std::mt19937_64 random(seed);
    const LayerClass& c = test.deployment.classes.front();
    const TokenQuestion asked = question_of(test, random);
    const TokenPath path = token_path(test.deployment, c, asked);
    const Stand first(test.deployment, c, path.workers.front());
    const std::int64_t home = part_of_item(asked.tokens, test.deployment.home_parts)[asked.token];
    const std::int64_t shard = part_of_item(asked.tokens, first.shards)[asked.token];
    std::vector<std::int32_t> holders = ranks_where(
        test.deployment, [&](const Stand& at) { return at.home == home && at.stage == asked.stage; });
    if (holders.empty())  // it comes from another stage's ranks
      holders = ranks_where(test.deployment, [&](const Stand& at) { return at.home == home; });
    EXPECT_EQ(path.home, holders);
    std::vector<std::int32_t> workers = path.workers;
    std::sort(workers.begin(), workers.end());
    EXPECT_EQ(workers, ranks_where(test.deployment, [&](const Stand& at) {
                return at.shard == shard && at.stage == asked.stage && at.copy == first.copy;
              }));
    std::set<std::int32_t> copies;
    for (std::int32_t rank = 0; rank < test.deployment.num_ranks; ++rank)
      copies.insert(Stand(test.deployment, c, rank).copy);
    EXPECT_EQ(path.copies, static_cast<std::int32_t>(copies.size()));
    homes_elsewhere += std::find(workers.begin(), workers.end(), path.home.front()) == workers.end();
  }
  EXPECT_GT(homes_elsewhere, 10);
}

TEST(TokenPath, RefusesWhatIsNotThere) {
  const Case test = random_case(1);
  const LayerClass& c = test.deployment.classes.front();
  const std::int64_t I = test.model.intermediate;
  for (const TokenQuestion& bad :
       {TokenQuestion{4, 4, {0}, I, 0}, TokenQuestion{0, 4, {test.model.num_experts}, I, 0},
        TokenQuestion{0, 4, {-1}, I, 0}, TokenQuestion{0, 4, {0}, I, c.stages},
        TokenQuestion{0, 0, {0}, I, 0}})
    EXPECT_THROW(token_path(test.deployment, c, bad), InvalidArgument);
}

}  // namespace
}  // namespace eplora::price_test
