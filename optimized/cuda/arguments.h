// SPDX-License-Identifier: Apache-2.0
// Problem structs -> the kernels' plain parameters. Problems are validated here, so nothing reaches a kernel
// that the contract calls bad input.
#pragma once

#include "kernels/route.h"
#include "optimized/backend.h"

namespace eplora::cuda {

kernels::IdSource id_source(const IdMatrix& ids, const NumTokens& num_tokens);
kernels::DispatchTable dispatch_table(std::span<const std::int32_t> table,
                                      std::span<const std::int32_t> offsets, std::int32_t num_experts,
                                      std::int64_t slot_offset);

/// Sizes and inputs; the output pointers are null. Throws `InvalidArgument`.
kernels::RouteArguments arguments_of(const RouteProblem& problem);
kernels::RouteArguments arguments_of(const AlignProblem& problem);
kernels::RemapRule remap_rule(const RemapProblem& problem);

void set_outputs(kernels::RouteArguments& arguments, const AlignOutput& output);

/// Throws `InvalidArgument` unless the context has at least `bytes` of workspace.
void require_workspace(const ExecutionContext& context, std::size_t bytes);

}  // namespace eplora::cuda
