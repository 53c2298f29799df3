// SPDX-License-Identifier: Apache-2.0
#include "cli/json_output.h"

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "optimized/backend.h"

namespace eplora {
namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

std::string describe_missing_backends() {
  std::map<std::string, std::string> names_by_reason;
  for (const BackendEntry& entry : list_backends()) {
    if (entry.unavailable.empty()) continue;
    std::string& names = names_by_reason[entry.unavailable];
    names += (names.empty() ? "" : ", ") + entry.name;
  }
  std::string lines;
  for (const auto& [reason, names] : names_by_reason)
    lines += fmt::format("Not run here: {} ({}).\n", names, reason);
  return lines;
}

std::string program_version() { return EPLORA_VERSION; }

std::string compiler_description() {
#if defined(__clang__)
  return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  return fmt::format("gcc {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

std::string thrust_description() { return EPLORA_THRUST_DESCRIPTION; }

nlohmann::ordered_json json_document(std::string_view command) {
  nlohmann::ordered_json backends = nlohmann::ordered_json::array();
  for (const BackendEntry& entry : list_backends())
    backends.push_back(
        {{"name", entry.name}, {"available", entry.unavailable.empty()}, {"reason", entry.unavailable}});
  return {{"schema", fmt::format("eplora.{}/1", command)},
          {"version", program_version()},
          {"environment",
           {{"compiler", compiler_description()},
            {"build_type", EPLORA_BUILD_TYPE},
            {"thrust", thrust_description()},
            {"processor", processor_name()},
            {"threads", std::thread::hardware_concurrency()},
            {"backends", backends}}}};
}

void print_json(const nlohmann::ordered_json& document) {
  fmt::print("{}\n", document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace eplora
