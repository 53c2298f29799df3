// SPDX-License-Identifier: Apache-2.0
// Where backends of one memory space run, and how time is taken there. On a GPU a sample is one replay of a
// CUDA graph that holds many calls, timed by events; on a host it is a row of calls, timed by a steady clock.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "optimized/backend.h"
#include "optimized/guarded_memory.h"

namespace eplora::bench {

/// Prepared calls. `sample()` runs them all once and gives the microseconds of one.
class Calls {
 public:
  virtual ~Calls() = default;
  virtual double sample() = 0;

  int count = 1;           ///< calls a sample
  std::string timed_as;    ///< "graph replay", "stream calls" or "host calls"
  std::string note;        ///< why it is not a graph replay, on a GPU
  double launches = 0;     ///< kernels a call; 0 where nothing is launched or it is not known
  double other_nodes = 0;  ///< copies, fills, allocations a call
};

/// Something that every time is compared with: an empty kernel or call, a copy inside the device's memory.
struct FloorCalls {
  std::string name;
  bool is_copy = false;
  std::int64_t bytes = 0;  ///< read and written, a call
  std::unique_ptr<Calls> calls;
};

class Machine {
 public:
  virtual ~Machine() = default;
  virtual MemorySpace space() const = 0;
  virtual std::string device() const = 0;  ///< "NVIDIA H100 80GB HBM3"; on a host the processor
  virtual std::string driver() const { return ""; }
  virtual std::string cuda() const { return ""; }  ///< version of the runtime
  virtual MemoryAccess& memory() = 0;

  virtual void fill(void* memory, std::size_t bytes, std::uint8_t value) = 0;

  /// A sample is `rounds` times `enqueue(i, stream)` for i in [0, sets); one round where a graph cannot be
  /// had. Each call has run before, so that nothing is loaded or grown while it is captured or timed.
  virtual std::unique_ptr<Calls> prepare(std::function<void(int, void*)> enqueue, int sets, int rounds) = 0;
  /// The same in one round of plain calls, never captured: for a library whose inputs change from sample to
  /// sample.
  virtual std::unique_ptr<Calls> prepare_calls(std::function<void(int, void*)> enqueue, int sets) = 0;
  /// A copy that reads `bytes / 2` and writes as many.
  virtual std::unique_ptr<Calls> prepare_copy(std::int64_t bytes) = 0;
  virtual std::vector<FloorCalls> prepare_floors() = 0;
};

std::unique_ptr<Machine> make_host_machine();

/// Throws `BackendUnavailable` in a build without the CUDA toolkit and where there is no device.
std::unique_ptr<Machine> make_cuda_machine();

}  // namespace eplora::bench
