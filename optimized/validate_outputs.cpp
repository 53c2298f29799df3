// SPDX-License-Identifier: Apache-2.0
#include "optimized/validate_outputs.h"

#include <string>

#include "reference/check.h"

namespace eplora {

void validate_outputs(const DispatchProblem& problem, const DispatchOutput& output) {
  require_pointer("local_ids", output.local_ids, problem.topk_ids.size());
}

void validate_outputs(const RemapProblem& problem, const RemapOutput& output) {
  require_pointer("virtual_ids", output.virtual_ids, problem.topk_ids.size());
  require_pointer("token_lora_mask", output.token_lora_mask, problem.topk_ids.rows);
}

void validate_outputs(const AlignOutput& output, std::int64_t capacity) {
  require_pointer("sorted_token_ids", output.sorted_token_ids, capacity);
  require_pointer("expert_ids", output.expert_ids, capacity);
  require_pointer("num_tokens_post_padded", output.num_tokens_post_padded, 1);
}

void validate_outputs(const RouteProblem& problem, const RouteOutput& output, std::int64_t capacity) {
  validate_outputs(output.blocks, capacity);
  require_pointer("token_lora_mask", output.token_lora_mask, problem.topk_ids.rows);
}

void validate_outputs(const SliceProblem& problem, const BufferView& buffers) {
  const BufferShape& shape = *problem.shape;
  if (buffers.tensor.size() != shape.layers.size())
    reject("buffer view layers", std::to_string(buffers.tensor.size()),
           "it must have the buffer shape's " + std::to_string(shape.layers.size()) + " layers");
  require_pointer("scale", buffers.scale, shape.scale_elements());
  for (std::size_t n = 0; n < shape.layers.size(); ++n) {
    if (!shape.layers[n].layer_id.has_value()) continue;
    for (BufferTensor tensor : kBufferTensors)
      if (shape.active(n, tensor))
        require_pointer(
            "layer " + std::to_string(*shape.layers[n].layer_id) + " " + std::string(to_string(tensor)),
            buffers.tensor[n][static_cast<std::size_t>(tensor)], shape.slot_elements(tensor));
  }
}

}  // namespace eplora
