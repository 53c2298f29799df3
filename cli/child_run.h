// SPDX-License-Identifier: Apache-2.0
// A property of somebody's library runs in a process of its own: this program again, with one more option. A
// crash, a hang or an exit is then a verdict with a counterexample, and the next property runs as if nothing
// had happened.
#pragma once

#include <filesystem>
#include <string>

#include "property_tests/suite/suite.h"

namespace eplora {

/// In the parent: runs `property` on the library at `backend` in a child process and returns what it found.
/// `case_limit`: seconds that one case may take. Throws `InvalidArgument` with the child's own sentence where
/// it refused to run.
suite::Outcome run_in_child(const suite::PropertyInfo& property, const std::string& backend,
                            const suite::RunOptions& options, double case_limit);

/// The same for the one case of a saved file.
suite::Outcome replay_in_child(const std::filesystem::path& file, const std::string& backend,
                               const suite::RunOptions& options, double case_limit);

/// In the child: the journal that the parent reads when no outcome comes. A fault of a device ends the child,
/// after it has written down which.
void begin_as_child(const std::filesystem::path& folder);
/// In the child, before its first case: a case's time must not hold the time that a device takes to wake.
void wake_device(const Backend& backend);
/// In the child, at the end.
void report_to_parent(const std::filesystem::path& folder, const suite::Outcome& outcome);
/// In the child: a sentence for the parent to fail with.
void refuse_to_parent(const std::filesystem::path& folder, const std::string& sentence);

}  // namespace eplora
