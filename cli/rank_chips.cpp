// SPDX-License-Identifier: Apache-2.0
#include "cli/rank_chips.h"

#include <fmt/format.h>

#include <algorithm>

namespace eplora {

RankColors::RankColors(const LayerClass& c)
    : class_(c), ep_(c.layout.place(0).ep), moe_tp_(c.layout.place(0).moe_tp) {}

std::string RankColors::of(std::int32_t ep_rank, std::int32_t moe_tp_rank) const {
  const double hue = 255 + (ep_ == 1 ? 0.0 : 330.0 * ep_rank / ep_);
  const double depth = moe_tp_ == 1 ? 0.0 : static_cast<double>(moe_tp_rank) / (moe_tp_ - 1);
  const double darkest = std::min(0.22, 0.07 * moe_tp_);
  return oklch(0.91 - darkest * depth - (ep_rank % 2 == 1 ? 0.025 : 0.0), 0.06 + 0.05 * depth, hue);
}

std::string RankColors::of_rank(std::int32_t rank) const {
  const RankPlace& place = class_.layout.place(rank);
  return of(place.ep_rank, place.moe_tp_rank);
}

Chips::Chips(std::int32_t num_ranks)
    : width(std::max(24.0, text_width(fmt::format("{}", num_ranks - 1), 11.5) + 8)) {}

std::int32_t Chips::fitting(double room) const {
  return std::max(1, static_cast<std::int32_t>((room + gap) / (width + gap)));
}

double Chips::room(std::size_t count) const { return static_cast<double>(count) * (width + gap) - gap; }

double Chips::draw(SvgCanvas& canvas, double x, double y, std::size_t a_row,
                   const std::vector<std::int32_t>& ranks, const RankColors& colors,
                   const std::vector<std::int32_t>& outlined, std::size_t most) const {
  const std::size_t shown = std::min(most, ranks.size());
  std::size_t rows = 0;
  for (std::size_t i = 0; i < shown; ++i) {
    const double left = x + static_cast<double>(i % a_row) * (width + gap);
    const std::size_t line = i / a_row;
    const double top = y + static_cast<double>(line) * (height + gap);
    rows = line + 1;
    canvas.begin_mark({ranks[i]}, fmt::format("rank {}", ranks[i]));
    canvas.box(left, top, width, height, colors.of_rank(ranks[i]));
    if (std::find(outlined.begin(), outlined.end(), ranks[i]) != outlined.end())
      canvas.outline(left, top, width, height, SvgCanvas::Outline::solid);
    canvas.text(left + width / 2, top + 14, fmt::format("{}", ranks[i]),
                {.size = 11.5, .anchor = "middle", .ink = Ink::on_color, .weight = 700});
    canvas.end_mark();
  }
  double height_used = static_cast<double>(rows) * (height + gap) - gap;
  if (shown < ranks.size()) {
    canvas.text(x, y + height_used + 16, fmt::format("+ {} more", ranks.size() - shown),
                {.size = 11, .ink = Ink::soft});
    height_used += 20;
  }
  return height_used;
}

}  // namespace eplora
