// SPDX-License-Identifier: Apache-2.0
// The guard's own tests: a backend that does one forbidden thing is caught, and the sentence names the buffer
// and the offset. Each wrong backend here is the reference with one slip.
#include "optimized/guarded_run.h"

#include <gtest/gtest.h>

#include <functional>

#include "optimized/guarded_memory.h"
#include "reference/check.h"

namespace eplora {
namespace {

using Ints = std::vector<std::int32_t>;

/// The reference, with a chance to do something wrong after the right thing.
class SlippingBackend : public ReferenceBackend {
 public:
  std::string_view name() const override { return "slipping"; }
  std::int64_t capacity(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels sentinels) const override {
    return ReferenceBackend::capacity(n, V, B, sentinels) + extra_capacity;
  }
  std::size_t workspace_bytes(const AlignProblem&) const override { return 40; }
  void remap(const RemapProblem& problem, const RemapOutput& output,
             const ExecutionContext& context) override {
    ReferenceBackend::remap(problem, output, context);
    if (after_remap) after_remap(problem, output);
  }
  void align(const AlignProblem& problem, const AlignOutput& output,
             const ExecutionContext& context) override {
    ReferenceBackend::align(problem, output, context);
    if (after_align) after_align(problem, output, context);
  }

  std::function<void(const RemapProblem&, const RemapOutput&)> after_remap;
  std::function<void(const AlignProblem&, const AlignOutput&, const ExecutionContext&)> after_align;
  std::int64_t extra_capacity = 0;
};

class Guard : public testing::TestWithParam<std::uint8_t> {
 protected:
  SlippingBackend backend;
  const Ints ids = {2, 0, -1, 2, 3, 2}, mapping = {0, 1, 0};
  const AlignProblem align{IdMatrix::of(ids, 2), 3, 2, Sentinels::keep, {}};
  const RemapProblem remap{IdMatrix::of(ids, 2), mapping, 4, 2, false, NoAdapter::base_slot, {}};

  template <class Run>
  std::string violation(const Run& run) const {
    try {
      run();
    } catch (const GuardViolation& error) {
      return error.what();
    }
    return "no violation";
  }
  std::string align_violation() {
    return violation([&] { GuardedRun(backend, GetParam()).align(align); });
  }
  std::string remap_violation() {
    return violation([&] { GuardedRun(backend, GetParam()).remap(remap); });
  }

  static void expect_says(const std::string& sentence, const std::string& part) {
    EXPECT_NE(sentence.find(part), std::string::npos)
        << "\"" << sentence << "\" does not say \"" << part << "\"";
  }
};

INSTANTIATE_TEST_SUITE_P(Poisons, Guard, testing::Values(0x00, 0x5A, 0xA5, 0xFF),
                         [](const auto& test) { return "Poison" + std::to_string(test.param); });

TEST_P(Guard, letsTheRightBackendPass) {
  EXPECT_EQ(align_violation(), "no violation");
  EXPECT_EQ(remap_violation(), "no violation");
}

TEST_P(Guard, seesOneIntPastAnOutput) {
  backend.after_align = [](const auto&, const AlignOutput& out, const auto&) {
    out.sorted_token_ids[10] = 6;
  };
  expect_says(align_violation(),
              "backend slipping, align, wrote past sorted_token_ids (40 bytes): the byte at offset 40");
}

TEST_P(Guard, seesOneIntBeforeAnOutput) {
  backend.after_align = [](const auto&, const AlignOutput& out, const auto&) { out.expert_ids[-1] = -1; };
  expect_says(align_violation(), "wrote before expert_ids (20 bytes): the byte at offset -1");
}

TEST_P(Guard, seesAVectorStoreFarPastAnOutput) {
  backend.after_align = [](const auto&, const AlignOutput& out, const auto&) {
    out.num_tokens_post_padded[64] = 0;
  };
  expect_says(align_violation(), "wrote past num_tokens_post_padded (4 bytes): the byte at offset 256");
}

TEST_P(Guard, seesEverySmallByteBesideAMask) {
  for (const std::int64_t place : {-1, 3})
    for (const auto value : std::initializer_list<std::uint8_t>{0, 1, 255}) {
      backend.after_remap = [=](const auto&, const RemapOutput& out) { out.token_lora_mask[place] = value; };
      expect_says(remap_violation(),
                  place < 0 ? "wrote before token_lora_mask" : "wrote past token_lora_mask");
    }
}

TEST_P(Guard, seesAChangedInput) {
  backend.after_remap = [](const RemapProblem& problem, const auto&) {
    const_cast<std::int32_t*>(problem.token_lora_mapping.data())[1] = 0;
  };
  expect_says(remap_violation(), "changed its input token_lora_mapping (12 bytes): the byte at offset 4");
  backend.after_remap = [](const RemapProblem& problem, const auto&) {
    static_cast<std::int32_t*>(const_cast<void*>(problem.topk_ids.data))[5] = -1;
  };
  expect_says(remap_violation(), "changed its input topk_ids (24 bytes): the byte at offset 20");
}

TEST_P(Guard, seesAWorkspaceThatIsTooSmall) {
  backend.after_align = [](const auto&, const auto&, const ExecutionContext& context) {
    EXPECT_EQ(context.workspace_size, 40U);
    static_cast<std::int32_t*>(context.workspace)[10] = 0;
  };
  expect_says(align_violation(), "wrote past workspace (40 bytes): the byte at offset 40");
}

TEST_P(Guard, seesACapacityThatIsTooSmall) {
  backend.extra_capacity = -2;
  expect_says(align_violation(), "wrote past sorted_token_ids (32 bytes)");
  backend.extra_capacity = -11;
  expect_says(align_violation(), "reports a capacity of -1");
}

TEST_P(Guard, givesDecoysInRowsThatNobodyMayRead) {
  std::int64_t read = 0;
  backend.after_remap = [&](const RemapProblem& problem, const auto&) {
    for (std::int64_t t = 0; t < 3; ++t)
      for (std::int64_t k = 0; k < (t < 2 ? 3 : 2); ++k) {  // the last row has no gap behind it
        if (t == 0 && k < 2) {
          EXPECT_EQ(problem.topk_ids.at(t, k), ids[k]);
          continue;
        }
        EXPECT_GE(problem.topk_ids.at(t, k), 0);
        EXPECT_LT(problem.topk_ids.at(t, k), 4);
        ++read;
      }
    for (std::size_t t = 1; t < 3; ++t)
      EXPECT_TRUE(problem.token_lora_mapping[t] == 0 || problem.token_lora_mapping[t] == 1);
  };
  RemapProblem padded = remap;
  const Ints strided = {2, 0, -9, -9, -9, -9, -9, -9};
  padded.topk_ids = {strided.data(), IdType::int32, 3, 2, 3};
  padded.num_tokens = NumTokens::of(1);
  const RemapResult result = GuardedRun(backend, GetParam()).remap(padded);
  EXPECT_EQ(read, 6);
  EXPECT_EQ(result.virtual_ids, (Ints{2, 0, -1, -1, -1, -1}));
}

TEST_P(Guard, givesPointersForEmptyArraysToo) {
  backend.after_remap = [](const RemapProblem& problem, const RemapOutput& out) {
    EXPECT_NE(problem.topk_ids.data, nullptr);
    EXPECT_NE(problem.token_lora_mapping.data(), nullptr);
    EXPECT_NE(out.virtual_ids, nullptr);
    EXPECT_NE(out.token_lora_mask, nullptr);
  };
  RemapProblem empty = remap;
  empty.topk_ids = {nullptr, IdType::int64, 0, 2, 2};
  empty.token_lora_mapping = {};
  EXPECT_EQ(GuardedRun(backend, GetParam()).remap(empty), RemapResult{});
}

TEST_P(Guard, putsArraysOffTheBoundaryByOneElementWhenThePoisonIsOdd) {
  backend.after_remap = [](const RemapProblem& problem, const RemapOutput& out) {
    const auto offset = [](const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 256; };
    EXPECT_EQ(offset(problem.topk_ids.data), GetParam() % 2 * 4U);
    EXPECT_EQ(offset(out.virtual_ids), GetParam() % 2 * 4U);
    EXPECT_EQ(offset(out.token_lora_mask), GetParam() % 2 * 1U);
  };
  GuardedRun(backend, GetParam()).remap(remap);
}

TEST(GuardedRun, twoPoisonsTellAnUnwrittenTail) {
  struct Untidy : ReferenceBackend {
    void align(const AlignProblem& problem, const AlignOutput& output,
               const ExecutionContext& context) override {
      const Ints before(output.expert_ids, output.expert_ids + 5);
      ReferenceBackend::align(problem, output, context);
      output.expert_ids[4] = before[4];  // past the used prefix of four blocks
    }
  } untidy;
  const Ints ids = {2, 0, -1, 2, 3, 2};
  const AlignProblem problem{IdMatrix::of(ids, 2), 3, 2, Sentinels::keep, {}};
  const AlignResult one = GuardedRun(untidy, 0xA5).align(problem),
                    other = GuardedRun(untidy, 0x5A).align(problem);
  EXPECT_EQ(one.expert_ids[4], static_cast<std::int32_t>(0xA5A5A5A5));
  EXPECT_FALSE(one == other);
  ReferenceBackend tidy;
  EXPECT_EQ(GuardedRun(tidy, 0xA5).align(problem), GuardedRun(tidy, 0x5A).align(problem));
}

TEST(GuardedRun, readingARowPastNumTokensGivesAWrongResult) {
  struct ReadsAllRows : ReferenceBackend {
    void align(const AlignProblem& problem, const AlignOutput& output,
               const ExecutionContext& context) override {
      AlignProblem all = problem;
      all.num_tokens = {};
      ReferenceBackend::align(all, output, context);
    }
  } reads_all_rows;
  ReferenceBackend right;
  const Ints ids = {2, 0, -1, -1, -1, -1};  // what the caller has there would have hidden it
  const AlignProblem problem{IdMatrix::of(ids, 2), 3, 2, Sentinels::keep, NumTokens::of(1)};
  EXPECT_FALSE(GuardedRun(reads_all_rows).align(problem) == GuardedRun(right).align(problem));
}

TEST(GuardedRun, memoryThatThisBuildCannotReachIsNamed) {
  struct Elsewhere : ReferenceBackend {
    MemorySpace memory_space() const override { return MemorySpace::cuda; }
  } elsewhere;
  const Ints ids = {0};
  try {
    memory_access(MemorySpace::cuda);  // first: the reference must never see a device pointer
    GTEST_SKIP() << "this build reaches CUDA memory";
  } catch (const BackendUnavailable&) {
  }
  try {
    GuardedRun(elsewhere).align({IdMatrix::of(ids, 1), 1, 1, Sentinels::keep, {}});
    FAIL() << "ran in memory that cannot be reached";
  } catch (const BackendUnavailable& error) {
    EXPECT_NE(std::string(error.what()).find("cuda"), std::string::npos);
  }
}

}  // namespace
}  // namespace eplora
