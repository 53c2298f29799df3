// SPDX-License-Identifier: Apache-2.0
// P12 isolation, P13 unwritten memory, P14 determinism, P15 wide indices, P17 one size: these judge a callable, which
// the judge runs several times (contract, section 5).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "reference/contract/form.h"
#include "reference/contract/verdict.h"
#include "reference/lora/moe_layer.h"

namespace eplora::contract {

/// A named array of a result as bytes, with the element size for naming the place of a difference.
struct NamedBytes {
  std::string name;
  std::vector<std::byte> bytes;
  std::size_t element_size = 4;
};
using ResultBytes = std::vector<NamedBytes>;

/// P13: runs with memory poisoned by each of two patterns; every byte of the results must agree (unless `tail =
/// unwritten`: the caller then passes only the used prefix).
Verdict p13_unwritten_memory(const std::function<ResultBytes(std::uint8_t poison)>& run);

/// P14: `repeats` runs, equal bytes. With `order = nondeterministic` the caller passes a normalised result.
Verdict p14_determinism(const std::function<ResultBytes()>& run, int repeats);

/// P12: the output rows of tokens outside `changed_tokens` are bit-identical in both runs: `run(false)` with the other
/// adapters loaded, `run(true)` without them. Output `[T, H]`.
Verdict p12_isolation(const std::function<reference::Matrix<double>(bool without_others)>& run,
                      std::span<const std::int64_t> unchanged_tokens);

/// P15: `read(offset)` is how the implementation addresses element `offset`; judged at offsets around and past 2^31
/// through a sparse mapping with a few touched pages. `run` gets a base pointer to `elements` int32 ids of which only
/// `rows` rows at `row_stride` are real, and returns the ids it saw as results.
Verdict p15_wide_indices(const std::function<std::vector<std::int32_t>(const std::int32_t* base, std::int64_t rows,
                                                                       std::int64_t cols, std::int64_t row_stride)>& run,
                         const std::function<std::int32_t(std::int32_t id)>& expected);

/// P17: the size reported for a shape is the same for every values-only variation and no run writes behind it.
/// `reported(i)` and `wrote_past(i)` answer for value variation i in [0, variations).
Verdict p17_one_size(int variations, const std::function<std::int64_t(int)>& reported,
                     const std::function<bool(int)>& wrote_past);

}  // namespace eplora::contract
