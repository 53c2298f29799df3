// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_view.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "cli/layout_input.h"
#include "cli/layout_text.h"
#include "reference/check.h"

namespace eplora {
namespace {

/// `--placement`, for layouts that leave it out.
void set_placement(DeploymentSpec& spec, const std::string& name) {
  PlacementRule rule = PlacementRule::linear;
  if (name == to_string(PlacementRule::round_robin))
    rule = PlacementRule::round_robin;
  else if (name != to_string(rule))
    reject("--placement", "'" + name + "'",
           "it must be linear or round_robin; a table goes into a layout file");
  for (LayerClassSpec& c : spec.classes) {
    if (c.placement.rule != PlacementRule::linear && c.placement.rule != rule)
      reject("--placement", "'" + name + "'",
             "the layout says " + std::string(to_string(c.placement.rule)) + " itself");
    c.placement.rule = rule;
  }
}

/// Sizes that do not divide are refused before anything is drawn.
void check_sizes(const LayoutView& view) {
  for (const LayerClass& c : view.deployment.classes) {
    for (std::int32_t rank = 0; rank < view.deployment.num_ranks; ++rank) c.columns(view.intermediate, rank);
    if (c.spec.shared_experts.kind == SharedExpertsKind::sharded) c.shared_columns(view.shared_columns(c), 0);
  }
}

/// The token that was asked for, or one in the middle of a small batch, with ids spread over the experts.
std::vector<TokenPath> paths_of(const LayoutView& view, const LayoutShowOptions& options,
                                std::int32_t top_k) {
  std::vector<TokenPath> paths;
  if (view.tokens == 0 && !view.path_asked) return paths;
  for (const LayerClass& c : view.deployment.classes) {
    TokenQuestion asked;
    const std::int64_t parts = std::max(view.deployment.home_parts, c.layout.place(0).token_shards);
    asked.tokens = view.tokens.value_or(std::max(4 * parts, options.token + 1));
    asked.token = options.token >= 0 ? options.token : asked.tokens / 2;
    asked.ids = options.ids;
    asked.intermediate = view.intermediate;
    const std::int64_t E = c.spec.placement.num_experts, K = std::min<std::int64_t>(E, top_k);
    for (std::int64_t k = 0; k < K && options.ids.empty(); ++k)
      asked.ids.push_back(static_cast<std::int32_t>((2 * k + 1) * E / (2 * K)));
    paths.push_back(token_path(view.deployment, c, asked));
  }
  return paths;
}

}  // namespace

std::int64_t LayoutView::shared_columns(const LayerClass& c) const {
  const std::int64_t own = c.spec.shared_experts.intermediate;
  return own == 0 ? intermediate : own;
}

LayoutView layout_view(const LayoutShowOptions& options) {
  LayoutView view;
  std::optional<std::int32_t> experts;
  view.intermediate = options.intermediate;
  std::int32_t top_k = 2;
  if (options.experts != 0) experts = options.experts;
  if (!options.model.empty()) {
    const ModelConfig model = model_argument(options.model);
    if (!experts) experts = model.num_experts;
    if (view.intermediate == 0) view.intermediate = model.moe_intermediate;
    view.moe_layers = model.moe_layers;
    top_k = model.top_k;
  }
  const bool is_file = options.layout.ends_with(".toml") || options.layout.ends_with(".json");
  if (!experts && !is_file) reject("--experts", "missing", "give --experts N, or --model MODEL");
  if (view.intermediate == 0) reject("--intermediate", "missing", "give --intermediate N, or --model MODEL");
  DeploymentSpec spec = read_deployment(options.layout, experts);
  if (!options.placement.empty()) set_placement(spec, options.placement);
  view.deployment = make_deployment(spec);
  view.title = options.layout;
  if (is_file)
    view.title = spec.name.empty() ? std::filesystem::path(options.layout).filename().string() : spec.name;
  if (options.tokens >= 0) view.tokens = options.tokens;
  view.path_asked = options.token >= 0 || !options.ids.empty();
  check_sizes(view);
  view.paths = paths_of(view, options, top_k);
  return view;
}

std::string layers_sentence(const LayoutView& view, const LayerClass& c) {
  const std::string cut =
      c.stages > 1 ? fmt::format(", in {} stages over {}", c.stages, fmt::join(c.spec.sharding.layers, ", "))
                   : "";
  if (!c.spec.layers.empty()) return "layers " + describe_ids(c.spec.layers) + cut;
  return (view.deployment.classes.size() == 1 ? "all layers with experts" : "all other layers with experts") +
         cut;
}

std::string class_sentence(const LayoutView& view, const LayerClass& c) {
  const LayerClassSpec& spec = c.spec;
  std::string words =
      fmt::format("{}.  {}, {} placement", describe_mesh(c.layout.mesh, view.deployment.meshes.size() == 1),
                  describe_count(spec.placement.num_experts, "expert"), to_string(spec.placement.rule));
  std::int64_t slots = 0;
  for (const auto& experts : c.layout.placement.experts_of_rank())
    slots += static_cast<std::int64_t>(experts.size());
  const bool fused = spec.shared_experts.kind == SharedExpertsKind::fused;
  slots -= fused ? std::int64_t{spec.shared_experts.count} * c.layout.placement.ep() : 0;
  if (slots > spec.placement.num_experts)
    words += fmt::format(", {} picked by {}", describe_count(slots - spec.placement.num_experts, "replica"),
                         to_string(spec.placement.replicas));
  words += ".  " + describe_count(view.intermediate, "column");
  if (spec.padding.multiple > 1)
    words += fmt::format(", padded to multiples of {}{}", spec.padding.multiple,
                         spec.padding.place == PaddingPlace::end ? " at the end" : " a rank");
  if (c.hidden_parts > 1) words += fmt::format(", down B cut over {}", fmt::join(spec.sharding.hidden, ", "));
  if (c.lora_rank_parts > 1)
    words += fmt::format(", gate_up A cut over {}", fmt::join(spec.sharding.lora_rank, ", "));
  if (spec.shared_outer) words += ", shared outer factors";
  return words + ".";
}

std::string shared_sentence(const LayoutView& view, const LayerClass& c) {
  const SharedExpertsSpec& shared = c.spec.shared_experts;
  if (shared.kind == SharedExpertsKind::none) return "";
  const std::string which = fmt::format("{} shared expert{} of {} columns", shared.count,
                                        shared.count == 1 ? "" : "s", view.shared_columns(c));
  switch (shared.kind) {
    case SharedExpertsKind::replicated:
      return which + ", whole on every rank";
    case SharedExpertsKind::sharded:
      return which + fmt::format(", cut over {}", fmt::join(shared.axes, ", "));
    default:
      return which + fmt::format(", fused as extra id{} {} on every EP rank", shared.count == 1 ? "" : "s",
                                 shared.count == 1
                                     ? fmt::format("{}", c.spec.placement.num_experts)
                                     : fmt::format("{}-{}", c.spec.placement.num_experts,
                                                   c.spec.placement.num_experts + shared.count - 1));
  }
}

std::string attention_sentence(const LayoutView& view) {
  const AttentionSpec& attention = view.deployment.spec.attention;
  const Mesh& mesh = view.deployment.mesh_of(attention.grid);
  std::string words = fmt::format("{}: {}.  ", attention.grid, describe_mesh(mesh, false));
  words += view.deployment.home_parts == 1
               ? "Every rank holds all tokens"
               : fmt::format("Tokens in {} parts over {}", view.deployment.home_parts,
                             describe_axes(mesh, attention.tokens));
  if (mesh.extent(attention.heads) > 1)
    words += fmt::format("; heads over {}", describe_axes(mesh, attention.heads));
  return words + ".";
}

}  // namespace eplora
