// SPDX-License-Identifier: Apache-2.0
// How a mutant is written: the reference with one operation overridden. No property knows them; `eplora
// mutants` runs them through the ordinary suite.
#pragma once

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
  std::string_view description() const override { return "a backend with a known bug"; }
  void call_it(std::string name) { name_ = "mutant-" + std::move(name); }

 private:
  std::string name_ = "mutant";
};

template <class Wrong>
Mutant mutant(std::string id, std::string origin, std::string wrong) {
  Mutant result{id, std::move(origin), std::move(wrong), {}};
  result.make = [id] {
    auto backend = std::make_unique<Wrong>();
    backend->call_it(id);
    return backend;
  };
  return result;
}

std::vector<Mutant> routing_mutants();
std::vector<Mutant> weight_mutants();

}  // namespace eplora::suite
