// SPDX-License-Identifier: Apache-2.0
// What moves between two deployments against moving one element at a time: who has it, who needs it, who
// sends it.
#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <tuple>

#include "property_tests/unit/price_cases.h"
#include "reference/price/memory.h"
#include "reference/price/reshard.h"

namespace eplora::price_test {
namespace {

/// One thing that moves whole: a column or row of one expert in one layer, all adapters' share of it
/// included.
enum class Piece : std::uint8_t { column, shared_column, a_row, b_row, shared_a_row, shared_b_row, scales };
using Element = std::tuple<std::int64_t, Piece, std::int32_t, std::int64_t>;  // layer, piece, expert, index

struct Pair {
  Case one;  ///< model, options
  Deployment from, to;
};

bool fits(const LayerClass& c, std::int64_t I) {
  try {
    for (const RankPlace& place : c.layout.places) {
      c.columns(I, place.rank);
      if (c.spec.shared_experts.kind == SharedExpertsKind::sharded) c.shared_columns(I, place.rank);
    }
    return true;
  } catch (const InvalidArgument&) {
    return false;
  }
}

/// The other deployment holds the same model: as many experts, the same shared ones, as wide as the routed.
std::optional<Pair> random_pair(std::uint64_t seed) {
  Pair out{random_case(seed), {}, {}};
  DeploymentSpec from = out.one.deployment.spec, to = from;
  from.classes.front().shared_experts.intermediate = 0;
  const LayerClassSpec& a = from.classes.front();
  const auto same_experts = [&](const DeploymentSpec& spec) {
    return spec.classes.size() == 1 && spec.classes.front().placement.num_experts == a.placement.num_experts;
  };
  for (std::uint64_t other = seed * 1000; other < seed * 1000 + 60; ++other) {
    to = suite::random_deployment(other, 24);
    if (same_experts(to)) break;
  }
  if (!same_experts(to)) return {};
  LayerClassSpec& b = to.classes.front();
  b.shared_outer = a.shared_outer;
  if (a.shared_experts.kind == SharedExpertsKind::none) b.shared_experts = {};
  if (a.shared_experts.kind != SharedExpertsKind::none && b.shared_experts.kind == SharedExpertsKind::none)
    b.shared_experts.kind = SharedExpertsKind::replicated;
  b.shared_experts.count = a.shared_experts.count;
  b.shared_experts.intermediate = 0;
  out.from = make_deployment(from);
  out.to = make_deployment(to);
  std::int64_t I = out.one.model.intermediate;
  while (I < 200 && !(fits(out.from.classes.front(), I) && fits(out.to.classes.front(), I))) ++I;
  out.one.model.intermediate = I;
  std::int64_t R = 1;
  while (R % out.from.classes.front().lora_rank_parts != 0 || R % out.to.classes.front().lora_rank_parts != 0)
    ++R;
  out.one.options.adapters.max_lora_rank = R;
  return I < 200 ? std::optional(out) : std::nullopt;
}

/// The real columns of the rank's slice, one at a time.
std::vector<std::int64_t> columns_of(const LayerClass& c, const Stand& at, std::int64_t I) {
  std::int64_t width = I / at.tp_parts;
  if (c.spec.padding.place == PaddingPlace::end) {
    width = 0;
    while (width * at.tp_parts < I) width += c.spec.padding.multiple;
  }
  std::vector<std::int64_t> columns;
  for (std::int64_t q = at.tp * width; q < (at.tp + 1) * width && q < I; ++q) columns.push_back(q);
  return columns;
}

std::vector<std::int64_t> mine(std::int64_t total, const Stand& at, const std::vector<std::string>& axes) {
  const std::vector<std::int64_t> part = part_of_item(total, at.digits.parts(axes));
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < total; ++i)
    if (part[i] == at.digits.index(axes)) rows.push_back(i);
  return rows;
}

std::set<Element> elements_of(const Case& test, const Deployment& deployment, std::int32_t rank) {
  const LayerClass& c = deployment.classes.front();
  const Stand at(deployment, c, rank);
  const std::int64_t I = test.model.intermediate;
  const SharedExpertsSpec& shared = c.spec.shared_experts;
  const bool lora = test.options.adapters.max_loras > 0;
  std::set<Element> held;
  const std::vector<std::int64_t> stage_of = part_of_item(test.model.moe_layers.size(), at.stages);
  const auto a_rows = mine(test.options.adapters.max_lora_rank, at, c.spec.sharding.lora_rank);
  const auto b_rows = mine(test.model.hidden, at, c.spec.sharding.hidden);
  for (std::size_t layer = 0; layer < stage_of.size(); ++layer) {
    if (stage_of[layer] != at.stage) continue;
    const auto add_rows = [&](Piece a, Piece b, std::int32_t e) {
      for (const std::int64_t row : a_rows) held.emplace(layer, a, e, row);
      for (const std::int64_t row : b_rows) held.emplace(layer, b, e, row);
    };
    for (const std::int32_t e : c.layout.placement.experts_of_rank()[at.ep]) {
      const bool fused = e >= test.model.num_experts;
      for (const std::int64_t q : columns_of(c, at, I))
        held.emplace(layer, fused ? Piece::shared_column : Piece::column,
                     fused ? e - test.model.num_experts : e, q);
      if (lora && !c.spec.shared_outer)
        fused ? add_rows(Piece::shared_a_row, Piece::shared_b_row, e - test.model.num_experts)
              : add_rows(Piece::a_row, Piece::b_row, e);
    }
    if (shared.kind == SharedExpertsKind::replicated || shared.kind == SharedExpertsKind::sharded)
      for (std::int32_t j = 0; j < shared.count; ++j)
        for (std::int64_t q = 0; q < I; ++q)
          if (q * at.digits.parts(shared.axes) / I == at.digits.index(shared.axes))
            held.emplace(layer, Piece::shared_column, j, q);
    if (lora && c.spec.shared_outer) add_rows(Piece::a_row, Piece::b_row, -1);
    if (lora) held.emplace(layer, Piece::scales, -1, 0);
  }
  return held;
}

struct ElementSize {
  std::int64_t weights = 0, adapters = 0;
};

ElementSize size_of(const Case& test, bool both_fused, Piece piece) {
  const std::int64_t H = test.model.hidden, c = test.model.gated ? 2 : 1;
  const std::int64_t L = test.options.adapters.max_loras, R = test.options.adapters.max_lora_rank;
  const ElementBytes& bytes = test.options.bytes;
  const ElementSize column = {(c + 1) * H * bytes.weights, L * (c + 1) * R * bytes.adapters};
  switch (piece) {
    case Piece::column:
      return column;
    case Piece::shared_column:
      return {column.weights, both_fused ? column.adapters : 0};
    case Piece::a_row:
      return {0, L * c * H * bytes.adapters};
    case Piece::b_row:
      return {0, L * R * bytes.adapters};
    case Piece::shared_a_row:
      return {0, both_fused ? L * c * H * bytes.adapters : 0};
    case Piece::shared_b_row:
      return {0, both_fused ? L * R * bytes.adapters : 0};
    case Piece::scales:
      return {0, L * 8};
  }
  return {};
}

std::size_t digit_sum(std::size_t number, std::size_t base) {
  if (base == 1 || number == 0) return 0;
  return number % base + digit_sum(number / base, base);
}

/// A row of a routed expert; shared-outer rows belong to none.
bool is_row(const Element& one) {
  return std::get<2>(one) >= 0 && (std::get<1>(one) == Piece::a_row || std::get<1>(one) == Piece::b_row);
}

/// One element after the other.
Reshard by_elements(const Pair& pair) {
  const Case& test = pair.one;
  const std::int32_t node = test.options.traffic.ranks_per_node;
  const auto kind = [](const Deployment& d) { return d.classes.front().spec.shared_experts.kind; };
  const bool both_fused =
      kind(pair.from) == SharedExpertsKind::fused && kind(pair.to) == SharedExpertsKind::fused;
  std::map<Element, std::set<std::pair<std::int32_t, std::int32_t>>> holders;  // (EP rank, rank)
  std::map<std::int32_t, std::set<std::int64_t>> columns_before;               // of a rank
  for (std::int32_t rank = 0; rank < pair.from.num_ranks; ++rank) {
    const LayerClass& c = pair.from.classes.front();
    const Stand at(pair.from, c, rank);
    for (const std::int64_t q : columns_of(c, at, test.model.intermediate)) columns_before[rank].insert(q);
    for (const Element& one : elements_of(test, pair.from, rank))
      holders[one].emplace(std::get<1>(one) == Piece::column || is_row(one) ? at.ep : 0, rank);
  }
  Reshard out;
  out.ranks.resize(std::max(pair.from.num_ranks, pair.to.num_ranks));
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> sent;  // (to, from)
  for (std::int32_t rank = 0; rank < pair.to.num_ranks; ++rank) {
    RankReshard& me = out.ranks[rank];
    const LayerClass& after = pair.to.classes.front();
    const std::int64_t first_column =
        columns_of(after, Stand(pair.to, after, rank), test.model.intermediate).front();
    std::map<std::pair<std::int64_t, std::int32_t>, std::pair<std::int64_t, std::int64_t>> experts;
    for (const Element& one : elements_of(test, pair.to, rank)) {
      const ElementSize size = size_of(test, both_fused, std::get<1>(one));
      if (size.weights + size.adapters == 0) continue;
      std::vector<std::int32_t> near, all;
      bool has = false;
      for (const auto& [ep, holder] : holders.at(one)) {
        all.push_back(holder);
        if (holder / node == rank / node) near.push_back(holder);
        has = has || holder == rank;
      }
      if (std::get<1>(one) == Piece::column) {
        auto& [kept, columns] = experts[{std::get<0>(one), std::get<2>(one)}];
        ++columns;
        kept += has;
        ++(has ? me.columns_kept : me.columns_arriving);
      }
      if (has) {
        me.kept += size.weights + size.adapters;
        continue;
      }
      std::vector<std::int32_t> from = near.empty() ? all : near;
      if (is_row(one)) {
        std::vector<std::int32_t> beside;
        for (const std::int32_t holder : from)
          if (columns_before[holder].contains(first_column)) beside.push_back(holder);
        if (!beside.empty()) from = beside;
      }
      const std::int32_t sender = from[digit_sum(rank, from.size()) % from.size()];
      me.weights += size.weights;
      me.adapters += size.adapters;
      const std::int64_t sum = size.weights + size.adapters;
      (near.empty() ? me.received.between : me.received.inside) += sum;
      (near.empty() ? out.ranks[sender].sent.between : out.ranks[sender].sent.inside) += sum;
      sent[{rank, sender}] += sum;
    }
    for (const auto& [expert, count] : experts)
      ++(count.first == count.second ? me.whole : count.first > 0 ? me.partly : me.arriving);
  }
  for (const auto& [ends, sum] : sent) out.messages.push_back({ends.second, ends.first, sum});
  return out;
}

Reshard moved(const Pair& pair, const Deployment& from, const Deployment& to) {
  const Case& test = pair.one;
  return reshard(from, to, test.model, test.options.bytes, test.options.adapters,
                 {test.options.traffic.ranks_per_node, true});
}

TEST(PriceReshard, EqualsMovingElementsOverRandomPairsOfDeployments) {
  int pairs = 0, partly = 0, near = 0, far = 0, staged = 0, shared = 0, replicas = 0, grown = 0;
  for (std::uint64_t seed = 1; seed <= 500; ++seed) {
    const std::optional<Pair> pair = random_pair(seed);
    if (!pair) continue;
    SCOPED_TRACE(pair->one.name());
    const Reshard got = moved(*pair, pair->from, pair->to), want = by_elements(*pair);
    ASSERT_EQ(got.ranks.size(), want.ranks.size());
    for (std::size_t rank = 0; rank < want.ranks.size(); ++rank) {
      ASSERT_EQ(got.ranks[rank], want.ranks[rank])
          << "rank " << rank << ": kept " << got.ranks[rank].kept << ", expected " << want.ranks[rank].kept
          << "; received " << got.ranks[rank].received.total() << ", expected "
          << want.ranks[rank].received.total();
      partly += want.ranks[rank].partly > 0;
      near += want.ranks[rank].received.inside > 0;
      far += want.ranks[rank].received.between > 0;
    }
    ASSERT_EQ(got.messages, want.messages);
    ++pairs;
    staged += pair->from.classes.front().stages != pair->to.classes.front().stages;
    shared += pair->from.classes.front().spec.shared_experts.kind != SharedExpertsKind::none;
    replicas += pair->from.classes.front().layout.placement.has_replicas();
    grown += pair->from.num_ranks != pair->to.num_ranks;
  }
  EXPECT_GT(pairs, 250);
  for (const int count : {partly, near, far, staged, shared, replicas, grown})
    EXPECT_GT(count, 40);  // the pairs meet what they are for
}

TEST(PriceReshard, NothingMovesBetweenEqualDeploymentsAndWhatIsKeptIsTheMemoryWithoutPadding) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const Case test = random_case(seed);
    SCOPED_TRACE(test.name());
    const Reshard got =
        reshard(test.deployment, test.deployment, test.model, test.options.bytes, test.options.adapters, {});
    const auto memory =
        memory_of_ranks(test.deployment, test.model, test.options.bytes, test.options.adapters);
    EXPECT_TRUE(got.messages.empty());
    for (std::int32_t rank = 0; rank < test.deployment.num_ranks; ++rank) {
      EXPECT_EQ(got.ranks[rank].received, LinkBytes{});
      EXPECT_EQ(got.ranks[rank].sent, LinkBytes{});
      EXPECT_EQ(got.ranks[rank].kept, memory[rank].total() - memory[rank].padding) << "rank " << rank;
    }
  }
}

/// Four experts, H = 4, I = 8, one gated layer, two bytes an element: an expert has 3 * 4 * 8 * 2 = 192
/// bytes.
struct Small {
  PricedModel model{4, 1, 4, 8, true, {0}};
  Deployment table(std::vector<std::vector<std::int32_t>> rows) const {
    LayoutSpec spec{{{"ep", static_cast<std::int32_t>(rows.size())}}, {{}, {"ep"}, {}}, {}};
    spec.placement = {PlacementKind::table, 4, std::move(rows)};
    return make_deployment(deployment_of(spec, "table"));
  }
  Reshard move(const Deployment& from, const Deployment& to, std::int32_t node) const {
    return reshard(from, to, model, {}, {}, {node, true});
  }
};

TEST(PriceReshard, RanksThatSwapTheirExpertsMoveEverything) {
  const Small s;
  const Reshard got = s.move(s.table({{0, 1}, {2, 3}}), s.table({{2, 3}, {1, 0}}), 1);
  EXPECT_EQ(got.messages, (std::vector<Message>{{1, 0, 384}, {0, 1, 384}}));
  for (const RankReshard& rank : got.ranks) {
    EXPECT_EQ(rank.kept, 0);
    EXPECT_EQ(rank.arriving, 2);
    EXPECT_EQ(rank.received, (LinkBytes{0, 384}));
  }
}

TEST(PriceReshard, AnotherOrderOnTheSameRankMovesNothing) {
  const Small s;
  EXPECT_TRUE(s.move(s.table({{0, 1}, {2, 3}}), s.table({{1, 0}, {3, 2}}), 1).messages.empty());
}

TEST(PriceReshard, ASourceOnTheReceiversNodeIsTaken) {
  const Small s;  // expert 0 stands on ranks 0 and 3; rank 2 is on rank 3's node
  const Deployment from = s.table({{0, 1}, {1}, {2, 3}, {0}});
  const Reshard got = s.move(from, s.table({{0, 1}, {1}, {2, 3, 0}, {0}}), 2);
  EXPECT_EQ(got.messages, (std::vector<Message>{{3, 2, 192}}));
  EXPECT_EQ(got.ranks[2].received, (LinkBytes{192, 0}));
}

TEST(PriceReshard, EveryLayerMovesFromItsOwnClassToItsOwnClass) {
  Small s;
  const Deployment straight = s.table({{0, 1}, {2, 3}}), dealt = s.table({{0, 2}, {1, 3}});
  DeploymentSpec both = straight.spec;
  both.classes.push_back(dealt.spec.classes.front());
  both.classes.front().layers = {0};
  both.classes.back().name = "rest";
  const Reshard one = s.move(dealt, straight, 1);
  s.model.moe_layers = {0, 1, 2};
  const Reshard got = s.move(make_deployment(both), straight, 1);  // layer 0 stays, layers 1 and 2 move
  ASSERT_EQ(got.messages.size(), one.messages.size());
  for (std::size_t i = 0; i < one.messages.size(); ++i)
    EXPECT_EQ(got.messages[i].bytes, 2 * one.messages[i].bytes);
  EXPECT_EQ(got.ranks[0].whole, 2 + 2 * 1);
  EXPECT_EQ(got.ranks[0].arriving, 2 * 1);
}

/// The sentence with which the call is refused.
template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(PriceReshard, RowsOfAnExpertComeAlongWithItsColumns) {
  const Small s;  // expert 0 goes from ranks 0 and 1, half of its columns each, to ranks 2 and 3
  const auto pairs = [](std::vector<std::vector<std::int32_t>> rows) {
    LayoutSpec spec{{{"ep", 2}, {"tp", 2}}, {{}, {"ep"}, {"tp"}}, {}};
    spec.placement = {PlacementKind::table, 4, std::move(rows)};
    return make_deployment(deployment_of(spec, "pairs"));
  };
  const Reshard got = reshard(pairs({{0, 1}, {2, 3}}), pairs({{0, 1}, {2, 3, 0}}), s.model, {}, {2, 4}, {});
  ASSERT_EQ(got.messages.size(), 2U);
  EXPECT_EQ((std::pair{got.messages[0].from, got.messages[0].to}), (std::pair{0, 2}));
  EXPECT_EQ((std::pair{got.messages[1].from, got.messages[1].to}), (std::pair{1, 3}));
}

TEST(PriceReshard, ReceiversOfOneExpertAreSpreadOverItsHolders) {
  const Small s;  // expert 0 stands on ranks 0..3 before; 16 ranks, every fourth of which wants it
  const Deployment from = s.table({{0, 1}, {0, 2}, {0, 3}, {0, 1}});
  std::vector<std::vector<std::int32_t>> rows(16, {1, 2, 3});
  for (std::size_t rank = 0; rank < rows.size(); rank += 4) rows[rank] = {0};
  std::set<std::int32_t> senders;
  for (const Message& one : s.move(from, s.table(rows), 1).messages)
    if (one.to % 4 == 0) senders.insert(one.from);
  EXPECT_EQ(senders, (std::set<std::int32_t>{1, 2, 3}));  // rank 0 keeps its own
}

TEST(PriceReshard, RefusesLayoutsOfDifferentModels) {
  const Small s;
  const Deployment plain = s.table({{0, 1}, {2, 3}});
  DeploymentSpec other = plain.spec;
  other.classes.front().shared_experts = {SharedExpertsKind::replicated, 1, 0, {}};
  EXPECT_EQ(
      refusal([&] { s.move(plain, make_deployment(other), 1); }),
      "shared experts of class moe is 1 of 8; class moe of the other layout has none; both must hold the "
      "same model");
  other = plain.spec;
  other.classes.front().shared_outer = true;
  const auto with_adapters = [&] { reshard(plain, make_deployment(other), s.model, {}, {2, 4}, {}); };
  EXPECT_NE(refusal(with_adapters).find("shared_outer of class moe is true"), std::string::npos);
  EXPECT_NE(refusal([&] { s.move(plain, plain, 0); }).find("ranks of a node is 0"), std::string::npos);
}

}  // namespace
}  // namespace eplora::price_test
