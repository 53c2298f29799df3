// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstring>
#include <fstream>

#include "benchmarks/machine.h"
#include "benchmarks/workload.h"

namespace eplora::bench {
namespace {

using Clock = std::chrono::steady_clock;

class HostCalls final : public Calls {
 public:
  HostCalls(std::function<void(int, void*)> enqueue, int sets, int rounds)
      : enqueue_(std::move(enqueue)), sets_(sets) {
    count = sets * rounds;
    timed_as = "host calls";
  }
  double sample() override {
    const Clock::time_point before = Clock::now();
    for (int i = 0; i < count; ++i) enqueue_(i % sets_, nullptr);
    return std::chrono::duration<double, std::micro>(Clock::now() - before).count() / count;
  }

 private:
  std::function<void(int, void*)> enqueue_;
  int sets_;
};

class HostMachine final : public Machine {
 public:
  MemorySpace space() const override { return MemorySpace::host; }
  std::string device() const override {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
      const std::size_t colon = line.find(": ");
      if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
    }
    return "unknown processor";
  }
  MemoryAccess& memory() override { return memory_access(MemorySpace::host); }

  void fill(void* memory, std::size_t bytes, std::uint8_t value) override {
    std::memset(memory, value, bytes);
  }

  std::unique_ptr<Calls> prepare(std::function<void(int, void*)> enqueue, int sets, int rounds) override {
    return std::make_unique<HostCalls>(std::move(enqueue), sets, rounds);
  }

  std::unique_ptr<Calls> prepare_calls(std::function<void(int, void*)> enqueue, int sets) override {
    return prepare(std::move(enqueue), sets, 1);
  }

  std::unique_ptr<Calls> prepare_copy(std::int64_t bytes) override {
    const auto half = static_cast<std::size_t>(bytes / 2);
    const auto from = std::make_shared<Buffer>(memory(), half), to = std::make_shared<Buffer>(memory(), half);
    fill(from->data(), half, 1);
    fill(to->data(), half, 2);
    return prepare([=](int, void*) { std::memcpy(to->data(), from->data(), half); }, 1, 1);
  }

  std::vector<FloorCalls> prepare_floors() override {
    std::vector<FloorCalls> floors;
    floors.push_back({"empty call", false, 0, prepare([](int, void*) {}, 1, 1024)});
    for (const std::int64_t mib : {4, 64}) {
      const std::int64_t bytes = mib << 21;  // read and written
      floors.push_back({"memcpy " + std::to_string(mib) + " MiB", true, bytes, prepare_copy(bytes)});
    }
    return floors;
  }
};

}  // namespace

std::unique_ptr<Machine> make_host_machine() { return std::make_unique<HostMachine>(); }

#if !defined(EPLORA_WITH_CUDA)
std::unique_ptr<Machine> make_cuda_machine() {
  throw BackendUnavailable("no GPU can be timed: built without the CUDA toolkit");
}
#endif

}  // namespace eplora::bench
