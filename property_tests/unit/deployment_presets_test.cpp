// SPDX-License-Identifier: Apache-2.0
// Engines' presets against tables worked out from the stated formulas with plain loops: groups as lists of
// ranks, coordinates as divisions of the rank, owners by counting. No mesh takes part in what is expected.
#include "reference/layout/deployment_presets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "reference/check.h"
#include "reference/layout/eplb.h"

namespace eplora {
namespace {

using Ints = std::vector<std::int32_t>;
using Groups = std::vector<Ints>;

/// `size` ranks `stride` apart, in blocks of size * stride.
Groups strided(int world, int size, int stride) {
  Groups groups;
  for (int base = 0; base < world; base += size * stride)
    for (int i = 0; i < stride; ++i) {
      Ints& group = groups.emplace_back();
      for (int k = 0; k < size; ++k) group.push_back(base + i + k * stride);
    }
  return groups;
}

/// One preset's deployment, compared piece by piece with what a test worked out.
struct Subject {
  std::string text;
  Deployment deployment;
  int experts = 0, next = 0;

  Subject(const std::string& preset, int num_experts, decltype(PresetInput::read_load) read_load = {})
      : text(preset),
        deployment(make_deployment(*preset_deployment(preset, num_experts, std::move(read_load)))),
        experts(num_experts) {}

  void groups(const char* grid, const std::vector<std::string>& axes, Groups expected) const {
    Groups got = deployment.mesh_of(grid).groups(axes);
    std::sort(got.begin(), got.end());
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(got, expected) << text << ", groups of " << axes.front() << " in " << grid;
  }
  /// The next rank, in order.
  void rank(int ep_rank, int moe_tp_rank, int token_shard, int stage, int home, const Ints& owned) {
    const LayerClass& c = deployment.classes.front();
    const RankPlace& at = c.layout.place(next);
    EXPECT_EQ((Ints{at.ep_rank, at.moe_tp_rank, at.token_shard, c.stage[next], deployment.home[next]}),
              (Ints{ep_rank, moe_tp_rank, token_shard, stage, home}))
        << text << ", rank " << next;
    EXPECT_EQ(c.layout.local_experts(next), owned) << text << ", rank " << next;
    ++next;
  }
  void done() const { EXPECT_EQ(next, deployment.num_ranks) << text; }
};

Ints range(int begin, int end) {
  Ints ids;
  for (int i = begin; i < end; ++i) ids.push_back(i);
  return ids;
}

std::string key(const char* name, int value) { return std::string(name) + "=" + std::to_string(value) + ","; }

bool refused(std::string text, int experts) {
  text.pop_back();  // the last comma
  try {
    preset_deployment(text, experts);
    return false;
  } catch (const InvalidArgument&) {
    return true;
  }
}

TEST(SglangDeployment, GroupsAndOwnersFollowTheFormulas) {
  int legal = 0, illegal = 0;
  for (int tp : {1, 2, 3, 4, 6, 8, 12})
    for (int pp : {1, 2})
      for (int ep : {1, 2, 3, 4, 8})
        for (int mdp : {1, 2, 4})
          for (int adp : {1, 2, 4})
            for (int acp : {1, 2, 4}) {
              std::string text = "sglang:" + key("tp", tp) + key("pp", pp) + key("ep", ep) +
                                 key("moe_dp", mdp) + key("attn_dp", adp) + key("attn_cp", acp);
              const int E = 24 + 2 * ep - 24 % ep, world = tp * pp;
              bool fits = tp % (adp * acp) == 0 && tp % (ep * mdp) == 0;
              if (mdp > 1) fits = fits && pp == 1 && acp == mdp && (ep == 1 || ep * mdp == tp);
              ++(fits && E % ep == 0 ? legal : illegal);
              ASSERT_EQ(refused(text, E), !(fits && E % ep == 0)) << text;
              if (!fits || E % ep != 0) continue;
              text.pop_back();
              Subject s(text, E);
              const int mtp = tp / ep / mdp, atp = tp / adp / acp;
              for (int r = 0; r < world; ++r) {
                const int t = r % tp, m_ep = t / mtp % ep;
                s.rank(m_ep, t % mtp, t / (mtp * ep), r / tp, t / (atp * acp) * acp + t / atp % acp,
                       range(m_ep * (E / ep), (m_ep + 1) * (E / ep)));
              }
              s.done();
              s.groups("moe", {"moe_tp"}, strided(world, mtp, 1));
              s.groups("moe", {"moe_ep"}, strided(world, ep, mtp));
              s.groups("moe", {"moe_dp"}, strided(world, mdp, mtp * ep));
              s.groups("moe", {"pp"}, strided(world, pp, tp));
              s.groups("attention", {"attn_tp"}, strided(world, atp, 1));
              s.groups("attention", {"attn_cp"}, strided(world, acp, atp));
              s.groups("attention", {"attn_dp"}, strided(world, adp, atp * acp));
            }
  EXPECT_GT(legal, 200);
  EXPECT_GT(illegal, 200);
}

TEST(SglangDeployment, RedundantSlotsAndFusedSharedExperts) {
  for (int ep : {2, 4, 8})
    for (int E : {8, 16})
      for (int redundant : {0, 8, 16}) {
        if ((E + redundant) / ep > E) continue;
        Subject s("sglang:" + key("tp", 8) + key("ep", ep) + key("redundant", redundant) + "shared=2", E);
        for (int r = 0; r < 8; ++r) {
          const int m_ep = r / (8 / ep), slots = (E + redundant) / ep;
          Ints owned;
          for (int p = 0; p < E + redundant; ++p)
            if (p / slots == m_ep) owned.push_back(p % E);
          owned.push_back(E);
          owned.push_back(E + 1);
          s.rank(m_ep, r % (8 / ep), 0, 0, 0, owned);
        }
      }
}

TEST(VllmDeployment, GroupsAndOwnersFollowTheFormulas) {
  int tried = 0;
  for (int x : {1, 2})
    for (int dp : {1, 2, 3})
      for (int pp : {1, 2, 3})
        for (int pcp : {1, 2})
          for (int tp : {1, 2, 4})
            for (const char* mode : {"", ",ep", ",ep,placement=round_robin"}) {
              const int E = 10 + tp, parts = dp * pcp * tp;
              const bool ep = *mode != 0, dealt = std::string(mode).size() > 3;
              std::string text = "vllm:" + key("external_dp", x) + key("dp", dp) + key("pp", pp) +
                                 key("pcp", pcp) + "tp=" + std::to_string(tp) + mode;
              Subject s(text, E);
              Groups flat;
              for (int a = 0; a < x; ++a)
                for (int d = 0; d < dp; ++d)
                  for (int p = 0; p < pp; ++p)
                    for (int c = 0; c < pcp; ++c)
                      for (int t = 0; t < tp; ++t) {
                        const int f = d * pcp * tp + c * tp + t, each = E / parts, more = E % parts;
                        Ints owned = range(0, E);
                        if (ep && dealt) std::erase_if(owned, [&](int e) { return e % parts != f; });
                        if (ep && !dealt)
                          owned = range(f * each + std::min(f, more),
                                        f * each + std::min(f, more) + each + (f < more ? 1 : 0));
                        s.rank(ep ? f : 0, ep ? 0 : f, a, p, (a * dp + d) * pcp + c, owned);
                        flat.resize(x * pp);
                        flat[a * pp + p].push_back((((a * dp + d) * pp + p) * pcp + c) * tp + t);
                      }
              s.done();
              const int world = x * dp * pp * pcp * tp;
              s.groups("moe", {"dp", "pcp", "tp"}, flat);
              s.groups("attention", {"tp"}, strided(world, tp, 1));
              s.groups("attention", {"pcp"}, strided(world, pcp, tp));
              s.groups("attention", {"pp"}, strided(world, pp, pcp * tp));
              s.groups("attention", {"dp"}, strided(world, dp, pp * pcp * tp));
              s.groups("attention", {"external_dp"}, strided(world, x, dp * pp * pcp * tp));
              ++tried;
            }
  EXPECT_GE(tried, 300);
}

TEST(TrtllmDeployment, GroupsAndOwnersFollowTheFormulas) {
  int legal = 0, illegal = 0;
  for (int moe_tp : {1, 2, 3, 4})
    for (int moe_ep : {1, 2, 4, 6})
      for (int cluster : {1, 2})
        for (int cp : {1, 2, 3})
          for (int pp : {1, 2})
            for (bool helix : {false, true})
              for (bool cp_inner : {false, true})
                for (bool adp : {false, true})
                  for (int slots : {0, 2, 3}) {
                    const int product = moe_tp * moe_ep * cluster, tp = helix ? product / cp : product;
                    const int E = 2 * moe_ep, stage = tp * cp, world = stage * pp;
                    if (slots > E) continue;  // two replicas of an expert on one rank: no deployment
                    std::string text = "trtllm:" + key("moe_tp", moe_tp) + key("moe_ep", moe_ep) +
                                       key("moe_cluster", cluster) + key("cp", cp) + key("pp", pp) +
                                       "cp_type=" + (helix ? "helix" : "ulysses") +
                                       ",cp_order=" + (cp_inner ? "cp_inner" : "tp_inner") +
                                       (adp ? ",attention_dp," : ",");
                    if (slots > 0) text += key("slots", slots * moe_ep);
                    const bool fits =
                        (cluster == 1 || moe_ep == 1) && (helix ? product % cp == 0 : cp == 1 || moe_ep == 1);
                    ++(fits ? legal : illegal);
                    ASSERT_EQ(refused(text, E), !fits) << text;
                    if (!fits) continue;
                    text.pop_back();
                    Subject s(text, E);
                    const int count = std::max(slots, 2), step = !helix && cp_inner ? cp : 1;
                    for (int r = 0; r < world; ++r) {
                      const int attention_tp = cp_inner ? r % stage / cp : r % tp;
                      const int cp_rank = cp_inner ? r % cp : r / tp % cp;
                      const int tp_rank = helix ? r % stage : attention_tp, q = tp_rank % moe_ep;
                      Ints owned;
                      for (int i = 0; i < count; ++i) owned.push_back((q * E / moe_ep + i) % E);
                      int home = helix ? 0 : cp_rank;
                      if (adp && helix) home = attention_tp;
                      if (adp && !helix)
                        home = cp_inner ? attention_tp * cp + cp_rank : cp_rank * tp + attention_tp;
                      s.rank(q, tp_rank / (moe_ep * cluster), helix ? 0 : cp_rank, r / stage, home, owned);
                    }
                    s.done();
                    s.groups("moe", {"moe_ep"}, strided(world, moe_ep, step));
                    s.groups("moe", {"moe_cluster"}, strided(world, cluster, step * moe_ep));
                    s.groups("moe", {"moe_tp"}, strided(world, moe_tp, step * moe_ep * cluster));
                    s.groups("attention", {"tp"}, strided(world, tp, cp_inner ? cp : 1));
                    s.groups("attention", {"cp"}, strided(world, cp, cp_inner ? 1 : tp));
                    s.groups("attention", {"pp"}, strided(world, pp, stage));
                  }
  EXPECT_GT(legal, 500);
  EXPECT_GT(illegal, 500);
}

TEST(TrtllmDeployment, WhatIsLeftOutFollowsFromTheRest) {
  const auto same = [](const char* a, const char* b) {
    DeploymentSpec left = *preset_deployment(a, 16), right = *preset_deployment(b, 16);
    left.name = right.name;
    EXPECT_EQ(left, right) << a << " is " << b;
  };
  same("trtllm:tp=8", "trtllm:moe_tp=8,moe_ep=1");
  same("trtllm:tp=8,moe_ep=4", "trtllm:moe_tp=2,moe_ep=4");
  same("trtllm:tp=8,moe_tp=4", "trtllm:moe_tp=4,moe_ep=2");
  same("trtllm:tp=4,cp=2,cp_type=helix,moe_ep=4", "trtllm:moe_tp=2,moe_ep=4,cp=2,cp_type=helix");
}

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

/// Loads as a test gives them to the preset "eplb".
LoadRows test_load(const std::string& name, std::int32_t experts) {
  LoadRows rows(name == "three" ? 3 : 1);
  for (std::size_t row = 0; row < rows.size(); ++row)
    for (std::int32_t e = 0; e < experts; ++e)
      rows[row].push_back(1000 / (1 + (e + 5 * static_cast<std::int32_t>(row)) % experts));
  return rows;
}

TEST(EplbDeployment, RanksStandWhereTheFormulaSaysAndHoldTheirSlots) {
  int tried = 0;
  for (int nodes : {1, 2, 4})
    for (int gpus : {1, 2, 4})
      for (int tp : {1, 2, 3})
        for (int groups : {4, 8})
          for (int more : {0, 1, 2}) {
            const int E = 16, q = nodes * gpus, a_rank = E / q + more;
            if (a_rank > E / nodes) continue;
            Subject s("eplb:" + key("ranks", q * tp) + key("nodes", nodes) + key("tp", tp) +
                          key("groups", groups) + key("redundant", more * q) + "load=one",
                      E, test_load);
            const ExpertBalance b =
                balance_experts(test_load("one", E)[0], {q, nodes, groups, E + more * q, true});
            for (int r = 0; r < q * tp; ++r) {
              const auto slot = b.phy2log.begin() + std::ptrdiff_t{r / tp} * a_rank;
              s.rank(r / tp, r % tp, 0, 0, r / tp, Ints(slot, slot + a_rank));
            }
            s.done();
            s.groups("moe", {"moe_tp"}, strided(q * tp, tp, 1));
            s.groups("moe", {"gpu"}, strided(q * tp, gpus, tp));
            s.groups("moe", {"node"}, strided(q * tp, nodes, gpus * tp));
            ++tried;
          }
  EXPECT_GE(tried, 100);
}

TEST(EplbDeployment, EveryLayerIsBalancedByItsOwnLoad) {
  const DeploymentSpec spec =
      *preset_deployment("eplb:ranks=4,redundant=4,load=three,first_layer=3", 8, test_load);
  ASSERT_EQ(spec.classes.size(), 3U);
  for (int row = 0; row < 3; ++row) {
    EXPECT_EQ(spec.classes[row].layers, Ints{3 + row});
    EXPECT_EQ(spec.classes[row].placement.table,
              balance_experts(test_load("three", 8)[row], {4, 1, 1, 12, true}).experts_of_rank);
  }
  EXPECT_NE(spec.classes[0].placement.table, spec.classes[1].placement.table);
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

TEST(DeploymentPresets, RefuseByName) {
  const auto refusal = [](const std::string& text, std::optional<std::int32_t> experts = 8) {
    const auto load_of_ten = [](const std::string&, std::int32_t) { return test_load("one", 10); };
    try {
      preset_deployment(text, experts,
                        text.ends_with("load=ten") ? load_of_ten : decltype(PresetInput::read_load)());
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"nothing:tp=2", "sglang, vllm, trtllm, megatron, deepspeed, eplb"},
      {"sglang:tpp=2", "'tpp'; the keys are tp=, pp="},
      {"sglang:tp=2,tp=2", "given twice"},
      {"sglang:tp", "without a value"},
      {"sglang:tp=", "without a value"},
      {"sglang:tp=two", "whole number"},
      {"sglang:tp=0", "[1, "},
      {"sglang:tp=8,", "key is ''"},
      {"sglang:tp=8,ep=3", "ep * moe_dp = 3"},
      {"sglang:tp=1048576", "number of ranks"},
      {"sglang:tp=16,ep=16", "num_experts is 8"},
      {"sglang:tp=2,ep=2,redundant=1", "num_experts + redundant"},
      {"sglang:tp=4,ep=2,dispatch=dynamic", "drawn at random"},
      {"sglang:tp=4,ep=2,dispatch=fair", "one of static"},
      {"sglang:tp=4,ep=2,attn_cp=2,moe_dp=2,pp=2", "moe_dp is 2; with pp > 1"},
      {"sglang:tp=8,ep=2,attn_cp=2,moe_dp=2", "must be tp = 8"},
      {"sglang:tp=4,ep=2,moe_dp=2", "attn_cp is 1"},
      {"vllm:tp=2,ep=2", "it takes no value"},
      {"vllm:tp=2,redundant=2", "without ep"},
      {"vllm:ep,tp=2,placement=hashed", "linear, round_robin"},
      {"vllm:ep,tp=2,placement=round_robin,redundant=2", "with redundant experts"},
      {"trtllm:tp=8,moe_tp=2,moe_ep=2", "it must be tp = 8"},
      {"trtllm:tp=8,cp=2,cp_type=helix,moe_tp=2,moe_ep=2", "it must be tp * cp = 16"},
      {"trtllm:cp=2,cp_type=helix,moe_tp=3", "must be divisible by cp = 2"},
      {"trtllm:cp=2,cp_type=ring", "one of ulysses, helix"},
      {"trtllm:cp=2,moe_ep=2", "unless cp_type=helix"},
      {"trtllm:moe_cluster=2,moe_ep=2", "moe_cluster is 2"},
      {"trtllm:moe_ep=3", "moe_ep = 3"},
      {"trtllm:moe_ep=2,slots=7", "at least"},
      {"trtllm:moe_ep=2,slots=9", "slots is 9"},
      {"megatron:order=tp-xp", "it must name"},
      {"megatron:order=tp-tp", "it must name"},
      {"megatron:order=tp-,tp=2", "it must name"},
      {"megatron:order=tp-pp,dp=2", "order leaves it out"},
      {"megatron:order=ep-pp-dp,dp=1,etp=1,ep=3", "etp * ep * pp = 3"},
      {"megatron:order=cp-ep-pp-dp,cp=2,etp=2", "tp is 2; order leaves it out"},
      {"megatron:order=tp-pp-cp-ep-dp,cp=2,tp=2,dp=2,pp=2,ep=4,etp=1", "pipeline groups"},
      {"megatron:order=tp-pp-ep-dp-cp,tp=2,dp=2,pp=2,ep=2", "must be dp = 2"},
      {"deepspeed:world=6,mp=2,ep=2", "mp * ep = 4"},
      {"deepspeed:world=8,ep=2,layers=3@1", "mp * ep = 3"},
      {"deepspeed:world=8,layers=2", "EP=8 in layers"},
      {"deepspeed:world=8,layers=2@3-1", "EP=8 in layers"},
      {"deepspeed:world=8,layers=2@3x", "EP=8 in layers"},
      {"deepspeed:world=8,layers=0@3", "EP=8 in layers"},
      {"deepspeed:world=8,layers=2@99999999", "EP=8 in layers"},
      {"eplb:ranks=4", "load is missing"},
      {"eplb:ranks=4,load=file.npy", "no file can be read"},
      {"eplb:ranks=4,load=ten", "of 10 experts; the model has 8"},
      {"cpp:nothing", "the rules are snake"},
      {"cpp:snake:ep=0", "snake: ep is '0'"}};
  for (const auto& [text, part] : rows) {
    EXPECT_NE(refusal(text).find(part), std::string::npos) << text << ": " << refusal(text);
  }
  EXPECT_NE(refusal("vllm:tp=2", std::nullopt).find("--experts"), std::string::npos);
  for (const char* other : {"tp=4,ep=2", "order=moe_ep:2", "a.toml", "some/file:x.json"})
    EXPECT_FALSE(preset_deployment(other, 8)) << other;
}

}  // namespace
}  // namespace eplora
