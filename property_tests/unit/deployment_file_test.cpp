// SPDX-License-Identifier: Apache-2.0
// The layout language: what is written is read back, every mistake has its line and column, the short form is
// the long one, and every example is proven.
#include "cli/formats/deployment_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "cli/formats/layout_file.h"
#include "property_tests/generators/deployed_cases.h"
#include "property_tests/suite/layout_proofs.h"
#include "property_tests/unit/format_files.h"
#include "reference/check.h"

namespace eplora {
namespace {

using testing_files::TempFolder;

class DeploymentFile : public testing::Test {
 protected:
  DeploymentSpec read(const std::string& text, std::optional<std::int32_t> experts = {}) {
    std::ofstream(folder_ / "a.toml") << text;
    return read_deployment_file(folder_ / "a.toml", experts);
  }
  /// The sentence behind the file's name; empty where the text is taken.
  std::string refusal(const std::string& text, std::optional<std::int32_t> experts = {}) {
    try {
      read(text, experts);
    } catch (const InvalidArgument& error) {
      const std::string sentence = error.what(), name = (folder_ / "a.toml").string();
      EXPECT_TRUE(sentence.starts_with(name)) << sentence;
      return sentence.substr(std::min(name.size(), sentence.size()));
    }
    return {};
  }
  void refuses(const std::string& text, const std::string& part) {
    const std::string sentence = refusal(text);
    EXPECT_NE(sentence.find(part), std::string::npos) << "said: " << sentence << "\nof:\n" << text;
  }
  TempFolder folder_;
};

TEST_F(DeploymentFile, WhatIsWrittenIsReadBack) {
  std::set<std::string> words;
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    DeploymentSpec spec = suite::random_deployment(seed, 24);
    spec.name = seed % 3 == 0 ? "a \"name\" \\ with\ttabs\nand \x7f" : "plain";
    const std::string text = write_deployment_toml(spec);
    ASSERT_EQ(read(text), spec) << text;
    ASSERT_EQ(write_deployment_toml(read(text)), text);
    for (const LayerClassSpec& c : spec.classes) {
      words.emplace(to_string(c.placement.rule));
      words.emplace("shared " + std::string(to_string(c.shared_experts.kind)));
      words.emplace("form " + std::string(to_string(c.weight_form)));
      words.emplace("replicas " + std::string(to_string(c.placement.replicas)));
      words.emplace(c.sum_over ? "a sum named" : "the sum that follows");
      words.emplace(c.padding.multiple > 1 ? "padded " + std::string(to_string(c.padding.place)) : "plain");
    }
  }
  EXPECT_EQ(words.size(), 5U + 4U + 5U + 4U + 2U + 3U);
}

TEST_F(DeploymentFile, IdsAreWrittenAsRunsAndReadBack) {
  DeploymentSpec spec = suite::random_deployment(3, 8);
  spec.classes.resize(1);
  spec.classes[0].layers = {7, 0, 1, 2, 3, 4, 9, 10, 11, 30};
  const std::string text = write_deployment_toml(spec);
  EXPECT_NE(text.find("ids = [7, {first = 0, last = 4}, 9, 10, 11, 30]"), std::string::npos) << text;
  EXPECT_EQ(read(text), spec);
}

TEST_F(DeploymentFile, AnUnknownKeyIsFoundOnItsLine) {
  int changed = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    std::istringstream lines(write_deployment_toml(suite::random_deployment(seed, 12)));
    std::vector<std::string> text;
    for (std::string line; std::getline(lines, line);) text.push_back(line);
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (text[at].find(" = ") == std::string::npos) continue;
      std::string spoilt;
      for (std::size_t i = 0; i < text.size(); ++i) spoilt += (i == at ? "x" : "") + text[i] + "\n";
      const std::string sentence = refusal(spoilt);
      EXPECT_TRUE(sentence.starts_with(":" + std::to_string(at + 1) + ":1: key 'x")) << sentence << spoilt;
      ++changed;
    }
  }
  EXPECT_GT(changed, 500);
}

TEST_F(DeploymentFile, TheShortFormIsTheLongOne) {
  const DeploymentSpec brief = read(R"(axes = [{name = "ep", size = 2}, {name = "tp", size = 3}]
name = "x"
weight_form = "up_first"
shared_outer = true
sum_over = ["ep"]
sharding = {experts = ["ep"], intermediate = ["tp"], hidden = ["tp"]}
placement = {kind = "round_robin"}
padding = {multiple = 8}
shared_experts = {kind = "replicated", count = 1, intermediate = 24}
attention = {tokens = ["ep"], heads = ["tp"]}
)",
                                    6);
  const DeploymentSpec full = read(R"(name = "x"
[[grid]]
name = "ranks"
axes = [{name = "ep", size = 2}, {name = "tp", size = 3}]
[attention]
tokens = ["ep"]
heads = ["tp"]
[[layers]]
weight_form = "up_first"
shared_outer = true
sum_over = ["ep"]
[layers.sharding]
experts = ["ep"]
intermediate = ["tp"]
hidden = ["tp"]
[layers.placement]
kind = "round_robin"
num_experts = 6
[layers.padding]
multiple = 8
[layers.shared_experts]
kind = "replicated"
count = 1
intermediate = 24
)");
  EXPECT_EQ(brief, full);
  EXPECT_EQ(brief.classes[0].padding, (PaddingSpec{8, PaddingPlace::each_rank}));
  EXPECT_EQ(read("axes = []\n", 4).name, "a");  // the file's own name
}

/// Lines of a right file; a test changes one. Line 2 is the grid, 5 the class, 6 sharding, 7 placement.
std::string file_with(std::size_t line, const std::string& instead) {
  std::vector<std::string> lines = {
      "name = \"x\"",
      "[[grid]]",
      "name = \"moe\"",
      "axes = [{name = \"dp\", size = 2}, {name = \"ep\", size = 2}, {name = \"tp\", size = 2}]",
      "[[layers]]",
      "sharding = {tokens = [\"dp\"], experts = [\"ep\"], intermediate = [\"tp\"]}",
      "placement = {kind = \"linear\", num_experts = 8}",
      ""};
  lines[line - 1] = instead;
  std::string text;
  for (const std::string& one : lines) text += one + "\n";
  return text;
}

TEST_F(DeploymentFile, EveryMistakeHasALineAndAColumn) {
  EXPECT_EQ(refusal(file_with(8, "")), "");
  refuses(file_with(1, "axes = []"), ":1:1: key 'axes' is unknown; the keys here are name, grid, attention");
  refuses(file_with(1, "name = 3"), ":1:8: name must be a string");
  refuses(file_with(3, "name = \"\""), ":3:8: grid.name is empty");
  refuses(file_with(3, ""), "grid.name is missing");
  refuses(file_with(4, ""), ":2:1: grid.axes is missing");
  refuses(file_with(4, "axes = [{name = \"dp\", size = 2.0}]"), ":4:30: axis size must be a whole number");
  refuses(file_with(4, "axes = [{name = \"dp\", size = 0}]"), ":4:30: axis size is 0; it must be in [1, ");
  refuses(file_with(4, "axes = [{name = \"\", size = 1}]"), ":4:17: axis.name is empty");
  refuses(file_with(4, "axes = [{size = 1}]"), ":4:9: axis.name is missing");
  refuses(file_with(4, "axes = [[\"dp\", 2]]"), ":4:9: an axis must be {name");
  refuses(file_with(4, "axes = [{name = \"a\", size = 1}, {name = \"a\", size = 2}]"),
          ":4:41: axis 'a' is there already");
  refuses(file_with(4, "axes = [{name = \"a\", size = 65536}, {name = \"b\", size = 65536}]"),
          ":4:8: number of ranks (a=65536 * b=65536)");
  refuses(file_with(4, "axes = [{name = \"a\", size = 262144}]"), ":4:8: number of ranks is 262144; it must");
  refuses(file_with(5, "[[grid]]\nname = \"moe\"\naxes = []\n[[layers]]"), ":6:8: grid 'moe' is there");
  refuses(file_with(5, "[[grid]]\nname = \"b\"\naxes = []\n[[layers]]"),
          ":7:8: grid b is 1 ranks; grid moe has 8");
  refuses(file_with(5, "[attention]\ntokens = [\"dp\"]\nheads = [\"dp\"]\n[[layers]]"),
          ":7:10: axis 'dp' is used twice, it cuts tokens already");
  refuses(file_with(5, "[attention]\ngrid = \"b\"\n[[layers]]"),
          ":6:8: attention.grid is 'b'; the grids are moe");
  refuses(file_with(6, "sharding = {tokens = [\"dq\"]}"),
          ":6:23: axis 'dq' is not in axes of grid 'moe', which are dp, ep, tp");
  refuses(file_with(6, "sharding = {experts = [\"ep\"], intermediate = [\"tp\", \"ep\"]}"),
          ":6:53: axis 'ep' is used twice, it cuts experts already");
  refuses(file_with(6, "sharding = {experts = [\"ep\", \"ep\"]}"), ":6:30: axis 'ep' is used twice");
  refuses(file_with(6, "sharding = {experts = [\"ep\"], lora_rank = [\"ep\"]}"),
          ":6:44: axis 'ep' is used twice");
  refuses(file_with(6, "sharding = {experts = \"ep\"}"), ":6:23: sharding.experts must be an array");
  refuses(file_with(6, "sharding = {experts = [1]}"), ":6:24: an entry of sharding.experts must be a string");
  refuses(file_with(7, ""), "placement.num_experts is missing");
  refuses(file_with(7, "placement = {num_experts = 0}"), ":7:28: placement.num_experts is 0");
  refuses(
      file_with(7, "placement = {num_experts = 8, kind = \"hashed\"}"),
      ":7:38: placement.kind is 'hashed'; it must be linear, round_robin, table, redundant or wrap_around");
  refuses(file_with(7, "placement = {num_experts = 8, redundant = 2}"),
          ":7:43: placement.redundant goes with");
  refuses(file_with(7, "placement = {num_experts = 8, kind = \"redundant\", redundant = 1}"),
          ":7:13: class moe: num");
  refuses(file_with(7, "placement = {num_experts = 8, kind = \"table\"}"),
          ":7:38: placement.table goes with");
  refuses(file_with(7, "placement = {num_experts = 2, table = [[0], [1]]}"),
          ":7:39: placement.table goes with");
  refuses(file_with(7, "placement = {num_experts = 2, kind = \"table\", table = [[0], [2]]}"),
          ":7:62: an expert of placement.table is 2; it must be in [0, 1]");
  refuses(file_with(7, "placement = {num_experts = 2, kind = \"table\", table = [[0], [0]]}"),
          ":7:13: placement of expert 1 is empty");
  refuses(file_with(7, "placement = {num_experts = 2, kind = \"table\", table = [[0, 1]]}"),
          ":7:13: placement table rows");
  refuses(file_with(8, "ids = [0, 0]"), ":8:11: layer 0 is in a class already");
  refuses(file_with(8, "ids = [{first = 3, last = 2}]"), ":8:27: ids.last is 2; it must be in [3, ");
  refuses(file_with(8, "weight_form = \"stack\""),
          ":8:15: layers.weight_form is 'stack'; it must be stacked, ");
  refuses(file_with(8, "interleave_block = 2"), ":8:20: interleave_block goes with");
  refuses(file_with(8, "shared_outer = 1"), ":8:16: layers.shared_outer must be true or false");
  refuses(file_with(8, "sum_over = \"ep\""), ":8:12: layers.sum_over must be an array");
  refuses(file_with(8, "sum_over = [\"eq\"]"), ":8:13: axis 'eq' is not in axes of grid 'moe'");
  refuses(file_with(8, "sum_over = [\"ep\", \"ep\"]"), ":8:19: axis 'ep' is used twice, it stands here");
  refuses(file_with(8, "padding = {multiple = 0}"), ":8:23: padding.multiple is 0");
  refuses(file_with(8, "padding = 4"), ":8:11: padding must be a table");
  refuses(file_with(8, "shared_experts = {count = 1}"), ":8:18: shared_experts.kind is missing");
  refuses(file_with(8, "shared_experts = {kind = \"fused\"}"), ":8:18: class moe: shared experts is 0");
  refuses(file_with(8, "shared_experts = {kind = \"fused\", count = 1, axes = [\"tp\"]}"),
          ":8:18: class moe: shared");
  refuses(file_with(8, "shared_experts = {kind = \"sharded\", count = 1, axes = [\"ep\"]}"),
          ":8:56: axis 'ep' is used");
  const std::string second = "[[layers]]\nplacement = {num_experts = 8}";
  refuses(file_with(8, second), ":8:1: layers.name is 'moe'; another class has this name");
  refuses(file_with(8, second + "\nname = \"b\""), ":8:1: layers.ids is missing");
  refuses("[[layers]]\n", ":1:1: grid is missing");
  refuses("[[grid]]\nname = \"a\"\naxes = []\n", ":1:1: layers is missing");
  refuses("axes = [\n", ":1:10: ");
  EXPECT_EQ(refusal(file_with(8, ""), 9).substr(0, 6), ":7:45:");  // the model has 9
}

TEST_F(DeploymentFile, CommandsOfOneLayoutRefuseWhatTheyWouldDrop) {
  const std::string plain = "axes = [{name = \"a\", size = 2}]\nsharding = {experts = [\"a\"]}\n";
  std::ofstream(folder_ / "a.toml") << plain
                                    << "placement = {kind = \"wrap_around\", num_experts = 4, redundant = 2}";
  EXPECT_EQ(read_layout_file(folder_ / "a.toml").placement.table,
            (std::vector<std::vector<std::int32_t>>{{0, 1, 2}, {2, 3, 0}}));
  for (const char* more : {"padding = {multiple = 8}", "shared_outer = true",
                           "attention = {tokens = [\"a\"]}", "weight_form = \"interleaved\"",
                           "sum_over = [\"a\"]", "shared_experts = {kind = \"fused\", count = 1}"}) {
    std::ofstream(folder_ / "a.toml") << plain << more;
    EXPECT_NO_THROW(read_deployment_file(folder_ / "a.toml", 4)) << more;
    EXPECT_THROW(read_layout_file(folder_ / "a.toml", 4), InvalidArgument) << more;
  }
}

TEST_F(DeploymentFile, EveryExampleIsProvenAndWrittenBack) {
  int examples = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(EPLORA_SOURCE_DIR) / "examples/layouts")) {
    if (entry.path().extension() != ".toml") continue;
    ++examples;
    std::string first;
    std::getline(std::ifstream(entry.path()) >> std::ws, first);
    EXPECT_TRUE(first.starts_with("# ")) << entry.path() << " opens with what it shows";
    DeploymentSpec spec;
    try {
      spec = read_deployment_file(entry.path());
    } catch (const InvalidArgument&) {
      spec = read_deployment_file(entry.path(), 8);
    }
    EXPECT_EQ(read(write_deployment_toml(spec)), spec) << entry.path();
    for (const LayerClass& c : make_deployment(spec).classes) {
      const suite::ResolvedTrial trial = suite::resolve({spec, c.spec.name, suite::proof_sizes(c), 1});
      for (const suite::Proof proof : suite::kProofs) {
        const contract::Verdict bad = suite::prove(proof, trial);
        EXPECT_FALSE(bad) << entry.path() << ", " << to_string(proof) << ": " << bad->sentence;
      }
    }
  }
  EXPECT_GE(examples, 13);
}

TEST(LayoutSpecOf, RefusesSlotsThatNoRuleMakes) {
  DeploymentSpec spec{"x", {{"g", {{"ep", 2}}}}, {}, {}};
  LayerClassSpec c;
  c.grid = "g";
  c.sharding.experts = {"ep"};
  for (const PlacementRule rule : {PlacementRule::linear, PlacementRule::round_robin}) {
    c.placement = {rule, 4, 2, {}, ReplicaRule::slot};
    spec.classes = {c};
    EXPECT_THROW(make_deployment(spec), InvalidArgument) << to_string(rule);
    spec.classes[0].placement.redundant = 0;
    EXPECT_NO_THROW(make_deployment(spec)) << to_string(rule);
  }
}

}  // namespace
}  // namespace eplora
