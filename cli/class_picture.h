// SPDX-License-Identifier: Apache-2.0
// One class of layers drawn: experts from left to right, columns of the intermediate size from top to bottom,
// each rectangle in the colour of the rank that owns it and with the rank's number. Panels: one for each
// pipeline stage and token shard, broken after so many EP ranks and slices as can be read.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "cli/layout_view.h"
#include "cli/rank_chips.h"
#include "cli/svg_canvas.h"

namespace eplora {

/// The sheet that all parts of a picture share.
inline constexpr double kSheetWidth = 1152, kSheetMargin = 36, kPanelLeft = 156, kPanelRoom = 960,
                        kPanelGap = 30;

class ClassPicture {
 public:
  ClassPicture(const LayoutView& view, const LayerClass& layer_class);

  /// Draws from `y` downwards; returns where it ends.
  double draw(SvgCanvas& canvas, double y) const;
  /// What this class needs explained, a row each; returns where it ends.
  /// `said` holds what stands there already, and is added to.
  double legend(SvgCanvas& canvas, double y, std::set<std::string>& said) const;

 private:
  /// How the experts of an EP rank are named above its column, from roomy to cramped; one way for all.
  enum class Labels : std::uint8_t { slots, wordy, brief, upright };
  struct Panel {
    std::int32_t stage, shard, first_ep, last_ep, first_tp, last_tp;
    std::int32_t across() const { return last_ep - first_ep; }
    std::int32_t down() const { return last_tp - first_tp; }
  };

  void choose_panels();
  void choose_labels();
  double panel_height(const Panel& panel) const;
  std::vector<double> column_edges(const Panel& panel, double left) const;
  void draw_panel(SvgCanvas& canvas, const Panel& panel, double left, double y, bool row_labels) const;
  std::string row_words(std::int32_t moe_tp_rank) const;
  void row_label(SvgCanvas& canvas, std::int32_t moe_tp_rank, double right, double y) const;
  void column_label(SvgCanvas& canvas, std::int32_t ep_rank, double left, double width, double top) const;
  void cell(SvgCanvas& canvas, const Panel& panel, std::int32_t ep_rank, std::int32_t moe_tp_rank, double x,
            double y, double w) const;
  void slots(SvgCanvas& canvas, std::int32_t ep_rank, double x, double y, double w, double h) const;
  double shared_strip(SvgCanvas& canvas, double y) const;
  std::string panel_name(const Panel& panel) const;

  const std::vector<std::int32_t>& experts_of(std::int32_t ep_rank) const {
    return class_.layout.placement.local_experts(ep_rank);
  }
  /// Whether the expert at local id `local` stands earlier too: it is then a replica.
  bool is_replica(std::int32_t ep_rank, std::int32_t local) const;
  bool is_shared(std::int32_t expert) const { return expert >= class_.spec.placement.num_experts; }

  const LayoutView& view_;
  const LayerClass& class_;
  RankColors colors_;
  std::int32_t ep_, moe_tp_, shards_, stages_;
  std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t, std::int32_t>, std::vector<std::int32_t>>
      owners_;                        ///< by stage, token shard, EP rank, MoE-TP rank
  std::vector<PaddedRange> columns_;  ///< `[moe_tp]`
  std::string longest_;               ///< the widest text of ranks: one type size for all
  std::vector<Panel> panels_;
  std::size_t a_row_ = 1;    ///< panels side by side
  bool own_labels_ = false;  ///< slices are broken: every panel names its rows
  double room_ = kPanelRoom, row_height_ = 40, gap_x_ = 12, gap_y_ = 12, head_ = 52;
  double row_size_ = 10.5, number_size_ = 11.5;  ///< type of slices' columns, of EP ranks' numbers
  Labels labels_ = Labels::slots;
};

}  // namespace eplora
