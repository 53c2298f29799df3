// SPDX-License-Identifier: Apache-2.0
// `eplora list`: what this build knows and what of it can run here.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/known_models.h"
#include "cli/table.h"
#include "optimized/backend.h"
#include "property_tests/suite/suite.h"
#include "reference/layout/deployment_presets.h"
#include "reference/layout/layout_rule.h"
#include "reference/layout/presets.h"

namespace eplora {
namespace {

struct ListedRule {
  std::string name, rule;
};

/// Presets with the keys that they take, and rules in C++.
std::vector<ListedRule> presets_and_rules() {
  const auto usage = [](const std::string& name, const std::vector<std::string_view>& keys) {
    std::string words;
    for (const std::string_view key : keys)
      words += (words.empty() ? "" : ",") + std::string(key.substr(0, key.find('*')));
    return name + ":" + words;
  };
  std::vector<ListedRule> rules;
  for (const DeploymentPreset& preset : deployment_presets())
    rules.push_back({usage(std::string(preset.name), preset.keys), std::string(preset.rule)});
  for (const auto& rule : layout_rules())
    rules.push_back({usage("cpp:" + std::string(rule->name()), rule->keys()), std::string(rule->rule())});
  return rules;
}

void print_section(const std::string& title, const Table& table, const Output& output) {
  fmt::print("{}\n{}\n", styled(title, Style::heading, output.color), table.render(output.color));
}

void print_tables(const Output& output) {
  Table backends;
  backends.column("backend").column("here").column("what it is");
  for (const BackendEntry& entry : list_backends())
    backends.row({entry.name,
                  entry.unavailable.empty() ? Cell("available", Style::good)
                                            : Cell("no: " + entry.unavailable, Style::caution),
                  entry.description});
  print_section("Backends", backends, output);

  Table properties;
  properties.column("property").column("contract").column("cases", Table::Align::right).column("the law");
  for (const suite::PropertyInfo& property : suite::list_properties())
    properties.row({property.full_name(), property.contract.empty() ? "-" : property.contract,
                    fmt::format("{}", property.default_cases), property.sentence});
  print_section("Properties", properties, output);

  Table mutants;
  mutants.column("mutant").column("origin").column("what is wrong");
  for (const suite::Mutant& mutant : suite::list_mutants())
    mutants.row({mutant.id, mutant.origin, mutant.wrong});
  print_section("Mutants", mutants, output);

  Table presets;
  presets.column("preset").column("rule");
  for (const PresetInfo& preset : layout_presets())
    presets.row({std::string(preset.name), std::string(preset.rule)});
  for (const ListedRule& one : presets_and_rules()) presets.row({one.name, one.rule});
  print_section("Layout presets", presets, output);

  Table models;
  models.column("model").column("E", Table::Align::right).column("K", Table::Align::right);
  models.column("H", Table::Align::right)
      .column("I", Table::Align::right)
      .column("MoE layers", Table::Align::right);
  models.column("gate_up");
  for (const ModelConfig& model : known_models())
    models.row({model.name, fmt::format("{}", model.num_experts), fmt::format("{}", model.top_k),
                fmt::format("{}", model.hidden), fmt::format("{}", model.moe_intermediate),
                fmt::format("{}", model.moe_layers.size()),
                model.gated ? std::string(to_string(model.form)) : std::string("not gated")});
  print_section("Models", models, output);
}

void print_document() {
  nlohmann::ordered_json document = json_document("list");
  for (const char* key : {"backends", "properties", "mutants", "presets", "models"})
    document[key] = nlohmann::ordered_json::array();
  for (const BackendEntry& entry : list_backends())
    document["backends"].push_back({{"name", entry.name},
                                    {"description", entry.description},
                                    {"available", entry.unavailable.empty()},
                                    {"reason", entry.unavailable}});
  for (const suite::PropertyInfo& property : suite::list_properties())
    document["properties"].push_back({{"full_name", property.full_name()},
                                      {"name", property.name},
                                      {"operation", property.operation},
                                      {"sentence", property.sentence},
                                      {"contract", property.contract},
                                      {"default_cases", property.default_cases}});
  for (const suite::Mutant& mutant : suite::list_mutants())
    document["mutants"].push_back({{"name", mutant.id}, {"origin", mutant.origin}, {"wrong", mutant.wrong}});
  for (const PresetInfo& preset : layout_presets())
    document["presets"].push_back({{"name", preset.name}, {"rule", preset.rule}});
  for (const ListedRule& one : presets_and_rules())
    document["presets"].push_back({{"name", one.name}, {"rule", one.rule}});
  for (const ModelConfig& model : known_models())
    document["models"].push_back({{"name", model.name},
                                  {"num_experts", model.num_experts},
                                  {"top_k", model.top_k},
                                  {"hidden", model.hidden},
                                  {"moe_intermediate", model.moe_intermediate},
                                  {"moe_layers", model.moe_layers.size()},
                                  {"gated", model.gated},
                                  {"form", to_string(model.form)}});
  print_json(document);
}

}  // namespace

int run_list(const Output& output) {
  output.json ? print_document() : print_tables(output);
  return kAgreement;
}

}  // namespace eplora
