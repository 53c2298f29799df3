// SPDX-License-Identifier: Apache-2.0
// EP-rank slicing of a whole adapter as a workload; its parts are layers. A layer's weights are random bits
// (SplitMix64 of the layer and the 8-byte word's place), every pattern of bits, NaN included. The hash of a
// layer's inputs is over its source bytes in the order gate A, up A, gate B, up B (or both interleaved), down
// A, down B, then its two scales as float32; of its outputs over slot 1 of gate_up_A, gate_up_B, down_A,
// down_B as the buffers hold them, then the two scales. What stands in slot 0 must not change, and is
// compared too.
//
// The bytes that a call must move: each source byte that the rank needs, once, and each byte of the slot,
// zero fill included, once. Scales are not counted.
#pragma once

#include "benchmarks/shapes.h"
#include "benchmarks/workload.h"

namespace eplora::bench {

/// Refuses shapes that are none. Throws `InvalidArgument`.
void validate(const SliceShape& shape);

/// Makes inputs, results and hashes layer by layer, on all cores.
std::unique_ptr<Workload> make_slice_workload(const SliceShape& shape);

/// Of one layer alone.
PartDigests slice_digests(const SliceShape& shape, int layer);

std::int64_t slice_bytes(const SliceShape& shape);

}  // namespace eplora::bench
