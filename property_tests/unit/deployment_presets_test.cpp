// SPDX-License-Identifier: Apache-2.0
// Presets of serving engines - SGLang, vLLM, TensorRT-LLM - against tables worked out from the stated
// formulas with plain loops: groups as lists of ranks, coordinates as divisions of the rank, owners by
// counting.
#include "property_tests/unit/preset_subject.h"

namespace eplora::preset_test {
namespace {

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

}  // namespace
}  // namespace eplora::preset_test
