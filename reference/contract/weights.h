// SPDX-License-Identifier: Apache-2.0
// P7 for tensors and outputs, P10 buffers, P11 delta, P16 strict load: judges of weights (contract, sections
// 6 and 7).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "reference/contract/form.h"
#include "reference/contract/verdict.h"
#include "reference/lora/buffers.h"
#include "reference/lora/moe_layer.h"

namespace eplora::contract {

/// P10: after a load the slot equals the zero-padded adapter in every element, scales included, and every
/// other byte - other slots, modules the layer lacks, layers without an id - is as `before`. Written element
/// by element from the contract's formulas; shares no code with `reference::slice`. With `form.scale_in_B`
/// the B tensors hold scale * B (within 2 units in the last place) and the scales are 1, 0 for a module the
/// adapter lacks. `place`: the element in its tensor `[L, ...]` of the layer, or in `scale`.
Verdict p10_buffers(const SliceProblem& problem, const LoraBuffers& before, const LoraBuffers& after,
                    const Form& form = {});

/// P7 for tensors: from all ranks' buffers (`buffers[rank]`, slot `slot`) the unsharded adapter can be put
/// together again, exactly: every (expert, column) comes from its owner, replicated axes agree byte for byte.
/// The layout may be wrong; it says where a rank's part belongs. `place`: the rank, -1 when no rank holds the
/// element.
Verdict p7_reassembly(const MoeGeometry& geometry, const Layout& layout, const Adapter& adapter,
                      std::int32_t slot, std::span<const LoraBuffers> buffers);

/// P7: the contribution of a rank that owns no expert is exactly 0 in every element (-0 counts as 0); nothing
/// is asked of a rank that owns one. `place`: the element.
Verdict p7_empty_rank(const Layout& layout, std::int32_t rank, const reference::Matrix<double>& contribution);

/// P7/P11 for outputs: `||got - want||_F / ||want||_F <= bound` and NaN equals only NaN, an infinity only
/// itself. The sentence names the worst element (token, column). `place`: that element.
Verdict p7_output(const reference::Matrix<double>& got, const reference::Matrix<double>& want,
                  double relative_bound);

/// P11, the numeric bound of section 7, element by element: |got - ref| <= u_out*|ref| + 4*(H + r +
/// 8)*u_acc*S, plus u_mid*S with a rounded intermediate. `S` is the same expression with absolute values
/// throughout.
struct NumericBound {
  double u_out = 0, u_acc = 0, u_mid = 0;
  std::int64_t H = 0, r = 0;
};
Verdict p11_delta(const reference::Matrix<double>& got, const reference::Matrix<double>& ref,
                  const reference::Matrix<double>& absolute_sum, const NumericBound& bound);

/// P16: every tensor name of the file is in `consumed` or in `refused`, none in both, and nothing is consumed
/// that the file does not hold. `place`: the index in `in_file`, else in `consumed`.
Verdict p16_strict_load(std::span<const std::string> in_file, std::span<const std::string> consumed,
                        std::span<const std::string> refused);

}  // namespace eplora::contract
