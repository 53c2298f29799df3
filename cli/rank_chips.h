// SPDX-License-Identifier: Apache-2.0
// Ranks in pictures: the colour of each, and rows of small numbered boxes. Hue tells EP ranks apart,
// lightness the slices of the columns, so that slices differ in black and white too; numbers say the rest.
#pragma once

#include <string>
#include <vector>

#include "cli/svg_canvas.h"
#include "reference/layout/deployment.h"

namespace eplora {

class RankColors {
 public:
  explicit RankColors(const LayerClass& layer_class);
  std::string of(std::int32_t ep_rank, std::int32_t moe_tp_rank) const;
  std::string of_rank(std::int32_t rank) const;

 private:
  const LayerClass& class_;
  std::int32_t ep_, moe_tp_;
};

/// Boxes of one size for all ranks below `num_ranks`.
struct Chips {
  explicit Chips(std::int32_t num_ranks);
  double width = 24, height = 20, gap = 4;
  std::int32_t fitting(double room) const;  ///< in a row; at least one
  double room(std::size_t count) const;     ///< that so many take in a row
  /// Rows from (x, y) downwards, `a_row` each; after `most` of them "+ N more". `outlined` get an outline.
  /// Returns the height.
  double draw(SvgCanvas& canvas, double x, double y, std::size_t a_row,
              const std::vector<std::int32_t>& ranks, const RankColors& colors,
              const std::vector<std::int32_t>& outlined = {}, std::size_t most = 1U << 20) const;
};

}  // namespace eplora
