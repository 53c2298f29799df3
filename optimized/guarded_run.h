// SPDX-License-Identifier: Apache-2.0
// Runs a backend's operation the way the tests and `eplora compare` do: inputs copied into the backend's
// memory, outputs and workspace poisoned, red zones on both sides of every buffer, inputs checked for change
// afterwards. The caller gets a result in host memory.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "optimized/backend.h"

namespace eplora {

/// A backend wrote outside its outputs, changed an input, or reports an impossible capacity. The sentence
/// names the buffer and the offset.
struct GuardViolation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Sees the guarded calls of one thread: the problem as it was given and the result, all in host memory.
class GuardedRunObserver {
 public:
  virtual ~GuardedRunObserver() = default;
  virtual void saw(const DispatchProblem&, const DispatchResult&) {}
  virtual void saw(const RemapProblem&, const RemapResult&) {}
  virtual void saw(const AlignProblem&, const AlignResult&) {}
  virtual void saw(const RouteProblem&, const RouteResult&) {}
  virtual void saw(const SliceProblem&, const LoraBuffers& /*before*/, const LoraBuffers& /*after*/) {}
  virtual void saw(const DeltaProblem&, std::span<const float> /*before*/, const DeltaResult&) {}
};
/// From now on calls of this thread are shown to `observer`; null ends that.
void observe_guarded_runs(GuardedRunObserver* observer);

class GuardedRun {
 public:
  explicit GuardedRun(Backend& backend, std::uint8_t poison = 0xA5) : backend_(backend), poison_(poison) {}

  /// Problems hold host pointers. A `num_tokens` pointer is copied too. Where nothing may be read - rows past
  /// `num_tokens`, gaps between strided rows - the copies hold valid ids that depend on the poison, so that
  /// whoever reads them answers wrongly. An odd poison also puts every array one element off a 256-byte
  /// boundary.
  DispatchResult dispatch(const DispatchProblem& problem) const;
  RemapResult remap(const RemapProblem& problem) const;
  AlignResult align(const AlignProblem& problem) const;
  RouteResult route(const RouteProblem& problem) const;
  /// `buffers` goes in with what stood there before and comes out with the slot loaded; its shape must be the
  /// problem's.
  void slice(const SliceProblem& problem, LoraBuffers& buffers) const;
  /// `before`: what stands in the output, `[n, output_columns]` contiguous. What no slot with an adapter
  /// needs is NaN in the copies (rows of the input, router weights, weight tiles, scales, gaps); what stands
  /// behind the used prefixes are slots and labels that would be noticed. Gaps between rows of the output
  /// must keep their bytes. Blocks must be ones that align can make.
  DeltaResult delta(const DeltaProblem& problem, std::span<const float> before) const;

 private:
  Backend& backend_;
  std::uint8_t poison_;
};

}  // namespace eplora
