// SPDX-License-Identifier: Apache-2.0
// Presets of training frameworks - Megatron-LM, DeepSpeed-MoE - and the example of a rule in C++, against
// tables worked out from the stated formulas with plain loops.
#include "property_tests/unit/preset_subject.h"

namespace eplora::preset_test {
namespace {

/// Size and stride of each token of an order string whose leftmost token is fastest.
struct Span {
  int size = 1, stride = 1;
  int of(int rank) const { return rank / stride % size; }
};

TEST(MegatronDeployment, GroupsAndOwnersFollowTheOrderString) {
  const std::vector<std::string> tokens = {"cp", "dp", "ep", "pp", "tp"};
  std::vector<std::string> order = tokens;
  int legal = 0, illegal = 0;
  do {
    for (int tp : {1, 2})
      for (int cp : {1, 2})
        for (int dp : {2, 4})
          for (int pp : {1, 2})
            for (int ep : {1, 2, 4})
              for (int etp : {1, 2}) {
                const int world = tp * cp * dp * pp, E = 8, inner = etp * ep * pp;
                std::string words, text = "megatron:" + key("tp", tp) + key("cp", cp) + key("dp", dp) +
                                          key("pp", pp) + key("ep", ep) + key("etp", etp);
                int dense = 1, sparse = 1;
                Span a[5], b[5];  // cp, dp, ep, pp, tp of dense layers; of experts
                for (const std::string& token : order) {
                  words += (words.empty() ? "" : "-") + token;
                  const int at =
                      static_cast<int>(std::find(tokens.begin(), tokens.end(), token) - tokens.begin());
                  const int one[5] = {cp, dp, 1, pp, tp}, two[5] = {1, world / inner, ep, pp, etp};
                  a[at] = {one[at], dense};
                  b[at] = {two[at], sparse};
                  dense *= one[at];
                  sparse *= two[at];
                }
                text += "order=" + words;
                const bool same_dp = order.back() == "pp" || dp == world / inner;
                const bool fits = world % inner == 0 && (pp == 1 || (a[3].stride == b[3].stride && same_dp));
                ++(fits ? legal : illegal);
                ASSERT_EQ(refused(text + ",", E), !fits) << text;
                if (!fits) continue;
                Subject s(text, E);
                for (int r = 0; r < world; ++r) {
                  const int d = a[1].of(r), c = a[0].of(r), q = b[2].of(r);
                  s.rank(q, b[4].of(r), b[1].of(r), b[3].of(r),
                         a[1].stride > a[0].stride || cp == 1 || dp == 1 ? d * cp + c : c * dp + d,
                         range(q * (E / ep), (q + 1) * (E / ep)));
                }
                s.done();
                s.groups("attention", {"tp"}, strided(world, tp, a[4].stride));
                s.groups("attention", {"cp"}, strided(world, cp, a[0].stride));
                s.groups("attention", {"dp"}, strided(world, dp, a[1].stride));
                s.groups("attention", {"pp"}, strided(world, pp, a[3].stride));
                s.groups("moe", {"etp"}, strided(world, etp, b[4].stride));
                s.groups("moe", {"ep"}, strided(world, ep, b[2].stride));
                s.groups("moe", {"edp"}, strided(world, world / inner, b[1].stride));
                s.groups("moe", {"pp"}, strided(world, pp, b[3].stride));
              }
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_GT(legal, 1000);
  EXPECT_GT(illegal, 1000);
}

TEST(DeepspeedDeployment, GroupsAndOwnersFollowTheFormulas) {
  int tried = 0;
  for (int mp : {1, 2, 3, 4, 8})
    for (int ep : {1, 2, 3, 4, 5, 8, 16})
      for (int edp = 1; edp <= 9; ++edp) {
        const int world = mp * ep * edp, E = 3 * ep;
        Subject s("deepspeed:" + key("world", world) + key("mp", mp) + "ep=" + std::to_string(ep), E);
        for (int r = 0; r < world; ++r) {
          const int d = r / mp;
          s.rank(d % ep, r % mp, d / ep, 0, d, range(d % ep * 3, d % ep * 3 + 3));
        }
        s.done();
        s.groups("moe", {"mp"}, strided(world, mp, 1));
        s.groups("moe", {"ep"}, strided(world, ep, mp));
        s.groups("moe", {"edp"}, strided(world, edp, mp * ep));
        s.groups("attention", {"dp"}, strided(world, ep * edp, mp));
        ++tried;
      }
  EXPECT_GE(tried, 300);
}

TEST(DeepspeedDeployment, LayersMayDifferInTheirEpSize) {
  const Deployment d =
      make_deployment(*preset_deployment("deepspeed:world=16,mp=2,ep=4,layers=8@0-3+7/2@5", 16));
  ASSERT_EQ(d.classes.size(), 3U);
  EXPECT_EQ(d.classes[0].spec.layers, Ints{}) << "all the others";
  EXPECT_EQ(d.classes[1].spec.layers, (Ints{0, 1, 2, 3, 7}));
  EXPECT_EQ(d.classes[2].spec.layers, Ints{5});
  for (const auto& [name, ep] : {std::pair{"moe", 4}, std::pair{"ep_size_8", 8}, std::pair{"ep_size_2", 2}})
    for (int r = 0; r < 16; ++r) {
      const RankPlace& at = d.class_named(name).layout.place(r);
      EXPECT_EQ((Ints{at.ep, at.ep_rank, at.token_shard, at.moe_tp_rank}),
                (Ints{ep, r / 2 % ep, r / 2 / ep, r % 2}))
          << name << ", rank " << r;
    }
}

TEST(LayoutRule, SnakeDealsBackAndForth) {
  for (int ep : {1, 2, 3, 4, 5, 8})
    for (int E = 1; E <= 20; ++E) {
      Subject s("cpp:snake:dp=2,ep=" + std::to_string(ep) + ",tp=3", E);
      std::vector<Ints> dealt(ep);
      int at = 0, step = 1;
      for (int e = 0; e < E; ++e) {
        dealt[at].push_back(e);
        if (at + step < 0 || at + step >= ep)
          step = -step;  // the rank at the end takes two in a row
        else
          at += step;
      }
      for (int r = 0; r < 6 * ep; ++r)
        s.rank(r / 3 % ep, r % 3, r / (3 * ep), 0, r / (3 * ep), dealt[r / 3 % ep]);
      s.done();
    }
}

}  // namespace
}  // namespace eplora::preset_test
