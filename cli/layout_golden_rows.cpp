// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_golden_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "cli/formats/golden_fixture.h"
#include "cli/golden_run.h"
#include "cli/project_files.h"
#include "reference/check.h"

namespace eplora {
namespace {

using State = ProofRow::State;

/// Gives the class of the layout a fixture's expert count, or says why it cannot take it.
std::optional<std::string> fit_fixture(DeploymentSpec& spec, const LayerClass& layer_class,
                                       const GoldenFixture& fixture) {
  for (LayerClassSpec& c : spec.classes) {
    if (c.name != layer_class.spec.name) continue;
    const std::int32_t E = fixture.geometry.num_experts;
    if (c.placement.rule == PlacementRule::table && c.placement.num_experts < E)
      return fmt::format("its table places {} experts, the fixture has {}", c.placement.num_experts, E);
    for (auto& row : c.placement.table) std::erase_if(row, [&](std::int32_t e) { return e >= E; });
    if (fixture.geometry.gated == (c.weight_form == WeightForm::non_gated))
      return fmt::format("its weight form is {}, the fixture is {}", to_string(c.weight_form),
                         fixture.geometry.gated ? "gated" : "not gated");
    c.placement.num_experts = E;
    if (c.placement.redundant > 0) {  // the fewest slots beyond E that every rank has as many of
      const std::int32_t ep = layer_class.layout.placement.ep();
      c.placement.redundant = (ep - E % ep) % ep;
      if (c.placement.redundant == 0 && E / ep + 1 <= E) c.placement.redundant = ep;
    }
    c.shared_experts = {};  // the fixtures have none
    c.shared_outer = fixture.geometry.shared_outer;
  }
  return std::nullopt;
}

ProofRow golden_row(const LayerClass& c, const std::string& name) {
  ProofRow row;
  row.id = "golden";
  row.words = "sharded equals what transformers and PEFT recorded: " + name;
  row.contract = "P7";
  row.layer_class = c.spec.name;
  return row;
}

/// Every recorded case on every rank by one backend, in double; `worst` rises to its greatest error. Why the
/// plan does not fit the fixture, where it does not.
std::optional<std::string> recorded_cases(const GoldenRows& run, const ClassPlan& plan,
                                          const GoldenFixture& fixture, Backend& backend, double& worst,
                                          ProofRow& row) {
  const reference::LayerSteps steps = steps_of(backend);
  for (const GoldenCase& one : fixture.cases) {
    reference::DeployedProblem problem;
    problem.routed = fixture.problem(one);
    problem.layer = plan.sizes.num_layers - 1;
    const reference::Matrix<double> want =
        Eigen::Map<const reference::Matrix<float>>(one.output.data(), plan.sizes.tokens, plan.sizes.hidden)
            .cast<double>();
    std::vector<reference::Matrix<double>> outputs;
    try {
      outputs = reference::deployed_moe_layer<double>(problem, plan, {}, steps);
    } catch (const std::exception& error) {
      const bool unfit = dynamic_cast<const InvalidArgument*>(&error) != nullptr;
      if (unfit && !run.spoil && backend.name() == "reference") return error.what();
      row.state = State::broken;
      row.sentence = fmt::format("the ranks cannot run it by {}: {}", backend.name(), error.what());
      return std::nullopt;
    }
    for (std::int32_t rank = 0; rank < plan.num_ranks(); ++rank) {
      const Range layers = plan.ranks[rank].layers;
      if (problem.layer < layers.begin || problem.layer >= layers.end) continue;
      const double error = (outputs[rank] - want).norm() / want.norm();
      if (!(error <= worst)) worst = error;
      if (error <= kDoubleBound || row.state == State::broken) continue;
      row.state = State::broken;
      row.sentence = fmt::format("{}, output on rank {} by {}: relative error {:.2e}, the bound is {:.1e}",
                                 one.name, rank, backend.name(), error, kDoubleBound);
    }
  }
  return std::nullopt;
}

/// The same by every backend, on the plan of a deployment fitted to the fixture.
std::optional<std::string> against_recording(const GoldenRows& run, const DeploymentSpec& spec,
                                             const GoldenFixture& fixture, ProofRow& row) {
  PlanSizes sizes;
  sizes.tokens = fixture.num_tokens;
  sizes.hidden = fixture.geometry.hidden;
  sizes.intermediate = fixture.geometry.intermediate;
  for (const PeftAdapter& adapter : fixture.adapters)
    for (const auto& [id, layer] : adapter.adapter().layers)
      for (const LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down})
        if (pair->present()) sizes.max_lora_rank = std::max(sizes.max_lora_rank, pair->rank());
  ClassPlan plan;
  try {
    const Deployment deployment = make_deployment(spec);
    const LayerClass& c = deployment.class_named(run.layer_class.spec.name);
    sizes.max_lora_rank =
        (sizes.max_lora_rank + c.lora_rank_parts - 1) / c.lora_rank_parts * c.lora_rank_parts;
    sizes.num_layers = c.stages;
    plan = make_class_plan(deployment, c, sizes);
    if (run.spoil) run.spoil(deployment, plan);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  double worst = 0;
  std::string by;
  for (const auto& backend : run.backends) {
    if (!routes_and_slices(*backend)) continue;
    by += fmt::format("{}{}", by.empty() ? "" : ", ", backend->name());
    if (auto skip = recorded_cases(run, plan, fixture, *backend, worst, row)) return skip;
    if (row.state == State::broken) break;
  }
  row.tried = fmt::format("{} outputs on {} by {}, error at most {:.1e}, bound {:.1e}", fixture.cases.size(),
                          run.ranks, by, worst, kDoubleBound);
  return std::nullopt;
}

}  // namespace

std::vector<ProofRow> golden_rows(const GoldenRows& run, Progress& progress) {
  const LayerClass& c = run.layer_class;
  std::vector<ProofRow> rows;
  const std::filesystem::path folder = project_folder("property_tests/golden");
  if (folder.empty()) {
    rows.push_back(golden_row(c, "golden fixtures"));
    rows.back().state = State::skipped;
    rows.back().tried = "the project's fixtures are not here";
    return rows;
  }
  for (const std::filesystem::path& path : list_golden_fixtures(folder)) {
    const auto start = std::chrono::steady_clock::now();
    const GoldenFixture fixture = load_golden_fixture(path);
    ProofRow row = golden_row(c, fixture.name);
    progress.say(fmt::format("{}: {}", c.spec.name, fixture.name));
    DeploymentSpec spec = run.spec;
    std::optional<std::string> skip = fit_fixture(spec, c, fixture);
    if (!skip) skip = against_recording(run, spec, fixture, row);
    if (skip) {
      row.state = State::skipped;
      row.tried = *skip;
    }
    row.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace eplora
