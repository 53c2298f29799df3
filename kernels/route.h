// SPDX-License-Identifier: Apache-2.0
// Fused route: dispatch, remap and align in one launch, canonical bytes (contract, sections 3 to 5). Five
// kernels, one per size; who chooses is optimized/cuda/route_plan.h. Align alone is the same kernels with
// `table`, `mapping` and `token_lora_mask` null. No launch function allocates, synchronises or reads device
// memory on the host.
//
//   pairs    n <= 256     one block compares all pairs; cost independent of the number of buckets
//   small    n <= 4096    no barrier: every block ranks all slots and writes its share of the outputs
//   medium   n <= 65536   one barrier, of a cooperative grid or of one cluster (sm_90); slots in registers
//   grid     4096/block   two grid barriers: blocks own columns of the count matrix; slots in registers
//   stream   any n        two grid barriers; windows sorted in shared memory before they are written
//
// Workspace contents are garbage on entry and after; barriers keep no state in it (cluster hardware barriers
// and cooperative launches do not need any), so replaying a captured graph is always safe.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/slots.h"

namespace eplora::kernels {

/// One problem. n = T*K slots, V buckets, bucket V is the sentinels'.
struct RouteArguments {
  IdSource source;
  DispatchTable dispatch;
  RemapRule remap;
  std::uint32_t num_slots = 0;    ///< n
  std::uint32_t num_buckets = 0;  ///< V
  Divisor block_size;             ///< B
  bool keep_sentinels = true;
  std::int64_t capacity = 0;                       ///< entries of sorted_token_ids, a multiple of B
  std::int32_t* sorted_token_ids = nullptr;        ///< `[capacity]`
  std::int32_t* expert_ids = nullptr;              ///< `[capacity / B]`
  std::int32_t* num_tokens_post_padded = nullptr;  ///< `[1]`
  std::uint8_t* token_lora_mask = nullptr;         ///< `[T]` or null

  /// Quotients that every thread would otherwise compute; the launch functions set them.
  struct Shares {
    std::uint32_t output_blocks = 0;       ///< capacity / B
    std::uint32_t output_blocks_each = 0;  ///< of them a thread block fills
    std::uint32_t slots_each = 0;          ///< window of a thread block
    std::uint32_t buckets_each = 1;        ///< odd number of consecutive buckets a thread scans
    bool quads = false;                    ///< four ids of one token may be read together
  } shares;
};

/// `arguments` with the shares of `blocks` thread blocks of `threads` threads that scan `buckets` buckets.
inline RouteArguments with_shares(RouteArguments arguments, std::uint32_t blocks, std::uint32_t threads,
                                  std::uint32_t buckets) {
  const auto ceil_div = [](std::uint64_t a, std::uint64_t b) {
    return static_cast<std::uint32_t>((a + b - 1) / b);
  };
  const auto output_blocks = static_cast<std::uint64_t>(arguments.capacity) / arguments.block_size.value;
  arguments.shares = {static_cast<std::uint32_t>(output_blocks), ceil_div(output_blocks, blocks),
                      ceil_div(arguments.num_slots, blocks), ceil_div(buckets, threads) | 1u, false};
  return arguments;
}

inline constexpr std::uint32_t kMaxPairsSlots = 256;
inline constexpr std::uint32_t kStagedExperts =
    1024;  ///< dispatch tables up to this are staged in shared memory
inline constexpr std::uint32_t kStreamThreads = 1024;
inline constexpr std::uint32_t kStreamColumnBits =
    13;                                            ///< a chunk of the stream kernel has at most 2^13 buckets
inline constexpr std::uint32_t kMaxColumns = 256;  ///< columns a block owns between two grid barriers

/// One thread a slot; block 0 sorts its n <= 256 slots, the others help to fill.
cudaError_t launch_route_pairs(const RouteArguments& arguments, std::uint32_t blocks, cudaStream_t stream);

std::size_t route_small_shared_bytes(std::uint32_t buckets, std::uint32_t threads, std::uint32_t items);
cudaError_t launch_route_small(const RouteArguments& arguments, std::uint32_t blocks, std::uint32_t threads,
                               std::uint32_t items, cudaStream_t stream);

/// One barrier: every block reads all blocks' counts. `cluster`: one cluster of `blocks` <= 16, else
/// cooperative.
bool route_medium_serves(std::uint32_t slots, std::uint32_t buckets, std::uint32_t blocks);
std::size_t route_medium_shared_bytes(std::uint32_t buckets, std::uint32_t blocks, std::uint32_t items);
std::size_t route_medium_workspace_bytes(std::uint32_t buckets, std::uint32_t blocks);
cudaError_t launch_route_medium(const RouteArguments& arguments, std::uint32_t blocks, std::uint32_t items,
                                bool cluster, void* workspace, cudaStream_t stream);

/// Two barriers: blocks own columns of the count matrix. Buckets are worked through in chunks of at most
/// `chunk_buckets`, each with its own pair of barriers. The stream kernel takes any window, in tiles.
struct TwoBarrierShape {
  std::uint32_t blocks = 1, items = 1;
  std::uint32_t columns_log2 =
      3;  ///< 2^columns_log2 columns a block; blocks << columns_log2 >= chunk_buckets
  std::uint32_t chunk_buckets = 8;  ///< multiple of 8
  std::uint32_t tile_slots = 8;     ///< stream: multiple of 8, at most 2^15
  bool one_tile = false;            ///< stream: every block's window is at most one tile
};
std::size_t route_grid_shared_bytes(const TwoBarrierShape& shape);
/// Slots of one block, a multiple of 4.
std::uint32_t route_stream_window(std::uint32_t slots, std::uint32_t blocks);
std::size_t route_stream_shared_bytes(const TwoBarrierShape& shape);
std::size_t route_two_barrier_workspace_bytes(const TwoBarrierShape& shape);
cudaError_t launch_route_grid(const RouteArguments& arguments, const TwoBarrierShape& shape, void* workspace,
                              cudaStream_t stream);
cudaError_t launch_route_stream(const RouteArguments& arguments, const TwoBarrierShape& shape,
                                void* workspace, cudaStream_t stream);

}  // namespace eplora::kernels
