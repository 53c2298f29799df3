// SPDX-License-Identifier: Apache-2.0
// A deployment as JSON, every field written out: what saved layout cases hold, and what `eplora layout check`
// takes as a .json file. Strict: a key that is missing, unknown or of another type is an error with its path.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "reference/layout/deployment.h"

namespace eplora {

nlohmann::ordered_json to_json(const DeploymentSpec& spec);

/// The description that `to_json` wrote. `what` opens every sentence. Throws `InvalidArgument`; whether the
/// deployment is legal is `make_deployment`'s to say.
DeploymentSpec deployment_from_json(const nlohmann::ordered_json& json, const std::string& what);

}  // namespace eplora
