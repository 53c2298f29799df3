// SPDX-License-Identifier: Apache-2.0
// How a consumer walks the blocks that align produced (contract, section 5): block by block, one label each.
// Whatever produced them may be the thing under test, so nothing is used as an index before it is checked.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "reference/check.h"
#include "reference/routing/problem.h"

namespace eplora::reference {

/// `body(v, slots)` for each used block with a label v >= 0; `slots` are its B entries, filler included.
/// Throws `InvalidArgument` for a used prefix longer than the arrays or a label outside `[0, num_labels)`.
template <class Body>
void for_each_block(const AlignResult& blocks, std::int64_t block_size, std::int64_t num_labels,
                    Body&& body) {
  const std::int64_t used = blocks.num_tokens_post_padded;
  require_in_range("num_tokens_post_padded", used, 0,
                   static_cast<std::int64_t>(blocks.sorted_token_ids.size()));
  require_in_range("used blocks", used / block_size, 0, static_cast<std::int64_t>(blocks.expert_ids.size()));
  for (std::int64_t b = 0; b < used / block_size; ++b) {
    const std::int64_t v = blocks.expert_ids[b];
    if (v < 0) continue;
    if (v >= num_labels) require_in_range("expert_ids[" + std::to_string(b) + "]", v, -1, num_labels - 1);
    body(v, std::span(blocks.sorted_token_ids).subspan(b * block_size, block_size));
  }
}

}  // namespace eplora::reference
