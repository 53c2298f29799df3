// SPDX-License-Identifier: Apache-2.0
// Somebody's shared library as a backend, through the C ABI of optimized/external/eplora_backend.h. Problems
// are checked here before the library sees them; a status other than EPLORA_OK becomes an exception with the
// library's own sentence. A library stays loaded until the program ends.
#pragma once

#include <memory>
#include <string_view>

#include "optimized/backend.h"
#include "optimized/external/eplora_backend.h"

namespace eplora {

/// Whether `name` is a path rather than a name: it holds a '/' or ends in ".so".
bool is_external_backend(std::string_view name);

/// Loads the library at `path` and checks its descriptor; `name()` of the result is `path`. Throws
/// `InvalidArgument` where there is no such file, no symbol `eplora_backend_v1`, another ABI version, or a
/// descriptor that makes no sense, and `BackendUnavailable` where the library cannot be loaded here or
/// computes in memory that this machine has not.
std::unique_ptr<Backend> make_external_backend(std::string_view path);

/// The same for a descriptor that is here already and outlives the backend; `name` is the backend's.
std::unique_ptr<Backend> make_external_backend(std::string_view name, const eplora_backend& library);

}  // namespace eplora
