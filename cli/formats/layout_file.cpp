// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/layout_file.h"

#include "cli/formats/deployment_file.h"
#include "reference/check.h"
#include "reference/layout/presets.h"

namespace eplora {

LayoutSpec plain_layout(const DeploymentSpec& spec, const std::string& what) {
  LayoutSpec layout = layout_spec_of(spec, spec.classes.front());
  // What a LayoutSpec says, as a deployment: the names are the file's, and slots a rule made are a table.
  DeploymentSpec said = deployment_of(layout, spec.name);
  said.grids.front().name = said.classes.front().grid = spec.grids.front().name;
  said.classes.front().name = spec.classes.front().name;
  said.classes.front().layers = spec.classes.front().layers;
  said.classes.front().placement = spec.classes.front().placement;
  if (said != spec || spec.classes.front().placement.replicas != ReplicaRule::slot)
    reject(what, "more than this command reads",
           "it takes one grid and one class of layers that cuts tokens, experts and columns; `eplora layout "
           "check` and `eplora layout cost` take all of the language");
  return layout;
}

LayoutSpec read_layout_file(const std::filesystem::path& path, std::optional<std::int32_t> num_experts) {
  return plain_layout(read_deployment_file(path, num_experts), path.string());
}

LayoutSpec parse_layout_argument(std::string_view text, std::optional<std::int32_t> num_experts) {
  if (text.ends_with(".toml")) return read_layout_file(std::filesystem::path(text), num_experts);
  const SglangSizes sizes = parse_sglang_sizes(text);
  if (!num_experts)
    reject("--experts", "missing", "give the model's number of experts beside " + std::string(text));
  return sglang_layout(sizes, *num_experts, PlacementKind::linear);
}

}  // namespace eplora
