// SPDX-License-Identifier: Apache-2.0
#include "reference/lora/delta_problem.h"

#include <cstring>
#include <string>

#include "reference/check.h"
#include "reference/lora/delta.h"

namespace eplora {
namespace {

void validate(const std::string& name, const DeltaBlocks& blocks, std::int64_t block_size) {
  require_in_range(name + ".capacity", blocks.capacity, 0, kMaxIndex);
  if (blocks.capacity % block_size != 0)
    reject(name + ".capacity", std::to_string(blocks.capacity),
           "it must be a multiple of block_size (B) " + std::to_string(block_size));
  require_pointer(name + ".sorted_token_ids", blocks.sorted_token_ids, blocks.capacity);
  require_pointer(name + ".expert_ids", blocks.expert_ids, blocks.capacity);
  require_pointer(name + ".num_tokens_post_padded", blocks.num_tokens_post_padded, 1);
}

void require_equal(std::string_view argument, std::int64_t value, std::int64_t expected,
                   std::string_view letters) {
  if (value != expected)
    reject(argument, std::to_string(value),
           "it must be " + std::string(letters) + " = " + std::to_string(expected));
}

}  // namespace

std::string_view to_string(DeltaProjection projection) {
  return projection == DeltaProjection::gate_up ? "gate_up" : "down";
}

std::int64_t DeltaProblem::A_tiles() const {
  return max_loras * (A_is_outer() ? outer_experts() : num_local_experts);
}
std::int64_t DeltaProblem::B_tiles() const {
  return max_loras * (A_is_outer() ? num_local_experts : outer_experts());
}
std::int64_t DeltaProblem::A_tile_elements() const {
  return projection == DeltaProjection::gate_up ? halves() * max_lora_rank * hidden
                                                : max_lora_rank * intermediate;
}
std::int64_t DeltaProblem::B_tile_elements() const { return output_columns() * max_lora_rank; }

void validate(const DeltaProblem& problem) {
  require_in_range("projection", static_cast<int>(problem.projection), 0, 1);
  require_in_range("dtype", static_cast<int>(problem.dtype), 0, static_cast<int>(DType::bf16));
  require_in_range("form", static_cast<int>(problem.form), 0, static_cast<int>(GateUpForm::interleaved));
  require_in_range("max_loras (L)", problem.max_loras, 0, kMaxIndex);
  require_in_range("num_local_experts (E)", problem.num_local_experts, 0, kMaxIndex);
  require_in_range("max_lora_rank (R)", problem.max_lora_rank, 1, kMaxIndex);
  require_in_range("hidden (H)", problem.hidden, 1, kMaxIndex);
  require_in_range("intermediate (i)", problem.intermediate, 1, kMaxIndex);
  require_in_range("num_tokens (T)", problem.num_tokens, 0, kMaxIndex);
  require_in_range("top_k (K)", problem.top_k, 1, kMaxIndex);
  require_in_range("block_size (B)", problem.block_size, 1, kMaxIndex);
  require_index_range(
      "n", saturating_product(problem.num_tokens, problem.top_k),
      "num_tokens=" + std::to_string(problem.num_tokens) + " * top_k=" + std::to_string(problem.top_k));
  require_index_range("V", saturating_product(problem.num_local_experts, problem.max_loras),
                      "num_local_experts=" + std::to_string(problem.num_local_experts) +
                          " * max_loras=" + std::to_string(problem.max_loras));
  require_pointer("A", problem.A, problem.A_tiles());
  require_pointer("B", problem.B, problem.B_tiles());
  require_pointer("scale", problem.scale, problem.max_loras);
  validate("per_expert", problem.per_expert, problem.block_size);
  if (problem.shared_outer) validate("shared", problem.shared, problem.block_size);
  require_equal("token_lora_mask elements", static_cast<std::int64_t>(problem.token_lora_mask.size()),
                problem.num_tokens, "T");
  require_pointer("token_lora_mask", problem.token_lora_mask.data(), problem.num_tokens);
  if (problem.projection == DeltaProjection::down) {
    require_equal("topk_weights elements", static_cast<std::int64_t>(problem.topk_weights.size()),
                  problem.slots(), "n");
    require_pointer("topk_weights", problem.topk_weights.data(), problem.slots());
  }
  const ActivationMatrix& input = problem.input;
  const bool gate_up = problem.projection == DeltaProjection::gate_up;
  require_in_range("input dtype", static_cast<int>(input.dtype), 0, static_cast<int>(DType::bf16));
  require_equal("input rows", input.rows, problem.input_rows(), gate_up ? "T" : "n");
  require_equal("input columns", input.cols, problem.input_columns(), gate_up ? "H" : "i");
  require_in_range("input row_stride", input.row_stride, input.cols, kMaxIndex);
  require_pointer("input", input.data, input.rows);
}

void validate_outputs(const DeltaProblem& problem, const DeltaOutput& output) {
  require_in_range("output row_stride", output.row_stride, problem.output_columns(), kMaxIndex);
  require_pointer("output", output.data, problem.slots());
}

namespace reference {
namespace {

/// The used prefix; the rest is nobody's to read.
RouteResult read(const std::string& name, const DeltaBlocks& blocks, const DeltaProblem& problem) {
  const std::int32_t used = *blocks.num_tokens_post_padded;
  require_in_range(name + ".num_tokens_post_padded", used, 0, blocks.capacity);
  if (used % problem.block_size != 0)
    reject(name + ".num_tokens_post_padded", std::to_string(used), "it must be a multiple of block_size (B)");
  RouteResult result;
  result.blocks.num_tokens_post_padded = used;
  result.blocks.sorted_token_ids.assign(blocks.sorted_token_ids, blocks.sorted_token_ids + used);
  result.blocks.expert_ids.assign(blocks.expert_ids, blocks.expert_ids + used / problem.block_size);
  result.token_lora_mask.assign(problem.token_lora_mask.begin(), problem.token_lora_mask.end());
  return result;
}

/// One layer that has this module alone.
LoraBuffers buffers_of(const DeltaProblem& problem) {
  const bool gate_up = problem.projection == DeltaProjection::gate_up;
  BufferShape shape;
  shape.layers = {BufferLayer{0, gate_up, !gate_up}};
  shape.max_loras = problem.max_loras;
  shape.max_lora_rank = problem.max_lora_rank;
  shape.local_experts = problem.num_local_experts;
  shape.hidden = problem.hidden;
  shape.intermediate = problem.intermediate;
  shape.gated = problem.gated;
  shape.form = problem.form;
  shape.shared_outer = problem.shared_outer;
  shape.dtype = problem.dtype;
  LoraBuffers buffers(shape);
  const auto fill = [&](BufferTensor tensor, const void* from) {
    const auto to = buffers.bytes(0, tensor);
    if (!to.empty()) std::memcpy(to.data(), from, to.size());
  };
  fill(gate_up ? BufferTensor::gate_up_A : BufferTensor::down_A, problem.A);
  fill(gate_up ? BufferTensor::gate_up_B : BufferTensor::down_B, problem.B);
  for (std::int32_t l = 0; l < problem.max_loras; ++l)
    buffers.scale(0, gate_up ? 0 : 1, l) = problem.scale[l];
  return buffers;
}

}  // namespace

void delta(const DeltaProblem& problem, const DeltaOutput& output) {
  validate(problem);
  validate_outputs(problem, output);
  const std::int64_t n = problem.slots(), columns = problem.output_columns();
  const RouteResult per_expert = read("per_expert", problem.per_expert, problem);
  const RouteResult shared = problem.shared_outer ? read("shared", problem.shared, problem) : RouteResult{};
  const DeltaRouting routing{&per_expert, &shared, problem.block_size, problem.top_k};
  const LoraBuffers buffers = buffers_of(problem);
  Matrix<float> input(problem.input.rows, problem.input.cols), sums(n, columns);
  for (std::int64_t row = 0; row < input.rows(); ++row)
    for (std::int64_t col = 0; col < input.cols(); ++col)
      input(row, col) =
          load_as_float(problem.input.data, problem.input.dtype, row * problem.input.row_stride + col);
  for (std::int64_t s = 0; s < n; ++s)
    std::memcpy(&sums(s, 0), output.data + s * output.row_stride,
                static_cast<std::size_t>(columns) * sizeof(float));
  if (problem.projection == DeltaProjection::gate_up)
    add_gate_up_delta<float>(buffers, 0, routing, input, sums);
  else
    add_down_delta<float>(buffers, 0, routing, problem.topk_weights, input, sums);
  for (std::int64_t s = 0; s < n; ++s)
    std::memcpy(output.data + s * output.row_stride, &sums(s, 0),
                static_cast<std::size_t>(columns) * sizeof(float));
}

}  // namespace reference
}  // namespace eplora
