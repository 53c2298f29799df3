// SPDX-License-Identifier: Apache-2.0
// Align and route, reference against thrust-host, in time per call and slots per second. The contract asks
// the reference for O(n + V): 1M slots into 4097 buckets in well under 0.1 s on one core. thrust-host is a
// second opinion, not tuned, and the only one here that uses more than one thread.
//   routing_benchmark --benchmark_filter=align
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "optimized/backend.h"
#include "reference/layout/placement.h"

namespace eplora {
namespace {

/// `n` ids, mostly in `[0, end)`, one in eight a sentinel.
std::vector<std::int32_t> ids_below(std::int64_t n, std::int32_t end) {
  std::mt19937 random(12345);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  for (std::int32_t& id : ids)
    id = random() % 8 == 0 ? -1 : static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(end));
  return ids;
}

struct Blocks {
  std::vector<std::int32_t> sorted_token_ids, expert_ids;
  std::int32_t num_tokens_post_padded = 0;

  Blocks(std::int64_t capacity, std::int64_t B)
      : sorted_token_ids(static_cast<std::size_t>(capacity)),
        expert_ids(static_cast<std::size_t>(capacity / B)) {}
  AlignOutput output() { return {sorted_token_ids.data(), expert_ids.data(), &num_tokens_post_padded}; }
};

void count_slots(benchmark::State& state, std::int64_t n) {
  state.SetItemsProcessed(state.iterations() * n);
  state.SetLabel("items are slots");
}

void align(benchmark::State& state, const std::string& name) {
  const std::int64_t n = state.range(0), B = 16;
  const auto V = static_cast<std::int32_t>(state.range(1));
  const auto backend = make_backend(name);
  const std::vector<std::int32_t> ids = ids_below(n, V);
  const AlignProblem problem{IdMatrix::of(ids, 8), V, B, Sentinels::keep, {}};
  Blocks blocks(backend->capacity(n, V, B, problem.sentinels), B);
  for (auto _ : state) {
    backend->align(problem, blocks.output(), {});
    benchmark::ClobberMemory();
  }
  count_slots(state, n);
}

/// A rank of ep=8 of a model with 256 experts, top-8, and L adapters.
void route(benchmark::State& state, const std::string& name) {
  const std::int64_t T = state.range(0), K = 8;
  const auto L = static_cast<std::int32_t>(state.range(1));
  const auto backend = make_backend(name);
  const Placement placement = Placement::linear(256, 8);
  const DispatchTable table = placement.dispatch_table(3);
  const std::vector<std::int32_t> ids = ids_below(T * K, 256), mapping = ids_below(T, L);
  RouteProblem problem;
  problem.topk_ids = IdMatrix::of(ids, K);
  problem.token_lora_mapping = mapping;
  problem.num_experts = 256;
  problem.table = table.local_ids;
  problem.num_local_experts = 32;
  problem.max_loras = L;
  problem.block_size = 64;
  Blocks blocks(backend->capacity(T * K, problem.num_buckets(), problem.block_size, problem.sentinels),
                problem.block_size);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(T));
  for (auto _ : state) {
    backend->route(problem, {blocks.output(), mask.data()}, {});
    benchmark::ClobberMemory();
  }
  count_slots(state, T * K);
}

void add_benchmarks() {
  for (const BackendEntry& entry : list_backends()) {
    if (!entry.unavailable.empty() || make_backend(entry.name)->memory_space() != MemorySpace::host) continue;
    const std::string& name = entry.name;
    benchmark::RegisterBenchmark(("align/" + name).c_str(), align, name)
        ->ArgNames({"n", "V"})
        ->ArgsProduct({{256, 16384, 1 << 20}, {257, 4096}})
        ->Unit(benchmark::kMicrosecond)
        ->UseRealTime();
    benchmark::RegisterBenchmark(("route/" + name).c_str(), route, name)
        ->ArgNames({"T", "L"})
        ->ArgsProduct({{32, 2048, 1 << 17}, {4, 32}})
        ->Unit(benchmark::kMicrosecond)
        ->UseRealTime();
  }
}

}  // namespace
}  // namespace eplora

int main(int argc, char** argv) {
  eplora::add_benchmarks();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
