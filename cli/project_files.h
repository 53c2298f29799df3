// SPDX-License-Identifier: Apache-2.0
// The project's own data - golden fixtures, model geometries, recorded results - found from wherever the
// program runs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace eplora {

/// The folder `relative` (such as "examples/models") of the source tree the program was built from, else of
/// the tree the program stands in; an empty path when neither has it.
std::filesystem::path project_folder(const std::filesystem::path& relative);

/// Files of `folder` that end in `extension`, by name; none when there is no such folder.
std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder,
                                            const std::string& extension);

/// Where counterexamples go: `chosen` if it is not empty, else the project's own folder for failures, which
/// version control ignores, else one where the program runs. Relative where that makes a short replay line.
std::filesystem::path failures_folder(const std::string& chosen);

}  // namespace eplora
