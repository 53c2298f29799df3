// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace eplora {
namespace {

/// Ids that follow one another, both ends included.
struct Run {
  std::int32_t first, last;
};

std::vector<Run> runs_of(std::span<const std::int32_t> ids) {
  std::vector<Run> runs;
  for (const std::int32_t id : ids) {
    if (!runs.empty() && id == runs.back().last + 1)
      runs.back().last = id;
    else
      runs.push_back({id, id});
  }
  return runs;
}

/// More than three runs, equally long and equally far apart.
bool is_regular(const std::vector<Run>& runs) {
  for (std::size_t i = 1; i < runs.size(); ++i)
    if (runs[i].last - runs[i].first != runs[0].last - runs[0].first ||
        runs[i].first - runs[i - 1].first != runs[1].first - runs[0].first || runs[i].first < runs[0].first)
      return false;
  return runs.size() > 3;
}

std::string run_words(const Run& run) {
  return run.first == run.last ? fmt::format("{}", run.first) : fmt::format("{}-{}", run.first, run.last);
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

std::string sum_words(const std::vector<std::string>& axes) {
  return axes.empty() ? "no sum" : fmt::format("sum over {}", fmt::join(axes, ", "));
}

}  // namespace

std::string describe_ids(std::span<const std::int32_t> ids) {
  if (ids.empty()) return "none";
  const std::vector<Run> runs = runs_of(ids);
  if (is_regular(runs))
    return fmt::format("{},{},..,{}", run_words(runs[0]), run_words(runs[1]), run_words(runs.back()));
  std::string text;
  for (const Run& run : runs)
    text += (text.empty() ? "" : ",") +
            (run.last == run.first + 1 ? fmt::format("{},{}", run.first, run.last) : run_words(run));
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

std::string describe_count(std::string_view number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == "1" ? "" : "s");
}

std::string describe_count(std::int64_t number, std::string_view noun) {
  return describe_count(fmt::format("{}", number), noun);
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
  const auto claimed = c.spec.sum_over ? wide_axes(mesh, {&*c.spec.sum_over}) : summed;
  if (claimed != summed)
    parts.push_back(fmt::format("{} (as sum_over claims; the cuts ask for {})", sum_words(claimed),
                                summed.empty() ? "none" : fmt::format("{}", fmt::join(summed, ", "))));
  else if (!summed.empty())
    parts.push_back(sum_words(summed));
  if (!concatenated.empty())
    parts.push_back(fmt::format("concatenate tokens over {}", fmt::join(concatenated, ", ")));
  if (!copies.empty()) parts.push_back(fmt::format("any one copy over {}", fmt::join(copies, ", ")));
  return parts.empty() ? "nothing to recombine" : fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace eplora
