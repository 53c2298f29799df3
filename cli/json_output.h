// SPDX-License-Identifier: Apache-2.0
// What every `--json` document has in common: the schema's name and version, the program's version and the
// environment it ran in. No path of the machine stands in it, so that two machines' documents can be
// compared.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace eplora {

/// {"schema": "eplora.<command>/1", "version", "environment": {compiler, build_type, thrust, processor,
/// threads, backends: [{name, available, reason}]}}. Commands add their own keys.
nlohmann::ordered_json json_document(std::string_view command);

/// Prints the document to stdout, indented by two, with a newline at the end. Text that is not UTF-8 is
/// replaced, never an error.
void print_json(const nlohmann::ordered_json& document);

/// "Not run here: cuda (no CUDA device was found).\n", one line a reason; empty when every backend can run:
/// no silent skip.
std::string describe_missing_backends();

std::string program_version();       ///< "0.1.0"
std::string compiler_description();  ///< "gcc 12.2.0"
std::string thrust_description();    ///< "Thrust 3.0.1, CUDA toolkit"

}  // namespace eplora
