// SPDX-License-Identifier: Apache-2.0
#include "optimized/external/translate.h"

#include "reference/check.h"

namespace eplora::external {
namespace {

// The ABI's constants are the project's enumerations; a cast translates them.
static_assert(EPLORA_ID_INT64 == static_cast<int>(IdType::int64));
static_assert(EPLORA_SENTINELS_DROP == static_cast<int>(Sentinels::drop));
static_assert(EPLORA_NO_ADAPTER_SENTINEL == static_cast<int>(NoAdapter::sentinel));
static_assert(EPLORA_NUM_TOKENS_VALUE == static_cast<int>(NumTokens::Kind::value));
static_assert(EPLORA_NUM_TOKENS_POINTER == static_cast<int>(NumTokens::Kind::pointer));
static_assert(EPLORA_DTYPE_F16 == static_cast<int>(DType::f16));
static_assert(EPLORA_DTYPE_BF16 == static_cast<int>(DType::bf16));
static_assert(EPLORA_GATE_UP_INTERLEAVED == static_cast<int>(GateUpForm::interleaved));
static_assert(EPLORA_PROJECTION_DOWN == static_cast<int>(DeltaProjection::down));
static_assert(EPLORA_ORDER_NONDETERMINISTIC == static_cast<int>(contract::Order::nondeterministic));
static_assert(EPLORA_SENTINEL_PER_FOREIGN_EXPERT ==
              static_cast<int>(contract::SentinelPlace::per_foreign_expert));
static_assert(EPLORA_TAIL_UNWRITTEN == static_cast<int>(contract::Tail::unwritten));
static_assert(EPLORA_IDS_DISTINCT_IN_TOKEN == static_cast<int>(contract::AcceptedIds::distinct_in_token));
static_assert(EPLORA_SHARED_OUTER_SENTINELS_ROUTED ==
              static_cast<int>(contract::SharedOuterSentinels::routed));

std::int64_t size_of(std::span<const std::int32_t> array) { return static_cast<std::int64_t>(array.size()); }

eplora_ids translate(const IdMatrix& ids) {
  auto result = versioned<eplora_ids>();
  result.data = ids.data;
  result.type = static_cast<std::int32_t>(ids.type);
  result.rows = ids.rows;
  result.cols = ids.cols;
  result.row_stride = ids.row_stride;
  result.col_stride = 1;
  return result;
}

eplora_num_tokens translate(const NumTokens& num_tokens) {
  auto result = versioned<eplora_num_tokens>();
  result.kind = static_cast<std::int32_t>(num_tokens.kind);
  result.value = num_tokens.value;
  result.pointer = num_tokens.pointer;
  return result;
}

eplora_tensor translate(const StridedTensor& tensor) {
  auto result = versioned<eplora_tensor>();
  result.data = tensor.data;
  result.dtype = static_cast<std::int32_t>(tensor.dtype);
  result.experts = tensor.experts;
  result.rows = tensor.rows;
  result.cols = tensor.cols;
  result.expert_stride = tensor.expert_stride;
  result.row_stride = tensor.row_stride;
  result.col_stride = tensor.col_stride;
  return result;
}

eplora_adapter_layer translate(std::int32_t layer_id, const AdapterLayer& layer) {
  auto result = versioned<eplora_adapter_layer>();
  result.layer_id = layer_id;
  result.gate_A = translate(layer.gate_up[0].A);
  result.gate_B = translate(layer.gate_up[0].B);
  result.up_A = translate(layer.gate_up[1].A);
  result.up_B = translate(layer.gate_up[1].B);
  result.down_A = translate(layer.down.A);
  result.down_B = translate(layer.down.B);
  result.gate_up_scale = layer.gate_up_scale;
  result.down_scale = layer.down_scale;
  return result;
}

eplora_blocks translate(const DeltaBlocks& blocks, std::int64_t block_size) {
  auto result = versioned<eplora_blocks>();
  result.sorted_token_ids = blocks.sorted_token_ids;
  result.capacity = blocks.capacity;
  result.expert_ids = blocks.expert_ids;
  result.num_blocks = blocks.capacity / block_size;
  result.num_tokens_post_padded = blocks.num_tokens_post_padded;
  return result;
}

template <class Enum>
Enum checked(const std::string& who, const char* field, std::int32_t value, Enum last) {
  require_in_range(who + ": form." + field, value, 0, static_cast<std::int32_t>(last));
  return static_cast<Enum>(value);
}

}  // namespace

eplora_dispatch_problem translate(const DispatchProblem& problem) {
  auto result = versioned<eplora_dispatch_problem>();
  result.topk_ids = translate(problem.topk_ids);
  result.num_tokens = translate(problem.num_tokens);
  result.num_experts = problem.num_experts;
  result.table = problem.table.data();
  result.table_size = size_of(problem.table);
  result.offsets = problem.offsets.data();
  result.offsets_size = size_of(problem.offsets);
  result.slot_offset = problem.slot_offset;
  return result;
}

eplora_remap_problem translate(const RemapProblem& problem) {
  auto result = versioned<eplora_remap_problem>();
  result.topk_ids = translate(problem.topk_ids);
  result.num_tokens = translate(problem.num_tokens);
  result.token_lora_mapping = problem.token_lora_mapping.data();
  result.token_lora_mapping_size = size_of(problem.token_lora_mapping);
  result.num_experts = problem.num_experts;
  result.max_loras = problem.max_loras;
  result.shared_outer = problem.shared_outer ? 1 : 0;
  result.no_adapter = static_cast<std::int32_t>(problem.no_adapter);
  return result;
}

eplora_align_problem translate(const AlignProblem& problem) {
  auto result = versioned<eplora_align_problem>();
  result.ids = translate(problem.ids);
  result.num_tokens = translate(problem.num_tokens);
  result.num_buckets = problem.num_buckets;
  result.block_size = problem.block_size;
  result.sentinels = static_cast<std::int32_t>(problem.sentinels);
  return result;
}

eplora_route_problem translate(const RouteProblem& problem) {
  auto result = versioned<eplora_route_problem>();
  result.topk_ids = translate(problem.topk_ids);
  result.num_tokens = translate(problem.num_tokens);
  result.token_lora_mapping = problem.token_lora_mapping.data();
  result.token_lora_mapping_size = size_of(problem.token_lora_mapping);
  result.num_experts = problem.num_experts;
  result.table = problem.table.data();
  result.table_size = size_of(problem.table);
  result.offsets = problem.offsets.data();
  result.offsets_size = size_of(problem.offsets);
  result.slot_offset = problem.slot_offset;
  result.num_local_experts = problem.num_local_experts;
  result.max_loras = problem.max_loras;
  result.block_size = problem.block_size;
  result.shared_outer = problem.shared_outer ? 1 : 0;
  result.no_adapter = static_cast<std::int32_t>(problem.no_adapter);
  result.sentinels = static_cast<std::int32_t>(problem.sentinels);
  return result;
}

eplora_delta_problem translate(const DeltaProblem& problem) {
  auto result = versioned<eplora_delta_problem>();
  result.projection = static_cast<std::int32_t>(problem.projection);
  result.gated = problem.gated ? 1 : 0;
  result.gate_up_form = static_cast<std::int32_t>(problem.form);
  result.shared_outer = problem.shared_outer ? 1 : 0;
  result.dtype = static_cast<std::int32_t>(problem.dtype);
  result.input_dtype = static_cast<std::int32_t>(problem.input.dtype);
  result.A = problem.A;
  result.B = problem.B;
  result.scale = problem.scale;
  result.max_loras = problem.max_loras;
  result.max_lora_rank = problem.max_lora_rank;
  result.hidden = problem.hidden;
  result.intermediate = problem.intermediate;
  result.num_local_experts = problem.num_local_experts;
  result.num_tokens = problem.num_tokens;
  result.top_k = problem.top_k;
  result.block_size = problem.block_size;
  result.per_expert = translate(problem.per_expert, problem.block_size);
  result.shared = translate(problem.shared_outer ? problem.shared : DeltaBlocks{}, problem.block_size);
  result.token_lora_mask = problem.token_lora_mask.data();
  result.token_lora_mask_size = static_cast<std::int64_t>(problem.token_lora_mask.size());
  if (problem.projection == DeltaProjection::down) {
    result.topk_weights = problem.topk_weights.data();
    result.topk_weights_size = static_cast<std::int64_t>(problem.topk_weights.size());
  }
  result.input = problem.input.data;
  result.input_rows = problem.input.rows;
  result.input_cols = problem.input.cols;
  result.input_row_stride = problem.input.row_stride;
  return result;
}

eplora_delta_output translate(const DeltaProblem& problem, const DeltaOutput& output) {
  auto result = versioned<eplora_delta_output>();
  result.data = output.data;
  result.rows = problem.slots();
  result.cols = problem.output_columns();
  result.row_stride = output.row_stride;
  return result;
}

eplora_align_output translate(const AlignOutput& output, std::int64_t capacity, std::int64_t block_size) {
  auto result = versioned<eplora_align_output>();
  result.sorted_token_ids = output.sorted_token_ids;
  result.capacity = capacity;
  result.expert_ids = output.expert_ids;
  result.num_blocks = capacity / block_size;
  result.num_tokens_post_padded = output.num_tokens_post_padded;
  return result;
}

SliceTranslation translate(const SliceProblem& problem, const BufferView* buffers) {
  const BufferShape& shape = *problem.shape;
  SliceTranslation result{{}, {}, versioned<eplora_slice_problem>()};
  for (const auto& [layer_id, layer] : problem.adapter->layers)
    result.adapter_layers.push_back(translate(layer_id, layer));
  for (std::size_t n = 0; n < shape.layers.size(); ++n) {
    auto layer = versioned<eplora_buffer_layer>();
    layer.has_layer_id = shape.layers[n].layer_id.has_value() ? 1 : 0;
    layer.layer_id = shape.layers[n].layer_id.value_or(0);
    layer.has_gate_up = shape.layers[n].has_gate_up ? 1 : 0;
    layer.has_down = shape.layers[n].has_down ? 1 : 0;
    if (buffers != nullptr) {
      const auto& tensors = buffers->tensor[n];
      layer.gate_up_A = tensors[static_cast<std::size_t>(BufferTensor::gate_up_A)];
      layer.gate_up_B = tensors[static_cast<std::size_t>(BufferTensor::gate_up_B)];
      layer.down_A = tensors[static_cast<std::size_t>(BufferTensor::down_A)];
      layer.down_B = tensors[static_cast<std::size_t>(BufferTensor::down_B)];
    }
    result.buffer_layers.push_back(layer);
  }
  eplora_slice_problem& slice = result.problem;
  slice.num_experts = problem.geometry.num_experts;
  slice.hidden = problem.geometry.hidden;
  slice.intermediate = problem.geometry.intermediate;
  slice.gated = shape.gated ? 1 : 0;
  slice.gate_up_form = static_cast<std::int32_t>(shape.form);
  slice.shared_outer = shape.shared_outer ? 1 : 0;
  slice.dtype = static_cast<std::int32_t>(shape.dtype);
  slice.moe_tp_rank = problem.place.moe_tp_rank;
  slice.moe_tp = problem.place.moe_tp;
  slice.local_experts = problem.local_experts.data();
  slice.num_local_experts = size_of(problem.local_experts);
  slice.adapter_layers = result.adapter_layers.data();
  slice.num_adapter_layers = static_cast<std::int64_t>(result.adapter_layers.size());
  slice.buffer_layers = result.buffer_layers.data();
  slice.num_buffer_layers = static_cast<std::int64_t>(result.buffer_layers.size());
  slice.scale = buffers == nullptr ? nullptr : buffers->scale;
  slice.max_loras = shape.max_loras;
  slice.max_lora_rank = shape.max_lora_rank;
  slice.slot = problem.slot;
  return result;
}

contract::Form translate(const std::string& who, const eplora_form& form) {
  contract::Form result;
  result.order = checked(who, "order", form.order, contract::Order::nondeterministic);
  result.sentinel = checked(who, "sentinel", form.sentinel, contract::SentinelPlace::per_foreign_expert);
  result.tail = checked(who, "tail", form.tail, contract::Tail::unwritten);
  result.ids = checked(who, "ids", form.ids, contract::AcceptedIds::distinct_in_token);
  result.shared_outer_sentinels = checked(who, "shared_outer_sentinels", form.shared_outer_sentinels,
                                          contract::SharedOuterSentinels::routed);
  require_in_range(who + ": form.scale_in_B", form.scale_in_B, 0, 1);
  require_in_range(who + ": form.canonical_values", form.canonical_values, 0, 1);
  result.scale_in_B = form.scale_in_B == 1;
  result.canonical_values = form.canonical_values == 1;
  return result;
}

}  // namespace eplora::external
