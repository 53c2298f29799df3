// SPDX-License-Identifier: Apache-2.0
// EP-rank slicing: every LoRA tensor of an adapter cut for one rank into one slot of its buffers (contract,
// section 6).
#pragma once

#include "reference/lora/buffers.h"

namespace eplora::reference {

/// Writes slot `problem.slot` of every active module of every layer with an id - weights, zero fill for `j >=
/// r` and for modules the adapter lacks, scales - and not one byte elsewhere. `buffers` is host memory.
/// Throws `InvalidArgument` before anything is written.
void slice(const SliceProblem& problem, const BufferView& buffers);

}  // namespace eplora::reference
