// SPDX-License-Identifier: Apache-2.0
// What a report draws beside a counterexample: the results of the operation as they were found, and those of
// the reference, as data. It is made in the process that judged the case and travels as JSON text.
#pragma once

#include <string>

#include "property_tests/suite/property.h"

namespace eplora::suite {

/// JSON text: {"operation", "differs", "figures": [...]}, or an empty string where there is nothing to draw.
/// Runs the property again on `backend`, up to `tries` times until it fails, and keeps the first call whose
/// result is not what the reference gives, else the last. A null `backend` gives what is expected alone. A
/// figure's "type" is one of
///   "grid":   one row a token, K cells: "input", "expected", "found"; "rows" [{label, note, ...}]
///   "blocks": "block_size", "slots" n, "top_k", "buckets" (of every slot), "first_block"; "expected" and
///             "found" are {labels, entries, length}, both in the order of memory
///   "tensor": "name", "rows", "cols", "first_row", "first_col", "expected" and "found" row by row
///   "ranks":  "columns", and "expected" and "found" as rows of text
/// "found" is null where the process that computed it was lost.
std::string picture_of(const PropertyDefinition& property, const Case& c, Backend* backend, int tries);

}  // namespace eplora::suite
