// SPDX-License-Identifier: Apache-2.0
// One interface for every implementation: the reference, Thrust on the host or a GPU, CUDA kernels,
// somebody's shared library, and the mutants. Problems and outputs are the reference's structs; all pointers
// in them live in the backend's memory space. An operation validates its problem, throws `InvalidArgument`
// before touching memory, allocates no output, and writes exactly what the contract says.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reference/contract/form.h"
#include "reference/layout/layout.h"
#include "reference/lora/buffers.h"
#include "reference/lora/delta_problem.h"
#include "reference/routing/problem.h"

namespace eplora {

enum class Operation : std::uint8_t { dispatch, remap, align, route, slice, delta };
inline constexpr Operation kOperations[] = {Operation::dispatch, Operation::remap, Operation::align,
                                            Operation::route,    Operation::slice, Operation::delta};
std::string_view to_string(Operation operation);

enum class MemorySpace : std::uint8_t { host, cuda };
std::string_view to_string(MemorySpace space);

/// What a call may use besides inputs and outputs.
struct ExecutionContext {
  void* workspace =
      nullptr;  ///< `workspace_bytes` of the problem, in the backend's memory space, contents garbage
  std::size_t workspace_size = 0;
  void* stream = nullptr;  ///< a cudaStream_t for CUDA backends
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;
  virtual std::string_view description() const = 0;
  virtual MemorySpace memory_space() const { return MemorySpace::host; }
  /// Delta is offered by those who say so.
  virtual bool supports(Operation operation) const { return operation != Operation::delta; }
  virtual contract::Form form() const { return {}; }

  /// Sizes; they depend on shapes alone, never on values (P17).
  virtual std::int64_t capacity(std::int64_t n, std::int64_t V, std::int64_t B, Sentinels sentinels) const {
    return align_capacity(n, V, B, sentinels);
  }
  virtual std::size_t workspace_bytes(const DispatchProblem&) const { return 0; }
  virtual std::size_t workspace_bytes(const RemapProblem&) const { return 0; }
  virtual std::size_t workspace_bytes(const AlignProblem&) const { return 0; }
  virtual std::size_t workspace_bytes(const RouteProblem&) const { return 0; }
  virtual std::size_t workspace_bytes(const SliceProblem&) const { return 0; }
  virtual std::size_t workspace_bytes(const DeltaProblem&) const { return 0; }

  /// What a rank owns. Ours is `eplora::make_layout`; a wrong layout is a backend that answers differently.
  virtual Layout layout(const LayoutSpec& spec) const { return make_layout(spec); }

  virtual void dispatch(const DispatchProblem&, const DispatchOutput&, const ExecutionContext&) = 0;
  virtual void remap(const RemapProblem&, const RemapOutput&, const ExecutionContext&) = 0;
  virtual void align(const AlignProblem&, const AlignOutput&, const ExecutionContext&) = 0;
  virtual void route(const RouteProblem&, const RouteOutput&, const ExecutionContext&) = 0;
  virtual void slice(const SliceProblem&, const BufferView&, const ExecutionContext&) = 0;
  /// Adds to what stands in the output. Refused by name unless overridden.
  virtual void delta(const DeltaProblem&, const DeltaOutput&, const ExecutionContext&);
};

/// The reference functions behind the interface. Mutants derive from it and override the one thing they get
/// wrong.
class ReferenceBackend : public Backend {
 public:
  std::string_view name() const override { return "reference"; }
  std::string_view description() const override { return "the executable specification, C++ and Eigen"; }
  bool supports(Operation) const override { return true; }
  void dispatch(const DispatchProblem&, const DispatchOutput&, const ExecutionContext&) override;
  void remap(const RemapProblem&, const RemapOutput&, const ExecutionContext&) override;
  void align(const AlignProblem&, const AlignOutput&, const ExecutionContext&) override;
  void route(const RouteProblem&, const RouteOutput&, const ExecutionContext&) override;
  void slice(const SliceProblem&, const BufferView&, const ExecutionContext&) override;
  void delta(const DeltaProblem&, const DeltaOutput&, const ExecutionContext&) override;
};

/// A backend this program knows of; `unavailable` says why it cannot run on this machine (empty = it can).
struct BackendEntry {
  std::string name;
  std::string description;
  std::string unavailable;
};

/// Every backend, in the order of the documentation: reference first.
std::vector<BackendEntry> list_backends();

/// Throws `InvalidArgument` for an unknown name and `BackendUnavailable` for one that cannot run here.
std::unique_ptr<Backend> make_backend(std::string_view name);

/// All that can run here.
std::vector<std::unique_ptr<Backend>> available_backends();

struct BackendUnavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace eplora
