// SPDX-License-Identifier: Apache-2.0
// All mutants, in the order of the data's way: ids, blocks, layouts, weights.
#include "property_tests/mutants/mutants.h"

namespace eplora::suite {

const std::vector<Mutant>& list_mutants() {
  static const std::vector<Mutant> kAll = [] {
    std::vector<Mutant> all;
    for (const auto& family : {remap_mutants, dispatch_mutants, align_mutants, route_mutants, layout_mutants,
                               slice_mutants, buffer_mutants, delta_mutants})
      for (Mutant& m : family()) all.push_back(std::move(m));
    return all;
  }();
  return kAll;
}

}  // namespace eplora::suite
