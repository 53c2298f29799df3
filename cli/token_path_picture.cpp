// SPDX-License-Identifier: Apache-2.0
#include "cli/token_path_picture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/class_picture.h"
#include "cli/layout_text.h"

namespace eplora {
namespace {

using Ranks = std::vector<std::int32_t>;

/// Ranks whose shared expert the token uses: they hold the token and, where it is cut, one part each.
Ranks shared_ranks(const LayerClass& c, const TokenPath& path) {
  if (c.spec.shared_experts.kind != SharedExpertsKind::sharded) return path.home;
  for (const Ranks& group : c.layout.mesh.groups(c.spec.shared_experts.axes))
    if (std::find(group.begin(), group.end(), path.home.front()) != group.end()) return group;
  return {};
}

bool shared_apart(const LayerClass& c) {
  const SharedExpertsKind kind = c.spec.shared_experts.kind;
  return kind == SharedExpertsKind::replicated || kind == SharedExpertsKind::sharded;
}

std::string slot_name(const SlotPath& slot) {
  return fmt::format("{} {}", slot.shared ? "shared expert" : "expert", slot.expert);
}

std::string slot_place(const SlotPath& slot) {
  std::string words = fmt::format("EP rank {}, local id {}", slot.ep_rank, slot.local_id);
  if (slot.replicas > 1) words += fmt::format(", replica {} of {}", slot.replica, slot.replicas);
  return words;
}

std::string ranks_words(const Ranks& ranks) {
  return (ranks.size() == 1 ? "rank " : "ranks ") + describe_ids(ranks);
}

/// Ranks that get the token in dispatch: they compute a slot and do not hold it.
Ranks receivers(const TokenPath& path) {
  Ranks all;
  for (const SlotPath& slot : path.slots)
    for (const std::int32_t rank : slot.ranks)
      if (std::find(path.home.begin(), path.home.end(), rank) == path.home.end()) all.push_back(rank);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::string dispatch_words(const TokenPath& path) {
  const Ranks to = receivers(path);
  return to.empty() ? "nothing is sent: every rank that computes it holds it already"
                    : fmt::format("to {}; the others hold it already", ranks_words(to));
}

std::string sum_words(const TokenPath& path) {
  if (path.workers.size() == 1) return "nothing to add: one rank computes all of it";
  return fmt::format("over {}: {}", fmt::join(path.sum_axes, ", "), ranks_words(path.workers));
}

std::string result_words(const TokenPath& path) {
  std::string words = "on " + ranks_words(path.home) + ", where it stood";
  if (path.gathered.size() > 1)
    words += fmt::format("; rows of {} token shards side by side over {}", path.gathered.size(),
                         fmt::join(path.gather_axes, ", "));
  if (path.copies > 1) words += fmt::format("; {} sets of ranks compute the same", path.copies);
  return words;
}

/// One box of the picture.
struct Stop {
  std::string name, words;
  Ranks ranks;
};

class Drawing {
 public:
  Drawing(SvgCanvas& canvas, const LayoutView& view, std::size_t index)
      : canvas_(canvas),
        class_(view.deployment.classes[index]),
        path_(view.paths[index]),
        colors_(class_),
        chips_(view.deployment.num_ranks) {}

  double draw(double y) {
    std::vector<Stop> middle;
    for (const SlotPath& slot : path_.slots)
      middle.push_back({slot_name(slot), slot_place(slot), slot.ranks});
    if (shared_apart(class_))
      middle.push_back(
          {"shared experts",
           class_.spec.shared_experts.kind == SharedExpertsKind::sharded ? "a part on each" : "whole on each",
           shared_ranks(class_, path_)});
    const Stop home = {"1. stands on", fmt::format("part {} of {}", path_.home_part, path_.home_parts),
                       path_.home};
    const Stop sum = {
        "3. summed over",
        path_.workers.size() == 1 ? "one rank" : fmt::format("{}", fmt::join(path_.sum_axes, ", ")),
        path_.workers};
    const Stop result = {"4. stands on", path_.gathered.size() > 1 ? "shards side by side" : "as before",
                         path_.home};
    canvas_.text(kMiddle, y + 10, "2. dispatched to, and computed by", {.size = 12.5, .weight = 600});
    double at = y + 22;
    std::vector<double> entries;
    for (const Stop& stop : middle) {
      entries.push_back(at);
      at += box(stop, kMiddle, at, kMiddleWide) + 12;
    }
    const double bottom = at - 12, centre = (y + 22 + bottom) / 2;
    const double ends = side(home, kSheetMargin, centre), sums = side(sum, kSum, centre);
    const double results = side(result, kResult, centre);
    for (const double entry : entries) {
      canvas_.flow(kSheetMargin + kSideWide + 4, centre, kMiddle - 4, entry + kFlowAt);
      canvas_.flow(kMiddle + kMiddleWide + 4, entry + kFlowAt, kSum - 4, centre);
    }
    canvas_.flow(kSum + kSideWide + 4, centre, kResult - 4, centre);
    return std::max({bottom, ends, sums, results});
  }

 private:
  static constexpr double kSideWide = 190, kMiddleWide = 300, kPad = 10, kFlowAt = 26;
  static constexpr double kMiddle = kSheetMargin + kSideWide + 70, kSum = kMiddle + kMiddleWide + 70;
  static constexpr double kResult = kSheetWidth - kSheetMargin - kSideWide;
  static constexpr std::size_t kMost = 16;

  double height_of(const Stop& stop, double wide) const {
    const auto a_row = static_cast<std::size_t>(chips_.fitting(wide - 2 * kPad));
    const std::size_t shown = std::min(kMost, stop.ranks.size());
    const std::size_t lines = (shown + a_row - 1) / a_row;
    return 50 + static_cast<double>(lines) * (chips_.height + chips_.gap) +
           (shown < stop.ranks.size() ? 20 : 0);
  }

  double box(const Stop& stop, double x, double y, double wide) {
    const double high = height_of(stop, wide), room = wide - 2 * kPad;
    canvas_.outline(x, y, wide, high, SvgCanvas::Outline::dashed, 6);
    canvas_.text(x + kPad, y + 19, stop.name, {.size = 13, .weight = 700});
    canvas_.text(x + kPad, y + 35, stop.words,
                 {.size = fitting_size(stop.words, room, 11), .ink = Ink::soft});
    chips_.draw(canvas_, x + kPad, y + 44, static_cast<std::size_t>(chips_.fitting(room)), stop.ranks,
                colors_, path_.home, kMost);
    return high;
  }

  /// A box around the height `centre`; returns where it ends.
  double side(const Stop& stop, double x, double centre) {
    const double high = height_of(stop, kSideWide);
    return centre - high / 2 + box(stop, x, centre - high / 2, kSideWide);
  }

  SvgCanvas& canvas_;
  const LayerClass& class_;
  const TokenPath& path_;
  RankColors colors_;
  Chips chips_;
};

}  // namespace

std::string path_title(const TokenPath& path, const std::string& class_name) {
  return fmt::format("The way of token {} of {}{}", path.question.token, path.question.tokens,
                     class_name.empty() ? "" : " in class " + class_name);
}

std::string token_path_text(const LayoutView& view, std::size_t index, bool color) {
  const TokenPath& path = view.paths[index];
  const LayerClass& c = view.deployment.classes[index];
  const std::string title = path_title(path, view.deployment.classes.size() > 1 ? c.spec.name : "");
  std::string out = styled(title, Style::heading, color) + "\n";
  out +=
      fmt::format("stands on   {}, part {} of {}\n", ranks_words(path.home), path.home_part, path.home_parts);
  out += fmt::format("dispatched  {}\n\n", dispatch_words(path));
  Table table;
  table.column("slot", Table::Align::right)
      .column("expert")
      .column("served by")
      .column("ranks")
      .column("columns");
  for (std::size_t k = 0; k < path.slots.size(); ++k) {
    const SlotPath& slot = path.slots[k];
    std::vector<std::string> columns;
    for (const PaddedRange& one : slot.columns) columns.push_back(describe_columns(one));
    if (columns.size() > 2) columns = {columns.front(), "..", columns.back()};
    table.row({fmt::format("{}", k), slot_name(slot), slot_place(slot), describe_ids(slot.ranks),
               fmt::format("{}", fmt::join(columns, ", "))});
  }
  out += table.render(color);
  if (shared_apart(c))
    out +=
        fmt::format("\nshared      {}: {}\n", shared_sentence(view, c), ranks_words(shared_ranks(c, path)));
  out += fmt::format("\nsummed      {}\n", sum_words(path));
  return out + fmt::format("result      {}\n", result_words(path));
}

double draw_token_path(SvgCanvas& canvas, const LayoutView& view, std::size_t index, double y) {
  y = Drawing(canvas, view, index).draw(y);
  const TokenPath& path = view.paths[index];
  canvas.text(kSheetMargin, y + 24,
              "An outlined rank holds the token before the layer; the others get it in dispatch.",
              {.size = 11.5, .ink = Ink::soft});
  if (path.copies > 1)
    canvas.text(
        kSheetMargin, y + 42,
        fmt::format("{} sets of ranks compute the same; this is the one of the token's first home rank.",
                    path.copies),
        {.size = 11.5, .ink = Ink::soft});
  return y + (path.copies > 1 ? 46 : 28);
}

std::string token_path_svg(const LayoutView& view, std::size_t index) {
  SvgCanvas canvas(SvgUse::page);
  const double end = draw_token_path(canvas, view, index, 12);
  return canvas.document(kSheetWidth, end + 8, path_title(view.paths[index], ""));
}

}  // namespace eplora
