// SPDX-License-Identifier: Apache-2.0
// The C ABI holds all that an implementation needs: a relay gets every problem through it, puts the project's
// structs together again from the ABI's fields alone, and calls the reference. The whole property suite must
// hold on it.
#include <gtest/gtest.h>

#include <algorithm>

#include "optimized/external/external_backend.h"
#include "property_tests/suite/suite.h"

namespace eplora {
namespace {

std::span<const std::int32_t> array(const std::int32_t* data, std::int64_t size) {
  return {data, static_cast<std::size_t>(size)};
}

IdMatrix ids_of(const eplora_ids& ids) {
  return {ids.data, static_cast<IdType>(ids.type), ids.rows, ids.cols, ids.row_stride};
}

NumTokens num_tokens_of(const eplora_num_tokens& num_tokens) {
  return {static_cast<NumTokens::Kind>(num_tokens.kind), num_tokens.value, num_tokens.pointer};
}

AlignOutput output_of(const eplora_align_output& output) {
  return {output.sorted_token_ids, output.expert_ids, output.num_tokens_post_padded};
}

template <class Run>
std::int32_t status_of(const Run& run) {
  ReferenceBackend reference;
  run(reference);
  return EPLORA_OK;
}

std::int32_t dispatch(const eplora_dispatch_problem* from, const eplora_dispatch_output* output,
                      const eplora_context*) {
  DispatchProblem problem;
  problem.topk_ids = ids_of(from->topk_ids);
  problem.num_experts = static_cast<std::int32_t>(from->num_experts);
  problem.table = array(from->table, from->table_size);
  problem.offsets = array(from->offsets, from->offsets_size);
  problem.slot_offset = from->slot_offset;
  problem.num_tokens = num_tokens_of(from->num_tokens);
  return status_of([&](Backend& reference) { reference.dispatch(problem, {output->local_ids}, {}); });
}

std::int32_t remap(const eplora_remap_problem* from, const eplora_remap_output* output,
                   const eplora_context*) {
  RemapProblem problem;
  problem.topk_ids = ids_of(from->topk_ids);
  problem.token_lora_mapping = array(from->token_lora_mapping, from->token_lora_mapping_size);
  problem.num_experts = static_cast<std::int32_t>(from->num_experts);
  problem.max_loras = static_cast<std::int32_t>(from->max_loras);
  problem.shared_outer = from->shared_outer == 1;
  problem.no_adapter = static_cast<NoAdapter>(from->no_adapter);
  problem.num_tokens = num_tokens_of(from->num_tokens);
  return status_of([&](Backend& reference) {
    reference.remap(problem, {output->virtual_ids, output->token_lora_mask}, {});
  });
}

std::int32_t align(const eplora_align_problem* from, const eplora_align_output* output,
                   const eplora_context*) {
  AlignProblem problem;
  problem.ids = ids_of(from->ids);
  problem.num_buckets = static_cast<std::int32_t>(from->num_buckets);
  problem.block_size = static_cast<std::int32_t>(from->block_size);
  problem.sentinels = static_cast<Sentinels>(from->sentinels);
  problem.num_tokens = num_tokens_of(from->num_tokens);
  return status_of([&](Backend& reference) { reference.align(problem, output_of(*output), {}); });
}

std::int32_t route(const eplora_route_problem* from, const eplora_route_output* output,
                   const eplora_context*) {
  RouteProblem problem;
  problem.topk_ids = ids_of(from->topk_ids);
  problem.token_lora_mapping = array(from->token_lora_mapping, from->token_lora_mapping_size);
  problem.num_experts = static_cast<std::int32_t>(from->num_experts);
  problem.table = array(from->table, from->table_size);
  problem.offsets = array(from->offsets, from->offsets_size);
  problem.slot_offset = from->slot_offset;
  problem.num_local_experts = static_cast<std::int32_t>(from->num_local_experts);
  problem.max_loras = static_cast<std::int32_t>(from->max_loras);
  problem.shared_outer = from->shared_outer == 1;
  problem.no_adapter = static_cast<NoAdapter>(from->no_adapter);
  problem.block_size = static_cast<std::int32_t>(from->block_size);
  problem.sentinels = static_cast<Sentinels>(from->sentinels);
  problem.num_tokens = num_tokens_of(from->num_tokens);
  return status_of([&](Backend& reference) {
    reference.route(problem, {output_of(output->blocks), output->token_lora_mask}, {});
  });
}

StridedTensor tensor_of(const eplora_tensor& tensor) {
  return {tensor.data,       static_cast<DType>(tensor.dtype),
          tensor.experts,    tensor.rows,
          tensor.cols,       tensor.expert_stride,
          tensor.row_stride, tensor.col_stride};
}

std::int32_t slice(const eplora_slice_problem* from, const eplora_context*) {
  Adapter adapter;
  for (std::int64_t i = 0; i < from->num_adapter_layers; ++i) {
    const eplora_adapter_layer& layer = from->adapter_layers[i];
    adapter.layers[static_cast<std::int32_t>(layer.layer_id)] = {
        {LoraPair{tensor_of(layer.gate_A), tensor_of(layer.gate_B)},
         LoraPair{tensor_of(layer.up_A), tensor_of(layer.up_B)}},
        {tensor_of(layer.down_A), tensor_of(layer.down_B)},
        layer.gate_up_scale,
        layer.down_scale};
  }
  SliceProblem problem;
  problem.geometry = {static_cast<std::int32_t>(from->num_experts),
                      from->hidden,
                      from->intermediate,
                      from->gated == 1,
                      static_cast<GateUpForm>(from->gate_up_form),
                      from->shared_outer == 1};
  problem.place.moe_tp_rank = static_cast<std::int32_t>(from->moe_tp_rank);
  problem.place.moe_tp = static_cast<std::int32_t>(from->moe_tp);
  problem.local_experts = array(from->local_experts, from->num_local_experts);
  problem.adapter = &adapter;
  problem.slot = static_cast<std::int32_t>(from->slot);
  std::vector<BufferLayer> layers;
  BufferView view;
  for (std::int64_t n = 0; n < from->num_buffer_layers; ++n) {
    const eplora_buffer_layer& layer = from->buffer_layers[n];
    layers.push_back({std::nullopt, layer.has_gate_up == 1, layer.has_down == 1});
    if (layer.has_layer_id == 1) layers.back().layer_id = static_cast<std::int32_t>(layer.layer_id);
    view.tensor.push_back({layer.gate_up_A, layer.gate_up_B, layer.down_A, layer.down_B});
  }
  view.scale = from->scale;
  const BufferShape shape = buffer_shape(problem.geometry, problem.place, from->num_local_experts, layers,
                                         static_cast<std::int32_t>(from->max_loras), from->max_lora_rank,
                                         static_cast<DType>(from->dtype));
  problem.shape = &shape;
  return status_of([&](Backend& reference) { reference.slice(problem, view, {}); });
}

DeltaBlocks blocks_of(const eplora_blocks& blocks) {
  return {blocks.sorted_token_ids, blocks.capacity, blocks.expert_ids, blocks.num_tokens_post_padded};
}

std::int32_t delta(const eplora_delta_problem* from, const eplora_delta_output* output,
                   const eplora_context*) {
  DeltaProblem problem;
  problem.projection = static_cast<DeltaProjection>(from->projection);
  problem.A = from->A;
  problem.B = from->B;
  problem.dtype = static_cast<DType>(from->dtype);
  problem.scale = from->scale;
  problem.max_loras = static_cast<std::int32_t>(from->max_loras);
  problem.max_lora_rank = from->max_lora_rank;
  problem.hidden = from->hidden;
  problem.intermediate = from->intermediate;
  problem.num_local_experts = static_cast<std::int32_t>(from->num_local_experts);
  problem.gated = from->gated == 1;
  problem.shared_outer = from->shared_outer == 1;
  problem.form = static_cast<GateUpForm>(from->gate_up_form);
  problem.num_tokens = from->num_tokens;
  problem.top_k = from->top_k;
  problem.block_size = static_cast<std::int32_t>(from->block_size);
  problem.per_expert = blocks_of(from->per_expert);
  problem.shared = blocks_of(from->shared);
  problem.token_lora_mask = {from->token_lora_mask, static_cast<std::size_t>(from->token_lora_mask_size)};
  problem.topk_weights = {from->topk_weights, static_cast<std::size_t>(from->topk_weights_size)};
  problem.input = {from->input, static_cast<DType>(from->input_dtype), from->input_rows, from->input_cols,
                   from->input_row_stride};
  return status_of([&](Backend& reference) {
    reference.delta(problem, {output->data, output->row_stride}, {});
  });
}

eplora_backend relay() {
  eplora_backend library{};
  library.abi_version = EPLORA_ABI_VERSION;
  library.struct_size = sizeof library;
  library.name = "relay";
  library.description = "the reference behind the C ABI";
  library.memory_space = EPLORA_MEMORY_HOST;
  library.form = EPLORA_CANONICAL_FORM;
  library.dispatch = dispatch;
  library.remap = remap;
  library.align = align;
  library.route = route;
  library.slice = slice;
  library.delta = delta;
  return library;
}

TEST(ExternalRelay, EveryPropertyHoldsThroughTheAbi) {
  const eplora_backend library = relay();
  const auto backend = make_external_backend("relay", library);
  suite::RunOptions options;
  for (const suite::PropertyInfo& property : suite::list_properties()) {
    options.cases = std::min(property.default_cases, 150);
    const suite::Outcome outcome = suite::run_property(property, *backend, options);
    EXPECT_EQ(outcome.status, suite::Status::held) << suite::describe(outcome);
    EXPECT_EQ(outcome.cases, options.cases);
  }
}

}  // namespace
}  // namespace eplora
