/* SPDX-License-Identifier: Apache-2.0
 *
 * Remap and align as a shared library of your own, in C99, for host memory: what `eplora check --backend`
 * needs and no more. Align is a counting sort: count each bucket, turn counts into offsets, place slots in
 * ascending order (which makes it stable), fill the rest.
 *
 *   cc -std=c99 -O2 -Wall -shared -fPIC -I. -o libalign.so examples/external_backend/align.c
 *   eplora check --backend ./libalign.so
 */
#include <stdio.h>

#include "optimized/external/eplora_backend.h"

static int32_t refuse(const eplora_context* context, const char* sentence) {
  snprintf(context->message, (size_t)context->message_capacity, "%s", sentence);
  return EPLORA_INVALID_ARGUMENT;
}

/* Rows that are read; all others are sentinel rows. */
static int64_t real_rows(const eplora_num_tokens* num_tokens, int64_t T) {
  int64_t rows = T;
  if (num_tokens->kind == EPLORA_NUM_TOKENS_VALUE) rows = num_tokens->value;
  if (num_tokens->kind == EPLORA_NUM_TOKENS_POINTER) rows = *num_tokens->pointer;
  return rows < 0 ? 0 : rows > T ? T : rows;
}

static int64_t id_at(const eplora_ids* ids, int64_t t, int64_t k) {
  const int64_t i = t * ids->row_stride + k * ids->col_stride;
  return ids->type == EPLORA_ID_INT64 ? ((const int64_t*)ids->data)[i] : ((const int32_t*)ids->data)[i];
}

/* An id that an int32 holds is passed through bit for bit; any other negative one becomes the sentinel -1. */
static int32_t sentinel_of(int64_t id) { return id < INT32_MIN ? -1 : (int32_t)id; }

static int32_t remap(const eplora_remap_problem* problem, const eplora_remap_output* output,
                     const eplora_context* context) {
  const int64_t T = problem->topk_ids.rows, K = problem->topk_ids.cols;
  const int64_t E = problem->num_experts, L = problem->max_loras;
  const int64_t rows = real_rows(&problem->num_tokens, T);
  if (output->virtual_ids_size < T * K) return refuse(context, "virtual_ids is smaller than [T, K]");
  for (int64_t t = 0; t < T; ++t) {
    const int64_t l = t < rows ? problem->token_lora_mapping[t] : -1;
    output->token_lora_mask[t] = 0 <= l && l < L;
    for (int64_t k = 0; k < K; ++k) {
      const int64_t e = t < rows ? id_at(&problem->topk_ids, t, k) : -1;
      int64_t to = -1; /* e >= E, or l >= L */
      if (e < 0)
        to = sentinel_of(e);
      else if (e < E && 0 <= l && l < L)
        to = problem->shared_outer ? l : e + l * E;
      else if (e < E && l < 0 && L > 0 && problem->no_adapter == EPLORA_NO_ADAPTER_BASE_SLOT)
        to = problem->shared_outer ? 0 : e;
      output->virtual_ids[t * K + k] = (int32_t)to;
    }
  }
  return EPLORA_OK;
}

/* The bucket of slot (t, k): V is the sentinel bucket. */
static int64_t bucket_of(const eplora_align_problem* problem, int64_t rows, int64_t t, int64_t k) {
  const int64_t V = problem->num_buckets;
  const int64_t id = t < rows ? id_at(&problem->ids, t, k) : -1;
  return 0 <= id && id < V ? id : V;
}

/* One next free place for each bucket, the sentinel bucket too. */
static int64_t align_workspace(const eplora_align_problem* problem) {
  return (problem->num_buckets + 1) * (int64_t)sizeof(int64_t);
}

static int32_t align(const eplora_align_problem* problem, const eplora_align_output* output,
                     const eplora_context* context) {
  const int64_t T = problem->ids.rows, K = problem->ids.cols, n = T * K;
  const int64_t V = problem->num_buckets, B = problem->block_size;
  const int64_t rows = real_rows(&problem->num_tokens, T);
  const int64_t placed = problem->sentinels == EPLORA_SENTINELS_KEEP ? V + 1 : V;
  int64_t* const next = (int64_t*)context->workspace;
  if (context->workspace_bytes < align_workspace(problem))
    return refuse(context, "the workspace is too small");

  for (int64_t v = 0; v <= V; ++v) next[v] = 0;
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < K; ++k) ++next[bucket_of(problem, rows, t, k)];

  int64_t used = 0; /* length of the used prefix so far */
  for (int64_t v = 0; v < placed; ++v) {
    const int64_t blocks = (next[v] + B - 1) / B;
    next[v] = used;
    for (int64_t b = 0; b < blocks; ++b) output->expert_ids[used / B + b] = v < V ? (int32_t)v : -1;
    used += blocks * B;
  }
  for (int64_t b = used / B; b < output->num_blocks; ++b) output->expert_ids[b] = -1;
  *output->num_tokens_post_padded = (int32_t)used;

  for (int64_t i = 0; i < output->capacity; ++i) output->sorted_token_ids[i] = (int32_t)n;
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < K; ++k) {
      const int64_t v = bucket_of(problem, rows, t, k);
      if (v < placed) output->sorted_token_ids[next[v]++] = (int32_t)(t * K + k);
    }
  return EPLORA_OK;
}

const eplora_backend* eplora_backend_v1(void) {
  static const eplora_backend backend = {.abi_version = EPLORA_ABI_VERSION,
                                         .struct_size = sizeof(eplora_backend),
                                         .name = "c-align",
                                         .description = "remap and align by counting sort, one thread, C99",
                                         .memory_space = EPLORA_MEMORY_HOST,
                                         .form = EPLORA_CANONICAL_FORM,
                                         .remap = remap,
                                         .align = align,
                                         .align_workspace = align_workspace};
  return &backend;
}
