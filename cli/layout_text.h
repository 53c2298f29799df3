// SPDX-License-Identifier: Apache-2.0
// How layouts and their prices are written for people: id lists as ranges, ranges as half-open intervals,
// bytes in units, sizes as `--layout` takes them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reference/layout/deployment.h"
#include "reference/layout/presets.h"

namespace eplora {

/// "0-63", "0,2,..,126" and "0-7,16-23,..,112-119" (equal steps), "0,3,4-7"; "none" when empty. Ids in their
/// own order.
std::string describe_ids(std::span<const std::int32_t> ids);

/// "[0, 384)".
std::string describe_range(const Range& range);

/// "tp=4,ep=2", with moe_dp only when it is not 1: what `--layout` takes.
std::string layout_argument(const SglangSizes& sizes);

/// "moe_dp=1 x moe_ep=2 x moe_tp=2"; without axes of size 1 unless `all`.
std::string describe_mesh(const Mesh& mesh, bool all = true);
/// "dp, tp": the axes of more than one rank.
std::string describe_axes(const Mesh& mesh, const std::vector<std::string>& axes);

/// "4", or "3-4" where ranks own different numbers of experts.
std::string describe_expert_counts(const Placement& placement);

/// "[0, 360) + 24 zeros": the model's columns, then the padding.
std::string describe_columns(const PaddedRange& columns);

/// "1 rank", "8 ranks"; `number` may be a span of numbers: "0-1 experts".
std::string describe_count(std::string_view number, std::string_view noun);
std::string describe_count(std::int64_t number, std::string_view noun);

/// "0 B", "1.50 KiB", up to TiB.
std::string describe_bytes(double bytes);

/// How the ranks' outputs become the layer's: "sum over moe_ep, moe_tp; concatenate tokens over moe_dp". A
/// `sum_over` that is another sum than the cuts ask for stands beside it.
std::string describe_recombination(const LayerClass& layer_class);

/// Axes of the class's grid that cut neither tokens, experts, columns nor layers: copies.
std::vector<std::string> copy_axes(const LayerClass& layer_class);

}  // namespace eplora
