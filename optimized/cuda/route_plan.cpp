// SPDX-License-Identifier: Apache-2.0
#include "optimized/cuda/route_plan.h"

#include <algorithm>

#include "optimized/cuda/check.h"

namespace eplora::cuda {
namespace {

using kernels::TwoBarrierShape;

constexpr std::uint32_t kThreads = 1024, kMaxCluster = 16;
// Shared memory that the kernels declare themselves.
constexpr std::size_t kStaticShared = 1024, kStaticSharedStream = 256, kStaticSharedSmall = 7 * 1024,
                      kStaticSharedGrid = 9 * 1024 + 512;

std::uint32_t ceil_div(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint32_t>((a + b - 1) / b);
}

/// 1, 2 or 4 slots a thread; 0 when that is not enough.
std::uint32_t items_for(std::uint64_t slots, std::uint32_t threads) {
  for (const std::uint32_t items : {1u, 2u, 4u})
    if (slots <= std::uint64_t{items} * threads) return items;
  return 0;
}

bool fits(std::size_t bytes, const DeviceInfo& device, std::size_t declared = kStaticShared) {
  return bytes + declared <= device.shared_bytes;
}

/// Blocks that share the writing of `capacity` entries, about `bytes` each.
std::uint32_t writers(std::int64_t capacity, std::int64_t bytes, const DeviceInfo& device) {
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(capacity * 4 / bytes, 1, device.multiprocessors));
}

std::vector<RoutePlan> pairs(const RouteSize& size, const DeviceInfo& device, std::uint32_t blocks) {
  if (size.num_slots > kernels::kMaxPairsSlots) return {};
  RoutePlan plan{RouteTier::pairs, blocks, kernels::kMaxPairsSlots, 1, {}, 0};
  if (blocks == 0) plan.blocks = writers(size.capacity, 8 * 1024, device);
  return {plan};
}

std::vector<RoutePlan> small(const RouteSize& size, const DeviceInfo& device, std::uint32_t blocks) {
  RoutePlan plan{RouteTier::small, blocks, kThreads, items_for(size.num_slots, kThreads), {}, 0};
  if (plan.items == 0) return {};
  if (size.num_slots < kThreads && size.num_buckets < kThreads)
    plan.threads = std::max(256u, ceil_div(std::max(size.num_slots, size.num_buckets), 32) * 32);
  if (!fits(kernels::route_small_shared_bytes(size.num_buckets, plan.threads, plan.items), device,
            kStaticSharedSmall))
    return {};
  if (blocks == 0) plan.blocks = writers(size.capacity, 2 * 1024, device);
  return {plan};
}

std::vector<RoutePlan> one_barrier(RouteTier tier, const RouteSize& size, const DeviceInfo& device,
                                   std::uint32_t blocks) {
  const bool cluster = tier == RouteTier::cluster;
  if (cluster && !device.clusters) return {};
  if (blocks == 0)
    blocks = cluster ? kMaxCluster
                     : std::clamp(ceil_div(size.num_slots, kThreads / 4), 1u,
                                  std::min(64u, device.multiprocessors));
  if (blocks > (cluster ? kMaxCluster : device.multiprocessors)) return {};
  RoutePlan plan{tier, blocks, kThreads, items_for(ceil_div(size.num_slots, blocks), kThreads), {}, 0};
  if (plan.items == 0 || !kernels::route_medium_serves(size.num_slots, size.num_buckets, blocks) ||
      !fits(kernels::route_medium_shared_bytes(size.num_buckets, blocks, plan.items), device))
    return {};
  plan.workspace_bytes = kernels::route_medium_workspace_bytes(size.num_buckets, plan.blocks);
  return {plan};
}

/// The largest chunk of buckets, a multiple of 8, whose shared memory fits; then the columns a block owns.
template <typename SharedBytes>
bool set_chunk(TwoBarrierShape& shape, std::uint32_t buckets, const DeviceInfo& device,
               SharedBytes shared_bytes, std::size_t declared, std::uint32_t limit) {
  const std::uint32_t all = (buckets + 1 + 7) / 8 * 8;
  for (std::uint32_t log2 = 3; (1u << log2) <= kernels::kMaxColumns; ++log2) {
    TwoBarrierShape candidate = shape;
    candidate.columns_log2 = log2;
    candidate.chunk_buckets = std::min(all, std::min(shape.blocks << log2, limit));
    while (candidate.chunk_buckets > 8 && !fits(shared_bytes(candidate), device, declared))
      candidate.chunk_buckets -= 8;
    if (!fits(shared_bytes(candidate), device, declared)) break;
    // Few chunks first; among equals few columns a block.
    if (log2 == 3 || ceil_div(all, candidate.chunk_buckets) < ceil_div(all, shape.chunk_buckets))
      shape = candidate;
    if (shape.chunk_buckets == all) break;
  }
  return fits(shared_bytes(shape), device, declared);
}

std::vector<RoutePlan> grid(const RouteSize& size, const DeviceInfo& device, std::uint32_t blocks) {
  RoutePlan plan{RouteTier::grid, 0, kThreads, 0, {}, 0};
  plan.blocks = blocks != 0 ? blocks
                            : std::clamp(std::max(ceil_div(size.num_slots, kThreads),
                                                  std::min(96u, ceil_div(size.num_slots, kThreads / 4))),
                                         1u, std::min(device.multiprocessors, kThreads));
  plan.items = items_for(ceil_div(size.num_slots, plan.blocks), kThreads);
  if (plan.items == 0 || plan.blocks > device.multiprocessors) return {};
  plan.shape = {plan.blocks, plan.items, 3, 8, 8, false};
  if (!set_chunk(plan.shape, size.num_buckets, device, kernels::route_grid_shared_bytes, kStaticSharedGrid,
                 65528))
    return {};
  plan.workspace_bytes = kernels::route_two_barrier_workspace_bytes(plan.shape);
  return {plan};
}

/// One tile a block if that leaves shared memory for all buckets; else tiles of up to 16 slots a thread.
std::vector<RoutePlan> stream(const RouteSize& size, const DeviceInfo& device, std::uint32_t blocks) {
  constexpr std::uint32_t kStreamThreads = kernels::kStreamThreads, kMaxTile = 1u << 15;
  RoutePlan plan{RouteTier::stream, 0, kStreamThreads, 1, {}, 0};
  plan.blocks = blocks != 0
                    ? blocks
                    : std::clamp(ceil_div(size.num_slots, 2 * kStreamThreads), 1u, device.multiprocessors);
  if (plan.blocks > std::min(device.multiprocessors, kStreamThreads)) return {};
  const std::uint32_t window = kernels::route_stream_window(size.num_slots, plan.blocks);
  const std::uint32_t all = (size.num_buckets + 1 + 7) / 8 * 8;
  const auto chunk = [&](std::uint32_t tile, bool one_tile) {
    plan.shape = {plan.blocks, 1, 3, 8, tile, one_tile};
    return set_chunk(plan.shape, size.num_buckets, device, kernels::route_stream_shared_bytes,
                     kStaticSharedStream, 1u << kernels::kStreamColumnBits);
  };
  const std::uint32_t own = std::max(8u, (window + 7) / 8 * 8);
  bool serves = window <= kMaxTile && chunk(own, true) && plan.shape.chunk_buckets == all;
  for (std::uint32_t tile = std::min(16 * kStreamThreads, std::max(own, kStreamThreads)); !serves;
       tile = tile / 16 * 8) {
    if (tile < kStreamThreads) return {};
    serves = chunk(tile, window <= tile) &&
             (tile < 2 * kStreamThreads || plan.shape.chunk_buckets >= std::min(all, 4096u));
  }
  plan.items = ceil_div(plan.shape.tile_slots, kStreamThreads);
  plan.workspace_bytes = kernels::route_two_barrier_workspace_bytes(plan.shape);
  return {plan};
}

}  // namespace

DeviceInfo DeviceInfo::current() {
  int device = 0, multiprocessors = 0, shared = 0, major = 0;
  EPLORA_CUDA_CHECK(cudaGetDevice(&device));
  EPLORA_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  EPLORA_CUDA_CHECK(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  EPLORA_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return {static_cast<std::uint32_t>(multiprocessors), static_cast<std::size_t>(shared), major >= 9};
}

std::string_view to_string(RouteTier tier) {
  constexpr std::string_view kNames[] = {"pairs", "small", "cluster", "medium", "grid", "stream"};
  return kNames[static_cast<std::size_t>(tier)];
}

std::string to_string(const RoutePlan& plan) {
  std::string text(to_string(plan.tier));
  text += " blocks=" + std::to_string(plan.blocks) + " items=" + std::to_string(plan.items);
  if (plan.tier == RouteTier::small) text += " threads=" + std::to_string(plan.threads);
  if (plan.tier >= RouteTier::grid)
    text += " columns=" + std::to_string(1u << plan.shape.columns_log2) +
            " chunk=" + std::to_string(plan.shape.chunk_buckets);
  return text;
}

std::vector<RoutePlan> plans_of_tier(RouteTier tier, const RouteSize& size, const DeviceInfo& device,
                                     std::uint32_t blocks) {
  switch (tier) {
    case RouteTier::pairs:
      return pairs(size, device, blocks);
    case RouteTier::small:
      return small(size, device, blocks);
    case RouteTier::cluster:
    case RouteTier::medium:
      return one_barrier(tier, size, device, blocks);
    case RouteTier::grid:
      return grid(size, device, blocks);
    case RouteTier::stream:
      return stream(size, device, blocks);
  }
  return {};
}

RoutePlan plan_route(const RouteSize& size, const DeviceInfo& device) {
  const std::uint32_t n = size.num_slots, V = size.num_buckets;
  const auto first = [&](RouteTier tier, bool when) -> std::vector<RoutePlan> {
    return when ? plans_of_tier(tier, size, device) : std::vector<RoutePlan>{};
  };
  // The bounds are measured; benchmarks/NOTES.md has the sweeps. A cluster of 16 blocks lost to 64
  // cooperative ones wherever both can serve: its barrier is cheaper, but 16 multiprocessors issue and store
  // a quarter as fast.
  for (const auto& [tier, when] : {std::pair{RouteTier::pairs, n <= 64 || (n <= 256 && V > 8192)},
                                   std::pair{RouteTier::small, n <= 4096 && V <= 16384},
                                   std::pair{RouteTier::medium, n <= 65536 && V <= 1024},
                                   std::pair{RouteTier::grid, n < 262144 || V < 2048},
                                   std::pair{RouteTier::stream, true}, std::pair{RouteTier::grid, true}})
    if (const auto plans = first(tier, when); !plans.empty()) return plans.front();
  throw std::runtime_error("the device has too little shared memory for any route kernel: " +
                           std::to_string(device.shared_bytes) + " bytes a block");
}

void run_route(const kernels::RouteArguments& arguments, const RoutePlan& plan, void* workspace,
               cudaStream_t stream) {
  switch (plan.tier) {
    case RouteTier::pairs:
      return EPLORA_CUDA_CHECK(kernels::launch_route_pairs(arguments, plan.blocks, stream));
    case RouteTier::small:
      return EPLORA_CUDA_CHECK(
          kernels::launch_route_small(arguments, plan.blocks, plan.threads, plan.items, stream));
    case RouteTier::cluster:
    case RouteTier::medium:
      return EPLORA_CUDA_CHECK(kernels::launch_route_medium(
          arguments, plan.blocks, plan.items, plan.tier == RouteTier::cluster, workspace, stream));
    case RouteTier::grid:
      return EPLORA_CUDA_CHECK(kernels::launch_route_grid(arguments, plan.shape, workspace, stream));
    case RouteTier::stream:
      return EPLORA_CUDA_CHECK(kernels::launch_route_stream(arguments, plan.shape, workspace, stream));
  }
}

}  // namespace eplora::cuda
