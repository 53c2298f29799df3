/* SPDX-License-Identifier: Apache-2.0
 *
 * The C ABI on one side, a Python process on the other: what scripts/check_python.py hands to `eplora check
 * --backend`. The first operation starts `python check_python_server.py FD`; problems go to it and outputs
 * come back over a socket pair, in host memory. What the environment says (EPLORA_PYTHON_*, set by the
 * script) makes the descriptor, so that reading it starts nothing, but where cases will run
 * (EPLORA_CASE_PROCESS): there Python starts at once, so that its imports are no part of a case's time. A
 * signal that ends Python ends this process too, by the same signal; so does a call of exit.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "optimized/external/eplora_backend.h"

enum { kAlign = 0, kRemap = 1, kRoute = 2, kDispatch = 3, kSlice = 4, kScalars = 16, kRestart = 1000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int channel = -1;
static pid_t server = -1;

/* A request grows here: header, then the arrays, each behind its size in bytes. */
typedef struct {
  char* data;
  size_t size, capacity;
} Bytes;

static void append(Bytes* to, const void* from, size_t size) {
  if (to->size + size > to->capacity) {
    to->capacity = 2 * (to->size + size);
    to->data = realloc(to->data, to->capacity);
    if (to->data == NULL) abort();
  }
  if (size > 0) memcpy(to->data + to->size, from, size);
  to->size += size;
}

static void append_array(Bytes* to, const void* from, int64_t count, size_t element) {
  const int64_t bytes = count * (int64_t)element;
  append(to, &bytes, sizeof bytes);
  append(to, from, (size_t)bytes);
}

/* Rows alone: the gaps between them are nobody's to read. */
static void append_ids(Bytes* to, const eplora_ids* ids) {
  const size_t element = ids->type == EPLORA_ID_INT64 ? 8 : 4;
  const int64_t bytes = ids->rows * ids->cols * (int64_t)element;
  append(to, &bytes, sizeof bytes);
  for (int64_t t = 0; t < ids->rows; ++t)
    append(to, (const char*)ids->data + (size_t)(t * ids->row_stride) * element, (size_t)ids->cols * element);
}

static int64_t real_rows(const eplora_num_tokens* num_tokens, int64_t T) {
  int64_t rows = T;
  if (num_tokens->kind == EPLORA_NUM_TOKENS_VALUE) rows = num_tokens->value;
  if (num_tokens->kind == EPLORA_NUM_TOKENS_POINTER) rows = *num_tokens->pointer;
  return rows < 0 ? 0 : rows > T ? T : rows;
}

static int start_server(void) {
  const char* const python = getenv("EPLORA_PYTHON");
  const char* const script = getenv("EPLORA_PYTHON_SCRIPT");
  int ends[2];
  if (python == NULL || script == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return 0;
  const pid_t parent = getpid();
  server = fork();
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    const int kept = dup(ends[1]); /* without close-on-exec */
    char number[16];
    snprintf(number, sizeof number, "%d", kept);
    execl(python, python, script, number, (char*)NULL);
    _exit(127);
  }
  close(ends[1]);
  channel = ends[0];
  if (server > 0) return 1;
  close(channel);
  channel = -1;
  return 0;
}

/* What ended Python ends this process. Python leaves with kRestart's status only behind an answer. */
static void follow_server(void) {
  int status = 0;
  while (waitpid(server, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
  }
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void send_all(const char* from, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(channel, from, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) follow_server();
    from += sent;
    size -= (size_t)sent;
  }
}

static void receive_all(void* to, size_t size) {
  char* at = to;
  while (size > 0) {
    const ssize_t got = recv(channel, at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) follow_server();
    at += got;
    size -= (size_t)got;
  }
}

/* Starts Python and waits until it has imported what it needs; it says so by a word. */
static void start_before_the_first_case(void) {
  int64_t ready = 0;
  if (start_server()) receive_all(&ready, sizeof ready);
}

typedef struct {
  void* data;
  int64_t bytes;
} Out;

/* Sends the request, whose header has `scalars`, and takes the outputs, or a sentence. */
static int32_t call(const int64_t* scalars, Bytes* arrays, const Out* outs, int count,
                    const eplora_context* context) {
  pthread_mutex_lock(&lock);
  if (channel < 0) start_before_the_first_case();
  if (channel < 0) {
    snprintf(context->message, (size_t)context->message_capacity, "Python cannot be started");
    pthread_mutex_unlock(&lock);
    free(arrays->data);
    return EPLORA_FAILED;
  }
  send_all((const char*)scalars, kScalars * sizeof *scalars);
  send_all(arrays->data, arrays->size);
  free(arrays->data);
  int64_t answer[2]; /* status, and the bytes of a sentence */
  receive_all(answer, sizeof answer);
  const int restart = answer[0] >= kRestart;
  const int32_t status = (int32_t)(answer[0] % kRestart);
  if (status == EPLORA_OK) {
    for (int i = 0; i < count; ++i) receive_all(outs[i].data, (size_t)outs[i].bytes);
  } else {
    char* const text = calloc((size_t)answer[1] + 1, 1);
    if (text == NULL) abort();
    receive_all(text, (size_t)answer[1]);
    snprintf(context->message, (size_t)context->message_capacity, "%s", text);
    free(text);
  }
  if (restart) { /* its CUDA context is lost: the next call gets a new process */
    close(channel);
    channel = -1;
    while (waitpid(server, NULL, 0) < 0 && errno == EINTR) {
    }
  }
  pthread_mutex_unlock(&lock);
  return status;
}

static int32_t align(const eplora_align_problem* p, const eplora_align_output* out,
                     const eplora_context* context) {
  const int64_t T = p->ids.rows;
  const int64_t scalars[kScalars] = {kAlign,         T,
                                     p->ids.cols,    p->ids.row_stride,
                                     p->ids.type,    real_rows(&p->num_tokens, T),
                                     p->num_buckets, p->block_size,
                                     p->sentinels,   out->capacity};
  Bytes arrays = {0};
  append_ids(&arrays, &p->ids);
  const Out outs[] = {{out->sorted_token_ids, 4 * out->capacity},
                      {out->expert_ids, 4 * out->num_blocks},
                      {out->num_tokens_post_padded, 4}};
  return call(scalars, &arrays, outs, 3, context);
}

static int32_t dispatch(const eplora_dispatch_problem* p, const eplora_dispatch_output* out,
                        const eplora_context* context) {
  const int64_t T = p->topk_ids.rows;
  const int64_t scalars[kScalars] = {kDispatch,        T,
                                     p->topk_ids.cols, p->topk_ids.row_stride,
                                     p->topk_ids.type, real_rows(&p->num_tokens, T),
                                     p->num_experts,   p->slot_offset};
  Bytes arrays = {0};
  append_ids(&arrays, &p->topk_ids);
  append_array(&arrays, p->table, p->table_size, 4);
  append_array(&arrays, p->offsets, p->offsets_size, 4);
  const Out outs[] = {{out->local_ids, 4 * T * p->topk_ids.cols}};
  return call(scalars, &arrays, outs, 1, context);
}

static int32_t remap(const eplora_remap_problem* p, const eplora_remap_output* out,
                     const eplora_context* context) {
  const int64_t T = p->topk_ids.rows;
  const int64_t scalars[kScalars] = {kRemap,           T,
                                     p->topk_ids.cols, p->topk_ids.row_stride,
                                     p->topk_ids.type, real_rows(&p->num_tokens, T),
                                     p->num_experts,   p->max_loras,
                                     p->shared_outer,  p->no_adapter};
  Bytes arrays = {0};
  append_ids(&arrays, &p->topk_ids);
  append_array(&arrays, p->token_lora_mapping, p->token_lora_mapping_size, 4);
  const Out outs[] = {{out->virtual_ids, 4 * T * p->topk_ids.cols}, {out->token_lora_mask, T}};
  return call(scalars, &arrays, outs, 2, context);
}

static int32_t route(const eplora_route_problem* p, const eplora_route_output* out,
                     const eplora_context* context) {
  const int64_t T = p->topk_ids.rows;
  const int64_t scalars[kScalars] = {kRoute,
                                     T,
                                     p->topk_ids.cols,
                                     p->topk_ids.row_stride,
                                     p->topk_ids.type,
                                     real_rows(&p->num_tokens, T),
                                     p->num_experts,
                                     p->slot_offset,
                                     p->num_local_experts,
                                     p->max_loras,
                                     p->block_size,
                                     p->shared_outer,
                                     p->no_adapter,
                                     p->sentinels,
                                     out->blocks.capacity};
  Bytes arrays = {0};
  append_ids(&arrays, &p->topk_ids);
  append_array(&arrays, p->token_lora_mapping, p->token_lora_mapping_size, 4);
  append_array(&arrays, p->table, p->table_size, 4);
  append_array(&arrays, p->offsets, p->offsets_size, 4);
  const Out outs[] = {{out->blocks.sorted_token_ids, 4 * out->blocks.capacity},
                      {out->blocks.expert_ids, 4 * out->blocks.num_blocks},
                      {out->blocks.num_tokens_post_padded, 4},
                      {out->token_lora_mask, T}};
  return call(scalars, &arrays, outs, 4, context);
}

/* A strided tensor of the adapter, its elements close together; an absent one has no experts. */
static void append_tensor(Bytes* to, const eplora_tensor* t) {
  const size_t element = t->dtype == EPLORA_DTYPE_F32 ? 4 : 2;
  const int64_t experts = t->data == NULL ? 0 : t->experts;
  const int64_t shape[] = {t->dtype, experts, t->rows, t->cols};
  append(to, shape, sizeof shape);
  for (int64_t e = 0; e < experts; ++e)
    for (int64_t j = 0; j < t->rows; ++j)
      for (int64_t k = 0; k < t->cols; ++k)
        append(to,
               (const char*)t->data +
                   (e * t->expert_stride + j * t->row_stride + k * t->col_stride) * (int64_t)element,
               element);
}

/* The function gets the buffers as they stand and writes into them: all of them come back. */
static int32_t slice(const eplora_slice_problem* p, const eplora_context* context) {
  const int64_t scalars[kScalars] = {kSlice,
                                     p->num_experts,
                                     p->hidden,
                                     p->intermediate,
                                     p->gated,
                                     p->gate_up_form,
                                     p->shared_outer,
                                     p->dtype,
                                     p->moe_tp_rank,
                                     p->moe_tp,
                                     p->num_local_experts,
                                     p->num_adapter_layers,
                                     p->num_buffer_layers,
                                     p->max_loras,
                                     p->max_lora_rank,
                                     p->slot};
  const int64_t c = p->gated ? 2 : 1, i = p->intermediate / p->moe_tp,
                element = p->dtype == EPLORA_DTYPE_F32 ? 4 : 2;
  const int64_t E_b = p->num_local_experts, E_a = p->shared_outer ? 1 : E_b;
  Bytes arrays = {0};
  append_array(&arrays, p->local_experts, p->num_local_experts, 4);
  for (int64_t n = 0; n < p->num_adapter_layers; ++n) {
    const eplora_adapter_layer* const layer = &p->adapter_layers[n];
    append(&arrays, &layer->layer_id, sizeof layer->layer_id);
    append(&arrays, &layer->gate_up_scale, sizeof(float));
    append(&arrays, &layer->down_scale, sizeof(float));
    const eplora_tensor* const tensors[] = {&layer->gate_A, &layer->up_A,   &layer->gate_B,
                                            &layer->up_B,   &layer->down_A, &layer->down_B};
    for (int t = 0; t < 6; ++t) append_tensor(&arrays, tensors[t]);
  }
  Out* const outs = calloc((size_t)(4 * p->num_buffer_layers + 1), sizeof *outs);
  if (outs == NULL) abort();
  int count = 0;
  for (int64_t n = 0; n < p->num_buffer_layers; ++n) {
    const eplora_buffer_layer* const layer = &p->buffer_layers[n];
    const int64_t head[] = {layer->has_layer_id, layer->layer_id, layer->has_gate_up, layer->has_down};
    append(&arrays, head, sizeof head);
    void* const tensors[] = {layer->gate_up_A, layer->gate_up_B, layer->down_A, layer->down_B};
    const int64_t elements[] = {E_a * c * p->max_lora_rank * p->hidden, E_b * c * i * p->max_lora_rank,
                                E_b * p->max_lora_rank * i, E_a * p->hidden * p->max_lora_rank};
    for (int t = 0; t < 4; ++t) {
      const int has = t < 2 ? layer->has_gate_up : layer->has_down;
      outs[count++] = (Out){tensors[t], has ? p->max_loras * elements[t] * element : 0};
      append_array(&arrays, tensors[t], outs[count - 1].bytes, 1);
    }
  }
  outs[count++] = (Out){p->scale, p->num_buffer_layers * 2 * p->max_loras * 4};
  append_array(&arrays, p->scale, outs[count - 1].bytes, 1);
  const int32_t status = call(scalars, &arrays, outs, count, context);
  free(outs);
  return status;
}

/* EPLORA_PYTHON_FORM: the seven numbers of the form, in the header's order, with spaces. */
const eplora_backend* eplora_backend_v1(void) {
  static eplora_backend backend = {.abi_version = EPLORA_ABI_VERSION,
                                   .struct_size = sizeof(eplora_backend),
                                   .memory_space = EPLORA_MEMORY_HOST,
                                   .form = EPLORA_CANONICAL_FORM};
  const char* const operation = getenv("EPLORA_PYTHON_OP");
  const char* const name = getenv("EPLORA_PYTHON_NAME");
  const char* const description = getenv("EPLORA_PYTHON_DESCRIPTION");
  const char* const form = getenv("EPLORA_PYTHON_FORM");
  backend.name = name == NULL ? "python" : name;
  backend.description = description == NULL ? "run it by scripts/check_python.py" : description;
  if (operation != NULL && strcmp(operation, "align") == 0) backend.align = align;
  if (operation != NULL && strcmp(operation, "dispatch") == 0) backend.dispatch = dispatch;
  if (operation != NULL && strcmp(operation, "remap") == 0) backend.remap = remap;
  if (operation != NULL && strcmp(operation, "route") == 0) backend.route = route;
  if (operation != NULL && strcmp(operation, "slice") == 0) backend.slice = slice;
  eplora_form* const f = &backend.form;
  if (form != NULL && sscanf(form, "%d %d %d %d %d %d %d", &f->order, &f->sentinel, &f->tail, &f->ids,
                             &f->shared_outer_sentinels, &f->scale_in_B, &f->canonical_values) != 7)
    return NULL;
  if (getenv("EPLORA_CASE_PROCESS") != NULL && channel < 0) start_before_the_first_case();
  return &backend;
}
