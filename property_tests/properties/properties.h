// SPDX-License-Identifier: Apache-2.0
// The properties of each operation. To add one: write its check (a case and a backend in, the first violation
// out) in the operation's file and add a line to its list.
#pragma once

#include <vector>

#include "property_tests/suite/property.h"

namespace eplora::suite {

std::vector<PropertyDefinition> dispatch_properties();
std::vector<PropertyDefinition> remap_properties();
std::vector<PropertyDefinition> align_properties();
std::vector<PropertyDefinition> route_properties();
std::vector<PropertyDefinition> layout_properties();
std::vector<PropertyDefinition> slice_properties();
std::vector<PropertyDefinition> delta_properties();
std::vector<PropertyDefinition> layer_properties();

}  // namespace eplora::suite
