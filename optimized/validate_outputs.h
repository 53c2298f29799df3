// SPDX-License-Identifier: Apache-2.0
// The pointers that a backend writes through, checked before anything is written (contract, section 8). Null
// is refused unless the output holds nothing. Problems are checked by their own `validate`; these add what an
// output must have.
#pragma once

#include "reference/lora/buffers.h"
#include "reference/routing/problem.h"

namespace eplora {

void validate_outputs(const DispatchProblem& problem, const DispatchOutput& output);
void validate_outputs(const RemapProblem& problem, const RemapOutput& output);
void validate_outputs(const AlignOutput& output, std::int64_t capacity);
void validate_outputs(const RouteProblem& problem, const RouteOutput& output, std::int64_t capacity);

/// As many layers as the shape has, and a pointer for every active tensor of a layer with an id.
void validate_outputs(const SliceProblem& problem, const BufferView& buffers);

}  // namespace eplora
