// SPDX-License-Identifier: Apache-2.0
// Meshes, presets and placements against tables worked out by hand from the contract's section 2.
#include "reference/layout/layout.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "cli/formats/layout_file.h"
#include "reference/check.h"
#include "reference/layout/presets.h"

namespace eplora {
namespace {

using Groups = std::vector<std::vector<std::int32_t>>;

TEST(Mesh, TheLastAxisVariesFastestOverRanks) {
  const Mesh mesh({{"a", 2}, {"b", 3}});
  EXPECT_EQ(mesh.num_ranks(), 6);
  EXPECT_EQ(mesh.coordinates(4), (std::vector<std::int32_t>{1, 1}));
  EXPECT_EQ(mesh.rank_at({1, 2}), 5);
}

TEST(Mesh, GroupsAreTheRanksThatAgreeInAllOtherCoordinates) {
  const Mesh mesh({{"a", 2}, {"b", 3}, {"c", 2}});
  EXPECT_EQ(mesh.groups({"c"}), (Groups{{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}, {10, 11}}));
  EXPECT_EQ(mesh.groups({"b"}), (Groups{{0, 2, 4}, {1, 3, 5}, {6, 8, 10}, {7, 9, 11}}));
  EXPECT_EQ(mesh.groups({"c", "a"}), (Groups{{0, 1, 6, 7}, {2, 3, 8, 9}, {4, 5, 10, 11}}));
  EXPECT_EQ(mesh.groups({}).size(), 12U);
}

TEST(Mesh, TheEmptyMeshIsOneRank) {
  EXPECT_EQ(Mesh().num_ranks(), 1);
  EXPECT_EQ(Mesh().groups({}), (Groups{{0}}));
}

TEST(SglangPreset, MoeTpRanksOfTp4Ep2Are0101) {
  const Layout layout = make_layout(sglang_layout({4, 2, 1}, 8));
  std::vector<std::int32_t> moe_tp_ranks, ep_ranks;
  for (const RankPlace& place : layout.places) {
    moe_tp_ranks.push_back(place.moe_tp_rank);
    ep_ranks.push_back(place.ep_rank);
  }
  EXPECT_EQ(moe_tp_ranks, (std::vector<std::int32_t>{0, 1, 0, 1}));
  EXPECT_EQ(ep_ranks, (std::vector<std::int32_t>{0, 0, 1, 1}));
  EXPECT_EQ(layout.column_range(768, 3), (Range{384, 768}));
}

TEST(SglangPreset, RankFormulasHoldForEverySize) {
  for (const SglangSizes& sizes : sglang_sizes_that_divide(24, 5040)) {
    const Layout layout = make_layout(sglang_layout(sizes, 64));
    const std::int32_t moe_tp = sizes.tp / sizes.ep / sizes.moe_dp;
    for (std::int32_t rank = 0; rank < sizes.tp; ++rank) {
      EXPECT_EQ(layout.places[rank].moe_tp_rank, rank % moe_tp) << to_string(sizes);
      EXPECT_EQ(layout.places[rank].ep_rank, rank / moe_tp % sizes.ep) << to_string(sizes);
      EXPECT_EQ(layout.places[rank].token_shard, rank / (moe_tp * sizes.ep)) << to_string(sizes);
    }
  }
}

TEST(SglangPreset, ThirtySixSizesUpToTp8DivideFortyEightColumns) {
  EXPECT_EQ(sglang_sizes_that_divide(8, 48).size(), 36U);  // 30 with 8 % ep == 0, 6 without
}

TEST(Placement, TheFirstRanksOwnTheRemainder) {
  const Placement placement = Placement::linear(30, 8);
  std::vector<std::size_t> owned;
  for (const auto& experts : placement.experts_of_rank()) owned.push_back(experts.size());
  EXPECT_EQ(owned, (std::vector<std::size_t>{4, 4, 4, 4, 4, 4, 3, 3}));
  EXPECT_EQ(placement.local_experts(6), (std::vector<std::int32_t>{24, 25, 26}));
}

TEST(Placement, RoundRobinDealsExpertsInTurn) {
  EXPECT_EQ(Placement::round_robin(8, 3).local_experts(1), (std::vector<std::int32_t>{1, 4, 7}));
  EXPECT_EQ(Placement::round_robin(2, 4).local_experts(3), (std::vector<std::int32_t>{}));
}

TEST(Placement, ReplicasAreOrderedByRankThenLocalId) {
  const Placement placement = Placement::table(3, {{2, 0}, {1, 2}});
  EXPECT_EQ(placement.replicas(2), (std::vector<ExpertReplica>{{0, 0}, {1, 1}}));
  EXPECT_TRUE(placement.has_replicas());
  const DispatchTable table = placement.dispatch_table(1);
  EXPECT_EQ(table.offsets, (std::vector<std::int32_t>{0, 1, 2, 4}));
  EXPECT_EQ(table.local_ids, (std::vector<std::int32_t>{-1, 0, -1, 1}));
}

TEST(Placement, RedundantSlotsWrapAroundTheExperts) {
  const Placement placement = Placement::redundant(6, 2, 4);
  EXPECT_EQ(placement.local_experts(3), (std::vector<std::int32_t>{0, 1}));
  EXPECT_THROW(Placement::redundant(4, 4, 1), InvalidArgument);  // two replicas of an expert on the one rank
}

TEST(ContiguousPart, CutsTheTotalWithTheRemainderFirst) {
  EXPECT_EQ(contiguous_part(7, 3, 0), (Range{0, 3}));
  EXPECT_EQ(contiguous_part(7, 3, 2), (Range{5, 7}));
  EXPECT_EQ(contiguous_part(1, 3, 2).size(), 0);
}

class LayoutFile : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& text) {
    path_ = std::filesystem::temp_directory_path() /
            ("eplora_layout_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()) +
             ".toml");
    std::ofstream(path_) << text;
    return path_;
  }
  void TearDown() override { std::filesystem::remove(path_); }
  void expect_error(const std::string& text, const std::string& part) {
    try {
      read_layout_file(write(text), 8);
      FAIL() << "accepted: " << text;
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
  std::filesystem::path path_;
};

TEST_F(LayoutFile, SaysTheSameAsThePreset) {
  const LayoutSpec spec = read_layout_file(write(R"(
axes = [{name = "moe_dp", size = 1}, {name = "moe_ep", size = 2}, {name = "moe_tp", size = 2}]
sharding = {tokens = ["moe_dp"], experts = ["moe_ep"], intermediate = ["moe_tp"]}
placement = {kind = "linear", num_experts = 8}
)"));
  EXPECT_EQ(spec, sglang_layout({4, 2, 1}, 8));
}

TEST_F(LayoutFile, EveryMistakeHasALineAndAColumn) {
  expect_error("axes = [{name = \"a\", size = 2}]\nshardings = {}\n", ":2:1: key 'shardings' is unknown");
  expect_error("axes = [{name = \"a\", size = 0}]\n", ":1:29: axis size is 0");
  expect_error("axes = [{name = \"a\", size = 2}]\nsharding = {experts = [\"b\"]}\n",
               ":2:24: axis 'b' is not in axes");
  expect_error("axes = [\n", ":1:10:");
  expect_error("axes = []\nplacement = {num_experts = 9}\n", "the model has 8");
  expect_error("axes = []\nplacement = {kind = \"scattered\"}\n", "it must be linear, round_robin, table");
  expect_error("axes = []\nplacement = {kind = \"table\"}\n", "placement.table goes with");
  expect_error("axes = [{name = \"a\", size = 2}]\nsharding = {experts = [\"a\"], tokens = [\"a\"]}\n",
               "used twice");
}

}  // namespace
}  // namespace eplora
