// SPDX-License-Identifier: Apache-2.0
#include "optimized/cuda/arguments.h"

#include "reference/check.h"

namespace eplora::cuda {
namespace {

void set_blocks(kernels::RouteArguments& arguments, std::int64_t V, std::int64_t B, Sentinels sentinels) {
  arguments.num_slots = static_cast<std::uint32_t>(arguments.source.num_rows) * arguments.source.cols.value;
  arguments.num_buckets = static_cast<std::uint32_t>(V);
  arguments.block_size = kernels::Divisor::of(B);
  arguments.keep_sentinels = sentinels == Sentinels::keep;
  arguments.capacity = align_capacity(arguments.num_slots, V, B, sentinels);
}

}  // namespace

kernels::IdSource id_source(const IdMatrix& ids, const NumTokens& num_tokens) {
  kernels::IdSource source;
  source.ids = ids.data;
  source.wide = ids.type == IdType::int64;
  source.row_gap = ids.row_stride - ids.cols;
  source.num_rows = static_cast<std::int32_t>(ids.rows);
  source.cols = kernels::Divisor::of(ids.cols);
  source.num_tokens_pointer = num_tokens.kind == NumTokens::Kind::pointer ? num_tokens.pointer : nullptr;
  source.num_tokens = num_tokens.kind == NumTokens::Kind::value ? num_tokens.value : source.num_rows;
  return source;
}

kernels::DispatchTable dispatch_table(std::span<const std::int32_t> table,
                                      std::span<const std::int32_t> offsets, std::int32_t num_experts,
                                      std::int64_t slot_offset) {
  require_pointer("dispatch table", table.data(), static_cast<std::int64_t>(table.size()));
  // A model without experts has a table without entries; a pointer that is never followed says that there is
  // one.
  static constexpr std::int32_t kNoEntry = -1;
  return {table.data() != nullptr ? table.data() : &kNoEntry, offsets.empty() ? nullptr : offsets.data(),
          num_experts, slot_offset};
}

kernels::RouteArguments arguments_of(const RouteProblem& problem) {
  validate(problem);
  require_pointer("token_lora_mapping", problem.token_lora_mapping.data(), problem.topk_ids.rows);
  kernels::RouteArguments arguments;
  arguments.source = id_source(problem.topk_ids, problem.num_tokens);
  if (!problem.table.empty() || !problem.offsets.empty())
    arguments.dispatch =
        dispatch_table(problem.table, problem.offsets, problem.num_experts, problem.slot_offset);
  arguments.remap = {problem.token_lora_mapping.data(),
                     problem.num_local_experts,
                     problem.max_loras,
                     problem.shared_outer,
                     problem.shared_outer ? 1 : problem.num_local_experts,
                     problem.no_adapter == NoAdapter::base_slot};
  set_blocks(arguments, problem.num_buckets(), problem.block_size, problem.sentinels);
  return arguments;
}

kernels::RouteArguments arguments_of(const AlignProblem& problem) {
  validate(problem);
  kernels::RouteArguments arguments;
  arguments.source = id_source(problem.ids, problem.num_tokens);
  arguments.remap = {nullptr, problem.num_buckets, 1, false, 0,
                     true};  // every slot has adapter 0 of 1: the id stays
  set_blocks(arguments, problem.num_buckets, problem.block_size, problem.sentinels);
  return arguments;
}

kernels::RemapRule remap_rule(const RemapProblem& problem) {
  require_pointer("token_lora_mapping", problem.token_lora_mapping.data(), problem.topk_ids.rows);
  return {problem.token_lora_mapping.data(),
          problem.num_experts,
          problem.max_loras,
          problem.shared_outer,
          problem.shared_outer ? 1 : problem.num_experts,
          problem.no_adapter == NoAdapter::base_slot};
}

void set_outputs(kernels::RouteArguments& arguments, const AlignOutput& output) {
  require_pointer("sorted_token_ids", output.sorted_token_ids, arguments.capacity);
  require_pointer("expert_ids", output.expert_ids, arguments.capacity / arguments.block_size.value);
  require_pointer("num_tokens_post_padded", output.num_tokens_post_padded, 1);
  arguments.sorted_token_ids = output.sorted_token_ids;
  arguments.expert_ids = output.expert_ids;
  arguments.num_tokens_post_padded = output.num_tokens_post_padded;
}

void require_workspace(const ExecutionContext& context, std::size_t bytes) {
  if (bytes == 0) return;
  require_pointer("workspace", context.workspace, static_cast<std::int64_t>(bytes));
  if (context.workspace_size < bytes)
    reject("workspace size", std::to_string(context.workspace_size),
           "it must be at least workspace_bytes = " + std::to_string(bytes));
}

}  // namespace eplora::cuda
