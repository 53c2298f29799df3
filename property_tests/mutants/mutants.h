// SPDX-License-Identifier: Apache-2.0
// How a mutant is written: the reference with one operation overridden. No property knows them; `eplora
// mutants` runs them through the ordinary suite.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "optimized/backend.h"
#include "property_tests/suite/suite.h"

namespace eplora::suite {

/// The reference under the mutant's name.
template <class Self>
class Mutated : public ReferenceBackend {
 public:
  std::string_view name() const override { return name_; }
  std::string_view description() const override { return description_; }
  void call_it(const std::string& name, std::string description) {
    name_ = "mutant-" + name;
    description_ = std::move(description);
  }

 private:
  std::string name_ = "mutant", description_;
};

/// `smallest` names the sizes that must be above their floor for the bug to show (`Mutant::smallest`).
template <class Wrong>
Mutant mutant(std::string id, std::string origin, std::string wrong, Sizes smallest = {}) {
  Mutant result{id, std::move(origin), std::move(wrong), std::move(smallest), {}};
  result.make = [id, description = "a bug that was shipped, " + result.origin + ": " + result.wrong] {
    auto backend = std::make_unique<Wrong>();
    backend->call_it(id, description);
    return backend;
  };
  return result;
}

/// A slice that loads the adapter after `change` altered its layers.
template <class Self>
class OtherAdapter : public Mutated<Self> {
 public:
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    Adapter wrong = *p.adapter;
    for (auto& [id, layer] : wrong.layers) static_cast<const Self*>(this)->change(p, layer);
    SliceProblem changed = p;
    changed.adapter = &wrong;
    this->ReferenceBackend::slice(changed, out, context);
  }
};

/// All pairs of a layer, absent ones too.
inline std::array<LoraPair*, 3> pairs_of(AdapterLayer& layer) {
  return {&layer.gate_up[0], &layer.gate_up[1], &layer.down};
}

std::vector<Mutant> dispatch_mutants();
std::vector<Mutant> remap_mutants();
std::vector<Mutant> align_mutants();
std::vector<Mutant> route_mutants();
std::vector<Mutant> layout_mutants();
std::vector<Mutant> slice_mutants();
std::vector<Mutant> buffer_mutants();
std::vector<Mutant> delta_mutants();

}  // namespace eplora::suite
