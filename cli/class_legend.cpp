// SPDX-License-Identifier: Apache-2.0
// What stands below the panels of a class: shared experts that are not fused, and what signs and colours
// mean.
#include <fmt/format.h>

#include <algorithm>

#include "cli/class_picture.h"
#include "cli/layout_text.h"

namespace eplora {

double ClassPicture::shared_strip(SvgCanvas& canvas, double y) const {
  const SharedExpertsSpec& shared = class_.spec.shared_experts;
  if (shared.kind != SharedExpertsKind::replicated && shared.kind != SharedExpertsKind::sharded) return y;
  constexpr double kHigh = 30;
  constexpr std::int32_t kMost = 16;
  const std::string ground = oklch(0.94, 0.01, 255);
  std::vector<std::vector<std::int32_t>> holders(class_.shared_parts);
  for (std::int32_t rank = 0; rank < view_.deployment.num_ranks; ++rank)
    holders[class_.shared_index[rank]].push_back(rank);
  const std::int32_t parts = class_.shared_parts;
  const double gap = 6, w = (kPanelRoom + gap) / std::min(parts, kMost) - gap;
  canvas.text(kPanelLeft - 18, y + kHigh / 2 + 4, shared.count == 1 ? "shared expert" : "shared experts",
              {.size = 11.5, .anchor = "end", .weight = 600});
  for (std::int32_t part = 0; part < parts; ++part) {
    const std::int32_t line = part / kMost;
    const double x = kPanelLeft + (part % kMost) * (w + gap), top = y + line * (kHigh + gap);
    const Range columns = shared.kind == SharedExpertsKind::sharded
                              ? class_.shared_columns(view_.shared_columns(class_), holders[part].front())
                              : Range{0, view_.shared_columns(class_)};
    const std::string ranks = parts == 1 ? "every rank" : describe_ids(holders[part]);
    const std::string wide = ranks + ": columns " + describe_range(columns);
    const std::string& words = text_width(wide, 11.5) < w - 8 ? wide : ranks;
    canvas.begin_mark(holders[part], "shared experts, " + wide);
    canvas.box(x, top, w, kHigh, ground);
    canvas.patterned(x, top, w, kHigh, Pattern::shared, 4);
    canvas.text(x + w / 2, top + kHigh / 2 + 4, words,
                {.size = fitting_size(words, w - 4, 11.5),
                 .anchor = "middle",
                 .ink = Ink::on_color,
                 .weight = 600,
                 .halo = ground});
    canvas.end_mark();
  }
  const std::int32_t lines = (parts + kMost - 1) / kMost;
  return y + lines * (kHigh + gap) + kPanelGap - gap;
}

double ClassPicture::legend(SvgCanvas& canvas, double y, std::set<std::string>& said) const {
  const auto entry = [&](const std::string& words, const auto& sample) {
    if (!said.insert(words).second) return;
    sample(kPanelLeft, y - 9);
    canvas.text(kPanelLeft + 44, y + 4, words, {.size = 12});
    y += 25;
  };
  const auto hatched = [&](Pattern pattern) {
    return [&, pattern](double x, double top) {
      canvas.box(x, top, 30, 17, colors_.of(0, 0));
      canvas.patterned(x, top, 30, 17, pattern, 4);
    };
  };
  const auto outlined = [&](SvgCanvas::Outline kind) {
    return [&, kind](double x, double top) { canvas.outline(x, top, 30, 16, kind); };
  };
  entry("a rank, and what it owns: experts x columns. Hue tells EP ranks apart; darker = higher MoE-TP rank",
        [&](double x, double top) {
          canvas.box(x, top, 30, 17, colors_.of(0, 0));
          canvas.text(x + 15, top + 13, "7",
                      {.size = 12, .anchor = "middle", .ink = Ink::on_color, .weight = 700});
        });
  if (moe_tp_ > 1)
    entry(
        fmt::format("MoE-TP group of {} ranks: same experts, different columns; outputs are summed", moe_tp_),
        outlined(SvgCanvas::Outline::solid));
  if (ep_ > 1)
    entry(fmt::format("EP group of {} ranks: same columns, different experts; outputs are summed", ep_),
          outlined(SvgCanvas::Outline::dashed));
  bool replicas = false, empty = false;
  for (std::int32_t q = 0; q < ep_; ++q) {
    empty |= experts_of(q).empty();
    for (std::size_t j = 0; j < experts_of(q).size(); ++j)
      replicas |= is_replica(q, static_cast<std::int32_t>(j));
  }
  if (replicas)
    entry("replica of an expert that stands on an earlier EP rank too", hatched(Pattern::replica));
  if (std::any_of(columns_.begin(), columns_.end(), [](const PaddedRange& one) { return one.padding > 0; }))
    entry("padding: columns of zeros behind the model's own", hatched(Pattern::padding));
  if (class_.spec.shared_experts.kind != SharedExpertsKind::none)
    entry(shared_sentence(view_, class_), hatched(Pattern::shared));
  if (empty) entry("an EP rank without an expert", outlined(SvgCanvas::Outline::faint));
  const auto plain = [](double, double) {};
  if (shards_ > 1)
    entry(fmt::format("{} token shards hold the same weights (same colours); outputs are concatenated",
                      shards_),
          plain);
  if (stages_ > 1)
    entry(fmt::format("{} stages hold different layers, cut in the same way (same colours)", stages_), plain);
  if (longest_.find_first_of(",-") != std::string::npos)
    entry("several numbers: copies, ranks that hold the same and compute the same", plain);
  return y;
}

}  // namespace eplora
