// SPDX-License-Identifier: Apache-2.0
// What the tests of presets share: groups as lists of ranks that plain loops give, and a deployment compared
// with them rank by rank. No mesh takes part in what is expected.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "reference/check.h"
#include "reference/layout/deployment_presets.h"

namespace eplora::preset_test {

using Ints = std::vector<std::int32_t>;
using Groups = std::vector<Ints>;

/// `size` ranks `stride` apart, in blocks of size * stride.
inline Groups strided(int world, int size, int stride) {
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

inline Ints range(int begin, int end) {
  Ints ids;
  for (int i = begin; i < end; ++i) ids.push_back(i);
  return ids;
}

inline std::string key(const char* name, int value) {
  return std::string(name) + "=" + std::to_string(value) + ",";
}

inline bool refused(std::string text, int experts) {
  text.pop_back();  // the last comma
  try {
    preset_deployment(text, experts);
    return false;
  } catch (const InvalidArgument&) {
    return true;
  }
}

/// Loads as a test gives them to the preset "eplb".
inline LoadRows test_load(const std::string& name, std::int32_t experts) {
  LoadRows rows(name == "three" ? 3 : 1);
  for (std::size_t row = 0; row < rows.size(); ++row)
    for (std::int32_t e = 0; e < experts; ++e)
      rows[row].push_back(1000 / (1 + (e + 5 * static_cast<std::int32_t>(row)) % experts));
  return rows;
}

}  // namespace eplora::preset_test
