// SPDX-License-Identifier: Apache-2.0
// The judges' own tests, P12 to P15 and P17: callables that leak, remember, read what nobody wrote, overflow
// or resize are refused; honest ones are accepted.
#include "reference/contract/callables.h"

#include <limits>

#include "property_tests/unit/contract_expect.h"
#include "reference/check.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"

namespace eplora::contract {
namespace {

using Ids = std::vector<std::int32_t>;

ResultBytes int32_result(const Ids& values, const std::string& name = "virtual_ids") {
  const auto bytes = std::as_bytes(std::span(values));
  return {{name, {bytes.begin(), bytes.end()}, 4}};
}

TEST(P13, RefusesAResultThatDependsOnPoison) {
  const auto reads_memory = [](std::uint8_t poison) { return int32_result({1, 2, poison, 4}); };
  expect_violation(p13_unwritten_memory(reads_memory), "P13", 2, "165", "90", "element 2 of virtual_ids");
  const auto leaves_a_byte = [](std::uint8_t poison) {
    ResultBytes result = int32_result({1, 2, 3, 4});
    result[0].bytes[15] = std::byte{poison};
    return result;
  };
  expect_violation(p13_unwritten_memory(leaves_a_byte), "P13", 3, "-1526726652", "1509949444");
  const auto leaves_a_bit = [](std::uint8_t poison) {
    return int32_result({1, (poison & 2) != 0 ? 1 : 0, 3});
  };
  expect_violation(p13_unwritten_memory(leaves_a_bit), "P13", 1, "0", "1");
}
TEST(P13, RefusesALengthThatDependsOnPoison) {
  const auto resizes = [](std::uint8_t poison) { return int32_result(Ids(poison > 100 ? 3 : 2)); };
  expect_violation(p13_unwritten_memory(resizes), "P13", -1, "12", "8", "bytes of virtual_ids");
  const auto vanishes = [](std::uint8_t poison) { return poison > 100 ? ResultBytes{} : int32_result({1}); };
  expect_violation(p13_unwritten_memory(vanishes), "P13", -1, "0", "1", "number of arrays");
}
TEST(P13, AcceptsAResultThatIgnoresPoison) {
  int runs = 0;
  expect_accepted(p13_unwritten_memory([&](std::uint8_t) { return ++runs, int32_result({1, 2}); }));
  EXPECT_EQ(runs, 2);
}

TEST(P14, RefusesWhatChangesBetweenRuns) {
  int runs = 0;
  const auto third_differs = [&] { return int32_result({7, ++runs == 3 ? 9 : 8}, "expert_ids"); };
  expect_violation(p14_determinism(third_differs, 5), "P14", 1, "8", "9", "element 1 of expert_ids in run 3");
  runs = 0;
  expect_accepted(p14_determinism(third_differs, 2));  // it needs its third run
  runs = 0;
  const auto bytes = [&] { return ResultBytes{{"mask", {std::byte{1}, std::byte(++runs)}, 1}}; };
  expect_violation(p14_determinism(bytes, 2), "P14", 1, "1", "2", "element 1 of mask");
  EXPECT_THROW(p14_determinism(bytes, 1), InvalidArgument);  // one run proves nothing
}

TEST(ResultBytes, ShowWhatTheFormPromises) {
  const AlignResult result{{3, 0, 5, 8, 1, 7, 9, 9}, {0, 0, 2, 17}, 6};
  AlignResult swapped = result;
  std::swap(swapped.sorted_token_ids[0], swapped.sorted_token_ids[2]);  // inside bucket 0
  AlignResult other_tail = result;
  other_tail.sorted_token_ids[7] = -4;
  other_tail.expert_ids[3] = 4;
  AlignResult moved = result;
  std::swap(moved.sorted_token_ids[3], moved.sorted_token_ids[4]);  // between buckets
  const auto same = [&](const AlignResult& other, const Form& form) {
    int run = 0;
    return !p14_determinism([&] { return result_bytes(run++ == 0 ? result : other, 2, form); }, 2);
  };
  Form form;
  EXPECT_TRUE(same(result, form));
  EXPECT_FALSE(same(swapped, form) || same(other_tail, form) || same(moved, form));
  form.order = Order::nondeterministic;
  EXPECT_TRUE(same(swapped, form));
  EXPECT_FALSE(same(other_tail, form) || same(moved, form));
  form.tail = Tail::unwritten;
  EXPECT_TRUE(same(swapped, form) && same(other_tail, form));
  EXPECT_FALSE(same(moved, form));
  EXPECT_EQ(determinism_note(form), "deterministic: no (declared)");
  EXPECT_EQ(to_string(form), "order=nondeterministic tail=unwritten");
  EXPECT_EQ(to_string(Form{}), "canonical");
}
TEST(ResultBytes, SurviveGarbage) {
  Form form;
  form.order = Order::nondeterministic;
  form.tail = Tail::unwritten;
  for (const std::int32_t used : {-5, 0, 1, 3, 99, std::numeric_limits<std::int32_t>::max()})
    for (const std::int64_t B :
         {std::int64_t{-1}, std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, std::int64_t{1} << 40})
      for (const auto& [slots, labels] : {std::pair<int, int>{0, 0}, {7, 2}, {2, 7}, {0, 3}})
        EXPECT_EQ(result_bytes(AlignResult{Ids(slots, 4), Ids(labels, 1), used}, B, form).size(), 3U);
  EXPECT_EQ(result_bytes(DispatchResult{{1, 2}})[0].bytes.size(), 8U);
  EXPECT_EQ(result_bytes(RemapResult{{1}, {1}})[1].element_size, 1U);
  EXPECT_EQ(result_bytes(RouteResult{}, 1).size(), 4U);
}

TEST(P12, RefusesARowThatOtherAdaptersChange) {
  using Matrix = reference::Matrix<double>;
  const std::vector<std::int64_t> tokens{0, 2};
  const auto leaks = [](bool without) {
    Matrix out = Matrix::Constant(3, 2, 1.5);
    out(1, 0) = without ? 0 : 9;  // a token of the changed adapter
    out(2, 1) = without ? 1.5 : std::nextafter(1.5, 2);
    return out;
  };
  expect_violation(p12_isolation(leaks, tokens), "P12", 2, "1.5", "1.5000000000000002", "token 2, column 1");
  expect_accepted(p12_isolation(leaks, std::vector<std::int64_t>{0}));
  expect_accepted(p12_isolation(leaks, tokens, [](std::int64_t, std::int64_t) { return 1e-12; }));
  expect_violation(
      p12_isolation(leaks, std::vector<std::int64_t>{1}, [](std::int64_t, std::int64_t) { return 1e-12; }),
      "P12", 1, "0", "9");
  const auto sign = [](bool without) { return Matrix::Constant(1, 1, without ? 0.0 : -0.0).eval(); };
  expect_violation(p12_isolation(sign, std::vector<std::int64_t>{0}), "P12", 0, "0", "-0 with other bits");
  const auto grows = [](bool without) { return Matrix::Zero(without ? 2 : 3, 2).eval(); };
  expect_violation(p12_isolation(grows, tokens), "P12", -1, "[2, 2]", "[3, 2]");
  expect_violation(p12_isolation(leaks, std::vector<std::int64_t>{7}), "P12", 7, "at least 8", "3");
}

/// A remap that computes offsets in `Offset`; E=1000, adapter 0: the id itself.
template <class Offset>
Ids reads_with(const std::int32_t* base, std::int64_t rows, std::int64_t cols, std::int64_t row_stride) {
  Ids result;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t col = 0; col < cols; ++col)
      result.push_back(base[static_cast<Offset>(static_cast<std::uint64_t>(row * row_stride + col))]);
  return result;
}
std::int32_t same_id(std::int32_t id) { return id; }

TEST(P15, AcceptsWideOffsetsAndTheReference) {
  expect_accepted(p15_wide_indices(reads_with<std::int64_t>, same_id));
  const auto dispatch = [](const std::int32_t* base, std::int64_t rows, std::int64_t cols,
                           std::int64_t stride) {
    Ids table(200);
    for (std::int32_t e = 0; e < 200; ++e) table[e] = 199 - e;
    return reference::dispatch({{base, IdType::int32, rows, cols, stride}, 200, table, {}, 0, {}}).local_ids;
  };
  expect_accepted(p15_wide_indices(dispatch, [](std::int32_t id) { return 199 - id; }));
}
TEST(P15, Refuses32BitOffsets) {
  // Row 4 begins 4 elements below 2^31: slot 68 is the first one past it.
  expect_violation(p15_wide_indices(reads_with<std::int32_t>, same_id), "P15", 68, "69", "0",
                   "slot 68 (token 4, k 4) at element offset 2147483648 has id 69");
  // Unsigned offsets wrap at 2^32: slot 136 reads slot 0.
  expect_violation(p15_wide_indices(reads_with<std::uint32_t>, same_id), "P15", 136, "137", "1",
                   "4294967296");
}
TEST(P15, RefusesMissingResultsAndChangedInputs) {
  expect_violation(
      p15_wide_indices([](const std::int32_t*, std::int64_t, std::int64_t, std::int64_t) { return Ids(3); },
                       same_id),
      "P15", -1, "160", "3");
  const auto writes = [](const std::int32_t* base, std::int64_t rows, std::int64_t cols,
                         std::int64_t stride) {
    Ids result = reads_with<std::int64_t>(base, rows, cols, stride);
    const_cast<std::int32_t*>(base)[9 * stride + 2] = -5;
    return result;
  };
  expect_violation(p15_wide_indices(writes, same_id), "P15", 146, "147", "-5", "an input, after the run");
}

TEST(P17, RefusesSizesThatDependOnValuesAndRunsThatNeedMore) {
  const auto fixed = [](int) { return std::int64_t{64}; };
  const auto honest = [](int) { return false; };
  expect_accepted(p17_one_size(4, fixed, honest));
  expect_violation(p17_one_size(
                       4, [](int i) { return std::int64_t{i == 2 ? 80 : 64}; }, honest),
                   "P17", 2, "64", "80", "values 2");
  expect_violation(p17_one_size(4, fixed, [](int i) { return i == 3; }), "P17", 3, "none", "red zone",
                   "size 64");
  expect_violation(p17_one_size(
                       4, [](int) { return std::int64_t{-1}; }, honest),
                   "P17", 0, "at least 0", "-1");
  EXPECT_THROW(p17_one_size(1, fixed, honest), InvalidArgument);
}

}  // namespace
}  // namespace eplora::contract
