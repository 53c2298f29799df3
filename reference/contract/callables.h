// SPDX-License-Identifier: Apache-2.0
// P12 isolation, P13 unwritten memory, P14 determinism, P15 wide indices, P17 one size: these judge a
// callable, which the judge runs several times (contract, section 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "reference/contract/form.h"
#include "reference/contract/verdict.h"
#include "reference/lora/moe_layer.h"
#include "reference/routing/problem.h"

namespace eplora::contract {

/// A named array of a result as bytes, with the element size for naming the place of a difference.
struct NamedBytes {
  std::string name;
  std::vector<std::byte> bytes;
  std::size_t element_size = 4;
};
using ResultBytes = std::vector<NamedBytes>;

/// A result as P13 and P14 compare it. Of blocks only what the form promises: the used prefix alone with
/// `tail = unwritten`, the slots of each bucket sorted with `order = nondeterministic`. Safe on garbage
/// results.
ResultBytes result_bytes(const DispatchResult& result);
ResultBytes result_bytes(const RemapResult& result);
ResultBytes result_bytes(const AlignResult& result, std::int64_t block_size, const Form& form = {});
ResultBytes result_bytes(const RouteResult& result, std::int64_t block_size, const Form& form = {});

/// P13: runs with memory poisoned by each of two patterns, bitwise complements; every byte of the results
/// must agree (unless `tail = unwritten`: the caller then passes only the used prefix). `place`: the element.
Verdict p13_unwritten_memory(const std::function<ResultBytes(std::uint8_t poison)>& run);

/// P14: `repeats >= 2` runs, equal bytes. With `order = nondeterministic` the caller passes a normalised
/// result. `place`: the element.
Verdict p14_determinism(const std::function<ResultBytes()>& run, int repeats);

/// P12: the output rows of `unchanged_tokens` are bit-identical in both runs: `run(false)` with the other
/// adapters loaded, `run(true)` without them. Output `[T, H]`. With `order = nondeterministic` declared pass
/// `allowed_error`, the numeric bound of an element (token, column). `place`: the token.
Verdict p12_isolation(
    const std::function<reference::Matrix<double>(bool without_others)>& run,
    std::span<const std::int64_t> unchanged_tokens,
    const std::function<double(std::int64_t token, std::int64_t column)>& allowed_error = {});

/// P15: `run` gets a base pointer to a sparse mapping that holds `rows` rows of `cols` int32 ids at
/// `row_stride` elements, so that rows begin before, across and past the element offsets 2^31 and 2^32, and
/// returns what it made of each id, row by row; `expected(id)` is what it should be. Ids are 1 .. rows*cols;
/// every other element that a wrapped offset can reach is 0. Takes some megabytes of memory and 28 GB of
/// address space; throws `std::runtime_error` when the system refuses the mapping. `place`: the slot.
Verdict p15_wide_indices(
    const std::function<std::vector<std::int32_t>(const std::int32_t* base, std::int64_t rows,
                                                  std::int64_t cols, std::int64_t row_stride)>& run,
    const std::function<std::int32_t(std::int32_t id)>& expected);

/// P17: the size reported for a shape is the same for every values-only variation and no run writes behind
/// it. `reported(i)` and `wrote_past(i)` answer for value variation i in [0, variations), `variations >= 2`.
/// `place`: i.
Verdict p17_one_size(int variations, const std::function<std::int64_t(int)>& reported,
                     const std::function<bool(int)>& wrote_past);

}  // namespace eplora::contract
