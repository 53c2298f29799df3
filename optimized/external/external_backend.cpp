// SPDX-License-Identifier: Apache-2.0
#include "optimized/external/external_backend.h"

#include <dlfcn.h>

#include <array>
#include <cstddef>
#include <filesystem>
#include <string>

#include "optimized/external/translate.h"
#include "optimized/validate_outputs.h"
#include "reference/check.h"
#if defined(EPLORA_WITH_CUDA)
#include "optimized/cuda/cuda_backend.h"
#endif

namespace eplora {
namespace {

constexpr const char* kSymbol = "eplora_backend_v1";
constexpr std::size_t kMessageBytes = 512;
constexpr std::int64_t kMostWorkspace = std::int64_t{1} << 40;  // more than any problem of the suite can want

/// Loads the file and calls its one symbol. Throws as `make_external_backend` says.
const eplora_backend* descriptor_of(const std::string& path) {
  const std::string who = "backend " + path;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    reject("backend", path, "there is no such file; a path names a shared library");
  // A name without '/' would be looked for where the system keeps its libraries.
  const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const reason = dlerror();
    throw BackendUnavailable(who + " cannot be loaded: " + (reason == nullptr ? "no reason given" : reason));
  }
  void* const symbol = dlsym(library, kSymbol);
  if (symbol == nullptr)
    reject("backend", path,
           std::string("the library must export ") + kSymbol + " (optimized/external/eplora_backend.h)");
  const eplora_backend* const descriptor = reinterpret_cast<const eplora_backend* (*)()>(symbol)();
  if (descriptor == nullptr) reject(who + ": " + kSymbol + "()", "null", "it must return a descriptor");
  return descriptor;
}

/// Version 1 without delta: what libraries of the first headers have.
constexpr std::size_t kBeforeDelta = offsetof(eplora_backend, delta);

bool has_delta(const eplora_backend& library) { return library.struct_size >= sizeof(eplora_backend); }

template <class Struct>
void require_version(const std::string& what, const Struct& value) {
  if (value.abi_version != EPLORA_ABI_VERSION)
    reject(what + ".abi_version", std::to_string(value.abi_version),
           "this program speaks version " + std::to_string(EPLORA_ABI_VERSION));
}

void require_known(const std::string& who, const eplora_backend& descriptor) {
  require_version(who + ": descriptor", descriptor);
  if (descriptor.struct_size < kBeforeDelta)
    reject(who + ": descriptor.struct_size", std::to_string(descriptor.struct_size),
           "version 1 has at least " + std::to_string(kBeforeDelta) + " bytes");
  require_version(who + ": form", descriptor.form);
  if (descriptor.form.struct_size != sizeof(eplora_form))
    reject(who + ": form.struct_size", std::to_string(descriptor.form.struct_size),
           "in version 1 it is " + std::to_string(sizeof(eplora_form)));
  require_pointer(who + ": descriptor.name", descriptor.name, 1);
  require_pointer(who + ": descriptor.description", descriptor.description, 1);
  require_in_range(who + ": descriptor.memory_space", descriptor.memory_space, EPLORA_MEMORY_HOST,
                   EPLORA_MEMORY_CUDA);
  if (descriptor.dispatch == nullptr && descriptor.remap == nullptr && descriptor.align == nullptr &&
      descriptor.route == nullptr && descriptor.slice == nullptr &&
      !(has_delta(descriptor) && descriptor.delta != nullptr))
    reject(who, "without operations",
           "it must offer at least one of dispatch, remap, align, route, slice, delta");
}

void require_memory(const std::string& who, const eplora_backend& descriptor) {
  if (descriptor.memory_space != EPLORA_MEMORY_CUDA) return;
#if defined(EPLORA_WITH_CUDA)
  const std::string reason = cuda_unavailable();
#else
  const std::string reason = "this program was built without the CUDA toolkit";
#endif
  if (!reason.empty()) throw BackendUnavailable(who + " computes in CUDA memory: " + reason);
}

/// What one call hands to the library besides the problem, and what came back.
class Call {
 public:
  explicit Call(const ExecutionContext& context) : abi_(external::versioned<eplora_context>()) {
    abi_.stream = context.stream;
    abi_.workspace = context.workspace;
    abi_.workspace_bytes = static_cast<std::int64_t>(context.workspace_size);
    abi_.message = message_.data();
    abi_.message_capacity = kMessageBytes;
  }

  const eplora_context* context() const { return &abi_; }

  void require_ok(const std::string& who, Operation operation, std::int32_t status) {
    if (status == EPLORA_OK) return;
    message_.back() = '\0';
    const std::string said = message_.front() == '\0' ? "it gave no message" : message_.data();
    const std::string sentence =
        who + ", " + std::string(to_string(operation)) + ": " + meaning(status) + ": " + said;
    if (status == EPLORA_INVALID_ARGUMENT) throw InvalidArgument(sentence);
    throw std::runtime_error(sentence);
  }

 private:
  static std::string meaning(std::int32_t status) {
    if (status == EPLORA_INVALID_ARGUMENT) return "status 1, invalid argument";
    if (status == EPLORA_UNSUPPORTED) return "status 2, not supported and not declared";
    if (status == EPLORA_FAILED) return "status 3, failed";
    return "status " + std::to_string(status);
  }

  std::array<char, kMessageBytes> message_{};
  eplora_context abi_;
};

class ExternalBackend final : public Backend {
 public:
  ExternalBackend(std::string path, const eplora_backend& library)
      : path_(std::move(path)),
        who_("backend " + path_),
        description_(std::string(library.name) + ": " + library.description),
        library_(library),
        form_(external::translate(who_, library.form)) {}

  std::string_view name() const override { return path_; }
  std::string_view description() const override { return description_; }
  MemorySpace memory_space() const override {
    return library_.memory_space == EPLORA_MEMORY_CUDA ? MemorySpace::cuda : MemorySpace::host;
  }
  contract::Form form() const override { return form_; }

  bool supports(Operation operation) const override {
    switch (operation) {
      case Operation::dispatch:
        return library_.dispatch != nullptr;
      case Operation::remap:
        return library_.remap != nullptr;
      case Operation::align:
        return library_.align != nullptr;
      case Operation::route:
        return library_.route != nullptr;
      case Operation::slice:
        return library_.slice != nullptr;
      case Operation::delta:
        return has_delta(library_) && library_.delta != nullptr;
    }
    return false;
  }

  std::int64_t capacity(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels sentinels) const override {
    return library_.capacity == nullptr ? align_capacity(n, V, B, sentinels)
                                        : library_.capacity(n, V, B, static_cast<std::int32_t>(sentinels));
  }

  std::size_t workspace_bytes(const DispatchProblem& problem) const override {
    return workspace_of(library_.dispatch_workspace, Operation::dispatch, problem);
  }
  std::size_t workspace_bytes(const RemapProblem& problem) const override {
    return workspace_of(library_.remap_workspace, Operation::remap, problem);
  }
  std::size_t workspace_bytes(const AlignProblem& problem) const override {
    return workspace_of(library_.align_workspace, Operation::align, problem);
  }
  std::size_t workspace_bytes(const RouteProblem& problem) const override {
    return workspace_of(library_.route_workspace, Operation::route, problem);
  }
  std::size_t workspace_bytes(const DeltaProblem& problem) const override {
    return has_delta(library_) ? workspace_of(library_.delta_workspace, Operation::delta, problem) : 0;
  }
  std::size_t workspace_bytes(const SliceProblem& problem) const override {
    if (library_.slice_workspace == nullptr) return 0;
    const external::SliceTranslation abi = external::translate(problem, nullptr);
    return checked_bytes(Operation::slice, library_.slice_workspace(&abi.problem));
  }

  void dispatch(const DispatchProblem& problem, const DispatchOutput& output,
                const ExecutionContext& context) override {
    require_offered(Operation::dispatch);
    validate(problem);
    validate_outputs(problem, output);
    const eplora_dispatch_problem abi = external::translate(problem);
    auto to = external::versioned<eplora_dispatch_output>();
    to.local_ids = output.local_ids;
    to.local_ids_size = problem.topk_ids.size();
    Call call(context);
    call.require_ok(who_, Operation::dispatch, library_.dispatch(&abi, &to, call.context()));
  }

  void remap(const RemapProblem& problem, const RemapOutput& output,
             const ExecutionContext& context) override {
    require_offered(Operation::remap);
    validate(problem);
    validate_outputs(problem, output);
    const eplora_remap_problem abi = external::translate(problem);
    auto to = external::versioned<eplora_remap_output>();
    to.virtual_ids = output.virtual_ids;
    to.virtual_ids_size = problem.topk_ids.size();
    to.token_lora_mask = output.token_lora_mask;
    to.token_lora_mask_size = problem.topk_ids.rows;
    Call call(context);
    call.require_ok(who_, Operation::remap, library_.remap(&abi, &to, call.context()));
  }

  void align(const AlignProblem& problem, const AlignOutput& output,
             const ExecutionContext& context) override {
    require_offered(Operation::align);
    validate(problem);
    const std::int64_t size =
        capacity(problem.ids.size(), problem.num_buckets, problem.block_size, problem.sentinels);
    validate_outputs(output, size);
    const eplora_align_problem abi = external::translate(problem);
    const eplora_align_output to = external::translate(output, size, problem.block_size);
    Call call(context);
    call.require_ok(who_, Operation::align, library_.align(&abi, &to, call.context()));
  }

  void route(const RouteProblem& problem, const RouteOutput& output,
             const ExecutionContext& context) override {
    require_offered(Operation::route);
    validate(problem);
    const std::int64_t size =
        capacity(problem.topk_ids.size(), problem.num_buckets(), problem.block_size, problem.sentinels);
    validate_outputs(problem, output, size);
    const eplora_route_problem abi = external::translate(problem);
    auto to = external::versioned<eplora_route_output>();
    to.blocks = external::translate(output.blocks, size, problem.block_size);
    to.token_lora_mask = output.token_lora_mask;
    to.token_lora_mask_size = problem.topk_ids.rows;
    Call call(context);
    call.require_ok(who_, Operation::route, library_.route(&abi, &to, call.context()));
  }

  void delta(const DeltaProblem& problem, const DeltaOutput& output,
             const ExecutionContext& context) override {
    require_offered(Operation::delta);
    validate(problem);
    validate_outputs(problem, output);
    const eplora_delta_problem abi = external::translate(problem);
    const eplora_delta_output to = external::translate(problem, output);
    Call call(context);
    call.require_ok(who_, Operation::delta, library_.delta(&abi, &to, call.context()));
  }

  void slice(const SliceProblem& problem, const BufferView& buffers,
             const ExecutionContext& context) override {
    require_offered(Operation::slice);
    validate(problem);
    validate_outputs(problem, buffers);
    const external::SliceTranslation abi = external::translate(problem, &buffers);
    Call call(context);
    call.require_ok(who_, Operation::slice, library_.slice(&abi.problem, call.context()));
  }

 private:
  template <class Abi, class Problem>
  std::size_t workspace_of(std::int64_t (*bytes_of_problem)(const Abi*), Operation operation,
                           const Problem& problem) const {
    if (bytes_of_problem == nullptr) return 0;
    const Abi abi = external::translate(problem);
    return checked_bytes(operation, bytes_of_problem(&abi));
  }

  std::size_t checked_bytes(Operation operation, std::int64_t bytes) const {
    if (bytes < 0 || bytes > kMostWorkspace)
      throw std::runtime_error(who_ + ", " + std::string(to_string(operation)) +
                               ": asks for a workspace of " + std::to_string(bytes) +
                               " bytes; it must be 0 to 2^40");
    return static_cast<std::size_t>(bytes);
  }

  void require_offered(Operation operation) const {
    if (!supports(operation)) reject(who_, to_string(operation), "the library does not offer this operation");
  }

  std::string path_, who_, description_;
  const eplora_backend& library_;  // the library's, which stays loaded
  contract::Form form_;
};

}  // namespace

bool is_external_backend(std::string_view name) {
  return name.find('/') != std::string_view::npos || name.ends_with(".so");
}

std::unique_ptr<Backend> make_external_backend(std::string_view path) {
  return make_external_backend(path, *descriptor_of(std::string(path)));
}

std::unique_ptr<Backend> make_external_backend(std::string_view name, const eplora_backend& library) {
  const std::string who = "backend " + std::string(name);
  require_known(who, library);
  require_memory(who, library);
  return std::make_unique<ExternalBackend>(std::string(name), library);
}

}  // namespace eplora
