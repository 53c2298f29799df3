// SPDX-License-Identifier: Apache-2.0
// Times `route` on a GPU in the geometry of real models, the rows of `eplora compare`, and prints a result
// file that `eplora compare` shows on machines without one. A measurement is the median of CUDA-graph
// replays; a graph holds eight calls with their own inputs, outputs and workspace, and every output is
// compared with the reference afterwards.
//
// usage: route_gpu COMMIT DATE MODEL.json... > benchmarks/results/DATE-DEVICE-models.json
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/compare.h"
#include "cli/formats/model_config.h"
#include "optimized/backend.h"
#include "optimized/guarded_memory.h"
#include "reference/layout/presets.h"
#include "reference/routing/route.h"

namespace eplora {
namespace {

constexpr int kSets = 8, kReplays = 41;
constexpr std::int32_t kAdapters = 8, kBlockSize = 64;

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess)
    throw std::runtime_error(fmt::format("{}: {}", call, cudaGetErrorString(status)));
}

/// Device memory that lives until the program ends: a benchmark of a few megabytes.
template <class T>
T* to_device(const std::vector<T>& values) {
  MemoryAccess& memory = memory_access(MemorySpace::cuda);
  T* const device = static_cast<T*>(memory.allocate(std::max<std::size_t>(values.size() * sizeof(T), 1)));
  memory.copy_to(device, values.data(), values.size() * sizeof(T));
  return device;
}

template <class T>
std::vector<T> to_host(const T* device, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  memory_access(MemorySpace::cuda).copy_from(values.data(), device, values.size() * sizeof(T));
  return values;
}

/// One of the rotating input sets, in host memory and on the device.
struct InputSet {
  std::vector<std::int32_t> topk_ids, mapping;
  RouteProblem host, device;
  RouteOutput output;
  ExecutionContext context;
};

InputSet make_set(Backend& backend, const ModelConfig& model, const Layout& layout,
                  const DispatchTable& table, std::int64_t tokens, std::uint64_t seed) {
  InputSet set;
  set.topk_ids = random_topk_ids(seed, tokens, model.num_experts, model.top_k);
  set.mapping = random_lora_mapping(seed, tokens, kAdapters);
  RouteProblem& p = set.host;
  p.topk_ids = IdMatrix::of(set.topk_ids, model.top_k);
  p.token_lora_mapping = set.mapping;
  p.num_experts = model.num_experts;
  p.table = table.local_ids;
  p.num_local_experts = static_cast<std::int32_t>(layout.local_experts(0).size());
  p.max_loras = kAdapters;
  p.block_size = kBlockSize;
  set.device = p;
  set.device.topk_ids.data = to_device(set.topk_ids);
  set.device.token_lora_mapping = {to_device(set.mapping), set.mapping.size()};
  set.device.table = {to_device(table.local_ids), table.local_ids.size()};
  const std::int64_t capacity =
      backend.capacity(p.topk_ids.size(), p.num_buckets(), p.block_size, p.sentinels);
  const std::vector<std::int32_t> poison(static_cast<std::size_t>(capacity) + 1, -7);
  set.output.blocks = {to_device(poison), to_device(poison), to_device(poison)};
  set.output.token_lora_mask =
      to_device(std::vector<std::uint8_t>(static_cast<std::size_t>(tokens) + 1, 0xA5));
  set.context.workspace_size = backend.workspace_bytes(p);
  set.context.workspace = to_device(std::vector<std::uint8_t>(set.context.workspace_size, 0x5A));
  return set;
}

bool equals_reference(const InputSet& set) {
  const RouteResult want = reference::route(set.host);
  RouteResult got;
  const std::int64_t capacity = static_cast<std::int64_t>(want.blocks.sorted_token_ids.size());
  got.blocks.sorted_token_ids = to_host(set.output.blocks.sorted_token_ids, capacity);
  got.blocks.expert_ids = to_host(set.output.blocks.expert_ids, capacity / kBlockSize);
  got.blocks.num_tokens_post_padded = to_host(set.output.blocks.num_tokens_post_padded, 1)[0];
  got.token_lora_mask = to_host(set.output.token_lora_mask, set.host.topk_ids.rows);
  return got == want;
}

/// Median microseconds of one call.
double time_route(Backend& backend, std::vector<InputSet>& sets) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  cudaEvent_t start, stop;
  check(cudaStreamCreate(&stream), "cudaStreamCreate");
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  for (InputSet& set : sets) {
    set.context.stream = stream;
    backend.route(set.device, set.output, set.context);
  }
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  check(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
  check(cudaEventCreate(&start), "cudaEventCreate");
  check(cudaEventCreate(&stop), "cudaEventCreate");
  std::vector<double> microseconds;
  for (int i = -3; i < kReplays; ++i) {  // three to warm up
    check(cudaEventRecord(start, stream), "cudaEventRecord");
    check(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
    check(cudaEventRecord(stop, stream), "cudaEventRecord");
    check(cudaEventSynchronize(stop), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start, stop), "cudaEventElapsedTime");
    if (i >= 0) microseconds.push_back(1000.0 * static_cast<double>(milliseconds) / kSets);
  }
  std::nth_element(microseconds.begin(), microseconds.begin() + kReplays / 2, microseconds.end());
  check(cudaGraphExecDestroy(replay), "cudaGraphExecDestroy");
  check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  check(cudaStreamDestroy(stream), "cudaStreamDestroy");
  return microseconds[kReplays / 2];
}

int run(int count, char** words) {
  if (count < 4) {
    fmt::print(stderr, "usage: route_gpu COMMIT DATE MODEL.json...\n");
    return 2;
  }
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  nlohmann::ordered_json document = {
      {"schema", "eplora.results/1"},
      {"device", device.name},
      {"date", words[2]},
      {"commit", words[1]},
      {"command", "route_gpu COMMIT DATE examples/models/*.json"},
      {"method",
       fmt::format("median of {} CUDA-graph replays, {} rotating input sets a graph, outputs equal to the "
                   "reference afterwards",
                   kReplays, kSets)},
      {"results", nlohmann::ordered_json::array()}};
  bool equal = true;
  for (int m = 3; m < count; ++m) {
    const ModelConfig model = read_model_config(words[m]);
    const Layout layout = make_layout(sglang_layout({4, 4, 1}, model.num_experts));
    const DispatchTable table = layout.placement.dispatch_table(0);
    for (const std::int64_t tokens : {1, 64, 4096}) {
      for (const char* name : {"cuda", "cuda-unfused"}) {
        const std::unique_ptr<Backend> backend = make_backend(name);
        std::vector<InputSet> sets(kSets);
        for (int i = 0; i < kSets; ++i)
          sets[i] = make_set(*backend, model, layout, table, tokens, static_cast<std::uint64_t>(i + 1));
        for (InputSet& set : sets) {  // vectors may have moved with their set; views follow
          set.host.topk_ids.data = set.topk_ids.data();
          set.host.token_lora_mapping = set.mapping;
        }
        const double median = time_route(*backend, sets);
        equal &= std::all_of(sets.begin(), sets.end(), equals_reference);
        document["results"].push_back({{"backend", name},
                                       {"operation", "route"},
                                       {"model", model.name},
                                       {"layout", "tp=4,ep=4"},
                                       {"tokens", tokens},
                                       {"adapters", kAdapters},
                                       {"block_size", kBlockSize},
                                       {"median_us", median}});
      }
    }
  }
  if (!equal) {
    fmt::print(stderr, "a timed output differs from the reference: nothing is recorded\n");
    return 1;
  }
  fmt::print("{}\n", document.dump(1));
  return 0;
}

}  // namespace
}  // namespace eplora

int main(int count, char** words) {
  try {
    return eplora::run(count, words);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "route_gpu: %s\n", error.what());
    return 5;
  }
}
