// SPDX-License-Identifier: Apache-2.0
#include "cli/known_models.h"

#include <string_view>

#include "cli/project_files.h"

namespace eplora {
namespace {

// Experts x top-k: 256 x 8, 128 x 4, 384 x 8, 128 x 1, 8 x 2, 512 x 22, 128 x 8, 512 x 10.
constexpr std::string_view kTimed[] = {"deepseek-v3",      "gpt-oss-120b",      "kimi-k2",
                                       "llama-4-maverick", "mixtral-8x7b",      "nemotron-3-super-120b",
                                       "qwen3-30b-a3b",    "qwen3-next-80b-a3b"};

}  // namespace

std::vector<ModelConfig> known_models() {
  std::vector<ModelConfig> models;
  for (const auto& file : files_in(project_folder("examples/models"), ".json"))
    models.push_back(read_model_config(file));
  return models;
}

std::vector<ModelConfig> timed_models() {
  const std::filesystem::path folder = project_folder("examples/models");
  std::vector<ModelConfig> models;
  if (folder.empty()) return models;
  for (const std::string_view name : kTimed)
    models.push_back(read_model_config(folder / (std::string(name) + ".json")));
  return models;
}

}  // namespace eplora
