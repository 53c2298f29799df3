// SPDX-License-Identifier: Apache-2.0
// `eplora compare`, the main job: which parts run, and the verdict in words at the end.
#include "cli/compare.h"

#include <fmt/format.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "cli/apart.h"
#include "cli/exit_code.h"
#include "cli/formats/layout_file.h"
#include "cli/json_output.h"
#include "cli/layout_text.h"
#include "cli/load_input.h"
#include "optimized/external/external_backend.h"
#include "reference/check.h"
#include "reference/layout/deployment_presets.h"
#include "reference/layout/presets.h"

namespace eplora {
namespace {

constexpr std::int32_t kMostRanks = 8;
constexpr double kLibraryLimit = 120;  // seconds without a step forward, where a library is compared

bool is_uneven(const Layout& layout) {
  const auto& ranks = layout.placement.experts_of_rank();
  return std::any_of(ranks.begin(), ranks.end(),
                     [&](const auto& owned) { return owned.size() != ranks[0].size(); });
}

Backends chosen_backends(const std::vector<std::string>& names) {
  if (names.empty()) return available_backends();
  Backends backends;
  for (const std::string& name : names) backends.push_back(make_backend(name));
  return backends;
}

/// One grid, one class of layers: what runs here. Of a preset that is the experts' grid, with the contract's
/// own rule for replicas.
LayoutSpec one_grid(const std::string& text, std::int32_t num_experts) {
  const std::optional<DeploymentSpec> preset = preset_deployment(text, num_experts, read_named_load);
  if (!preset) return parse_layout_argument(text, num_experts);
  const LayerClassSpec& c = preset->classes.front();
  if (preset->classes.size() != 1 || c.shared_experts.kind == SharedExpertsKind::fused)
    reject(
        "--layout", "'" + text + "'",
        "it must have one class of layers and no fused shared experts here; eplora layout check takes all");
  return layout_spec_of(*preset, c);
}

/// Whether a backend has anything that is compared; of a library's delta it says who judges it.
bool anything_to_compare(const Backends& backends) {
  bool any = false;
  for (const auto& backend : backends) {
    for (const Operation operation : kOperations)
      any |= operation != Operation::delta && backend->supports(operation);
    if (is_external_backend(backend->name()) && backend->supports(Operation::delta))
      fmt::print(stderr,
                 "eplora: not compared: delta on {0} (its law is a numeric bound: eplora check --backend {0} "
                 "--property delta judges it)\n",
                 backend->name());
  }
  return any;
}

}  // namespace

std::vector<NamedLayout> layouts_for(const std::string& text, std::int32_t num_experts,
                                     std::int64_t intermediate) {
  std::vector<NamedLayout> layouts;
  const auto add = [&](const std::string& name, const LayoutSpec& spec) {
    NamedLayout named{name, make_layout(spec), false};
    named.layout.column_range(intermediate, 0);  // refuses columns that do not divide
    named.uneven = is_uneven(named.layout);
    layouts.push_back(std::move(named));
  };
  if (!text.empty()) {
    add(text, one_grid(text, num_experts));
    return layouts;
  }
  for (const SglangSizes& sizes : sglang_sizes_that_divide(kMostRanks, intermediate))
    add(layout_argument(sizes), sglang_layout(sizes, num_experts));
  return layouts;
}

int run_compare(const CompareOptions& options, const Output& output) {
  Apart apart;
  const bool library = names_a_library(options.backends);
  if (library) {
    if (const auto code = apart.run(kLibraryLimit)) return *code;
    apart.enter("compare");
  }
  const Backends backends = chosen_backends(options.backends);
  if (!anything_to_compare(backends)) {
    apart.leave();
    fmt::print(stderr, "eplora: nothing was compared\n");
    return kNothingRan;
  }
  nlohmann::ordered_json document = json_document("compare");
  document["seed"] = options.seed;
  Progress progress;
  if (library) progress.listener = [&](const std::string& what) { apart.enter("compare, " + what); };
  CompareOutcome outcome;
  if (!options.adapter.empty()) {
    outcome = compare_adapter(options, backends, output, progress, document);
  } else {
    outcome = compare_golden(options, backends, output, progress, document);
    const CompareOutcome speed = compare_speed(options, backends, output, progress, document);
    outcome.agreed &= speed.agreed;
    outcome.rows += speed.rows;
  }
  progress.clear();
  apart.leave();
  document["agreed"] = outcome.agreed && outcome.rows > 0;
  if (output.json) print_json(document);
  if (!output.json && options.backends.empty()) fmt::print("{}", describe_missing_backends());
  if (outcome.rows == 0) return kNothingRan;
  return outcome.agreed ? kAgreement : kDifference;
}

}  // namespace eplora
