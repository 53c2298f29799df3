// SPDX-License-Identifier: Apache-2.0
// The project's problem structs as the C ABI's, and the declared form back. Nothing is copied but sizes and
// pointers, which stay valid as long as the originals. No checks: problems are valid when they come here.
#pragma once

#include <vector>

#include "optimized/backend.h"
#include "optimized/external/eplora_backend.h"

namespace eplora::external {

/// A zeroed struct of the ABI with its version and size.
template <class Struct>
Struct versioned() {
  Struct value{};
  value.abi_version = EPLORA_ABI_VERSION;
  value.struct_size = static_cast<std::uint32_t>(sizeof(Struct));
  return value;
}

eplora_dispatch_problem translate(const DispatchProblem& problem);
eplora_remap_problem translate(const RemapProblem& problem);
eplora_align_problem translate(const AlignProblem& problem);
eplora_route_problem translate(const RouteProblem& problem);

eplora_delta_problem translate(const DeltaProblem& problem);
eplora_delta_output translate(const DeltaProblem& problem, const DeltaOutput& output);

eplora_align_output translate(const AlignOutput& output, std::int64_t capacity, std::int64_t block_size);

/// The ABI's slice problem and the arrays it points to.
struct SliceTranslation {
  std::vector<eplora_adapter_layer> adapter_layers;
  std::vector<eplora_buffer_layer> buffer_layers;
  eplora_slice_problem problem;
};
/// `buffers` null: sizes alone, every buffer pointer is null.
SliceTranslation translate(const SliceProblem& problem, const BufferView* buffers);

/// Throws `InvalidArgument` for a value that the ABI does not know; `who` opens the sentence.
contract::Form translate(const std::string& who, const eplora_form& form);

}  // namespace eplora::external
