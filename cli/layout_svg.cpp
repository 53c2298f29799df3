// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "cli/class_picture.h"
#include "cli/layout_text.h"
#include "cli/token_path_picture.h"
#include "reference/check.h"

namespace eplora {
namespace {

constexpr double kWords = kSheetWidth - 2 * kSheetMargin;

class Sheet {
 public:
  Sheet(const LayoutView& view, SvgUse use) : view_(view), use_(use), canvas_(use) {
    for (const LayerClass& c : view.deployment.classes) classes_.emplace_back(view, c);
  }

  std::string draw() {
    const AttentionSpec& attention = view_.deployment.spec.attention;
    const bool apart = view_.deployment.spec.grids.size() > 1 || !attention.heads.empty();
    sections_ = classes_.size() > 1 || apart;
    double y = use_ == SvgUse::file ? title() : 14;
    if (apart) y = homes(y);
    for (std::size_t c = 0; c < classes_.size(); ++c) {
      if (sections_) y = class_heading(view_.deployment.classes[c], y);
      y = classes_[c].draw(canvas_, y);
    }
    if (use_ == SvgUse::file && view_.path_asked) {
      for (std::size_t c = 0; c < view_.paths.size(); ++c) {
        const LayerClass& one = view_.deployment.classes[c];
        y = heading(y + 14, path_title(view_.paths[c], classes_.size() > 1 ? one.spec.name : ""), "");
        y = draw_token_path(canvas_, view_, c, y + 8) + 34;
      }
    }
    y = legends(y);
    return canvas_.document(kSheetWidth, y + 6, "Layout " + view_.title);
  }

 private:
  double title() {
    const std::int32_t ranks = view_.deployment.num_ranks;
    canvas_.text(kSheetMargin, 48, view_.title,
                 {.size = fitting_size(view_.title, kWords, 25), .weight = 700});
    const std::string count = fmt::format("{} {}: ", ranks, ranks == 1 ? "rank" : "ranks");
    const SvgCanvas::TextStyle soft = {.size = 13, .ink = Ink::soft};
    if (sections_) {
      std::string grids;
      for (std::size_t g = 0; g < view_.deployment.meshes.size(); ++g)
        grids += fmt::format("{}{} {}", g == 0 ? "" : ";  ", view_.deployment.spec.grids[g].name,
                             describe_mesh(view_.deployment.meshes[g], false));
      return canvas_.paragraph(kSheetMargin, 73, kWords, count + grids + ".", soft) + 22;
    }
    const LayerClass& c = view_.deployment.classes.front();
    const double y = canvas_.paragraph(kSheetMargin, 73, kWords, count + class_sentence(view_, c), soft);
    return canvas_.paragraph(kSheetMargin, y, kWords, "Recombine: " + describe_recombination(c) + ".", soft);
  }

  /// Returns where what it heads may begin.
  double heading(double y, const std::string& name, const std::string& words) {
    canvas_.line(kSheetMargin, y - 16, kSheetWidth - kSheetMargin, y - 16, Ink::soft, 0.5);
    canvas_.text(kSheetMargin, y + 8, name, {.size = 17, .weight = 700});
    if (words.empty()) return y + 22;
    return canvas_.paragraph(kSheetMargin, y + 30, kWords, words, {.size = 12.5, .ink = Ink::soft}) - 4;
  }

  double class_heading(const LayerClass& c, double y) {
    if (&c != view_.deployment.classes.data()) y += 18;
    return heading(y, classes_.size() > 1 ? "Class " + c.spec.name : "Experts",
                   fmt::format("{}; {}: {}  Recombine: {}.", layers_sentence(view_, c), c.spec.grid,
                               class_sentence(view_, c), describe_recombination(c)));
  }

  /// A box for each part of the tokens with the ranks that hold it, in the order of heads.
  double homes(double y) {
    y = heading(y, "Outside the experts", attention_sentence(view_)) + 6;
    const Deployment& d = view_.deployment;
    const RankColors colors(d.classes.front());
    const Chips chips(d.num_ranks);
    const Mesh& mesh = d.mesh_of(d.spec.attention.grid);
    std::vector<std::vector<std::int32_t>> parts(d.home_parts);
    for (std::int32_t rank = 0; rank < d.num_ranks; ++rank) parts[d.home[rank]].push_back(rank);
    for (std::vector<std::int32_t>& ranks : parts)
      std::stable_sort(ranks.begin(), ranks.end(), [&](std::int32_t a, std::int32_t b) {
        const std::vector<std::int32_t>& stage = d.classes.front().stage;
        if (stage[a] != stage[b]) return stage[a] < stage[b];
        return mesh.index_along(d.spec.attention.heads, a) < mesh.index_along(d.spec.attention.heads, b);
      });
    constexpr double kPad = 8, kHead = 22, kGap = 10;
    const std::size_t count = parts.front().size(),
                      a_row = std::min<std::size_t>(count, d.home_parts == 1 ? 24 : 8);
    std::string longest = fmt::format("{}", d.home_parts - 1);
    const double head_size = 11;
    if (view_.tokens)
      longest = "tokens " + describe_range(d.home_tokens(*view_.tokens, parts.back().front()));
    const double w = std::max(chips.room(a_row) + 2 * kPad, text_width(longest, head_size) + 2 * kPad);
    const std::size_t lines = (count + a_row - 1) / a_row;
    const double h = kHead + kPad + static_cast<double>(lines) * (chips.height + chips.gap) - chips.gap;
    canvas_.text(kPanelLeft - 18, y + 15, view_.tokens ? "tokens" : "part of the tokens",
                 {.size = 10.5, .anchor = "end", .ink = Ink::soft});
    canvas_.text(kPanelLeft - 18, y + kHead + 14, "ranks", {.size = 11.5, .anchor = "end", .weight = 600});
    double x = kPanelLeft;
    for (std::size_t part = 0; part < parts.size(); ++part) {
      if (x + w > kPanelLeft + kPanelRoom) x = kPanelLeft, y += h + kGap;
      canvas_.outline(x, y, w, h, SvgCanvas::Outline::dashed);
      const std::string tokens =
          view_.tokens ? describe_range(d.home_tokens(*view_.tokens, parts[part].front())) : "";
      canvas_.text(x + w / 2, y + 15, view_.tokens ? tokens : fmt::format("{}", part),
                   {.size = head_size, .anchor = "middle", .ink = Ink::soft});
      chips.draw(canvas_, x + (w - chips.room(std::min(a_row, count))) / 2, y + kHead, a_row, parts[part],
                 colors);
      x += w + kGap;
    }
    return y + h + 44;
  }

  double legends(double y) {
    std::set<std::string> said;
    for (std::size_t c = 0; c < classes_.size(); ++c) {
      if (classes_.size() > 1)
        canvas_.text(kPanelLeft - 18, y + 4, view_.deployment.classes[c].spec.name,
                     {.size = 12, .anchor = "end", .weight = 600});
      y = classes_[c].legend(canvas_, y, said) + (c + 1 < classes_.size() ? 8 : 0);
    }
    return y;
  }

  const LayoutView& view_;
  SvgUse use_;
  SvgCanvas canvas_;
  std::vector<ClassPicture> classes_;
  bool sections_ = false;
};

}  // namespace

std::string layout_svg(const LayoutView& view, SvgUse use) {
  require_in_range("ranks in a picture", view.deployment.num_ranks, 1, kMaxPictureRanks);
  return Sheet(view, use).draw();
}

}  // namespace eplora
