/* SPDX-License-Identifier: Apache-2.0
 *
 * A wrong align, to see what a verdict looks like: the bucket of an id is clamped, so that the sentinel -1
 * lands in bucket 0 and its slots are computed with expert 0's weights. Everything else is as in align.c. It
 * happens to engines when an expert map is applied by index instead of by value.
 *
 *   cc -std=c99 -O2 -Wall -shared -fPIC -I. -o libwrong_align.so examples/external_backend/wrong_align.c
 *   eplora check --backend ./libwrong_align.so
 */
#include "optimized/external/eplora_backend.h"

static int64_t real_rows(const eplora_num_tokens* num_tokens, int64_t T) {
  int64_t rows = T;
  if (num_tokens->kind == EPLORA_NUM_TOKENS_VALUE) rows = num_tokens->value;
  if (num_tokens->kind == EPLORA_NUM_TOKENS_POINTER) rows = *num_tokens->pointer;
  return rows < 0 ? 0 : rows > T ? T : rows;
}

static int64_t bucket_of(const eplora_align_problem* problem, int64_t rows, int64_t t, int64_t k) {
  const eplora_ids* const ids = &problem->ids;
  const int64_t V = problem->num_buckets, i = t * ids->row_stride + k * ids->col_stride;
  if (t >= rows) return V;
  int64_t id = ids->type == EPLORA_ID_INT64 ? ((const int64_t*)ids->data)[i] : ((const int32_t*)ids->data)[i];
  if (id == -1) id = 0; /* the mistake */
  return 0 <= id && id < V ? id : V;
}

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

  for (int64_t v = 0; v <= V; ++v) next[v] = 0;
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < K; ++k) ++next[bucket_of(problem, rows, t, k)];

  int64_t used = 0;
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
                                         .name = "wrong-align",
                                         .description = "align that takes the sentinel -1 for expert 0",
                                         .memory_space = EPLORA_MEMORY_HOST,
                                         .form = EPLORA_CANONICAL_FORM,
                                         .align = align,
                                         .align_workspace = align_workspace};
  return &backend;
}
