// SPDX-License-Identifier: Apache-2.0
// An example of a layout as C++: experts, sorted by load, are dealt to the EP ranks back and forth, so that
// the rank that gets the heaviest of one round gets the lightest of the next.
#pragma once

#include "reference/layout/layout_rule.h"

namespace eplora {

/// Mesh (dp, ep, tp), slowest first. Expert e, of round b = e / ep at place j = e % ep, stands on EP rank j
/// in even rounds and on ep - 1 - j in odd ones.
class SnakeRule final : public LayoutRule {
 public:
  std::string_view name() const override { return "snake"; }
  std::string_view rule() const override {
    return "expert e on EP rank e % ep in even rounds e / ep, on ep - 1 - e % ep in odd ones";
  }
  std::vector<std::string_view> keys() const override { return {"dp=", "ep=", "tp="}; }
  DeploymentSpec build(const PresetArguments& sizes, std::int32_t num_experts) const override;
};

}  // namespace eplora
