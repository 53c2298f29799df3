/* SPDX-License-Identifier: Apache-2.0
 *
 * Libraries that are broken in one way each, chosen by FAULT when they are built: what the loader must
 * refuse, and operations that do not come back. Those that run copy nothing right; only the way they end
 * matters.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "optimized/external/eplora_backend.h"

#define NO_SYMBOL 1
#define NULL_DESCRIPTOR 2
#define NEXT_VERSION 3
#define SHORT_DESCRIPTOR 4
#define NO_OPERATIONS 5
#define UNKNOWN_FORM 6
#define UNKNOWN_MEMORY 7
#define FAILING 8        /* remap returns a status and a message */
#define NEGATIVE_SIZES 9 /* of workspace and capacity */
#define CRASHING 10      /* remap of 4 slots or more writes through a null pointer */
#define HANGING 11       /* remap of a sentinel never returns */
#define ABORTING 12      /* remap of any slot aborts */
#define EXITING 13       /* remap of any slot leaves the program, with success */
#define NO_NAME 14
#define OVERRUNNING 15  /* remap writes three ints past virtual_ids, as the tail of a 16-byte store does */
#define FLAKY 16        /* remap answers 0 for a sentinel in one call of three, at random */
#define MEDDLING 18     /* remap is right, and then writes into the ids it was given */
#define BEFORE_DELTA 17 /* nothing is broken: a library built before the descriptor had delta */

#if FAULT == NO_SYMBOL
int eplora_backend_v0(void);
int eplora_backend_v0(void) { return 0; }
#else

static int32_t remap(const eplora_remap_problem* problem, const eplora_remap_output* output,
                     const eplora_context* context) {
  const int64_t T = problem->topk_ids.rows, K = problem->topk_ids.cols;
  snprintf(context->message, (size_t)context->message_capacity, "no room for %d slots", (int)(T * K));
#if FAULT == FAILING
  (void)output;
  return EPLORA_FAILED;
#elif FAULT == CRASHING
  if (T * K >= 4) *(volatile int32_t*)NULL = 1;
#elif FAULT == ABORTING
  if (T * K > 0) abort();
#elif FAULT == EXITING
  if (T * K > 0) exit(0);
#endif
#if FAULT == FLAKY
  static uint64_t state = 0;
  if (state == 0) state = (uint64_t)time(NULL) * 0x9E3779B97F4A7C15u + 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  const int wrong = (state >> 33) % 3 == 0;
#endif
  /* The contract's remap, for the cases that come back. */
  int64_t rows = T;
  if (problem->num_tokens.kind == EPLORA_NUM_TOKENS_VALUE) rows = problem->num_tokens.value;
  if (problem->num_tokens.kind == EPLORA_NUM_TOKENS_POINTER) rows = *problem->num_tokens.pointer;
  if (rows < 0) rows = 0;
  for (int64_t t = 0; t < T; ++t) {
    const int64_t l = t < rows ? problem->token_lora_mapping[t] : -1, L = problem->max_loras;
    const int64_t E = problem->num_experts;
    output->token_lora_mask[t] = 0 <= l && l < L;
    for (int64_t k = 0; k < K; ++k) {
      const int64_t i = t * problem->topk_ids.row_stride + k;
      int64_t e = -1, to = -1;
      if (t < rows)
        e = problem->topk_ids.type == EPLORA_ID_INT64 ? ((const int64_t*)problem->topk_ids.data)[i]
                                                      : ((const int32_t*)problem->topk_ids.data)[i];
#if FAULT == HANGING
      for (volatile int64_t forever = e; forever < 0;) continue;
#endif
      if (e < 0)
        to = e < INT32_MIN ? -1 : e;
      else if (e < E && 0 <= l && l < L)
        to = problem->shared_outer ? l : e + l * E;
      else if (e < E && l < 0 && L > 0 && problem->no_adapter == EPLORA_NO_ADAPTER_BASE_SLOT)
        to = problem->shared_outer ? 0 : e;
#if FAULT == FLAKY
      if (e < 0 && wrong) to = 0;
#endif
      output->virtual_ids[t * K + k] = (int32_t)to;
    }
  }
#if FAULT == MEDDLING
  if (T * K > 0 && rows > 0) *(uint8_t*)problem->topk_ids.data ^= 1;
#elif FAULT == OVERRUNNING
  for (int i = 0; i < 3; ++i) output->virtual_ids[T * K + i] = 7;
#endif
  return EPLORA_OK;
}

#if FAULT == NEGATIVE_SIZES
static int64_t remap_workspace(const eplora_remap_problem* problem) {
  (void)problem;
  return -8;
}
static int64_t capacity(int64_t n, int64_t V, int64_t B, int32_t sentinels) {
  (void)n, (void)V, (void)B, (void)sentinels;
  return -16;
}
#endif

const eplora_backend* eplora_backend_v1(void) {
  static eplora_backend backend = {.abi_version = EPLORA_ABI_VERSION,
                                   .struct_size = sizeof(eplora_backend),
                                   .name = "broken",
                                   .description = "broken on purpose",
                                   .memory_space = EPLORA_MEMORY_HOST,
                                   .form = EPLORA_CANONICAL_FORM,
                                   .remap = remap};
#if FAULT == NULL_DESCRIPTOR
  return NULL;
#elif FAULT == NEXT_VERSION
  backend.abi_version = EPLORA_ABI_VERSION + 1;
#elif FAULT == SHORT_DESCRIPTOR
  backend.struct_size = 16;
#elif FAULT == NO_OPERATIONS
  backend.remap = NULL;
#elif FAULT == UNKNOWN_FORM
  backend.form.ids = 9;
#elif FAULT == UNKNOWN_MEMORY
  backend.memory_space = 7;
#elif FAULT == NO_NAME
  backend.name = NULL;
#elif FAULT == BEFORE_DELTA
  backend.struct_size = (uint32_t)offsetof(eplora_backend, delta);
#elif FAULT == NEGATIVE_SIZES
  backend.remap_workspace = remap_workspace;
  backend.capacity = capacity;
#endif
  return &backend;
}
#endif
