// SPDX-License-Identifier: Apache-2.0
// `eplora check --report FILE.html`: one self-contained page - no network, no scripts - with every verdict,
// what was not asked and why, and each counterexample with its law, its values and a picture. It holds no
// time and no date: equal outcomes give equal bytes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "optimized/backend.h"
#include "property_tests/suite/suite.h"

namespace eplora {

/// A backend in the words of the page.
struct ReportedBackend {
  std::string name, description, offered, lacking, memory, form, determinism;
};
ReportedBackend reported(const Backend& backend);

struct ReportPage {
  std::uint64_t seed = 1;
  std::vector<ReportedBackend> backends;
  std::vector<suite::Outcome> outcomes;
  std::vector<std::string> notes;  ///< of the corpus: replayed, added, refused
  std::int64_t not_reached = 0;
};

std::string report_html(const ReportPage& page);
/// Whole or not at all. Throws `InvalidArgument` where the file cannot be written.
void write_report(const std::filesystem::path& path, const ReportPage& page);

}  // namespace eplora
