// SPDX-License-Identifier: Apache-2.0
// Remap and align as a shared library of your own, in CUDA: what `eplora check --backend` needs and no more.
// Everything is enqueued on the caller's stream, nothing is allocated and nobody waits, so a call can be
// captured into a graph. Align is a counting sort in chunks of slots: count each chunk's buckets, turn the
// counts into places (a scan over chunks, then one over buckets), and let one warp a chunk place its slots in
// ascending order, which makes the result the same every time.
//
//   nvcc -std=c++20 -O2 -arch=sm_90 -shared -Xcompiler -fPIC -I. -o libalign_cuda.so
//        examples/external_backend/align_cuda.cu
//   eplora check --backend ./libalign_cuda.so
#include <cuda_runtime.h>

#include <cstdio>
#include <cub/block/block_scan.cuh>

#include "optimized/external/eplora_backend.h"

namespace {

constexpr int kThreads = 256, kScanThreads = 1024;
constexpr std::int64_t kChunk = 1024;  // slots that one warp places
constexpr unsigned kWholeWarp = 0xFFFFFFFFU;

std::int64_t blocks_for(std::int64_t items) { return (items + kThreads - 1) / kThreads; }
unsigned grid(std::int64_t blocks) { return static_cast<unsigned>(blocks); }
__device__ std::int64_t thread_index() { return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

/// Rows that are read; all others are sentinel rows.
__device__ std::int64_t real_rows(const eplora_num_tokens& num_tokens, std::int64_t T) {
  std::int64_t rows = T;
  if (num_tokens.kind == EPLORA_NUM_TOKENS_VALUE) rows = num_tokens.value;
  if (num_tokens.kind == EPLORA_NUM_TOKENS_POINTER) rows = *num_tokens.pointer;
  return rows < 0 ? 0 : rows > T ? T : rows;
}

__device__ std::int64_t id_at(const eplora_ids& ids, std::int64_t t, std::int64_t k) {
  const std::int64_t i = t * ids.row_stride + k * ids.col_stride;
  return ids.type == EPLORA_ID_INT64 ? static_cast<const std::int64_t*>(ids.data)[i]
                                     : static_cast<const std::int32_t*>(ids.data)[i];
}

/// A slot a thread.
__global__ void remap_slots(eplora_remap_problem problem, eplora_remap_output output) {
  const std::int64_t T = problem.topk_ids.rows, K = problem.topk_ids.cols, slot = thread_index();
  if (slot >= T * K) return;
  const std::int64_t t = slot / K, k = slot % K, E = problem.num_experts, L = problem.max_loras;
  const bool real = t < real_rows(problem.num_tokens, T);
  const std::int64_t l = real ? problem.token_lora_mapping[t] : -1;
  const std::int64_t e = real ? id_at(problem.topk_ids, t, k) : -1;
  const bool has_adapter = 0 <= l && l < L;
  std::int64_t to = -1;  // e >= E, or l >= L
  if (e < 0)
    to = e < INT32_MIN ? -1 : e;
  else if (e < E && has_adapter)
    to = problem.shared_outer ? l : e + l * E;
  else if (e < E && l < 0 && L > 0 && problem.no_adapter == EPLORA_NO_ADAPTER_BASE_SLOT)
    to = problem.shared_outer ? 0 : e;
  output.virtual_ids[slot] = static_cast<std::int32_t>(to);
  if (k == 0) output.token_lora_mask[t] = has_adapter ? 1 : 0;
}

/// Where align keeps what it counts: `places[V + 1]`, and `counts[chunks][V + 1]` behind it.
struct Workspace {
  std::int64_t slots, chunks, buckets;  // buckets: V and the sentinel bucket
  std::int32_t *places, *counts;

  static Workspace of(const eplora_align_problem& problem, void* memory) {
    Workspace w{};
    w.slots = problem.ids.rows * problem.ids.cols;
    w.chunks = (w.slots + kChunk - 1) / kChunk;
    w.buckets = problem.num_buckets + 1;
    w.places = static_cast<std::int32_t*>(memory);
    w.counts = memory == nullptr ? nullptr : w.places + w.buckets;
    return w;
  }
  std::int64_t count_bytes() const {
    return chunks * buckets * static_cast<std::int64_t>(sizeof(std::int32_t));
  }
  std::int64_t bytes() const {
    return buckets * static_cast<std::int64_t>(sizeof(std::int32_t)) + count_bytes();
  }
};

/// The bucket of a slot: V is the sentinel bucket.
__device__ std::int64_t bucket_of(const eplora_align_problem& problem, std::int64_t rows, std::int64_t slot) {
  const std::int64_t t = slot / problem.ids.cols, k = slot % problem.ids.cols;
  const std::int64_t id = t < rows ? id_at(problem.ids, t, k) : -1;
  return 0 <= id && id < problem.num_buckets ? id : problem.num_buckets;
}

/// A slot a thread. Sums of integers: the order of the additions does not show.
__global__ void count_slots(eplora_align_problem problem, Workspace w) {
  const std::int64_t slot = thread_index();
  if (slot >= w.slots) return;
  const std::int64_t rows = real_rows(problem.num_tokens, problem.ids.rows);
  atomicAdd(&w.counts[slot / kChunk * w.buckets + bucket_of(problem, rows, slot)], 1);
}

/// A bucket a thread: counts become the number of the bucket's slots in earlier chunks, and `places` the
/// length of the bucket, padded.
__global__ void scan_chunks(eplora_align_problem problem, Workspace w) {
  const std::int64_t v = thread_index(), B = problem.block_size;
  if (v >= w.buckets) return;
  std::int32_t sum = 0;
  for (std::int64_t chunk = 0; chunk < w.chunks; ++chunk) {
    const std::int32_t here = w.counts[chunk * w.buckets + v];
    w.counts[chunk * w.buckets + v] = sum;
    sum += here;
  }
  const bool dropped = v == problem.num_buckets && problem.sentinels == EPLORA_SENTINELS_DROP;
  w.places[v] = dropped ? 0 : static_cast<std::int32_t>((sum + B - 1) / B * B);
}

/// One block: `places` becomes where each bucket begins, and the sum is the length of the used prefix.
__global__ void scan_buckets(eplora_align_output output, Workspace w) {
  using Scan = cub::BlockScan<std::int32_t, kScanThreads>;
  __shared__ typename Scan::TempStorage storage;
  std::int32_t used = 0;  // by the buckets before these
  for (std::int64_t first = 0; first < w.buckets; first += kScanThreads) {
    const std::int64_t v = first + threadIdx.x;
    const std::int32_t length = v < w.buckets ? w.places[v] : 0;
    std::int32_t before = 0, sum = 0;
    Scan(storage).ExclusiveSum(length, before, sum);
    if (v < w.buckets) w.places[v] = used + before;
    used += sum;
    __syncthreads();  // the storage is used again
  }
  if (threadIdx.x == 0) *output.num_tokens_post_padded = used;
}

/// An entry a thread: filler everywhere, and the label of every block. A block belongs to the last bucket
/// that begins at or before it: empty buckets begin where the next one does.
__global__ void fill(eplora_align_problem problem, eplora_align_output output, Workspace w) {
  const std::int64_t i = thread_index(), B = problem.block_size;
  if (i < output.capacity) output.sorted_token_ids[i] = static_cast<std::int32_t>(w.slots);
  if (i >= output.num_blocks) return;
  std::int64_t label = -1;
  if (i * B < *output.num_tokens_post_padded) {
    std::int64_t low = 0, high = w.buckets;  // places[low] <= i * B < places[high]
    while (high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      (w.places[middle] <= i * B ? low : high) = middle;
    }
    if (low < problem.num_buckets) label = low;
  }
  output.expert_ids[i] = static_cast<std::int32_t>(label);
}

/// A chunk a warp, 32 slots at a time in ascending order: a slot's rank among those of its bucket is the
/// number of lower lanes with the same bucket.
__global__ void place_slots(eplora_align_problem problem, eplora_align_output output, Workspace w) {
  const std::int64_t first = blockIdx.x * kChunk, rows = real_rows(problem.num_tokens, problem.ids.rows);
  std::int32_t* const next = w.counts + blockIdx.x * w.buckets;
  const unsigned lower_lanes = (1U << threadIdx.x) - 1;
  for (std::int64_t i = 0; i < kChunk; i += 32) {
    const std::int64_t slot = first + i + threadIdx.x;
    const bool is_slot = slot < w.slots;
    const std::int64_t v = is_slot ? bucket_of(problem, rows, slot) : -1;
    const unsigned same = __match_any_sync(kWholeWarp, static_cast<long long>(v));
    const std::int32_t before = is_slot ? next[v] : 0;
    const bool dropped = v == problem.num_buckets && problem.sentinels == EPLORA_SENTINELS_DROP;
    if (is_slot && !dropped)
      output.sorted_token_ids[std::int64_t{w.places[v]} + before + __popc(same & lower_lanes)] =
          static_cast<std::int32_t>(slot);
    __syncwarp();  // all have read what is written now
    if (is_slot && (same & lower_lanes) == 0) next[v] = before + __popc(same);
    __syncwarp();
  }
}

std::int32_t refuse(const eplora_context* context, const char* sentence) {
  std::snprintf(context->message, static_cast<std::size_t>(context->message_capacity), "%s", sentence);
  return EPLORA_INVALID_ARGUMENT;
}

/// EPLORA_OK unless a launch failed. What a kernel does later, the caller finds when it waits.
std::int32_t launched(const eplora_context* context) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return EPLORA_OK;
  std::snprintf(context->message, static_cast<std::size_t>(context->message_capacity), "%s: %s",
                cudaGetErrorName(error), cudaGetErrorString(error));
  return EPLORA_FAILED;
}

std::int32_t remap(const eplora_remap_problem* problem, const eplora_remap_output* output,
                   const eplora_context* context) {
  const std::int64_t n = problem->topk_ids.rows * problem->topk_ids.cols;
  if (output->virtual_ids_size < n) return refuse(context, "virtual_ids is smaller than [T, K]");
  if (n == 0) return EPLORA_OK;
  remap_slots<<<grid(blocks_for(n)), kThreads, 0, static_cast<cudaStream_t>(context->stream)>>>(*problem,
                                                                                                *output);
  return launched(context);
}

std::int64_t align_workspace(const eplora_align_problem* problem) {
  return Workspace::of(*problem, nullptr).bytes();
}

std::int32_t align(const eplora_align_problem* problem, const eplora_align_output* output,
                   const eplora_context* context) {
  const auto stream = static_cast<cudaStream_t>(context->stream);
  const Workspace w = Workspace::of(*problem, context->workspace);
  if (context->workspace_bytes < w.bytes()) return refuse(context, "the workspace is too small");
  if (w.slots > 0) {
    cudaMemsetAsync(w.counts, 0, static_cast<std::size_t>(w.count_bytes()), stream);
    count_slots<<<grid(blocks_for(w.slots)), kThreads, 0, stream>>>(*problem, w);
  }
  scan_chunks<<<grid(blocks_for(w.buckets)), kThreads, 0, stream>>>(*problem, w);
  scan_buckets<<<1, kScanThreads, 0, stream>>>(*output, w);
  if (output->capacity > 0)
    fill<<<grid(blocks_for(output->capacity)), kThreads, 0, stream>>>(*problem, *output, w);
  if (w.slots > 0) place_slots<<<grid(w.chunks), 32, 0, stream>>>(*problem, *output, w);
  return launched(context);
}

}  // namespace

const eplora_backend* eplora_backend_v1(void) {
  static const eplora_backend backend = [] {
    eplora_backend b{};  // what is not offered stays null
    b.abi_version = EPLORA_ABI_VERSION;
    b.struct_size = sizeof(eplora_backend);
    b.name = "cuda-align";
    b.description = "remap and align by counting sort, one warp a chunk of slots, CUDA";
    b.memory_space = EPLORA_MEMORY_CUDA;
    b.form = EPLORA_CANONICAL_FORM;
    b.remap = remap;
    b.align = align;
    b.align_workspace = align_workspace;
    return b;
  }();
  return &backend;
}
