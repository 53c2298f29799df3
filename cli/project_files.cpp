// SPDX-License-Identifier: Apache-2.0
#include "cli/project_files.h"

#include <algorithm>

namespace eplora {

namespace fs = std::filesystem;

fs::path project_folder(const fs::path& relative) {
  std::error_code error;
  std::vector<fs::path> roots = {fs::path(EPLORA_SOURCE_DIR)};
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) roots.push_back(program.parent_path().parent_path());  // build/eplora stands in the tree
  for (const fs::path& root : roots)
    if (fs::is_directory(root / relative, error)) return root / relative;
  return {};
}

std::vector<fs::path> files_in(const fs::path& folder, const std::string& extension) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    if (entry.is_regular_file(error) && entry.path().extension() == extension) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

fs::path failures_folder(const std::string& chosen) {
  if (!chosen.empty()) return chosen;
  const fs::path project = project_folder("property_tests");
  if (project.empty()) return "eplora_failures";
  const fs::path near = fs::proximate(project / "failures");
  return near.begin()->string() == ".." ? project / "failures" : near;
}

}  // namespace eplora
