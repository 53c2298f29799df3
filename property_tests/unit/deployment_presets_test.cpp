// SPDX-License-Identifier: Apache-2.0
// Engines' presets against tables worked out from the stated formulas with plain loops: groups as lists of
// ranks, coordinates as divisions of the rank, owners by counting. No mesh takes part in what is expected.
#include "reference/layout/deployment_presets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "reference/check.h"

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

  Subject(const std::string& preset, int num_experts)
      : text(preset),
        deployment(make_deployment(*preset_deployment(preset, num_experts))),
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
  int tried = 0;
  for (int moe_tp : {1, 2, 3, 4})
    for (int moe_ep : {1, 2, 4, 6})
      for (int cp : {1, 2, 3})
        for (int pp : {1, 2})
          for (bool cp_inner : {false, true})
            for (bool adp : {false, true})
              for (int extra : {-1, 0, 1}) {
                const int tp = moe_tp * moe_ep, E = 2 * moe_ep, world = tp * cp * pp;
                if (extra == 1 && moe_ep == 1) continue;  // two replicas of an expert on one rank
                std::string text = "trtllm:" + key("moe_tp", moe_tp) + key("moe_ep", moe_ep) + key("cp", cp) +
                                   key("pp", pp) + "cp_order=" + (cp_inner ? "cp_inner" : "tp_inner") +
                                   (adp ? ",attention_dp" : "");
                const int slots = 2 + std::max(extra, 0);
                if (extra >= 0) text += ",slots=" + std::to_string(slots * moe_ep);
                Subject s(text, E);
                for (int r = 0; r < world; ++r) {
                  const int tp_rank = cp_inner ? r % (tp * cp) / cp : r % tp;
                  const int cp_rank = cp_inner ? r % cp : r / tp % cp, q = tp_rank % moe_ep;
                  Ints owned;
                  for (int i = 0; i < slots; ++i) owned.push_back((q * E / moe_ep + i) % E);
                  const int home = !adp       ? cp_rank
                                   : cp_inner ? tp_rank * cp + cp_rank
                                              : cp_rank * tp + tp_rank;
                  s.rank(q, tp_rank / moe_ep, cp_rank, r / (tp * cp), home, owned);
                }
                s.done();
                const int step = cp_inner ? cp : 1;
                s.groups("moe", {"moe_ep"}, strided(world, moe_ep, step));
                s.groups("moe", {"moe_tp"}, strided(world, moe_tp, step * moe_ep));
                s.groups("moe", {"cp"}, strided(world, cp, cp_inner ? 1 : tp));
                s.groups("attention", {"tp"}, strided(world, tp, step));
                s.groups("attention", {"pp"}, strided(world, pp, tp * cp));
                ++tried;
              }
  EXPECT_GE(tried, 300);
}

/// Size and stride of each token of an order string whose leftmost token is fastest.
struct Span {
  int size = 1, stride = 1;
  int of(int rank) const { return rank / stride % size; }
};

TEST(MegatronDeployment, GroupsAndOwnersFollowTheOrderString) {
  std::vector<std::string> order = {"cp", "dp", "ep", "pp", "tp"};
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
                  const int at = static_cast<int>(std::string("cpdpeppptp").find(token) / 2);
                  const int one[5] = {cp, dp, 1, pp, tp}, two[5] = {1, world / inner, ep, pp, etp};
                  a[at] = {one[at], dense};
                  b[at] = {two[at], sparse};
                  dense *= one[at];
                  sparse *= two[at];
                }
                text += "order=" + words;
                Groups stages = strided(world, pp, a[3].stride), other = strided(world, pp, b[3].stride);
                const bool fits = world % inner == 0 && (pp == 1 || a[3].stride == b[3].stride);
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
                s.groups("attention", {"pp"}, stages);
                s.groups("moe", {"etp"}, strided(world, etp, b[4].stride));
                s.groups("moe", {"ep"}, strided(world, ep, b[2].stride));
                s.groups("moe", {"edp"}, strided(world, world / inner, b[1].stride));
                s.groups("moe", {"pp"}, other);
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
    try {
      preset_deployment(text, experts);
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"nothing:tp=2", "sglang, vllm, trtllm, megatron, deepspeed"},
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
      {"vllm:tp=2,ep=2", "it takes no value"},
      {"vllm:tp=2,redundant=2", "without ep"},
      {"vllm:ep,tp=2,placement=hashed", "linear, round_robin"},
      {"vllm:ep,tp=2,placement=round_robin,redundant=2", "with redundant experts"},
      {"trtllm:tp=8,moe_tp=2,moe_ep=2", "it must be tp = 8"},
      {"trtllm:moe_ep=3", "moe_ep = 3"},
      {"trtllm:moe_ep=2,slots=7", "at least"},
      {"trtllm:moe_ep=2,slots=9", "slots is 9"},
      {"megatron:order=tp-xp", "it must name"},
      {"megatron:order=tp-tp", "it must name"},
      {"megatron:order=tp-,tp=2", "it must name"},
      {"megatron:order=tp-pp,dp=2", "order leaves it out"},
      {"megatron:order=ep-pp-dp,dp=1,etp=1,ep=3", "etp * ep * pp = 3"},
      {"megatron:order=cp-ep-pp-dp,cp=2,etp=2", "tp is 2; order leaves it out"},
      {"megatron:order=tp-pp-dp-cp,cp=2,tp=2,dp=2,pp=2,etp=1", "pipeline groups"},
      {"deepspeed:world=6,mp=2,ep=2", "mp * ep = 4"},
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
