// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/layout_rule.h"

#include "reference/check.h"
#include "reference/layout/snake_rule.h"

namespace eplora {
namespace {

std::vector<std::unique_ptr<LayoutRule>> all_rules() {
  std::vector<std::unique_ptr<LayoutRule>> rules;
  rules.push_back(std::make_unique<SnakeRule>());
  return rules;
}

}  // namespace

const std::vector<std::unique_ptr<LayoutRule>>& layout_rules() {
  static const std::vector<std::unique_ptr<LayoutRule>> kRules = all_rules();
  return kRules;
}

DeploymentSpec rule_deployment(std::string_view text, std::int32_t num_experts) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  std::string known;
  for (const std::unique_ptr<LayoutRule>& rule : layout_rules()) {
    if (rule->name() == name) {
      const std::string_view sizes = colon == std::string_view::npos ? "" : text.substr(colon + 1);
      return rule->build(PresetArguments(name, sizes, rule->keys()), num_experts);
    }
    known += (known.empty() ? "" : ", ") + std::string(rule->name());
  }
  reject("layout rule", "'" + std::string(name) + "'", "the rules are " + known);
}

}  // namespace eplora
