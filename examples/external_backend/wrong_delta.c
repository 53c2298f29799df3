/* SPDX-License-Identifier: Apache-2.0
 *
 * A wrong delta, to see what a verdict looks like: a filler entry of a block is clamped to the last slot
 * instead of skipped, so that the last token gets its delta once more for every filler row. Everything else
 * is delta.c. It happens to engines that check validity block by block, not row by row.
 *
 *   cc -std=c99 -O2 -Wall -shared -fPIC -I. -o libwrong_delta.so examples/external_backend/wrong_delta.c
 *   eplora check --backend ./libwrong_delta.so --property delta
 */
#include <stdlib.h>

#include "optimized/external/eplora_backend.h"

#define eplora_backend_v1 right_backend
const eplora_backend* right_backend(void);
#include "examples/external_backend/delta.c"
#undef eplora_backend_v1

static int32_t wrong_delta(const eplora_delta_problem* p, const eplora_delta_output* output,
                           const eplora_context* context) {
  eplora_delta_problem wrong = *p;
  eplora_blocks* const blocks =
      p->shared_outer && p->projection == EPLORA_PROJECTION_DOWN ? &wrong.shared : &wrong.per_expert;
  const int32_t used = *blocks->num_tokens_post_padded, n = (int32_t)(p->num_tokens * p->top_k);
  int32_t* const slots = (int32_t*)malloc(((size_t)used + 1) * sizeof(int32_t));
  if (!slots) return refuse(context, "no memory");
  for (int32_t i = 0; i < used; ++i) {
    const int32_t s = blocks->sorted_token_ids[i];
    slots[i] = s < n ? s : n - 1; /* the mistake */
  }
  blocks->sorted_token_ids = slots;
  const int32_t status = delta(&wrong, output, context);
  free(slots);
  return status;
}

const eplora_backend* eplora_backend_v1(void) {
  static eplora_backend backend;
  backend = *right_backend();
  backend.name = "c-wrong-delta";
  backend.description = "delta that takes filler for the last slot";
  backend.delta = wrong_delta;
  return &backend;
}
