/* SPDX-License-Identifier: Apache-2.0
 *
 * Delta as a shared library of your own, in C99, for host memory: adds what the adapters contribute to one
 * projection. Two passes, as kernels make them: shrink u = A x into the workspace, then expand out += scale *
 * B u. Each pass walks the blocks that its weight tensor follows.
 *
 *   cc -std=c99 -O2 -Wall -shared -fPIC -I. -o libdelta.so examples/external_backend/delta.c
 *   eplora check --backend ./libdelta.so --property delta
 */
#include <stdio.h>
#include <string.h>

#include "optimized/external/eplora_backend.h"

static int32_t refuse(const eplora_context* context, const char* sentence) {
  snprintf(context->message, (size_t)context->message_capacity, "%s", sentence);
  return EPLORA_INVALID_ARGUMENT;
}

static float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float float_of_half(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u,
                 mantissa = half & 1023u;
  if (exponent == 31u) return float_of_bits(sign | 0x7F800000u | mantissa << 13);
  if (exponent != 0) return float_of_bits(sign | (exponent + 112u) << 23 | mantissa << 13);
  const float subnormal = (float)mantissa * (1.0f / 16777216.0f); /* 2^-24 */
  return sign ? -subnormal : subnormal;
}

static float load(const void* data, int32_t dtype, int64_t i) {
  if (dtype == EPLORA_DTYPE_F32) return ((const float*)data)[i];
  const uint16_t bits = ((const uint16_t*)data)[i];
  return dtype == EPLORA_DTYPE_F16 ? float_of_half(bits) : float_of_bits((uint32_t)bits << 16);
}

static int64_t halves_of(const eplora_delta_problem* p) {
  return p->projection == EPLORA_PROJECTION_GATE_UP && p->gated ? 2 : 1;
}

/* Whether slot s is a token's that has an adapter: not filler, and not masked. */
static int takes(const eplora_delta_problem* p, int64_t s) {
  return s >= 0 && s < p->num_tokens * p->top_k && p->token_lora_mask[s / p->top_k];
}

/* u [n, halves * R] */
static int64_t delta_workspace(const eplora_delta_problem* p) {
  return p->num_tokens * p->top_k * halves_of(p) * p->max_lora_rank * (int64_t)sizeof(float);
}

static void shrink(const eplora_delta_problem* p, const eplora_blocks* blocks, float* u) {
  const int64_t rows = halves_of(p) * p->max_lora_rank, width = p->input_cols;
  const int64_t slots_per_row = p->projection == EPLORA_PROJECTION_GATE_UP ? p->top_k : 1;
  for (int64_t i = 0; i < *blocks->num_tokens_post_padded; ++i) {
    const int64_t v = blocks->expert_ids[i / p->block_size], s = blocks->sorted_token_ids[i];
    if (v < 0 || !takes(p, s)) continue;
    for (int64_t j = 0; j < rows; ++j) {
      float sum = 0;
      for (int64_t d = 0; d < width; ++d)
        sum += load(p->A, p->dtype, (v * rows + j) * width + d) *
               load(p->input, p->input_dtype, s / slots_per_row * p->input_row_stride + d);
      u[s * rows + j] = sum;
    }
  }
}

static void expand(const eplora_delta_problem* p, const eplora_blocks* blocks, int64_t experts,
                   const float* u, const eplora_delta_output* output) {
  const int64_t R = p->max_lora_rank, halves = halves_of(p), per_half = output->cols / halves;
  for (int64_t i = 0; i < *blocks->num_tokens_post_padded; ++i) {
    const int64_t v = blocks->expert_ids[i / p->block_size], s = blocks->sorted_token_ids[i];
    if (v < 0 || !takes(p, s)) continue;
    float scale = p->scale[v / experts];
    if (p->projection == EPLORA_PROJECTION_DOWN) scale *= p->topk_weights[s];
    for (int64_t row = 0; row < output->cols; ++row) {
      const int64_t half = p->gate_up_form == EPLORA_GATE_UP_INTERLEAVED ? row % halves : row / per_half;
      float sum = 0;
      for (int64_t j = 0; j < R; ++j)
        sum += load(p->B, p->dtype, (v * output->cols + row) * R + j) * u[(s * halves + half) * R + j];
      output->data[s * output->row_stride + row] += scale * sum;
    }
  }
}

static int32_t delta(const eplora_delta_problem* p, const eplora_delta_output* output,
                     const eplora_context* context) {
  const int A_is_outer = p->projection == EPLORA_PROJECTION_GATE_UP;
  float* const u = (float*)context->workspace;
  if (context->workspace_bytes < delta_workspace(p)) return refuse(context, "the workspace is too small");
  shrink(p, p->shared_outer && A_is_outer ? &p->shared : &p->per_expert, u);
  if (p->shared_outer && !A_is_outer)
    expand(p, &p->shared, 1, u, output);
  else
    expand(p, &p->per_expert, p->num_local_experts, u, output);
  return EPLORA_OK;
}

const eplora_backend* eplora_backend_v1(void) {
  static const eplora_backend backend = {.abi_version = EPLORA_ABI_VERSION,
                                         .struct_size = sizeof(eplora_backend),
                                         .name = "c-delta",
                                         .description = "delta in two passes, one thread, C99",
                                         .memory_space = EPLORA_MEMORY_HOST,
                                         .form = EPLORA_CANONICAL_FORM,
                                         .delta = delta,
                                         .delta_workspace = delta_workspace};
  return &backend;
}
