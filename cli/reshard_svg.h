// SPDX-License-Identifier: Apache-2.0
// Who sends how much to whom between two layouts: a square of senders x receivers, darker where more moves,
// nodes outlined. With many ranks a square is a node.
#pragma once

#include <string>

#include "reference/price/reshard.h"

namespace eplora {

struct ReshardTitle {
  std::string before, after, model;
};

/// A whole SVG document. Throws `InvalidArgument` for more nodes than can be drawn.
std::string reshard_svg(const Reshard& moved, const ReshardTitle& title, std::int32_t ranks_per_node);

}  // namespace eplora
