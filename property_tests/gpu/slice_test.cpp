// SPDX-License-Identifier: Apache-2.0
// Slicing on the GPU: random adapters and ranks against the reference in every byte of every slot, the other
// slots' too, under guard with two poisons; every conversion on all halves and on the rounding cases.
#include <cstring>
#include <numeric>

#include "optimized/guarded_run.h"
#include "property_tests/generators/random_slice.h"
#include "property_tests/gpu/gpu_test.h"
#include "reference/check.h"
#include "reference/lora/slice.h"

namespace eplora::gpu {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};

class Slice : public GpuBackendTest {};
INSTANTIATE_TEST_SUITE_P(Backends, Slice,
                         testing::Values("thrust-cuda", "cuda"),  // cuda-unfused slices as cuda does
                         backend_in_test_name);

TEST_P(Slice, randomAdaptersEqualTheReferenceInEveryByte) {
  std::int64_t gated[3] = {}, shared = 0, through_memory = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const RandomSlice c(seed);
    gated[!c.shape.gated ? 0 : c.shape.form == GateUpForm::stacked ? 1 : 2] += 1;
    shared += c.shape.shared_outer;
    through_memory += backend->workspace_bytes(c.problem) > 0;
    LoraBuffers want(c.shape, 0xCD);
    reference::slice(c.problem, want.view());
    for (const std::uint8_t poison : kPoisons) {
      std::string difference;
      try {
        LoraBuffers got(c.shape, 0xCD);
        GuardedRun(*backend, poison).slice(c.problem, got);
        if (!same_bytes(got, want)) difference = "the buffers differ from the reference's";
      } catch (const std::exception& error) {
        difference = error.what();
      }
      if (!count("seed " + std::to_string(seed) + ", poison " + std::to_string(poison), difference)) return;
    }
  }
  for (const std::int64_t form : gated) EXPECT_GT(form, 100) << "not gated, stacked, interleaved";
  EXPECT_GT(shared, 100);
  EXPECT_GT(through_memory, 10);
}

TEST_P(Slice, conversionsAgreeOnEveryHalfAndOnEveryRoundingCase) {
  std::vector<std::uint16_t> halves(65536);
  std::iota(halves.begin(), halves.end(), std::uint16_t{0});
  std::vector<std::uint32_t> floats;
  for (std::uint32_t high = 0; high < 65536; ++high)
    for (const std::uint32_t low : {0x0000U, 0x0001U, 0x0FFFU, 0x1000U, 0x1001U, 0x2FFFU, 0x3000U, 0x7FFFU,
                                    0x8000U, 0x8001U, 0xF000U, 0xFFFFU})
      floats.push_back(high << 16 | low);
  const std::uint32_t zero = 0;
  const std::int32_t expert = 0;
  for (const DType from : kTypes)
    for (const DType to : kTypes) {
      const bool wide = from == DType::f32;
      const void* const data = wide ? static_cast<const void*>(floats.data()) : halves.data();
      const auto columns = static_cast<std::int64_t>(wide ? floats.size() : halves.size());
      Adapter adapter;
      adapter.layers[0].down = {{data, from, 1, 1, columns, columns, columns, 1},
                                {&zero, from, 1, 1, 1, 1, 1, 1}};
      SliceProblem problem;
      problem.geometry = {1, 1, columns, false, GateUpForm::stacked, false};
      problem.local_experts = {&expert, 1};
      problem.adapter = &adapter;
      const BufferShape shape =
          buffer_shape(problem.geometry, problem.place, 1, {{0, false, true}}, 1, 1, to);
      problem.shape = &shape;
      LoraBuffers want(shape);
      reference::slice(problem, want.view());
      for (const std::uint8_t poison : kPoisons) {
        LoraBuffers got(shape);
        GuardedRun(*backend, poison).slice(problem, got);
        count(std::string(to_string(from)) + " to " + std::string(to_string(to)),
              same_bytes(got, want) ? "" : "some element is converted unlike the reference");
      }
    }
}

TEST_P(Slice, viewsWithoutTheirTensorsAreRefused) {
  const RandomSlice c(1);
  BufferView view;
  const auto refused = [&] {
    try {
      backend->slice(c.problem, view, {});
    } catch (const InvalidArgument&) {
      return true;
    }
    return false;
  };
  count("no layers", refused() ? "" : "not refused");
  view.tensor.resize(c.shape.layers.size(), {});
  count("no tensors", refused() ? "" : "not refused");
}

}  // namespace
}  // namespace eplora::gpu
