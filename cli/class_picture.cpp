// SPDX-License-Identifier: Apache-2.0
// The choices come first - how many panels, how they are broken, how rows are labelled -, so that everything
// in one picture has one scale; then the drawing.
#include "cli/class_picture.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/layout_text.h"

namespace eplora {
namespace {

constexpr double kOwnGutter = 112;
constexpr std::int32_t kMostAcross = 32, kMostDown = 32;
constexpr double kIdSize = 10, kLeastNumber = 8;

/// Consecutive places of one kind: [first, last).
template <class Is, class Draw>
void for_each_run(std::size_t count, const Is& is, const Draw& draw) {
  for (std::size_t i = 0; i < count; ++i) {
    if (!is(i)) continue;
    std::size_t end = i;
    while (end < count && is(end)) ++end;
    draw(i, end);
    i = end;
  }
}

}  // namespace

ClassPicture::ClassPicture(const LayoutView& view, const LayerClass& c)
    : view_(view),
      class_(c),
      colors_(c),
      ep_(c.layout.place(0).ep),
      moe_tp_(c.layout.place(0).moe_tp),
      shards_(c.layout.place(0).token_shards),
      stages_(c.stages),
      columns_(moe_tp_) {
  for (const RankPlace& place : c.layout.places) {
    owners_[{c.stage[place.rank], place.token_shard, place.ep_rank, place.moe_tp_rank}].push_back(place.rank);
    columns_[place.moe_tp_rank] = c.columns(view.intermediate, place.rank);
  }
  for (const auto& [place, ranks] : owners_) {
    std::string words = describe_ids(ranks);
    if (text_width(words, 1) > text_width(longest_, 1)) longest_ = std::move(words);
  }
  choose_panels();
  choose_labels();
}

void ClassPicture::choose_panels() {
  std::int32_t across = kMostAcross;
  while (across > 1 && text_width(longest_, kLeastNumber) > 0.75 * kPanelRoom / across - 4) across /= 2;
  own_labels_ = moe_tp_ > kMostDown;
  for (std::int32_t stage = 0; stage < stages_; ++stage)
    for (std::int32_t shard = 0; shard < shards_; ++shard)
      for (std::int32_t p = 0; p < moe_tp_; p += kMostDown)
        for (std::int32_t q = 0; q < ep_; q += across)
          panels_.push_back(
              {stage, shard, q, std::min(ep_, q + across), p, std::min(moe_tp_, p + kMostDown)});
  const std::int32_t widest = std::min(ep_, across), places = std::min(across, kMostAcross / 2);
  const std::size_t most =
      own_labels_ ? std::clamp(places / (widest + 2), 1, 4) : std::max(1, places / widest);
  const std::size_t lines = (panels_.size() + most - 1) / most;
  a_row_ = (panels_.size() + lines - 1) / lines;
  const double all = own_labels_ ? kPanelLeft - kSheetMargin + kPanelRoom : kPanelRoom;
  room_ = (all + kPanelGap) / static_cast<double>(a_row_) - kPanelGap - (own_labels_ ? kOwnGutter : 0);
  gap_x_ = std::min(12.0, 0.25 * room_ / widest);
  const std::int32_t down = panels_.front().down();
  row_height_ = down == 1 ? 84 : down == 2 ? 72 : down <= 4 ? 58 : down <= 8 ? 42 : down <= 16 ? 26 : 20;
  if (lines > 1) row_height_ = std::min(row_height_, 58.0);
  if (lines > 3) row_height_ = std::min(row_height_, 42.0);
  const double words = own_labels_ ? kOwnGutter - 22 : kPanelLeft - 32;
  for (std::int32_t p = 0; p < moe_tp_; ++p) row_size_ = fitting_size(row_words(p), words, row_size_);
  gap_y_ = down <= 8 ? 12 : down <= 16 ? 8 : 5;
}

void ClassPicture::choose_labels() {
  for (const Panel& panel : panels_) {
    const std::vector<double> edges = column_edges(panel, 0);
    for (std::int32_t q = panel.first_ep; q < panel.last_ep; ++q) {
      const double room = edges[q - panel.first_ep + 1] - gap_x_ - edges[q - panel.first_ep];
      const std::vector<std::int32_t>& experts = experts_of(q);
      const double slot = room / static_cast<double>(std::max<std::size_t>(1, experts.size()));
      const std::string words = describe_ids(experts);
      Labels fits = Labels::slots;
      for (const std::int32_t e : experts)
        if (text_width(fmt::format("{}", e), kIdSize) > slot - 2) fits = Labels::wordy;
      if (text_width(fmt::format("EP rank {}", q), 12.5) > room) fits = Labels::brief;
      if (fits == Labels::wordy && text_width("experts " + words, 11) > room + gap_x_ - 4)
        fits = Labels::brief;
      if (fits == Labels::brief && text_width(words, kIdSize) > room + gap_x_ - 4) fits = Labels::upright;
      labels_ = std::max(labels_, fits);
    }
  }
  const double narrowest = (room_ + gap_x_) / panels_.front().across();
  number_size_ = fitting_size(fmt::format("{}", ep_ - 1), narrowest - 3, 11.5);
  head_ = labels_ == Labels::upright ? 104 : 52;
  if (panels_.size() > 1) head_ += 22;
}

std::string ClassPicture::panel_name(const Panel& panel) const {
  std::string name;
  const auto add = [&](const std::string& words) { name += (name.empty() ? "" : ", ") + words; };
  if (stages_ > 1) add(fmt::format("stage {}", panel.stage));
  if (shards_ > 1) add(fmt::format("token shard {}", panel.shard));
  if (name.empty() || own_labels_ || panel.across() < ep_)
    add(own_labels_ ? fmt::format("MoE-TP ranks {}-{}", panel.first_tp, panel.last_tp - 1)
                    : fmt::format("EP ranks {}-{}", panel.first_ep, panel.last_ep - 1));
  return name;
}

double ClassPicture::panel_height(const Panel& panel) const {
  return panel.down() * (row_height_ + gap_y_) - gap_y_;
}

/// Left edges of the panel's columns, and one more: widths follow the number of experts, an EP rank without
/// any keeps a narrow place, and the last of several panels keeps the scale of the others.
std::vector<double> ClassPicture::column_edges(const Panel& panel, double left) const {
  double most = 1, total = 0;
  std::vector<double> weights;
  for (std::int32_t q = panel.first_ep; q < panel.last_ep; ++q)
    most = std::max(most, static_cast<double>(experts_of(q).size()));
  for (std::int32_t q = panel.first_ep; q < panel.last_ep; ++q) {
    weights.push_back(std::max(static_cast<double>(experts_of(q).size()), 0.5 * most));
    total += weights.back();
  }
  const double room =
      (room_ + gap_x_) * static_cast<double>(panel.across()) / static_cast<double>(panels_.front().across());
  std::vector<double> edges = {left};
  for (const double weight : weights) edges.push_back(edges.back() + room * weight / total);
  return edges;
}

bool ClassPicture::is_replica(std::int32_t ep_rank, std::int32_t local) const {
  const std::int32_t expert = experts_of(ep_rank)[local];
  const ExpertReplica& first = class_.layout.placement.replicas(expert).front();
  return !is_shared(expert) && (first.ep_rank != ep_rank || first.local_id != local);
}

double ClassPicture::draw(SvgCanvas& canvas, double y) const {
  const double step = room_ + kPanelGap + (own_labels_ ? kOwnGutter : 0);
  for (std::size_t i = 0; i < panels_.size(); ++i) {
    const double place = static_cast<double>(i % a_row_) * step;
    const double left = own_labels_ ? kSheetMargin + kOwnGutter + place : kPanelLeft + place;
    draw_panel(canvas, panels_[i], left, y, own_labels_ || i % a_row_ == 0);
    if (i % a_row_ + 1 == a_row_ || i + 1 == panels_.size())
      y += head_ + panel_height(panels_[i - i % a_row_]) + kPanelGap;
  }
  return shared_strip(canvas, y);
}

void ClassPicture::draw_panel(SvgCanvas& canvas, const Panel& panel, double left, double y,
                              bool row_labels) const {
  const std::vector<double> edges = column_edges(panel, left);
  const double top = y + head_;
  if (panels_.size() > 1) {
    const std::string name = panel_name(panel);
    canvas.text(left, y + 14, name, {.size = fitting_size(name, room_ + kPanelGap - 6, 13), .weight = 700});
  }
  if (row_labels && (labels_ == Labels::slots || labels_ == Labels::brief))
    canvas.text(left - 18, top - 17, labels_ == Labels::slots ? "expert" : "experts",
                {.size = kIdSize, .anchor = "end", .ink = Ink::soft});
  if (row_labels && labels_ == Labels::brief)
    canvas.text(left - 18, top - 31, "EP rank", {.size = 11.5, .anchor = "end", .weight = 600});
  for (std::int32_t p = panel.first_tp; p < panel.last_tp; ++p) {
    const double row_y = top + (p - panel.first_tp) * (row_height_ + gap_y_);
    if (row_labels) row_label(canvas, p, left - 18, row_y);
    const double out = std::min(9.0, gap_y_ - 2);
    if (ep_ > 1)
      canvas.outline(left - 9, row_y - out / 3, edges.back() - gap_x_ - left + 18, row_height_ + out / 1.5,
                     SvgCanvas::Outline::dashed);
  }
  for (std::int32_t q = panel.first_ep; q < panel.last_ep; ++q) {
    const double x = edges[q - panel.first_ep], w = edges[q - panel.first_ep + 1] - gap_x_ - x;
    column_label(canvas, q, x, w, top);
    for (std::int32_t p = panel.first_tp; p < panel.last_tp; ++p)
      cell(canvas, panel, q, p, x, top + (p - panel.first_tp) * (row_height_ + gap_y_), w);
    const double out = std::min(3.0, 0.3 * gap_x_);
    if (moe_tp_ > 1)
      canvas.outline(x - out, top - 9, w + 2 * out, panel_height(panel) + 18, SvgCanvas::Outline::solid);
  }
}

std::string ClassPicture::row_words(std::int32_t p) const {
  const std::string columns = describe_range(columns_[p].real);
  return row_height_ < 40 ? fmt::format("{}: {}", p, columns) : "columns " + columns;
}

void ClassPicture::row_label(SvgCanvas& canvas, std::int32_t p, double right, double y) const {
  const double middle = y + row_height_ / 2;
  const PaddedRange& held = columns_[p];
  if (row_height_ < 40) {
    canvas.text(right, middle + 4, row_words(p), {.size = row_size_, .anchor = "end"});
    return;
  }
  const double up = held.padding > 0 ? 7 : 0;
  canvas.text(right, middle - 2 - up, moe_tp_ == 1 ? "all columns" : fmt::format("MoE-TP rank {}", p),
              {.size = 12.5, .anchor = "end", .weight = 600});
  canvas.text(right, middle + 14 - up, row_words(p), {.size = row_size_, .anchor = "end", .ink = Ink::soft});
  if (held.padding > 0)
    canvas.text(right, middle + 28 - up, fmt::format("+ {} zeros", held.padding),
                {.size = 10.5, .anchor = "end", .ink = Ink::soft});
}

void ClassPicture::column_label(SvgCanvas& canvas, std::int32_t q, double left, double width,
                                double top) const {
  const std::vector<std::int32_t>& experts = experts_of(q);
  const std::string words = describe_ids(experts);
  const double middle = left + width / 2;
  switch (labels_) {
    case Labels::slots: {
      canvas.text(middle, top - 34, fmt::format("EP rank {}", q),
                  {.size = 12.5, .anchor = "middle", .weight = 600});
      const double slot = width / static_cast<double>(std::max<std::size_t>(1, experts.size()));
      for (std::size_t j = 0; j < experts.size(); ++j)
        canvas.text(left + (static_cast<double>(j) + 0.5) * slot, top - 17, fmt::format("{}", experts[j]),
                    {.size = kIdSize, .anchor = "middle", .ink = Ink::soft});
      break;
    }
    case Labels::wordy:
      canvas.text(middle, top - 32, fmt::format("EP rank {}", q),
                  {.size = 12.5, .anchor = "middle", .weight = 600});
      canvas.text(middle, top - 17, "experts " + words, {.size = 11, .anchor = "middle", .ink = Ink::soft});
      break;
    case Labels::brief:
      canvas.text(middle, top - 31, fmt::format("{}", q),
                  {.size = number_size_, .anchor = "middle", .weight = 600});
      canvas.text(middle, top - 17, words, {.size = kIdSize, .anchor = "middle", .ink = Ink::soft});
      break;
    case Labels::upright:
      canvas.text(middle + 3.5, top - 15, fmt::format("EP {}", q), {.size = 9.5, .weight = 600, .turn = -90});
      canvas.text(middle + 3.5, top - 56, words.size() <= 9 ? words : words.substr(0, 7) + "..",
                  {.size = 9.5, .ink = Ink::soft, .turn = -90});
      break;
  }
}

void ClassPicture::slots(SvgCanvas& canvas, std::int32_t q, double x, double y, double w, double h) const {
  const std::vector<std::int32_t>& experts = experts_of(q);
  const double slot = w / static_cast<double>(experts.size());
  const auto hatch = [&](Pattern pattern) {
    return [&, pattern](std::size_t first, std::size_t last) {
      canvas.patterned(x + static_cast<double>(first) * slot, y, static_cast<double>(last - first) * slot, h,
                       pattern);
    };
  };
  for_each_run(
      experts.size(), [&](std::size_t j) { return is_replica(q, static_cast<std::int32_t>(j)); },
      hatch(Pattern::replica));
  for_each_run(
      experts.size(), [&](std::size_t j) { return is_shared(experts[j]); }, hatch(Pattern::shared));
  if (labels_ != Labels::slots) return;
  std::vector<double> xs;
  for (std::size_t j = 1; j < experts.size(); ++j) xs.push_back(x + static_cast<double>(j) * slot);
  const double tick = h < 40 ? h : 9;  // only the ends, so that numbers stand free
  canvas.rules(xs, y, tick);
  if (tick < h) canvas.rules(xs, y + h - tick, tick);
}

void ClassPicture::cell(SvgCanvas& canvas, const Panel& panel, std::int32_t q, std::int32_t p, double x,
                        double y, double w) const {
  const std::vector<std::int32_t>& experts = experts_of(q);
  const std::vector<std::int32_t>& ranks = owners_.at({panel.stage, panel.shard, q, p});
  const PaddedRange& held = columns_[p];
  const std::string color = colors_.of(q, p);
  canvas.begin_mark(ranks, fmt::format("rank {}: experts {}, columns {}", describe_ids(ranks),
                                       describe_ids(experts), describe_columns(held)));
  const double part = static_cast<double>(held.padding) / static_cast<double>(held.width());
  const double zeros =
      held.padding == 0 ? 0 : std::max(std::min(8.0, 0.25 * row_height_), part * row_height_);
  if (experts.empty()) {
    canvas.outline(x, y, w, row_height_, SvgCanvas::Outline::faint);
  } else {
    canvas.box(x, y, w, row_height_, color);
    slots(canvas, q, x, y, w, row_height_ - zeros);
    if (zeros > 0) canvas.patterned(x, y + row_height_ - zeros, w, zeros, Pattern::padding);
  }
  const std::string about =
      experts.empty() ? "no expert" : fmt::format("{} x {}", experts.size(), held.real.size());
  const bool detailed = row_height_ >= 50 && text_width(about, 11) < w - 8;
  const double tallest = row_height_ >= 50 ? 22 : row_height_ >= 40 ? 17 : 13;
  const double size = std::max(6.0, fitting_size(longest_, w - 4, std::min(tallest, row_height_ - 6)));
  const double middle = y + (row_height_ - zeros) / 2;
  const std::string halo = experts.empty() ? "" : color;
  const Ink ink = experts.empty() ? Ink::plain : Ink::on_color;
  canvas.text(x + w / 2, middle + size * 0.36 - (detailed ? 8 : 0), describe_ids(ranks),
              {.size = size, .anchor = "middle", .ink = ink, .weight = 700, .halo = halo});
  if (detailed)
    canvas.text(x + w / 2, middle + 19, about,
                {.size = 11,
                 .anchor = "middle",
                 .ink = experts.empty() ? Ink::soft : Ink::on_color_soft,
                 .halo = halo});
  canvas.end_mark();
}

}  // namespace eplora
