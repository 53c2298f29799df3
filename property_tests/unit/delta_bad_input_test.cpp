// SPDX-License-Identifier: Apache-2.0
// Bad problems of delta: each argument out of its range is refused with a sentence that says value and range,
// by the reference and by a library behind the C ABI, with nothing written.
#include <limits>

#include "optimized/backend.h"
#include "property_tests/unit/bad_input.h"
#include "reference/lora/delta_problem.h"

namespace eplora {
namespace {

using namespace bad_input;
using Rows = std::vector<Row>;

constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kPast = std::int64_t{kMost} + 1;

/// T=2, K=2, E=2, L=1, R=1, H=3, i=2, gated, B=2: every expert a block.
struct Valid {
  std::vector<float> values = std::vector<float>(64, 1.0F);
  std::vector<std::int32_t> slots = {0, 2, 1, 3}, experts = {0, 1};
  std::vector<std::int32_t> used = {4};
  std::vector<std::uint8_t> mask = {1, 1};
  DeltaProblem problem;

  explicit Valid(DeltaProjection projection, bool shared_outer = false) {
    const DeltaBlocks blocks{slots.data(), 4, experts.data(), used.data()};
    problem.projection = projection;
    problem.A = problem.B = values.data();
    problem.scale = values.data();
    problem.max_loras = 1;
    problem.max_lora_rank = 1;
    problem.hidden = 3;
    problem.intermediate = 2;
    problem.num_local_experts = 2;
    problem.shared_outer = shared_outer;
    problem.num_tokens = problem.top_k = problem.block_size = 2;
    problem.per_expert = blocks;
    if (shared_outer) problem.shared = blocks;
    problem.token_lora_mask = mask;
    problem.topk_weights = std::span(values).first(4);
    problem.input = {values.data(), DType::f32, problem.input_rows(), problem.input_columns(),
                     problem.input_columns()};
  }
};

using Change = std::function<void(Valid&, DeltaOutput&)>;

void on_each(Scene& scene, Valid& valid, const Change& change) {
  DeltaOutput output{reinterpret_cast<float*>(scene.output()), valid.problem.output_columns()};
  change(valid, output);
  std::vector<std::byte> workspace(4096);
  const auto library = make_backend(std::string(EPLORA_EXTERNAL_LIBRARIES) + "/libdelta.so");
  ReferenceBackend reference;
  for (Backend* backend : {static_cast<Backend*>(&reference), library.get()}) try {
      backend->delta(valid.problem, output, {workspace.data(), workspace.size(), nullptr});
      ADD_FAILURE() << backend->name() << " accepted it";
    } catch (const InvalidArgument& error) {
      scene.sentences.push_back(error.what());
    }
}

Row row(const std::string& name, Change change, std::vector<std::string> says,
        DeltaProjection projection = DeltaProjection::gate_up, bool shared_outer = false) {
  return {name,
          [=](Scene& scene) {
            Valid valid(projection, shared_outer);
            on_each(scene, valid, change);
          },
          std::move(says)};
}

template <class Field, class Value>
Row field(const std::string& name, Field DeltaProblem::*member, Value value, std::vector<std::string> says) {
  return row(
      name, [=](Valid& v, DeltaOutput&) { v.problem.*member = static_cast<Field>(value); }, std::move(says));
}

Rows sizes() {
  using P = DeltaProblem;
  const std::string at_least_0 = "[0, 2147483647]", at_least_1 = "[1, 2147483647]";
  return {
      field("Projection", &P::projection, 2, {"projection", "2", "[0, 1]"}),
      field("BufferType", &P::dtype, 7, {"dtype", "7", "[0, 2]"}),
      field("Form", &P::form, 9, {"form", "9", "[0, 1]"}),
      field("AdaptersNegative", &P::max_loras, -1, {"max_loras (L)", "-1", at_least_0}),
      field("ExpertsNegative", &P::num_local_experts, -3, {"num_local_experts (E)", "-3", at_least_0}),
      field("RankZero", &P::max_lora_rank, 0, {"max_lora_rank (R)", "0", at_least_1}),
      field("RankPastInt32", &P::max_lora_rank, kPast, {"max_lora_rank (R)", "2147483648", at_least_1}),
      field("HiddenZero", &P::hidden, 0, {"hidden (H)", "0", at_least_1}),
      field("HiddenPastInt32", &P::hidden, kPast, {"hidden (H)", "2147483648", at_least_1}),
      field("IntermediateNegative", &P::intermediate, -1, {"intermediate (i)", "-1", at_least_1}),
      field("TokensNegative", &P::num_tokens, -1, {"num_tokens (T)", "-1", at_least_0}),
      field("TokensPastInt32", &P::num_tokens, kPast, {"num_tokens (T)", "2147483648", at_least_0}),
      field("TopKZero", &P::top_k, 0, {"top_k (K)", "0", at_least_1}),
      field("SlotsPastInt32", &P::top_k, kMost, {"n", "4294967294", "2147483647"}),
      field("BlockSizeZero", &P::block_size, 0, {"block_size (B)", "0", at_least_1}),
      row("LabelsPastInt32", [](Valid& v, DeltaOutput&) { v.problem.max_loras = kMost; },
          {"V", "4294967294", "num_local_experts=2 * max_loras=2147483647", "2147483647"}),
  };
}

Rows arrays() {
  using P = DeltaProblem;
  const auto down = DeltaProjection::down;
  return {
      field("ANull", &P::A, nullptr, {"A", "null"}),
      field("BNull", &P::B, nullptr, {"B", "null"}),
      field("ScaleNull", &P::scale, nullptr, {"scale", "null"}),
      row("MaskTooShort",
          [](Valid& v, DeltaOutput&) { v.problem.token_lora_mask = std::span(v.mask).first(1); },
          {"token_lora_mask elements", "1", "T = 2"}),
      row(
          "RouterWeightsMissing", [](Valid& v, DeltaOutput&) { v.problem.topk_weights = {}; },
          {"topk_weights elements", "0", "n = 4"}, down),
      row("InputType", [](Valid& v, DeltaOutput&) { v.problem.input.dtype = static_cast<DType>(3); },
          {"input dtype", "3", "[0, 2]"}),
      row("InputRowsOfSlotsForGateUp", [](Valid& v, DeltaOutput&) { v.problem.input.rows = 4; },
          {"input rows", "4", "T = 2"}),
      row(
          "InputRowsOfTokensForDown", [](Valid& v, DeltaOutput&) { v.problem.input.rows = 2; },
          {"input rows", "2", "n = 4"}, down),
      row("InputColumns", [](Valid& v, DeltaOutput&) { v.problem.input.cols = 2; },
          {"input columns", "2", "H = 3"}),
      row(
          "InputColumnsOfDown", [](Valid& v, DeltaOutput&) { v.problem.input.cols = 3; },
          {"input columns", "3", "i = 2"}, down),
      row("InputStrideBelowWidth", [](Valid& v, DeltaOutput&) { v.problem.input.row_stride = 2; },
          {"input row_stride", "2", "[3, 2147483647]"}),
      row("InputNull", [](Valid& v, DeltaOutput&) { v.problem.input.data = nullptr; }, {"input", "null"}),
      row("OutputStrideBelowWidth", [](Valid&, DeltaOutput& o) { o.row_stride = 3; },
          {"output row_stride", "3", "[4, 2147483647]"}),
      row("OutputNull", [](Valid&, DeltaOutput& o) { o.data = nullptr; }, {"output", "null"}),
  };
}

Rows blocks() {
  const auto gate_up = DeltaProjection::gate_up;
  return {
      row("CapacityNegative", [](Valid& v, DeltaOutput&) { v.problem.per_expert.capacity = -2; },
          {"per_expert.capacity", "-2", "[0, 2147483647]"}),
      row("CapacityNoMultipleOfB", [](Valid& v, DeltaOutput&) { v.problem.per_expert.capacity = 3; },
          {"per_expert.capacity", "3", "multiple of block_size (B) 2"}),
      row("SlotsNull", [](Valid& v, DeltaOutput&) { v.problem.per_expert.sorted_token_ids = nullptr; },
          {"per_expert.sorted_token_ids", "null"}),
      row("LabelsNull", [](Valid& v, DeltaOutput&) { v.problem.per_expert.expert_ids = nullptr; },
          {"per_expert.expert_ids", "null"}),
      row("LengthNull", [](Valid& v, DeltaOutput&) { v.problem.per_expert.num_tokens_post_padded = nullptr; },
          {"per_expert.num_tokens_post_padded", "null"}),
      row(
          "SharedCapacity", [](Valid& v, DeltaOutput&) { v.problem.shared.capacity = 5; },
          {"shared.capacity", "5", "multiple of block_size (B) 2"}, gate_up, true),
      row(
          "SharedMissing", [](Valid& v, DeltaOutput&) { v.problem.shared = {}; },
          {"shared.num_tokens_post_padded", "null"}, gate_up, true),
  };
}

/// What only the host can see, in arrays: the reference refuses it, a kernel is never given it.
Rows contents() {
  const auto one = [](const std::string& name, std::function<void(Valid&)> change,
                      std::vector<std::string> says) {
    return Row{name,
               [=](Scene& scene) {
                 Valid valid(DeltaProjection::gate_up);
                 change(valid);
                 reference::delta(valid.problem, {reinterpret_cast<float*>(scene.output()), 4});
               },
               std::move(says)};
  };
  return {
      one("UsedPastTheCapacity", [](Valid& v) { v.used[0] = 6; },
          {"per_expert.num_tokens_post_padded", "6", "[0, 4]"}),
      one("UsedNegative", [](Valid& v) { v.used[0] = -2; },
          {"per_expert.num_tokens_post_padded", "-2", "[0, 4]"}),
      one("UsedNoMultipleOfB", [](Valid& v) { v.used[0] = 3; },
          {"per_expert.num_tokens_post_padded", "3", "multiple of block_size (B)"}),
      one("ALabelThatNoBufferHas", [](Valid& v) { v.experts[1] = 2; }, {"expert_ids[1]", "2", "[-1, 1]"}),
  };
}

class DeltaBadInput : public testing::TestWithParam<Row> {};
TEST_P(DeltaBadInput, IsRefusedWithASentenceAndNothingIsWritten) { expect_refused(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Sizes, DeltaBadInput, testing::ValuesIn(sizes()), RowName());
INSTANTIATE_TEST_SUITE_P(Arrays, DeltaBadInput, testing::ValuesIn(arrays()), RowName());
INSTANTIATE_TEST_SUITE_P(Blocks, DeltaBadInput, testing::ValuesIn(blocks()), RowName());
INSTANTIATE_TEST_SUITE_P(Contents, DeltaBadInput, testing::ValuesIn(contents()), RowName());

TEST(DeltaBadInput, TheProblemThatTheRowsChangeIsValid) {
  for (const bool shared_outer : {false, true})
    for (const auto projection : {DeltaProjection::gate_up, DeltaProjection::down}) {
      Valid valid(projection, shared_outer);
      if (shared_outer) valid.experts[1] = 0;
      std::vector<float> out(64);
      EXPECT_NO_THROW(reference::delta(valid.problem, {out.data(), valid.problem.output_columns()}));
      EXPECT_NE(out[0], 0.0F);
    }
}

}  // namespace
}  // namespace eplora
