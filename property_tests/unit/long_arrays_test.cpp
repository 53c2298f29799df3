// SPDX-License-Identifier: Apache-2.0
// Long arrays of a saved case: told by their generator, and the same values again when read.
#include "property_tests/suite/long_arrays.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "property_tests/generators/draw.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/suite/property.h"
#include "reference/check.h"

namespace eplora::suite {
namespace {

using nlohmann::json;

const PropertyDefinition& a_property() { return definition_of("Align.FillerIsNoSlot"); }

/// A drawn case with more than kLongArray ids.
std::shared_ptr<const CaseOf<AlignCase>> large_case() {
  for (std::uint64_t seed = 1; seed < 1000; ++seed) {
    Draw draw(seed);
    auto c = std::dynamic_pointer_cast<const CaseOf<AlignCase>>(a_property().draw(draw, 100, {}));
    if (c->value.batch.n() > kLongArray) return c;
  }
  return nullptr;
}

json file_of(const Case& c) { return json::parse(case_file_text(a_property(), c, "someone", "", 1)); }

TEST(LongArrays, ACaseAsDrawnIsItsSeedAndReplaysToTheSameValues) {
  const auto c = large_case();
  ASSERT_TRUE(c);
  const json file = file_of(*c);
  EXPECT_EQ(file.at("generator").at("seed"), c->origin.seed);
  EXPECT_LT(file.dump().size(), 2000U);
  EXPECT_EQ(case_of_file(a_property(), file)->json(), c->json());
}

TEST(LongArrays, AChangedCaseKeepsTheValuesThatMatter) {
  const auto c = large_case();
  ASSERT_TRUE(c);
  AlignCase changed = c->value;
  erase_tokens(changed.batch, 3, 5);
  changed.batch.ids[7] = -77;
  changed.batch.ids[changed.batch.n() - 2] = 12345;
  if (changed.batch.num_tokens_kind == NumTokens::Kind::value)
    changed.batch.num_tokens =
        std::min<std::int32_t>(changed.batch.num_tokens, static_cast<std::int32_t>(changed.batch.T));
  CaseOf<AlignCase> smaller(changed);
  smaller.origin = c->origin;
  const json file = file_of(smaller);
  ASSERT_TRUE(file.contains("generator"));
  EXPECT_NE(file.dump().find("-77"), std::string::npos);
  const CasePtr again = case_of_file(a_property(), file);
  EXPECT_EQ(again->json(), smaller.json());
  EXPECT_EQ(file_of(*again), file);  // read and written again: the same file
}

TEST(LongArrays, AnotherGeneratorIsNoticed) {
  const auto c = large_case();
  ASSERT_TRUE(c);
  json file = file_of(*c);
  file["generator"]["seed"] = c->origin.seed + 1;
  EXPECT_THROW(case_of_file(a_property(), file), InvalidArgument);
  file = file_of(*c);
  file["case"]["batch"]["ids"]["hash"] = "0000000000000000";
  EXPECT_THROW(case_of_file(a_property(), file), InvalidArgument);
  file = file_of(*c);
  file.erase("generator");
  EXPECT_THROW(case_of_file(a_property(), file), InvalidArgument);
}

TEST(LongArrays, ACaseOfNoGeneratorKeepsItsValues) {
  const auto c = large_case();
  ASSERT_TRUE(c);
  const json file = file_of(CaseOf<AlignCase>(c->value));
  EXPECT_FALSE(file.contains("generator"));
  EXPECT_EQ(file.at("case"), c->json());
}

}  // namespace
}  // namespace eplora::suite
