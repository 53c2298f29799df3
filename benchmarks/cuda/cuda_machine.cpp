// SPDX-License-Identifier: Apache-2.0
// Time on a GPU: CUDA graphs, events, and the floors. Compiled only where the CUDA toolkit is.
#include <cuda_runtime_api.h>

#include <fstream>
#include <regex>

#include "benchmarks/cuda/empty_kernel.h"
#include "benchmarks/machine.h"
#include "optimized/cuda/check.h"
#include "optimized/cuda/cuda_backend.h"

namespace eplora::bench {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

/// Two stretches of device memory for copies.
struct CopyMemory {
  void *from = nullptr, *to = nullptr;
  std::size_t bytes;

  explicit CopyMemory(std::size_t size) : bytes(size) {
    EPLORA_CUDA_CHECK(cudaMalloc(&from, bytes));
    try {
      EPLORA_CUDA_CHECK(cudaMalloc(&to, bytes));
      EPLORA_CUDA_CHECK(cudaMemset(from, 1, bytes));
      EPLORA_CUDA_CHECK(cudaMemset(to, 2, bytes));
    } catch (...) {
      release();
      throw;
    }
  }
  CopyMemory(const CopyMemory&) = delete;
  CopyMemory& operator=(const CopyMemory&) = delete;
  ~CopyMemory() { release(); }

  /// Copy `i` of `size` bytes; neighbours use different places, as far as there are any.
  void copy(int i, std::size_t size, cudaStream_t stream) const {
    const std::size_t offset = static_cast<std::size_t>(i) % (bytes / size) * size;
    EPLORA_CUDA_CHECK(cudaMemcpyAsync(static_cast<std::byte*>(to) + offset,
                                      static_cast<const std::byte*>(from) + offset, size,
                                      cudaMemcpyDeviceToDevice, stream));
  }

 private:
  void release() noexcept {
    cudaFree(from);
    cudaFree(to);
  }
};

/// A stream and two events, for one sample at a time.
class Stopwatch {
 public:
  Stopwatch() {
    EPLORA_CUDA_CHECK(cudaStreamCreate(&stream_));
    EPLORA_CUDA_CHECK(cudaEventCreate(&start_));
    EPLORA_CUDA_CHECK(cudaEventCreate(&stop_));
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
    cudaStreamDestroy(stream_);
  }
  cudaStream_t stream() const { return stream_; }

  template <class Work>
  double microseconds(const Work& work) const {
    EPLORA_CUDA_CHECK(cudaEventRecord(start_, stream_));
    work();
    EPLORA_CUDA_CHECK(cudaEventRecord(stop_, stream_));
    EPLORA_CUDA_CHECK(cudaEventSynchronize(stop_));
    float milliseconds = 0;
    EPLORA_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, start_, stop_));
    return 1000.0 * static_cast<double>(milliseconds);
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

using Enqueue = std::function<void(int, void*)>;

class GraphCalls final : public Calls {
 public:
  /// Throws what `enqueue` throws while it is captured, or `CudaError`.
  GraphCalls(const Stopwatch& watch, Enqueue enqueue, int sets, int rounds)
      : watch_(watch), enqueue_(std::move(enqueue)) {
    count = sets * rounds;
    timed_as = "graph replay";
    cudaGraph_t graph = nullptr;
    EPLORA_CUDA_CHECK(cudaStreamBeginCapture(watch.stream(), cudaStreamCaptureModeThreadLocal));
    try {
      for (int i = 0; i < count; ++i) enqueue_(i % sets, watch.stream());
    } catch (...) {
      cudaStreamEndCapture(watch.stream(), &graph);  // a capture that failed must be ended all the same
      if (graph != nullptr) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    EPLORA_CUDA_CHECK(cudaStreamEndCapture(watch.stream(), &graph));
    const cudaError_t instantiated = cudaGraphInstantiate(&replay_, graph, 0);
    if (instantiated == cudaSuccess) count_nodes(graph);
    cudaGraphDestroy(graph);
    EPLORA_CUDA_CHECK(instantiated);
  }
  GraphCalls(const GraphCalls&) = delete;
  GraphCalls& operator=(const GraphCalls&) = delete;
  ~GraphCalls() override { cudaGraphExecDestroy(replay_); }

  /// A replay right behind another one, so that the host's part of the launch is over when it begins and the
  /// cache holds what the last replay left, not what another backend did.
  double sample() override {
    EPLORA_CUDA_CHECK(cudaGraphLaunch(replay_, watch_.stream()));
    return watch_.microseconds([&] { EPLORA_CUDA_CHECK(cudaGraphLaunch(replay_, watch_.stream())); }) / count;
  }

 private:
  void count_nodes(cudaGraph_t graph) {
    std::size_t nodes = 0;
    EPLORA_CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
    std::vector<cudaGraphNode_t> all(nodes);
    if (nodes > 0) EPLORA_CUDA_CHECK(cudaGraphGetNodes(graph, all.data(), &nodes));
    int kernels = 0, others = 0;
    for (const cudaGraphNode_t node : all) {
      cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
      EPLORA_CUDA_CHECK(cudaGraphNodeGetType(node, &type));
      ++(type == cudaGraphNodeTypeKernel ? kernels : others);
    }
    launches = static_cast<double>(kernels) / count;
    other_nodes = static_cast<double>(others) / count;
  }

  const Stopwatch& watch_;
  const Enqueue enqueue_;  // keeps alive what the captured calls point to
  cudaGraphExec_t replay_ = nullptr;
};

/// For what cannot be captured: plain calls behind a copy that keeps the device busy while the host enqueues.
class StreamCalls final : public Calls {
 public:
  StreamCalls(const Stopwatch& watch, std::shared_ptr<CopyMemory> busy, Enqueue enqueue, int sets,
              std::string why)
      : watch_(watch), busy_(std::move(busy)), enqueue_(std::move(enqueue)) {
    count = sets;
    timed_as = "stream calls";
    note = "not captured into a graph: " + std::move(why);
  }
  double sample() override {
    for (int i = 0; i < 4; ++i) busy_->copy(i, busy_->bytes, watch_.stream());
    return watch_.microseconds([&] {
      for (int i = 0; i < count; ++i) enqueue_(i, watch_.stream());
    }) / count;
  }

 private:
  const Stopwatch& watch_;
  std::shared_ptr<CopyMemory> busy_;
  Enqueue enqueue_;
};

std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::smatch found;
  if (std::getline(file, line) && std::regex_search(line, found, std::regex(R"(\b\d+\.\d+(\.\d+)?\b)")))
    return found.str();
  int version = 0;
  EPLORA_CUDA_CHECK(cudaDriverGetVersion(&version));
  return "of CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

class CudaMachine final : public Machine {
 public:
  CudaMachine() { EPLORA_CUDA_CHECK(cudaGetDeviceProperties(&properties_, 0)); }

  MemorySpace space() const override { return MemorySpace::cuda; }
  std::string device() const override { return properties_.name; }
  std::string driver() const override { return driver_version(); }
  std::string cuda() const override {
    int version = 0;
    EPLORA_CUDA_CHECK(cudaRuntimeGetVersion(&version));
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  }
  MemoryAccess& memory() override { return memory_access(MemorySpace::cuda); }

  void fill(void* memory, std::size_t bytes, std::uint8_t value) override {
    EPLORA_CUDA_CHECK(cudaMemset(memory, value, bytes));
  }

  std::unique_ptr<Calls> prepare(Enqueue enqueue, int sets, int rounds) override {
    EPLORA_CUDA_CHECK(cudaDeviceSynchronize());
    std::string why;
    try {
      return std::make_unique<GraphCalls>(watch_, enqueue, sets, rounds);
    } catch (const std::exception& error) {
      why = error.what();
    }
    EPLORA_CUDA_CHECK(cudaDeviceSynchronize());  // a device that is lost is no reason to go on
    return std::make_unique<StreamCalls>(watch_, busy_memory(), std::move(enqueue), sets, why);
  }

  std::unique_ptr<Calls> prepare_calls(Enqueue enqueue, int sets) override {
    return std::make_unique<StreamCalls>(watch_, busy_memory(), std::move(enqueue), sets,
                                         "a library's inputs change from sample to sample");
  }

  std::unique_ptr<Calls> prepare_copy(std::int64_t bytes) override {
    const auto half = static_cast<std::size_t>(bytes / 2);
    return copies(std::make_shared<CopyMemory>(half), half, 1);
  }

  std::vector<FloorCalls> prepare_floors() override {
    std::vector<FloorCalls> floors;
    const auto processors = static_cast<unsigned>(properties_.multiProcessorCount);
    const std::pair<unsigned, unsigned> sizes[] = {{1, 256}, {1, 1024}, {processors, 1024}};
    for (const auto& [blocks, threads] : sizes) {
      const auto launch = [blocks = blocks, threads = threads](int, void* stream) {
        EPLORA_CUDA_CHECK(launch_empty(blocks, threads, static_cast<cudaStream_t>(stream)));
      };
      launch(0, watch_.stream());
      floors.push_back({"empty kernel, " + std::to_string(blocks) + " x " + std::to_string(threads), false, 0,
                        prepare(launch, 1, 128)});
    }
    const auto memory = std::make_shared<CopyMemory>(1024 * kMiB);
    for (const std::size_t mib : {std::size_t{4}, std::size_t{64}, std::size_t{1024}})
      floors.push_back({"device copy, " + std::to_string(mib) + " MiB", true,
                        static_cast<std::int64_t>(2 * mib * kMiB),
                        copies(memory, mib * kMiB,
                               mib == 4    ? 64
                               : mib == 64 ? 16
                                           : 1)});
    return floors;
  }

 private:
  std::unique_ptr<Calls> copies(const std::shared_ptr<CopyMemory>& memory, std::size_t size, int calls) {
    return prepare(
        [memory, size](int i, void* stream) { memory->copy(i, size, static_cast<cudaStream_t>(stream)); },
        calls, 1);
  }
  std::shared_ptr<CopyMemory> busy_memory() {
    if (!busy_) busy_ = std::make_shared<CopyMemory>(256 * kMiB);
    return busy_;
  }

  cudaDeviceProp properties_{};
  Stopwatch watch_;
  std::shared_ptr<CopyMemory> busy_;
};

}  // namespace

std::unique_ptr<Machine> make_cuda_machine() {
  if (const std::string reason = cuda_unavailable(); !reason.empty())
    throw BackendUnavailable("no GPU can be timed: " + reason);
  return std::make_unique<CudaMachine>();
}

}  // namespace eplora::bench
