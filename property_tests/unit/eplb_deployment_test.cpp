// SPDX-License-Identifier: Apache-2.0
// The preset "eplb": ranks stand where its formula says and hold the slots that EPLB gave them.
#include "property_tests/unit/preset_subject.h"
#include "reference/layout/eplb.h"

namespace eplora::preset_test {
namespace {

TEST(EplbDeployment, RanksStandWhereTheFormulaSaysAndHoldTheirSlots) {
  int tried = 0;
  for (int nodes : {1, 2, 4, 8})
    for (int gpus : {1, 2, 4, 8})
      for (int tp : {1, 2, 3})
        for (int groups : {8, 16})
          for (int more : {0, 1, 3}) {
            const int E = 32, q = nodes * gpus, a_rank = E / q + more;
            if (E % q != 0 || a_rank > E / nodes) continue;
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
  EXPECT_GE(tried, 200);
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

}  // namespace
}  // namespace eplora::preset_test
