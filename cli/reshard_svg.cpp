// SPDX-License-Identifier: Apache-2.0
#include "cli/reshard_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/class_picture.h"
#include "cli/layout_text.h"
#include "cli/svg_canvas.h"
#include "reference/check.h"

namespace eplora {
namespace {

constexpr std::int32_t kMostRanks = 64, kMostNodes = 128;
constexpr double kSide = 900;

std::string words_of(std::int64_t bytes) { return describe_bytes(static_cast<double>(bytes)); }

/// "1.5G": what fits into a square.
std::string brief(std::int64_t bytes) {
  std::string words = words_of(bytes);
  const std::size_t blank = words.find(' ');
  return fmt::format("{:.3g}{}", std::stod(words.substr(0, blank)), words[blank + 1]);
}

class Matrix {
 public:
  Matrix(const Reshard& moved, std::int32_t ranks_per_node)
      : ranks_(static_cast<std::int32_t>(moved.ranks.size())),
        node_(ranks_per_node),
        unit_(ranks_ <= kMostRanks ? 1 : ranks_per_node),
        count_((ranks_ + unit_ - 1) / unit_),
        cell_(std::min(64.0, kSide / count_)) {
    for (const Message& one : moved.messages) {
      std::int64_t& sum = bytes_[{one.from / unit_, one.to / unit_}];
      sum += one.bytes;
      most_ = std::max(most_, sum);
    }
    require_in_range("nodes in a picture", count_, 1, kMostNodes);
  }

  double width() const { return count_ * cell_; }

  double draw(SvgCanvas& canvas, double y) const {
    const double left = kPanelLeft, top = y + 40;
    canvas.text(left + width() / 2, y + 8, unit_ == 1 ? "sending rank" : "sending node",
                {.size = 12.5, .anchor = "middle", .weight = 600});
    canvas.text(left - 44, top + width() / 2, unit_ == 1 ? "receiving rank" : "receiving node",
                {.size = 12.5, .anchor = "middle", .weight = 600, .turn = -90});
    canvas.box(left, top, width(), width(), oklch(0.975, 0.004, 255), 0);
    for (std::int32_t i = 0; i < count_; ++i) {
      const double size = fitting_size(fmt::format("{}", count_ - 1), cell_ - 2, 11);
      if (size < 6 && i % 8 != 0) continue;
      const double middle = (i + 0.5) * cell_;
      canvas.text(left + middle, top - 8, fmt::format("{}", i),
                  {.size = std::max(7.0, size), .anchor = "middle", .ink = Ink::soft});
      canvas.text(left - 8, top + middle + 4, fmt::format("{}", i),
                  {.size = std::max(7.0, size), .anchor = "end", .ink = Ink::soft});
    }
    for (const auto& [ends, sum] : bytes_) square(canvas, left, top, ends.first, ends.second, sum);
    nodes(canvas, left, top);
    canvas.outline(left, top, width(), width(), SvgCanvas::Outline::solid, 0);
    return legend(canvas, top + width() + 36);
  }

 private:
  static std::string shade(double part) { return oklch(0.95 - 0.29 * part, 0.025 + 0.105 * part, 255); }

  void square(SvgCanvas& canvas, double left, double top, std::int32_t from, std::int32_t to,
              std::int64_t sum) const {
    const double part = static_cast<double>(sum) / static_cast<double>(most_);
    const double x = left + from * cell_, y = top + to * cell_;
    const double inset = cell_ > 12 ? 1.5 : 0.25;
    canvas.box(x + inset, y + inset, cell_ - 2 * inset, cell_ - 2 * inset, shade(part), cell_ > 12 ? 3 : 0);
    const std::string words = brief(sum);
    if (text_width(words, 10.5) < cell_ - 4)
      canvas.text(
          x + cell_ / 2, y + cell_ / 2 + 4, words,
          {.size = 10.5, .anchor = "middle", .ink = Ink::on_color, .weight = 600, .halo = shade(part)});
  }

  void nodes(SvgCanvas& canvas, double left, double top) const {
    if (unit_ != 1 || node_ >= ranks_) return;
    for (std::int32_t first = 0; first < ranks_; first += node_) {
      const double at = first * cell_, wide = std::min(node_, ranks_ - first) * cell_;
      canvas.outline(left + at, top + at, wide, wide, SvgCanvas::Outline::dashed, 0);
    }
  }

  double legend(SvgCanvas& canvas, double y) const {
    constexpr int kSteps = 5;
    for (int step = 0; step < kSteps; ++step)
      canvas.box(kPanelLeft + step * 24, y - 9, 22, 17, shade(step / (kSteps - 1.0)), 3);
    canvas.text(kPanelLeft + kSteps * 24 + 10, y + 4,
                fmt::format("darker = more bytes, up to {}; blank: nothing is sent", words_of(most_)),
                {.size = 12});
    if (unit_ == 1 && node_ < ranks_) {
      y += 25;
      canvas.outline(kPanelLeft, y - 9, 30, 16, SvgCanvas::Outline::dashed, 0);
      canvas.text(kPanelLeft + 44, y + 4, fmt::format("a node of {} ranks: links inside it", node_),
                  {.size = 12});
    }
    return y + 24;
  }

  std::int32_t ranks_, node_, unit_, count_;  ///< `unit_` ranks are a row and a column
  double cell_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> bytes_;  ///< (from, to)
  std::int64_t most_ = 1;
};

}  // namespace

std::string reshard_svg(const Reshard& moved, const ReshardTitle& title, std::int32_t ranks_per_node) {
  const Matrix matrix(moved, ranks_per_node);
  std::int64_t sum = 0, between = 0, kept = 0;
  for (const RankReshard& rank : moved.ranks) {
    sum += rank.received.total();
    between += rank.received.between;
    kept += rank.kept;
  }
  SvgCanvas canvas(SvgUse::file);
  const std::string name = "From " + title.before + " to " + title.after;
  const double width = std::max(kPanelLeft + matrix.width() + kSheetMargin, 760.0),
               room = width - 2 * kSheetMargin;
  canvas.text(kSheetMargin, 48, name, {.size = fitting_size(name, room, 25), .weight = 700});
  const double y = canvas.paragraph(kSheetMargin, 73, room,
                                    fmt::format("{}.  {} move, {} of it between nodes; {} stay.", title.model,
                                                words_of(sum), words_of(between), words_of(kept)),
                                    {.size = 13, .ink = Ink::soft});
  const double end = sum == 0 ? y + 30 : matrix.draw(canvas, y + 14);
  if (sum == 0) canvas.text(kSheetMargin, y + 14, "Nothing moves.", {.size = 15, .weight = 600});
  return canvas.document(width, end, name);
}

}  // namespace eplora
