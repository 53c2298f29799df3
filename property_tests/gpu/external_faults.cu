// SPDX-License-Identifier: Apache-2.0
// The right example in CUDA with one fault on top, chosen by EPLORA_FAULT when the library is loaded, for
// the stage `external` of scripts/gpu_test.sh: `overrun` writes three ints past sorted_token_ids, as the tail
// of a 16-byte store does; `hang` runs a kernel that never ends; `fault` writes where no memory is; `random`
// swaps two slots of a bucket or does not, by the clock, though it declares one order. Each needs two slots.
#include <chrono>
#include <cstdlib>
#include <string_view>

#define eplora_backend_v1 right_backend
#include "examples/external_backend/align_cuda.cu"
#undef eplora_backend_v1
extern "C" EPLORA_EXPORT const eplora_backend* eplora_backend_v1(void);

namespace {

__global__ void write_ints(std::int32_t* to, int count) {
  for (int i = 0; i < count; ++i) to[i] = 7;
}

__global__ void spin() {
  while (true) asm volatile("nanosleep.u32 1000;");
}

__global__ void swap_first_two(eplora_align_output output, std::int64_t slots, std::int64_t block_size) {
  std::int32_t* const ids = output.sorted_token_ids;
  if (block_size < 2 || output.capacity < 2 || ids[0] >= slots || ids[1] >= slots) return;
  const std::int32_t first = ids[0];
  ids[0] = ids[1];
  ids[1] = first;
}

std::string_view fault() {
  const char* const name = std::getenv("EPLORA_FAULT");
  return name == nullptr ? "" : name;
}

/// The clock's nanoseconds, mixed: a coin that nobody can foresee.
bool coin() {
  auto bits = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  bits = (bits ^ (bits >> 29)) * 0xBF58'476D'1CE4'E5B9U;
  return ((bits >> 40) & 1) != 0;
}

std::int32_t faulty_align(const eplora_align_problem* problem, const eplora_align_output* output,
                          const eplora_context* context) {
  const std::int32_t status = align(problem, output, context);
  const std::int64_t slots = problem->ids.rows * problem->ids.cols;
  if (status != EPLORA_OK || slots < 2) return status;
  const auto stream = static_cast<cudaStream_t>(context->stream);
  const std::string_view which = fault();
  if (which == "overrun") write_ints<<<1, 1, 0, stream>>>(output->sorted_token_ids + output->capacity, 3);
  if (which == "hang") spin<<<1, 1, 0, stream>>>();
  if (which == "fault") write_ints<<<1, 1, 0, stream>>>(nullptr, 1);
  if (which == "random" && coin()) swap_first_two<<<1, 1, 0, stream>>>(*output, slots, problem->block_size);
  return launched(context);
}

}  // namespace

/// Null, which the program refuses, where EPLORA_FAULT names no fault.
const eplora_backend* eplora_backend_v1(void) {
  const std::string_view which = fault();
  if (which != "overrun" && which != "hang" && which != "fault" && which != "random") return nullptr;
  static eplora_backend backend = *right_backend();
  backend.name = "faulty-cuda";
  backend.description = "align with one fault, chosen by EPLORA_FAULT";
  backend.remap = nullptr;
  backend.align = faulty_align;
  return &backend;
}
