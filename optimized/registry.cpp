// SPDX-License-Identifier: Apache-2.0
// The backends that this program has built in, in one table. A new one is a line here: its name, what it is,
// why it cannot run on this machine (empty = it can), and how to make one.
#include <algorithm>
#include <array>

#include "optimized/backend.h"
#include "optimized/thrust/thrust_host_backend.h"
#include "reference/check.h"

namespace eplora {
namespace {

struct Registered {
  std::string_view name;
  std::string (*description)();
  std::string (*unavailable)();
  std::unique_ptr<Backend> (*make)();
};

std::string always_available() { return {}; }

constexpr std::array kRegistered = {
    Registered{"reference", [] { return std::string(ReferenceBackend{}.description()); }, always_available,
               []() -> std::unique_ptr<Backend> { return std::make_unique<ReferenceBackend>(); }},
    Registered{"thrust-host", [] { return std::string(make_thrust_host_backend()->description()); },
               always_available, make_thrust_host_backend},
};

}  // namespace

std::string_view to_string(Operation operation) {
  switch (operation) {
    case Operation::dispatch:
      return "dispatch";
    case Operation::remap:
      return "remap";
    case Operation::align:
      return "align";
    case Operation::route:
      return "route";
    case Operation::slice:
      return "slice";
  }
  return "?";
}

std::string_view to_string(MemorySpace space) { return space == MemorySpace::host ? "host" : "cuda"; }

std::vector<BackendEntry> list_backends() {
  std::vector<BackendEntry> entries;
  for (const Registered& backend : kRegistered)
    entries.push_back({std::string(backend.name), backend.description(), backend.unavailable()});
  return entries;
}

std::unique_ptr<Backend> make_backend(std::string_view name) {
  const auto found = std::ranges::find(kRegistered, name, &Registered::name);
  if (found == kRegistered.end()) {
    std::string names;
    for (const Registered& backend : kRegistered)
      names += (names.empty() ? "" : ", ") + std::string(backend.name);
    reject("backend", name, "it must be one of " + names);
  }
  if (const std::string reason = found->unavailable(); !reason.empty())
    throw BackendUnavailable("backend " + std::string(name) + " cannot run here: " + reason);
  return found->make();
}

std::vector<std::unique_ptr<Backend>> available_backends() {
  std::vector<std::unique_ptr<Backend>> backends;
  for (const Registered& backend : kRegistered)
    if (backend.unavailable().empty()) backends.push_back(backend.make());
  return backends;
}

}  // namespace eplora
