// SPDX-License-Identifier: Apache-2.0
// The backends that this program has built in, in one table. A new one is a line here: its name, what it is,
// why it cannot run on this machine (empty = it can), and how to make one.
#include <algorithm>
#include <array>

#include "optimized/backend.h"
#include "optimized/external/external_backend.h"
#include "optimized/thrust/thrust_host_backend.h"
#include "reference/check.h"
#if defined(EPLORA_WITH_CUDA)
#include "optimized/cuda/cuda_backend.h"
#include "optimized/thrust/thrust_cuda_backend.h"
#endif

namespace eplora {
namespace {

struct Registered {
  std::string_view name;
  std::string (*description)();
  std::string (*unavailable)();
  std::unique_ptr<Backend> (*make)();
};

std::string always_available() { return {}; }

#if !defined(EPLORA_WITH_CUDA)
std::string cuda_unavailable() { return "built without the CUDA toolkit"; }
std::unique_ptr<Backend> make_thrust_cuda_backend() {
  return nullptr;
}  // never called: unavailable comes first
std::unique_ptr<Backend> make_cuda_unfused_backend() { return nullptr; }
std::unique_ptr<Backend> make_cuda_backend() { return nullptr; }
#endif

/// Asked once: a driver does not come or go while a program runs, and asking without one takes its time.
std::string cuda_missing() {
  static const std::string reason = cuda_unavailable();
  return reason;
}

constexpr std::array kRegistered = {
    Registered{"reference", [] { return std::string(ReferenceBackend{}.description()); }, always_available,
               []() -> std::unique_ptr<Backend> { return std::make_unique<ReferenceBackend>(); }},
    Registered{"thrust-host", [] { return std::string(make_thrust_host_backend()->description()); },
               always_available, make_thrust_host_backend},
    // Described here, since a machine without a GPU lists them too and cannot make them.
    Registered{"thrust-cuda", [] { return std::string("the Thrust sources of thrust-host, on the GPU"); },
               cuda_missing, make_thrust_cuda_backend},
    Registered{"cuda-unfused",
               [] { return std::string("one CUDA kernel a step, as engines run them today: the baseline"); },
               cuda_missing, make_cuda_unfused_backend},
    Registered{
        "cuda",
        [] { return std::string("CUDA: dispatch, remap and align fused in one launch, slicing in one"); },
        cuda_missing, make_cuda_backend},
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
    case Operation::delta:
      return "delta";
  }
  return "?";
}

void Backend::delta(const DeltaProblem&, const DeltaOutput&, const ExecutionContext&) {
  reject("backend " + std::string(name()), "delta", "this backend does not offer the operation");
}

std::string_view to_string(MemorySpace space) { return space == MemorySpace::host ? "host" : "cuda"; }

std::vector<BackendEntry> list_backends() {
  std::vector<BackendEntry> entries;
  for (const Registered& backend : kRegistered)
    entries.push_back({std::string(backend.name), backend.description(), backend.unavailable()});
  return entries;
}

std::unique_ptr<Backend> make_backend(std::string_view name) {
  if (is_external_backend(name)) return make_external_backend(name);
  const auto found = std::ranges::find(kRegistered, name, &Registered::name);
  if (found == kRegistered.end()) {
    std::string names;
    for (const Registered& backend : kRegistered)
      names += (names.empty() ? "" : ", ") + std::string(backend.name);
    reject("backend", name, "it must be one of " + names + ", or the path of a shared library");
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
