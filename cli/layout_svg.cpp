// SPDX-License-Identifier: Apache-2.0
// The picture is a stack of panels: one for each token shard, broken after kPanelColumns EP ranks. In a panel
// a column of rectangles is an EP rank (a MoE-TP group), a row is a slice of the intermediate size (an EP
// group). Hue tells EP ranks apart, lightness the slices, so the slices differ in black and white too; the
// numbers say the rest.
#include "cli/layout_svg.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <vector>

#include "cli/layout_text.h"
#include "reference/check.h"

namespace eplora {
namespace {

constexpr double kLeft = 156, kTop = 112, kMargin = 36, kPanelGap = 34;
constexpr double kPanelWidth = 960;
constexpr std::int32_t kPanelColumns = 32;
constexpr const char* kInk = "#1f2430";
constexpr const char* kSoftInk = "#5b6375";
constexpr const char* kSolid = "stroke=\"#1f2430\" stroke-width=\"1.4\"";
constexpr const char* kDashed = "stroke=\"#5b6375\" stroke-width=\"1.1\" stroke-dasharray=\"5 4\"";

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '"')
      result += "&quot;";
    else
      result += c;
  }
  return result;
}

/// OKLCH -> "#rrggbb": equal lightness looks equally light in every hue (B. Ottosson, "A perceptual color
/// space").
std::string oklch(double lightness, double chroma, double degrees) {
  const double a = chroma * std::cos(degrees * M_PI / 180), b = chroma * std::sin(degrees * M_PI / 180);
  const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
  const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
  const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
  const double linear[3] = {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
                            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
                            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
  std::string color = "#";
  for (const double value : linear) {
    const double v = std::clamp(value, 0.0, 1.0);
    const double encoded = v <= 0.0031308 ? 12.92 * v : 1.055 * std::pow(v, 1 / 2.4) - 0.055;
    color += fmt::format("{:02x}", static_cast<int>(std::lround(encoded * 255)));
  }
  return color;
}

/// Width that `text` takes in a sans-serif face, near enough to place labels.
double text_width(const std::string& text, double size) {
  return 0.58 * size * static_cast<double>(text.size());
}

/// How an EP rank is named above its column, from roomy to cramped; one way for the whole picture.
enum class Labels : std::uint8_t { wordy, brief, upright };

class Picture {
 public:
  Picture(const Layout& layout, const std::string& title, std::int64_t intermediate)
      : layout_(layout), title_(title), intermediate_(intermediate) {
    ep_ = layout.place(0).ep;
    moe_tp_ = layout.place(0).moe_tp;
    token_shards_ = layout.place(0).token_shards;
    slice_ = intermediate_per_rank(intermediate, moe_tp_, "the layer");
    for (const RankPlace& place : layout.places)
      owners_[{place.token_shard, place.ep_rank, place.moe_tp_rank}].push_back(place.rank);
    for (const auto& owner : owners_) longest_ = std::max(longest_, describe_ids(owner.second).size());
    row_height_ = moe_tp_ == 1 ? 84 : moe_tp_ == 2 ? 72 : moe_tp_ <= 4 ? 58 : moe_tp_ <= 8 ? 42 : 24;
    gap_y_ = moe_tp_ <= 8 ? 12 : 9;
    gap_x_ = std::min(12.0, 0.25 * kPanelWidth / std::min(ep_, kPanelColumns));
    for (std::int32_t first = 0; first < ep_; first += kPanelColumns) {
      const std::vector<double> edges = column_edges(first, panel_end(first));
      for (std::int32_t q = first; q < panel_end(first); ++q)
        labels_ = std::max(labels_, labels_that_fit(q, edges[q - first + 1] - edges[q - first] - 4));
    }
    head_ = labels_ == Labels::upright ? 100 : 52;
  }

  std::string draw() {
    header();
    double y = kTop;
    for (std::int32_t shard = 0; shard < token_shards_; ++shard) {
      for (std::int32_t first = 0; first < ep_; first += kPanelColumns) {
        panel(shard, first, panel_end(first), y);
        y += head_ + panel_height() + kPanelGap;
      }
    }
    return document(legend(y));
  }

 private:
  std::int32_t panel_end(std::int32_t first) const { return std::min(ep_, first + kPanelColumns); }
  double panel_height() const { return moe_tp_ * (row_height_ + gap_y_) - gap_y_; }
  const std::vector<std::int32_t>& experts_of(std::int32_t ep_rank) const {
    return layout_.placement.local_experts(ep_rank);
  }

  std::string document(double height) const {
    return fmt::format(
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
               "height=\"{1:.0f}\" font-family=\"Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', "
               "sans-serif\">\n<title>{2}</title>\n"
               "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
               kLeft + kPanelWidth + kMargin, height, escaped("Layout " + title_)) +
           body_ + "</svg>\n";
  }

  void text(double x, double y, const std::string& words, double size, const char* anchor,
            const std::string& fill = kInk, int weight = 400, double turn = 0) {
    const std::string rotate =
        turn == 0 ? "" : fmt::format(" transform=\"rotate({:.0f} {:.1f} {:.1f})\"", turn, x, y);
    body_ += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{:.1f}\" text-anchor=\"{}\" fill=\"{}\" "
        "font-weight=\"{}\"{}>{}</text>\n",
        x, y, size, anchor, fill, weight, rotate, escaped(words));
  }

  void box(double x, double y, double w, double h, const std::string& fill, const std::string& extra = "") {
    body_ += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"4\" fill=\"{}\" {}/>\n", x,
        y, w, h, fill, extra);
  }

  std::string color_of(std::int32_t ep_rank, std::int32_t moe_tp_rank) const {
    const double hue = 255 + (ep_ == 1 ? 0.0 : 330.0 * ep_rank / ep_);
    const double depth = moe_tp_ == 1 ? 0.0 : static_cast<double>(moe_tp_rank) / (moe_tp_ - 1);
    const double darkest = std::min(0.22, 0.07 * moe_tp_);
    return oklch(0.91 - darkest * depth - (ep_rank % 2 == 1 ? 0.025 : 0.0), 0.06 + 0.05 * depth, hue);
  }

  /// Left edges of the columns of EP ranks [first, last), and one more: widths follow the number of experts,
  /// an EP rank without any keeps a narrow place, and the last of several panels keeps the scale of the
  /// others.
  std::vector<double> column_edges(std::int32_t first, std::int32_t last) const {
    double most = 1, total = 0;
    std::vector<double> weights;
    for (std::int32_t q = first; q < last; ++q)
      most = std::max(most, static_cast<double>(experts_of(q).size()));
    for (std::int32_t q = first; q < last; ++q) {
      weights.push_back(std::max(static_cast<double>(experts_of(q).size()), 0.5 * most));
      total += weights.back();
    }
    const double room =
        (kPanelWidth + gap_x_) * (ep_ > kPanelColumns ? (last - first) / double{kPanelColumns} : 1.0);
    std::vector<double> edges = {kLeft};
    for (const double weight : weights) edges.push_back(edges.back() + room * weight / total);
    return edges;
  }

  void panel(std::int32_t shard, std::int32_t first, std::int32_t last, double y) {
    const std::vector<double> edges = column_edges(first, last);
    const double top = y + head_;
    if (token_shards_ > 1)
      text(kMargin, top - 26, fmt::format("Token shard {}", shard), 13, "start", kInk, 700);
    for (std::int32_t p = 0; p < moe_tp_; ++p) {
      const double row_y = top + p * (row_height_ + gap_y_);
      row_label(p, row_y);
      if (ep_ > 1)
        box(kLeft - 9, row_y - 3, edges.back() - gap_x_ - kLeft + 18, row_height_ + 6, "none", kDashed);
    }
    for (std::int32_t q = first; q < last; ++q) {
      const double x = edges[q - first], w = edges[q - first + 1] - gap_x_ - x;
      column_label(q, x + w / 2, top);
      for (std::int32_t p = 0; p < moe_tp_; ++p) cell(shard, q, p, x, top + p * (row_height_ + gap_y_), w);
      const double out = std::min(3.0, 0.3 * gap_x_);
      if (moe_tp_ > 1) box(x - out, top - 9, w + 2 * out, panel_height() + 18, "none", kSolid);
    }
  }

  void row_label(std::int32_t p, double y) {
    const double middle = y + row_height_ / 2;
    const std::string columns = describe_range({p * slice_, (p + 1) * slice_});
    if (row_height_ < 40) {
      text(kLeft - 18, middle + 4, fmt::format("{}: {}", p, columns), 10.5, "end");
      return;
    }
    text(kLeft - 18, middle - 2, fmt::format("MoE-TP rank {}", p), 12.5, "end", kInk, 600);
    text(kLeft - 18, middle + 14, "columns " + columns, 10.5, "end", kSoftInk);
  }

  Labels labels_that_fit(std::int32_t q, double room) const {
    const std::string experts = describe_ids(experts_of(q));
    if (text_width("experts " + experts, 11) < room && text_width(fmt::format("EP rank {}", q), 12.5) < room)
      return Labels::wordy;
    return text_width(experts, 10) < room ? Labels::brief : Labels::upright;
  }

  void column_label(std::int32_t q, double middle, double top) {
    const std::string experts = describe_ids(experts_of(q));
    switch (labels_) {
      case Labels::wordy:
        text(middle, top - 32, fmt::format("EP rank {}", q), 12.5, "middle", kInk, 600);
        text(middle, top - 17, "experts " + experts, 11, "middle", kSoftInk);
        break;
      case Labels::brief:
        text(middle, top - 31, fmt::format("EP {}", q), 11.5, "middle", kInk, 600);
        text(middle, top - 17, experts, 10, "middle", kSoftInk);
        break;
      case Labels::upright:
        text(middle + 3.5, top - 15, fmt::format("EP {}", q), 9.5, "start", kInk, 600, -90);
        text(middle + 3.5, top - 52, experts.size() <= 9 ? experts : experts.substr(0, 7) + "..", 9.5,
             "start", kSoftInk, 400, -90);
        break;
    }
  }

  void cell(std::int32_t shard, std::int32_t q, std::int32_t p, double x, double y, double w) {
    const std::size_t owned = experts_of(q).size();
    const std::string ranks = describe_ids(owners_.at({shard, q, p}));
    box(x, y, w, row_height_, owned == 0 ? "#ffffff" : color_of(q, p),
        owned == 0 ? "stroke=\"#9aa1b1\" stroke-dasharray=\"2 3\"" : "");
    const std::string about = owned == 0 ? "no expert" : fmt::format("{} x {}", owned, slice_);
    const bool detailed = row_height_ >= 50 && text_width(about, 11) < w - 8;
    const double tallest = row_height_ >= 50 ? 22 : row_height_ >= 40 ? 17 : 13;
    const double size = std::clamp((w - 4) / (0.68 * static_cast<double>(longest_)), 6.0, tallest);
    const double middle = y + row_height_ / 2;
    text(x + w / 2, middle + size * 0.36 - (detailed ? 8 : 0), ranks, size, "middle", kInk, 700);
    if (detailed) text(x + w / 2, middle + 19, about, 11, "middle", "#3c4454");
  }

  double legend(double y) {
    const auto entry = [&](const std::string& words) {
      text(kLeft + 44, y + 4, words, 12, "start");
      y += 25;
    };
    box(kLeft, y - 8, 30, 17, color_of(0, 0));
    text(kLeft + 15, y + 4.5, "7", 12, "middle", kInk, 700);
    entry(
        "a rank, and what it owns: experts x columns. Hue tells EP ranks apart; darker = higher MoE-TP rank");
    if (moe_tp_ > 1) {
      box(kLeft, y - 8, 30, 16, "none", kSolid);
      entry(fmt::format("MoE-TP group of {} ranks: same experts, different columns; outputs are summed",
                        moe_tp_));
    }
    if (ep_ > 1) {
      box(kLeft, y - 8, 30, 16, "none", kDashed);
      entry(fmt::format("EP group of {} ranks: same columns, different experts; outputs are summed", ep_));
    }
    if (token_shards_ > 1)
      entry(fmt::format("{} token shards hold the same weights (same colours); outputs are concatenated",
                        token_shards_));
    return y + 12;
  }

  void header() {
    text(kMargin, 48, title_, 25, "start", kInk, 700);
    text(kMargin, 73,
         fmt::format("{} {}: {}.  {} experts, {} placement.  {} columns.", layout_.mesh.num_ranks(),
                     layout_.mesh.num_ranks() == 1 ? "rank" : "ranks", describe_mesh(layout_.mesh),
                     layout_.placement.num_experts(), to_string(layout_.placement.kind()), intermediate_),
         13, "start", kSoftInk);
    text(kMargin, 93, "Recombine: " + describe_recombination(layout_) + ".", 13, "start", kSoftInk);
  }

  const Layout& layout_;
  std::string title_;
  std::int64_t intermediate_ = 0, slice_ = 0;
  std::int32_t ep_ = 1, moe_tp_ = 1, token_shards_ = 1;
  double row_height_ = 40, gap_x_ = 12, gap_y_ = 12, head_ = 52;
  Labels labels_ = Labels::wordy;
  std::size_t longest_ = 1;  ///< letters of the longest rank number: one type size for all
  std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::vector<std::int32_t>> owners_;
  std::string body_;
};

}  // namespace

std::string layout_svg(const Layout& layout, const std::string& title, std::int64_t intermediate) {
  require_in_range("ranks in a picture", layout.mesh.num_ranks(), 1, kMaxPictureRanks);
  return Picture(layout, title, intermediate).draw();
}

}  // namespace eplora
