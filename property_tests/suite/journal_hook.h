// SPDX-License-Identifier: Apache-2.0
// Where `judge` tells the journal of the case it is about to run.
#pragma once

#include <string_view>

#include "property_tests/suite/property.h"

namespace eplora::suite {

/// Nothing unless this process keeps a journal.
void note_in_journal(const PropertyDefinition& property, const Case& c, std::string_view backend);

}  // namespace eplora::suite
