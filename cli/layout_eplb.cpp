// SPDX-License-Identifier: Apache-2.0
// `eplora layout eplb`: experts replicated and placed by the load they had, layer by layer; how uneven ranks
// were before and are after; and the placement as a layout file.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/atomic_file.h"
#include "cli/formats/deployment_file.h"
#include "cli/formats/deployment_json.h"
#include "cli/formats/routing_trace_file.h"
#include "cli/json_output.h"
#include "cli/layout_input.h"
#include "cli/load_input.h"
#include "cli/table.h"
#include "reference/check.h"
#include "reference/layout/eplb_deployment.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;

/// What is balanced: loads, the layers they were recorded in, and how both are called.
struct Balanced {
  LoadRows load;
  std::vector<std::int32_t> layers;
  std::string name;
  std::int32_t num_experts() const { return static_cast<std::int32_t>(load.front().size()); }
};

RoutingTrace trace_of(const LayoutEplbOptions& options, const ModelConfig& model) {
  if (!names_synthetic_trace(options.trace)) return read_routing_trace(options.trace);
  SyntheticTrace how = parse_synthetic_trace(options.trace);
  how.seed = options.seed;
  return make_trace(how, options.tokens, model.top_k, model.num_experts, 0);
}

Balanced balanced_of(const LayoutEplbOptions& options) {
  if (options.load.empty() == options.trace.empty())
    reject("--load", options.load.empty() ? "missing" : "given beside --trace",
           "give one of --load, --trace");
  std::optional<ModelConfig> model;
  if (!options.model.empty()) model = model_argument(options.model);
  if (!options.trace.empty() && !model) reject("--model", "missing", "a trace is counted for a model");
  Balanced out;
  out.load = options.trace.empty() ? LoadRows(read_expert_load(options.load))
                                   : LoadRows{load_of_trace(trace_of(options, *model), model->num_experts)};
  out.name = options.trace.empty() ? options.load : options.trace;
  if (model && out.num_experts() != model->num_experts)
    reject("experts in " + out.name, std::to_string(out.num_experts()),
           model->name + " has " + std::to_string(model->num_experts));
  out.layers.resize(out.load.size());
  std::iota(out.layers.begin(), out.layers.end(), 0);
  if (model && out.load.size() > 1) out.layers = model->moe_layers;
  return out;
}

std::string policy_of(const EplbSizes& sizes) { return sizes.nodes > 1 ? "hierarchical" : "global"; }

/// One layer before and after: the largest load of an EP rank over the mean.
struct Outcome {
  double linear = 1, start = 1, eplb = 1, least = 1;
  std::int32_t most_replicas = 1;
};

Outcome outcome_of(const std::vector<std::int64_t>& load, const ExpertRows& placed, const EplbSizes& sizes) {
  const auto E = static_cast<std::int32_t>(load.size());
  Outcome out;
  out.linear = imbalance(Placement::linear(E, sizes.ranks).experts_of_rank(), load);
  out.start = imbalance(start_map(E, sizes.ranks, sizes.slots), load);
  out.eplb = imbalance(placed, load);
  const std::vector<std::int32_t> fewest = replica_counts(load, sizes.slots, sizes.slots);
  const double mean =
      static_cast<double>(std::accumulate(load.begin(), load.end(), std::int64_t{0})) / sizes.ranks;
  std::vector<std::int32_t> replicas(load.size(), 0);
  for (const auto& row : placed)
    for (const std::int32_t e : row) ++replicas[e];
  out.most_replicas = *std::max_element(replicas.begin(), replicas.end());
  for (std::int32_t e = 0; e < E && mean > 0; ++e)
    out.least = std::max(out.least, static_cast<double>(load[e]) / fewest[e] / mean);
  return out;
}

std::vector<Cell> cells_of(const std::string& name, const Outcome& one) {
  const bool worse = one.eplb > one.linear;
  return {name,
          fmt::format("{:.3f}", one.linear),
          fmt::format("{:.3f}", one.start),
          {fmt::format("{:.3f}", one.eplb), worse ? Style::caution : Style::good},
          fmt::format("{:.3f}", one.least),
          fmt::format("{}", one.most_replicas)};
}

Outcome folded(const std::vector<Outcome>& all, const std::function<double(double, double)>& join) {
  Outcome out = all.front();
  for (std::size_t i = 1; i < all.size(); ++i)
    for (double Outcome::*value : {&Outcome::linear, &Outcome::start, &Outcome::eplb, &Outcome::least})
      out.*value = join(out.*value, all[i].*value);
  for (const Outcome& one : all) out.most_replicas = std::max(out.most_replicas, one.most_replicas);
  return out;
}

std::string table_text(const Balanced& what, const std::vector<Outcome>& outcomes, bool color) {
  Table table;
  table.column("layer");
  for (const char* name : {"linear", "start map", "EPLB", "at least"})
    table.column(name, Table::Align::right, "fullest rank over the mean");
  table.column("most replicas", Table::Align::right);
  constexpr std::size_t kFew = 32;
  if (outcomes.size() == 1) table.row(cells_of("all", outcomes.front()));
  for (std::size_t i = 0; i < outcomes.size() && outcomes.size() > 1 && outcomes.size() <= kFew; ++i)
    table.row(cells_of(std::to_string(what.layers[i]), outcomes[i]));
  if (outcomes.size() > 1) {
    Outcome mean = folded(outcomes, [](double a, double b) { return a + b; });
    for (double Outcome::*value : {&Outcome::linear, &Outcome::start, &Outcome::eplb, &Outcome::least})
      mean.*value /= static_cast<double>(outcomes.size());
    table.row(cells_of("mean of " + std::to_string(outcomes.size()), mean));
    table.row(cells_of("worst", folded(outcomes, [](double a, double b) { return std::max(a, b); })));
  }
  return table.render(color);
}

Json json_of(std::int32_t layer, const Outcome& one, const std::vector<std::int64_t>& load,
             const ExpertRows& placed) {
  Json entry = {{"layer", layer},          {"linear", one.linear}, {"start_map", one.start},
                {"eplb", one.eplb},        {"least", one.least},   {"most_replicas", one.most_replicas},
                {"phy2log", Json::array()}};
  std::vector<std::vector<std::int32_t>> log2phy(load.size());
  std::int32_t slot = 0;
  for (const auto& row : placed)
    for (const std::int32_t e : row) {
      entry["phy2log"].push_back(e);
      log2phy[e].push_back(slot++);
    }
  for (auto& slots : log2phy) {
    entry["counts"].push_back(slots.size());
    slots.resize(one.most_replicas, -1);
  }
  entry["log2phy"] = log2phy;
  return entry;
}

void print_document(const Balanced& what, const DeploymentSpec& spec, const std::vector<Outcome>& outcomes,
                    const EplbSizes& sizes) {
  Json document = json_document("layout_eplb");
  document["load"] = what.name;
  document["policy"] = policy_of(sizes);
  document["layers"] = Json::array();
  for (std::size_t row = 0; row < outcomes.size(); ++row)
    document["layers"].push_back(
        json_of(what.layers[row], outcomes[row], what.load[row], spec.classes[row].placement.table));
  document["deployment"] = to_json(spec);
  print_json(document);
}

void print_tables(const Balanced& what, const std::vector<Outcome>& outcomes, const EplbSizes& sizes,
                  const std::string& toml, bool color) {
  fmt::print("{}\n{} experts + {} redundant on {} EP ranks{}, {} a rank; {} policy, replicas {}\n\n{}",
             styled("EPLB by " + what.name, Style::heading, color), what.num_experts(),
             sizes.slots - what.num_experts(), sizes.ranks,
             sizes.nodes > 1 ? fmt::format(" of {} nodes", sizes.nodes) : "", sizes.slots / sizes.ranks,
             policy_of(sizes), sizes.distinct ? "on distinct ranks" : "may share a rank",
             table_text(what, outcomes, color));
  fmt::print(
      "\nlinear: contiguous, no redundant slot; start map: slot p holds expert p mod E; at least: what no\n"
      "placement of so many slots is below, the mean or the heaviest replica.\n");
  if (!toml.empty()) fmt::print("\nwritten: {0}\nprove:   eplora layout check {0}\n", toml);
}

}  // namespace

int run_layout_eplb(const LayoutEplbOptions& options, const Output& output) {
  const Balanced what = balanced_of(options);
  EplbDeployment sizes;
  sizes.ranks = options.ranks;
  sizes.tp = options.tp;
  sizes.nodes = options.nodes;
  sizes.groups = options.groups;
  sizes.redundant = options.redundant;
  sizes.distinct = !options.duplicates;
  sizes.replicas = replica_rule(options.replicas);
  const EplbSizes balance = sizes.balance(what.num_experts());
  DeploymentSpec spec = eplb_deployment(sizes, what.load, what.layers);
  spec.name = fmt::format("EPLB over {} ranks, {} redundant slots", options.ranks, options.redundant);
  std::vector<Outcome> outcomes;
  for (std::size_t row = 0; row < what.load.size(); ++row)
    outcomes.push_back(outcome_of(what.load[row], spec.classes[row].placement.table, balance));
  if (!options.toml.empty()) write_text_file(options.toml, write_deployment_toml(spec));
  if (output.json)
    print_document(what, spec, outcomes, balance);
  else
    print_tables(what, outcomes, balance, options.toml, output.color);
  return kAgreement;
}

}  // namespace eplora
