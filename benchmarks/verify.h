// SPDX-License-Identifier: Apache-2.0
// What a reader without a GPU can check of a result file: sampled inputs made again, the reference run on
// them, and both hashes compared with the recorded ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/record.h"

namespace eplora::bench {

struct VerifiedPart {
  const ShapeRecord* shape = nullptr;
  int part = 0;  ///< input set, or layer
  bool inputs_equal = false, outputs_equal = false;
  PartDigests computed;
};

/// One part each of at most `sample` shapes, drawn, the suites taking turns; or all parts of all shapes with
/// `sample` 0. Equal seeds, equal choice. The record must outlive the
/// result. Throws `InvalidArgument` for a shape that is none.
std::vector<VerifiedPart> verify(const Record& record, int sample, std::uint64_t seed);

}  // namespace eplora::bench
