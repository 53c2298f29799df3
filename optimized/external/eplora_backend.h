/* SPDX-License-Identifier: Apache-2.0
 *
 * The C ABI by which `eplora check --backend ./libmine.so` reaches somebody else's implementation. C99. A
 * shared library exports one function, `eplora_backend_v1`, that returns a constant descriptor; every
 * operation in it is optional. What each must compute stands at its problem struct, terms in
 * docs/notation.md; what a library does not promise it declares in `eplora_form`, and it is not asked.
 *
 * Letters: T tokens, K experts per token, n = T*K slots (slot s = t*K + k), E experts, L adapters, V buckets,
 * B block size, H hidden size, I intermediate size (i: this rank's), r an adapter's rank, R the buffers'
 * rank.
 *
 * Versions. Every struct opens with `abi_version` and `struct_size`; who reads one checks both. Within
 * version 1 only the outermost structs (descriptor, problems, outputs, context) may grow, at their ends; a
 * reader ignores what lies behind the fields it knows. Version 1 has dispatch, remap, align, route, slice
 * and, at the descriptor's end, delta. A descriptor that ends before delta (an older struct_size) is accepted
 * and offers no delta.
 *
 * Memory. "Device memory" below is the memory space that the descriptor names: host memory, or memory of the
 * current CUDA device. Structs themselves, arrays of structs and the arrays said to be "host" are always host
 * memory. Nothing may be kept after a call returns. A pointer to no elements may be null or not. Only the
 * element's own alignment is promised, except for the workspace (256 bytes). An operation writes its outputs
 * and its workspace, nothing else; it must write every element of an output unless the form says otherwise.
 *
 * Values in arrays are data, never errors: every int32 (or int64) id has a defined result.
 */
#ifndef EPLORA_BACKEND_H
#define EPLORA_BACKEND_H

#include <stddef.h>
#include <stdint.h>

/* NOLINTBEGIN: this header is C */
#ifdef __cplusplus
extern "C" {
#endif

#define EPLORA_ABI_VERSION 1u

/* What an operation returns. Anything but EPLORA_OK is a violation of the contract unless the problem is bad
 * input; the program only ever sends problems that are not. */
enum {
  EPLORA_OK = 0,
  EPLORA_INVALID_ARGUMENT = 1, /* a size, stride, pointer or version that the call may not have */
  EPLORA_UNSUPPORTED = 2,      /* right in the contract, not handled here, and not declared in the form */
  EPLORA_FAILED = 3            /* anything else: a launch failed, no memory, ... */
};

enum { EPLORA_MEMORY_HOST = 0, EPLORA_MEMORY_CUDA = 1 };

enum { EPLORA_ID_INT32 = 0, EPLORA_ID_INT64 = 1 };

/* What becomes of slots whose id is a sentinel: a bucket of their own, labelled -1, or no place at all. */
enum { EPLORA_SENTINELS_KEEP = 0, EPLORA_SENTINELS_DROP = 1 };

/* What a valid slot of a token without adapter becomes: e (shared-outer: 0; where L = 0: -1), or -1. */
enum { EPLORA_NO_ADAPTER_BASE_SLOT = 0, EPLORA_NO_ADAPTER_SENTINEL = 1 };

enum { EPLORA_NUM_TOKENS_ALL = 0, EPLORA_NUM_TOKENS_VALUE = 1, EPLORA_NUM_TOKENS_POINTER = 2 };

enum { EPLORA_DTYPE_F32 = 0, EPLORA_DTYPE_F16 = 1, EPLORA_DTYPE_BF16 = 2 };

/* How gate and up stand in the rows of gate_up_B: [gate; up], or g0, u0, g1, u1, ... */
enum { EPLORA_GATE_UP_STACKED = 0, EPLORA_GATE_UP_INTERLEAVED = 1 };

/* The declared form (contract, section 5). */
enum { EPLORA_ORDER_STABLE = 0, EPLORA_ORDER_FREE = 1, EPLORA_ORDER_NONDETERMINISTIC = 2 };
enum {
  EPLORA_SENTINEL_LAST = 0,
  EPLORA_SENTINEL_FIRST = 1,
  EPLORA_SENTINEL_DROP = 2,
  EPLORA_SENTINEL_PER_FOREIGN_EXPERT = 3
};
enum { EPLORA_TAIL_WRITTEN = 0, EPLORA_TAIL_UNWRITTEN = 1 };
enum {
  EPLORA_IDS_ANY = 0,
  EPLORA_IDS_AT_LEAST_MINUS_ONE = 1,
  EPLORA_IDS_MINUS_ONE_TO_V = 2, /* -1 <= id < V */
  EPLORA_IDS_DISTINCT_IN_TOKEN = 3
};
enum { EPLORA_SHARED_OUTER_SENTINELS_DROPPED = 0, EPLORA_SHARED_OUTER_SENTINELS_ROUTED = 1 };

typedef struct eplora_form {
  uint32_t abi_version;           /* EPLORA_ABI_VERSION */
  uint32_t struct_size;           /* sizeof(eplora_form) */
  int32_t order;                  /* EPLORA_ORDER_*: of slots inside a bucket */
  int32_t sentinel;               /* EPLORA_SENTINEL_*: where sentinels = keep puts the sentinel bucket */
  int32_t tail;                   /* EPLORA_TAIL_*: whether entries past num_tokens_post_padded are written */
  int32_t ids;                    /* EPLORA_IDS_*: which ids are accepted */
  int32_t shared_outer_sentinels; /* EPLORA_SHARED_OUTER_SENTINELS_* */
  int32_t scale_in_B;             /* 1: slice multiplies B by the scale and writes scale 1; 0: it does not */
  int32_t
      canonical_values; /* 1: fillers are exactly n, sentinels exactly as the contract has them (then bytes
                           are compared with the reference); 0: any filler >= n, any negative sentinel */
} eplora_form;

/* The canonical form: nothing is restricted, everything is asked. */
#define EPLORA_CANONICAL_FORM \
  { EPLORA_ABI_VERSION, (uint32_t)sizeof(eplora_form), 0, 0, 0, 0, 0, 0, 1 }

/* Ids [rows, cols], element (t, k) at data[t * row_stride + k * col_stride]. */
typedef struct eplora_ids {
  uint32_t abi_version;
  uint32_t struct_size;
  const void* data;   /* device memory, int32_t or int64_t; gaps between rows must not be read */
  int32_t type;       /* EPLORA_ID_*. An int64 outside int32 is a sentinel if negative, else invalid */
  int32_t reserved;   /* 0 */
  int64_t rows;       /* T >= 0 */
  int64_t cols;       /* K >= 1 */
  int64_t row_stride; /* elements, >= cols */
  int64_t col_stride; /* elements, 1 in version 1 */
} eplora_ids;

/* Rows t >= the number of real tokens are sentinel rows: ids and mapping are not read there, the mask is 0.
 */
typedef struct eplora_num_tokens {
  uint32_t abi_version;
  uint32_t struct_size;
  int32_t kind;           /* EPLORA_NUM_TOKENS_*: all T rows, `value`, or what `pointer` holds */
  int32_t value;          /* in [0, T] */
  const int32_t* pointer; /* device memory, [1]; read when the operation runs, clamped to [0, T] */
} eplora_num_tokens;

/* What a call may use besides inputs and outputs. */
typedef struct eplora_context {
  uint32_t abi_version;
  uint32_t struct_size;
  void* stream;            /* cudaStream_t: all work is enqueued there, in order; null in host memory */
  void* workspace;         /* device memory, 256-byte aligned, contents garbage */
  int64_t workspace_bytes; /* what the library asked for, for this problem's shapes */
  char* message; /* host, [message_capacity]: a NUL-terminated sentence where the status is not OK */
  int64_t message_capacity; /* bytes, >= 1 */
} eplora_context;

/* Global id -> local id on one EP rank: owned -> its local id; owned elsewhere -> -1; negative -> unchanged;
 * id >= E -> -1. Slot s is served by replica (slot_offset + s) mod c_e of the c_e replicas of expert e. */
typedef struct eplora_dispatch_problem {
  uint32_t abi_version;
  uint32_t struct_size;
  eplora_ids topk_ids;          /* [T, K] global ids */
  eplora_num_tokens num_tokens; /* real rows of topk_ids */
  int64_t num_experts;          /* E of the model */
  const int32_t* table;         /* device memory, [table_size]: local id, or negative where owned elsewhere */
  int64_t table_size;           /* E, or offsets[E] */
  const int32_t*
      offsets; /* device memory, [offsets_size]: replicas of e are table[offsets[e] .. offsets[e+1]) */
  int64_t offsets_size; /* E + 1, or 0: one copy of every expert */
  int64_t slot_offset;  /* index of slot 0 in the batch that all EP ranks share */
} eplora_dispatch_problem;

typedef struct eplora_dispatch_output {
  uint32_t abi_version;
  uint32_t struct_size;
  int32_t* local_ids;     /* device memory, [T, K] contiguous */
  int64_t local_ids_size; /* n */
} eplora_dispatch_output;

/* (expert e, adapter l) -> virtual expert e + l*E (shared-outer: l). e < 0 -> e, bit for bit; e >= E or l >=
 * L -> -1; l < 0 -> what `no_adapter` says. mask[t] = (0 <= l < L). */
typedef struct eplora_remap_problem {
  uint32_t abi_version;
  uint32_t struct_size;
  eplora_ids topk_ids;          /* [T, K] */
  eplora_num_tokens num_tokens; /* real rows of topk_ids and of the mapping */
  const int32_t*
      token_lora_mapping; /* device memory, [token_lora_mapping_size]: adapter index, or negative = none */
  int64_t token_lora_mapping_size; /* T */
  int64_t num_experts;             /* E of these ids (after dispatch: of the rank) */
  int64_t max_loras;               /* L >= 0 */
  int32_t shared_outer;            /* 0 or 1 */
  int32_t no_adapter;              /* EPLORA_NO_ADAPTER_* */
} eplora_remap_problem;

typedef struct eplora_remap_output {
  uint32_t abi_version;
  uint32_t struct_size;
  int32_t* virtual_ids;         /* device memory, [T, K] contiguous */
  int64_t virtual_ids_size;     /* n */
  uint8_t* token_lora_mask;     /* device memory, [T]: 0 or 1 */
  int64_t token_lora_mask_size; /* T */
} eplora_remap_output;

/* Slots sorted into buckets 0..V-1 and the sentinel bucket (every id outside [0, V)), stable inside a bucket,
 * each bucket padded with n to a multiple of B; one label a block. */
typedef struct eplora_align_problem {
  uint32_t abi_version;
  uint32_t struct_size;
  eplora_ids ids;               /* [T, K]; slot s = t*K + k */
  eplora_num_tokens num_tokens; /* real rows of ids */
  int64_t num_buckets;          /* V >= 0 */
  int64_t block_size;           /* B >= 1 */
  int32_t sentinels;            /* EPLORA_SENTINELS_* */
  int32_t reserved;             /* 0 */
} eplora_align_problem;

typedef struct eplora_align_output {
  uint32_t abi_version;
  uint32_t struct_size;
  int32_t* sorted_token_ids; /* device memory, [capacity]: slots, and n where there is none */
  int64_t capacity;          /* what `capacity` of the descriptor answered */
  int32_t* expert_ids; /* device memory, [num_blocks]: the bucket; -1: sentinels, or past the used prefix */
  int64_t num_blocks;  /* capacity / B */
  int32_t* num_tokens_post_padded; /* device memory, [1]: length of the used prefix, a multiple of B */
} eplora_align_output;

/* align(remap(dispatch(topk_ids), token_lora_mapping), V, B) and the mask, in one step. V = num_local_experts
 * * L, shared-outer: L. */
typedef struct eplora_route_problem {
  uint32_t abi_version;
  uint32_t struct_size;
  eplora_ids topk_ids;          /* [T, K] global ids; local ones where table_size and offsets_size are 0 */
  eplora_num_tokens num_tokens; /* real rows */
  const int32_t* token_lora_mapping; /* device memory, [token_lora_mapping_size] */
  int64_t token_lora_mapping_size;   /* T */
  int64_t num_experts;               /* E of the model; not read where there is no table */
  const int32_t* table;              /* device memory, [table_size], as in eplora_dispatch_problem */
  int64_t table_size;
  const int32_t* offsets; /* device memory, [offsets_size] */
  int64_t offsets_size;
  int64_t slot_offset;
  int64_t num_local_experts; /* E of this rank */
  int64_t max_loras;         /* L */
  int64_t block_size;        /* B */
  int32_t shared_outer;      /* 0 or 1 */
  int32_t no_adapter;        /* EPLORA_NO_ADAPTER_* */
  int32_t sentinels;         /* EPLORA_SENTINELS_* */
  int32_t reserved;          /* 0 */
} eplora_route_problem;

typedef struct eplora_route_output {
  uint32_t abi_version;
  uint32_t struct_size;
  eplora_align_output blocks;
  uint8_t* token_lora_mask;     /* device memory, [T] */
  int64_t token_lora_mask_size; /* T */
} eplora_route_output;

/* A strided view [experts, rows, cols]; element (e, j, k) at data[e*expert_stride + j*row_stride +
 * k*col_stride], in elements; strides may be anything. experts = 1: the one matrix serves every expert. data
 * null: absent. */
typedef struct eplora_tensor {
  uint32_t abi_version;
  uint32_t struct_size;
  const void* data; /* device memory */
  int32_t dtype;    /* EPLORA_DTYPE_* */
  int32_t reserved; /* 0 */
  int64_t experts, rows, cols;
  int64_t expert_stride, row_stride, col_stride;
} eplora_tensor;

/* One layer of the unsharded adapter. gate_* is the only half where the model is not gated. */
typedef struct eplora_adapter_layer {
  uint32_t abi_version;
  uint32_t struct_size;
  int64_t layer_id;
  eplora_tensor gate_A, up_A; /* [E or 1, r, H] */
  eplora_tensor gate_B, up_B; /* [E, I, r]: the half's own rows */
  eplora_tensor down_A;       /* [E, r, I] */
  eplora_tensor down_B;       /* [E or 1, H, r] */
  float gate_up_scale;        /* multiplies both halves */
  float down_scale;
} eplora_adapter_layer;

/* One layer of the buffers, row-major and contiguous; null where the layer lacks the module. c = 2 gated, 1
 * not; E_b = num_local_experts; E_a = num_local_experts, or 1 if shared-outer. */
typedef struct eplora_buffer_layer {
  uint32_t abi_version;
  uint32_t struct_size;
  int64_t layer_id;     /* meaningful where has_layer_id */
  int32_t has_layer_id; /* 0: a layer without adapters, to be left as it is, scales too */
  int32_t has_gate_up;  /* 0: the layer lacks the module; its buffers and its scale are left as they are */
  int32_t has_down;     /* likewise */
  void* gate_up_A;      /* device memory, [L, E_a, c, R, H] */
  void* gate_up_B;      /* device memory, [L, E_b, c*i, R], rows in gate_up_form */
  void* down_A;         /* device memory, [L, E_b, R, i] */
  void* down_B;         /* device memory, [L, E_a, H, R] */
} eplora_buffer_layer;

/* Cut one adapter for one rank into one slot of its buffers: this rank's experts in local order, columns
 * [moe_tp_rank*i, (moe_tp_rank+1)*i) of I, ranks j >= r zero, modules that the adapter lacks zero. Nothing
 * else of the buffers changes. Conversion between dtypes goes through float32 and rounds to nearest even; a
 * NaN that becomes F16 or BF16 is 0x7FFF, as NVIDIA GPUs convert. */
typedef struct eplora_slice_problem {
  uint32_t abi_version;
  uint32_t struct_size;
  int64_t num_experts;                        /* E of the model */
  int64_t hidden;                             /* H */
  int64_t intermediate;                       /* I of the model; i = I / moe_tp */
  int32_t gated;                              /* 0 or 1 */
  int32_t gate_up_form;                       /* EPLORA_GATE_UP_*, of the buffers */
  int32_t shared_outer;                       /* 0 or 1 */
  int32_t dtype;                              /* EPLORA_DTYPE_*, of the buffers */
  int64_t moe_tp_rank;                        /* in [0, moe_tp) */
  int64_t moe_tp;                             /* >= 1 */
  const int32_t* local_experts;               /* host, [num_local_experts]: global ids, in local order */
  int64_t num_local_experts;                  /* E of this rank, may be 0 */
  const eplora_adapter_layer* adapter_layers; /* host, [num_adapter_layers], ascending layer_id */
  int64_t num_adapter_layers;
  const eplora_buffer_layer* buffer_layers; /* host, [num_buffer_layers] */
  int64_t num_buffer_layers;
  float* scale;      /* device memory, [num_buffer_layers, 2, L]: module 0 gate_up, 1 down; 0 where lacking */
  int64_t max_loras; /* L */
  int64_t max_lora_rank; /* R */
  int64_t slot;          /* in [0, L) */
} eplora_slice_problem;

enum { EPLORA_PROJECTION_GATE_UP = 0, EPLORA_PROJECTION_DOWN = 1 };

/* Blocks as align left them. An entry >= n is filler: no token's, never an index. A block with a negative
 * label is no adapter's. What lies behind num_tokens_post_padded may be anything. */
typedef struct eplora_blocks {
  uint32_t abi_version;
  uint32_t struct_size;
  const int32_t* sorted_token_ids;       /* device memory, [capacity] */
  int64_t capacity;                      /* a multiple of B */
  const int32_t* expert_ids;             /* device memory, [num_blocks] */
  int64_t num_blocks;                    /* capacity / B */
  const int32_t* num_tokens_post_padded; /* device memory, [1]: length of the used prefix */
} eplora_blocks;

/* Add the adapters' part of one projection of one layer to what stands in the output (contract, section 7),
 * for every slot s of token t = s / K whose mask is not 0 and which stands in a used block with label v = e +
 * l*E >= 0:
 *   gate_up: out[s, row(h, q)] += scale[l] * sum_j B[l, e, row(h, q), j] * (sum_d A[l, e, h, j, d] * x[t, d])
 *   down:    out[s, d] += topk_weights[s] * scale[l] * sum_j B[l, e, d, j] * (sum_q A[l, e, j, q] * a[s, q])
 * row(h, q) = h*i + q stacked, c*q + h interleaved. Where shared_outer, gate_up A and down B have one expert
 * for all e (E_a = 1). Every other row of the output keeps its bits; of inputs, weights, scales and router
 * weights that no such slot needs any may be NaN. Sums in float32 or better: the error of an element is at
 * most u*|ref| + 4*(width + R + 8)*u*S, with u = 2^-24, width = H or i, S the same sums of absolute values.
 */
typedef struct eplora_delta_problem {
  uint32_t abi_version;
  uint32_t struct_size;
  int32_t projection;        /* EPLORA_PROJECTION_* */
  int32_t gated;             /* 0 or 1: c = 2 or 1 */
  int32_t gate_up_form;      /* EPLORA_GATE_UP_*, of gate_up B and of the output's columns */
  int32_t shared_outer;      /* 0 or 1 */
  int32_t dtype;             /* EPLORA_DTYPE_*, of A and B */
  int32_t input_dtype;       /* EPLORA_DTYPE_*, of the input */
  const void* A;             /* device memory; gate_up [L, E_a, c, R, H], down [L, E, R, i], contiguous */
  const void* B;             /* device memory; gate_up [L, E, c*i, R], down [L, E_a, H, R], contiguous */
  const float* scale;        /* device memory, [L] */
  int64_t max_loras;         /* L >= 0 */
  int64_t max_lora_rank;     /* R >= 1 */
  int64_t hidden;            /* H */
  int64_t intermediate;      /* i of this rank */
  int64_t num_local_experts; /* E of this rank, may be 0; E_a = E, or 1 if shared_outer */
  int64_t num_tokens;        /* T */
  int64_t top_k;             /* K */
  int64_t block_size;        /* B, of both routings */
  eplora_blocks per_expert;  /* labels e + l*E */
  eplora_blocks shared; /* labels l: the same slots for the tensor with E_a = 1; zeros unless shared_outer */
  const uint8_t* token_lora_mask; /* device memory, [token_lora_mask_size] */
  int64_t token_lora_mask_size;   /* T */
  const float* topk_weights;      /* device memory, [topk_weights_size] */
  int64_t topk_weights_size;      /* n; gate_up: 0 */
  const void* input;              /* device memory: gate_up x [T, H], down a [n, i] */
  int64_t input_rows, input_cols;
  int64_t input_row_stride; /* elements, >= input_cols; gaps must not be read */
} eplora_delta_problem;

typedef struct eplora_delta_output {
  uint32_t abi_version;
  uint32_t struct_size;
  float*
      data; /* device memory, [rows, cols], holds what is added to; gaps between rows must not be written */
  int64_t rows;       /* n */
  int64_t cols;       /* gate_up c*i, down H */
  int64_t row_stride; /* elements, >= cols */
} eplora_delta_output;

/* What the library is. Lives as long as the library. */
typedef struct eplora_backend {
  uint32_t abi_version;    /* EPLORA_ABI_VERSION */
  uint32_t struct_size;    /* sizeof(eplora_backend) */
  const char* name;        /* one word, for people */
  const char* description; /* one line */
  int32_t memory_space;    /* EPLORA_MEMORY_* */
  int32_t reserved;        /* 0 */
  eplora_form form;

  /* Operations; null = not offered, and not asked. */
  int32_t (*dispatch)(const eplora_dispatch_problem*, const eplora_dispatch_output*, const eplora_context*);
  int32_t (*remap)(const eplora_remap_problem*, const eplora_remap_output*, const eplora_context*);
  int32_t (*align)(const eplora_align_problem*, const eplora_align_output*, const eplora_context*);
  int32_t (*route)(const eplora_route_problem*, const eplora_route_output*, const eplora_context*);
  int32_t (*slice)(const eplora_slice_problem*, const eplora_context*);

  /* Sizes depend on shapes alone, never on values: arrays must not be read here (their pointers may not be
   * there yet). Length of sorted_token_ids for n slots, at most 2^31-1. Null: floor((n + m*(B-1)) / B) * B
   * with m = min(n, V+1), for sentinels = drop m = min(n, V) (and 0 if V = 0). */
  int64_t (*capacity)(int64_t n, int64_t num_buckets, int64_t block_size, int32_t sentinels);
  /* Bytes of workspace, >= 0. Null: none. */
  int64_t (*dispatch_workspace)(const eplora_dispatch_problem*);
  int64_t (*remap_workspace)(const eplora_remap_problem*);
  int64_t (*align_workspace)(const eplora_align_problem*);
  int64_t (*route_workspace)(const eplora_route_problem*);
  int64_t (*slice_workspace)(const eplora_slice_problem*);

  /* Last, since they came last: read only where struct_size covers both. Null = not offered; none. */
  int32_t (*delta)(const eplora_delta_problem*, const eplora_delta_output*, const eplora_context*);
  int64_t (*delta_workspace)(const eplora_delta_problem*);
} eplora_backend;

#if defined(_WIN32)
#define EPLORA_EXPORT __declspec(dllexport)
#else
#define EPLORA_EXPORT __attribute__((visibility("default")))
#endif

/* The one symbol. */
EPLORA_EXPORT const eplora_backend* eplora_backend_v1(void);

#ifdef __cplusplus
}
#endif
/* NOLINTEND */

#endif
