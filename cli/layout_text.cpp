// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace eplora {
namespace {

bool has_equal_steps(std::span<const std::int32_t> ids) {
  for (std::size_t i = 2; i < ids.size(); ++i)
    if (ids[i] - ids[i - 1] != ids[1] - ids[0]) return false;
  return true;
}

/// Axes of more than one rank, in mesh order; a mesh of one rank sums over nothing.
std::vector<std::string> wide_axes(const Mesh& mesh,
                                   std::initializer_list<const std::vector<std::string>*> sets) {
  std::vector<std::string> names;
  for (const Axis& axis : mesh.axes())
    for (const auto* set : sets)
      if (axis.size > 1 && std::find(set->begin(), set->end(), axis.name) != set->end())
        names.push_back(axis.name);
  return names;
}

}  // namespace

std::string describe_ids(std::span<const std::int32_t> ids) {
  if (ids.empty()) return "none";
  if (ids.size() > 3 && ids[1] - ids[0] > 1 && has_equal_steps(ids))
    return fmt::format("{},{},..,{}", ids[0], ids[1], ids.back());
  std::string text;
  for (std::size_t i = 0; i < ids.size();) {
    std::size_t end = i + 1;
    while (end < ids.size() && ids[end] == ids[end - 1] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ",", ids[i]);
    if (end - i > 1) text += fmt::format("{}{}", end - i > 2 ? "-" : ",", ids[end - 1]);
    i = end;
  }
  return text;
}

std::string describe_range(const Range& range) { return fmt::format("[{}, {})", range.begin, range.end); }

std::string layout_argument(const SglangSizes& sizes) {
  return fmt::format("tp={},ep={}{}", sizes.tp, sizes.ep,
                     sizes.moe_dp == 1 ? "" : fmt::format(",moe_dp={}", sizes.moe_dp));
}

std::string describe_mesh(const Mesh& mesh, bool all) {
  std::vector<std::string> axes;
  for (const Axis& axis : mesh.axes())
    if (all || axis.size > 1) axes.push_back(fmt::format("{}={}", axis.name, axis.size));
  return axes.empty() ? "one rank" : fmt::format("{}", fmt::join(axes, " x "));
}

std::string describe_axes(const Mesh& mesh, const std::vector<std::string>& axes) {
  return fmt::format("{}", fmt::join(wide_axes(mesh, {&axes}), ", "));
}

std::string describe_expert_counts(const Placement& placement) {
  std::size_t low = placement.local_experts(0).size(), high = low;
  for (const auto& experts : placement.experts_of_rank()) {
    low = std::min(low, experts.size());
    high = std::max(high, experts.size());
  }
  return low == high ? fmt::format("{}", low) : fmt::format("{}-{}", low, high);
}

std::string describe_columns(const PaddedRange& columns) {
  return describe_range(columns.real) +
         (columns.padding == 0 ? "" : fmt::format(" + {} zeros", columns.padding));
}

std::string describe_bytes(double bytes) {
  constexpr std::array<const char*, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t at = 0;
  for (; bytes >= 1024 && at + 1 < kNames.size(); ++at) bytes /= 1024;
  return fmt::format("{:.{}f} {}", bytes, at == 0 ? 0 : 2, kNames[at]);
}

std::vector<std::string> copy_axes(const LayerClass& c) {
  std::vector<std::string> names;
  const ClassSharding& cut = c.spec.sharding;
  for (const Axis& axis : c.layout.mesh.axes()) {
    bool used = false;
    for (const auto* set : {&cut.tokens, &cut.experts, &cut.intermediate, &cut.layers})
      used |= std::find(set->begin(), set->end(), axis.name) != set->end();
    if (!used) names.push_back(axis.name);
  }
  return names;
}

std::string describe_recombination(const LayerClass& c) {
  std::vector<std::string> parts;
  const Mesh& mesh = c.layout.mesh;
  const ClassSharding& cut = c.spec.sharding;
  const auto summed = wide_axes(mesh, {&cut.experts, &cut.intermediate});
  const auto concatenated = wide_axes(mesh, {&cut.tokens});
  const std::vector<std::string> unused = copy_axes(c);
  const auto copies = wide_axes(mesh, {&unused});
  if (!summed.empty()) parts.push_back(fmt::format("sum over {}", fmt::join(summed, ", ")));
  if (!concatenated.empty())
    parts.push_back(fmt::format("concatenate tokens over {}", fmt::join(concatenated, ", ")));
  if (!copies.empty()) parts.push_back(fmt::format("any one copy over {}", fmt::join(copies, ", ")));
  return parts.empty() ? "nothing to recombine" : fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace eplora
