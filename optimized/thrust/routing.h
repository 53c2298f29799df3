// SPDX-License-Identifier: Apache-2.0
// Dispatch, remap, align and route in Thrust, templates over the execution policy: the same source runs on a
// host's threads and on a GPU. A second implementation of the contract's sections 3 to 5, written from the
// page and sharing only the problem structs with the reference; where that counts, this one sorts and
// searches.
//
// Every function enqueues its work and reads no result back, so a stream policy stays asynchronous. Pointers
// live in the policy's memory space; the caller has validated the problem. Sort keys are bucket numbers in
// [0, V], never raw ids: some Thrust host back ends (CCCL 3.0.1) order negative int keys as if they were
// unsigned.
#pragma once

#include <thrust/binary_search.h>
#include <thrust/fill.h>
#include <thrust/for_each.h>
#include <thrust/functional.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/sequence.h>
#include <thrust/sort.h>
#include <thrust/transform.h>
#include <thrust/transform_scan.h>

#include <cstdint>

#include "optimized/thrust/scratch.h"
#include "reference/routing/problem.h"

namespace eplora::on_thrust {

inline constexpr std::int32_t kNotHere = -1;

using Counter = thrust::counting_iterator<std::int64_t>;

/// How many rows are real, decided where the data is.
struct RealRows {
  const std::int32_t* pointer;
  std::int64_t fixed, rows;

  RealRows(const NumTokens& num_tokens, std::int64_t T)
      : pointer(num_tokens.kind == NumTokens::Kind::pointer ? num_tokens.pointer : nullptr),
        fixed(num_tokens.kind == NumTokens::Kind::value ? num_tokens.value : T),
        rows(T) {}

  EPLORA_HD bool has(std::int64_t row) const {
    const std::int64_t limit = pointer != nullptr ? std::int64_t{*pointer} : fixed;
    return row < limit;  // a negative count has no row, one past T has all T of them
  }
};

/// The id of slot s; -1 in rows that are not real and for an int64 too small for any int32.
struct SlotIds {
  const void* data;
  bool wide;
  std::int64_t cols, row_stride;
  RealRows real;

  SlotIds(const IdMatrix& ids, const NumTokens& num_tokens)
      : data(ids.data),
        wide(ids.type == IdType::int64),
        cols(ids.cols),
        row_stride(ids.row_stride),
        real(num_tokens, ids.rows) {}

  EPLORA_HD std::int64_t operator()(std::int64_t s) const {
    const std::int64_t row = s / cols;
    if (!real.has(row)) return kNotHere;
    const std::int64_t place = row * row_stride + (s - row * cols);
    if (!wide) return static_cast<const std::int32_t*>(data)[place];
    const std::int64_t id = static_cast<const std::int64_t*>(data)[place];
    return id < -2147483647LL - 1 ? kNotHere : id;
  }
};

/// Section 3, one slot.
struct DispatchSlot {
  SlotIds ids;
  std::int64_t num_experts;
  const std::int32_t* table;
  const std::int32_t* offsets;  // null without replicas
  std::int64_t slot_offset;

  EPLORA_HD std::int32_t operator()(std::int64_t s) const {
    const std::int64_t id = ids(s);
    if (id < 0) return static_cast<std::int32_t>(id);
    if (id >= num_experts) return kNotHere;
    const std::int64_t first = offsets != nullptr ? offsets[id] : id;
    const std::int64_t turn = offsets != nullptr ? (slot_offset + s) % (offsets[id + 1] - first) : 0;
    const std::int32_t local = table[first + turn];
    return local >= 0 ? local : kNotHere;
  }
};

/// Section 4, one slot. Rows that are not real answer before their mapping is read.
struct RemapSlot {
  SlotIds ids;
  const std::int32_t* token_lora_mapping;
  std::int64_t num_experts, max_loras;
  bool shared_outer, no_adapter_is_sentinel;

  EPLORA_HD std::int32_t operator()(std::int64_t s) const {
    const std::int64_t expert = ids(s);
    if (expert < 0) return static_cast<std::int32_t>(expert);
    if (expert >= num_experts) return kNotHere;
    std::int64_t adapter = token_lora_mapping[s / ids.cols];
    if (adapter < 0) {
      if (no_adapter_is_sentinel) return kNotHere;
      adapter = 0;  // the base slot; without any adapter slot there is none
    }
    if (adapter >= max_loras) return kNotHere;
    return static_cast<std::int32_t>(shared_outer ? adapter : adapter * num_experts + expert);
  }
};

struct HasAdapter {
  RealRows real;
  const std::int32_t* token_lora_mapping;
  std::int64_t max_loras;

  EPLORA_HD std::uint8_t operator()(std::int64_t t) const {
    if (!real.has(t)) return 0;
    const std::int64_t adapter = token_lora_mapping[t];
    return adapter >= 0 && adapter < max_loras ? 1 : 0;
  }
};

/// The sort key of a slot: its bucket, V for every id outside [0, V).
struct BucketOfSlot {
  SlotIds ids;
  std::int64_t V;

  EPLORA_HD std::int32_t operator()(std::int64_t s) const {
    const std::int64_t id = ids(s);
    return static_cast<std::int32_t>(id >= 0 && id < V ? id : V);
  }
};

struct Less {
  EPLORA_HD bool operator()(std::int64_t a, std::int64_t b) const { return a < b; }
};

/// Blocks that bucket v takes, from the bounds of the buckets in the sorted slots; entry V+1 is the end of
/// the scan.
struct BlocksOfBucket {
  const std::int32_t* bucket_begin;  // [V+2]
  std::int64_t V, B;
  bool drop;

  EPLORA_HD std::int32_t operator()(std::int64_t v) const {
    if (v > V || (v == V && drop)) return 0;
    const std::int64_t count = std::int64_t{bucket_begin[v + 1]} - bucket_begin[v];
    return static_cast<std::int32_t>((count + B - 1) / B);
  }
};

/// Puts the i-th sorted slot behind the start of its bucket's first block.
struct PlaceSlot {
  const std::int32_t *bucket, *slot, *bucket_begin, *block_begin;
  std::int32_t* sorted_token_ids;
  std::int64_t V, B;
  bool drop;

  EPLORA_HD void operator()(std::int64_t i) const {
    const std::int64_t v = bucket[i];
    if (v == V && drop) return;
    sorted_token_ids[block_begin[v] * B + (i - bucket_begin[v])] = slot[i];
  }
};

/// From the number of buckets that begin at or before a block to the block's label. Past the used prefix all
/// of them do.
struct LabelOfBlock {
  std::int64_t V;
  EPLORA_HD std::int32_t operator()(std::int32_t buckets_begun) const {
    return buckets_begun - 1 < V ? buckets_begun - 1 : kNotHere;
  }
};

struct Times {
  std::int64_t B;
  EPLORA_HD std::int32_t operator()(std::int32_t blocks) const {
    return static_cast<std::int32_t>(blocks * B);
  }
};

template <class Policy>
void dispatch(const Policy& policy, const DispatchProblem& problem, const DispatchOutput& output) {
  const DispatchSlot slot{SlotIds(problem.topk_ids, problem.num_tokens), problem.num_experts,
                          problem.table.data(), problem.offsets.empty() ? nullptr : problem.offsets.data(),
                          problem.slot_offset};
  thrust::transform(policy, Counter(0), Counter(problem.topk_ids.size()), output.local_ids, slot);
}

template <class Policy>
void remap(const Policy& policy, const RemapProblem& problem, const RemapOutput& output) {
  const std::int64_t T = problem.topk_ids.rows;
  const RemapSlot slot{SlotIds(problem.topk_ids, problem.num_tokens),
                       problem.token_lora_mapping.data(),
                       problem.num_experts,
                       problem.max_loras,
                       problem.shared_outer,
                       problem.no_adapter == NoAdapter::sentinel};
  const HasAdapter mask{RealRows(problem.num_tokens, T), problem.token_lora_mapping.data(),
                        problem.max_loras};
  thrust::transform(policy, Counter(0), Counter(problem.topk_ids.size()), output.virtual_ids, slot);
  thrust::transform(policy, Counter(0), Counter(T), output.token_lora_mask, mask);
}

/// `capacity` is `align_capacity(n, V, B, sentinels)`.
template <class Policy>
void align(const Policy& policy, const AlignProblem& problem, std::int64_t capacity,
           const AlignOutput& output) {
  const std::int64_t n = problem.ids.size(), V = problem.num_buckets, B = problem.block_size;
  const bool drop = problem.sentinels == Sentinels::drop;
  const std::int64_t num_blocks = capacity / B;

  // Slots by bucket. They start in slot order, and the stable sort keeps that order inside a bucket.
  const Scratch<std::int32_t, Policy> bucket(policy, n), slot(policy, n);
  thrust::transform(policy, Counter(0), Counter(n), bucket.data(),
                    BucketOfSlot{SlotIds(problem.ids, problem.num_tokens), V});
  thrust::sequence(policy, slot.data(), slot.data() + n);
  thrust::stable_sort_by_key(policy, bucket.data(), bucket.data() + n, slot.data());

  // Where each bucket begins among the sorted slots and among the blocks; entry V+1 is the end of both.
  const Scratch<std::int32_t, Policy> bucket_begin(policy, V + 2), block_begin(policy, V + 2);
  thrust::lower_bound(policy, bucket.data(), bucket.data() + n, Counter(0), Counter(V + 2),
                      bucket_begin.data(), Less{});
  thrust::transform_exclusive_scan(policy, Counter(0), Counter(V + 2), block_begin.data(),
                                   BlocksOfBucket{bucket_begin.data(), V, B, drop}, std::int32_t{0},
                                   thrust::plus<std::int32_t>{});

  thrust::fill(policy, output.sorted_token_ids, output.sorted_token_ids + capacity,
               static_cast<std::int32_t>(n));
  thrust::for_each(policy, Counter(0), Counter(n),
                   PlaceSlot{bucket.data(), slot.data(), bucket_begin.data(), block_begin.data(),
                             output.sorted_token_ids, V, B, drop});

  // A bucket without slots begins where the next one does, so the last bucket begun is the one with slots.
  thrust::upper_bound(policy, block_begin.data(), block_begin.data() + V + 1, Counter(0), Counter(num_blocks),
                      output.expert_ids, Less{});
  thrust::transform(policy, output.expert_ids, output.expert_ids + num_blocks, output.expert_ids,
                    LabelOfBlock{V});
  thrust::transform(policy, block_begin.data() + V + 1, block_begin.data() + V + 2,
                    output.num_tokens_post_padded, Times{B});
}

template <class Policy>
void route(const Policy& policy, const RouteProblem& problem, std::int64_t capacity,
           const RouteOutput& output) {
  const std::int64_t n = problem.topk_ids.size(), K = problem.topk_ids.cols, T = problem.topk_ids.rows;
  const bool global_ids = !problem.table.empty() || !problem.offsets.empty();
  const Scratch<std::int32_t, Policy> local_ids(policy, global_ids ? n : 0), virtual_ids(policy, n);

  IdMatrix ids = problem.topk_ids;
  if (global_ids) {
    on_thrust::dispatch(policy,
                        DispatchProblem{problem.topk_ids, problem.num_experts, problem.table, problem.offsets,
                                        problem.slot_offset, problem.num_tokens},
                        DispatchOutput{local_ids.data()});
    ids = IdMatrix{local_ids.data(), IdType::int32, T, K, K};
  }
  on_thrust::remap(policy,
                   RemapProblem{ids, problem.token_lora_mapping, problem.num_local_experts, problem.max_loras,
                                problem.shared_outer, problem.no_adapter, problem.num_tokens},
                   RemapOutput{virtual_ids.data(), output.token_lora_mask});
  on_thrust::align(policy,
                   AlignProblem{IdMatrix{virtual_ids.data(), IdType::int32, T, K, K},
                                static_cast<std::int32_t>(problem.num_buckets()), problem.block_size,
                                problem.sentinels, problem.num_tokens},
                   capacity, output.blocks);
}

}  // namespace eplora::on_thrust
