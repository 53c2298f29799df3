// SPDX-License-Identifier: Apache-2.0
#include "reference/price/priced_model.h"

#include <algorithm>
#include <set>
#include <string>

#include "reference/check.h"

namespace eplora {

std::vector<std::int32_t> layers_of_class(const Deployment& deployment, std::size_t index,
                                          const PricedModel& model) {
  const LayerClassSpec& spec = deployment.classes.at(index).spec;
  const std::set<std::int32_t> known(model.moe_layers.begin(), model.moe_layers.end());
  if (!spec.layers.empty()) {
    std::vector<std::int32_t> layers = spec.layers;
    std::sort(layers.begin(), layers.end());
    for (const std::int32_t layer : layers)
      if (!known.contains(layer))
        reject("class " + spec.name + ": layer", std::to_string(layer),
               "the model has no experts in this layer");
    return layers;
  }
  std::set<std::int32_t> rest = known;
  for (const LayerClass& other : deployment.classes)
    for (const std::int32_t layer : other.spec.layers) rest.erase(layer);
  return {rest.begin(), rest.end()};
}

std::int64_t shared_intermediate(const LayerClass& layer_class, const PricedModel& model) {
  const std::int64_t own = layer_class.spec.shared_experts.intermediate;
  return own == 0 ? model.intermediate : own;
}

namespace {

void validate_class(const LayerClass& c, const PricedModel& model, const AdapterSizes& adapters) {
  const std::string at = "class " + c.spec.name + ": ";
  require_in_range(at + "num_experts of the placement", c.spec.placement.num_experts, model.num_experts,
                   model.num_experts);
  if (c.spec.shared_experts.kind == SharedExpertsKind::fused &&
      shared_intermediate(c, model) != model.intermediate)
    reject(at + "shared_experts.intermediate", std::to_string(shared_intermediate(c, model)),
           "fused shared experts are as wide as the routed ones, " + std::to_string(model.intermediate));
  for (std::int32_t rank = 0; rank < c.layout.mesh.num_ranks(); ++rank) {
    c.columns(model.intermediate, rank);
    if (c.spec.shared_experts.kind == SharedExpertsKind::sharded)
      c.shared_columns(shared_intermediate(c, model), rank);
    if (adapters.max_loras > 0) c.lora_rank_rows(adapters.max_lora_rank, rank);
  }
}

/// No less than the bytes of the class on all ranks together, scales left out; 2^62 stands for more.
std::int64_t most_bytes(const LayerClass& c, std::int64_t layers, const PricedModel& model,
                        const ElementBytes& bytes, const AdapterSizes& adapters) {
  const RankPlace& place = c.layout.place(0);
  std::int64_t slots = std::int64_t{c.spec.shared_experts.count} * place.ep;
  std::int64_t columns = shared_intermediate(c, model);
  for (const auto& experts : c.layout.placement.experts_of_rank())
    slots += static_cast<std::int64_t>(experts.size());
  columns = std::max(columns, place.moe_tp * c.columns(model.intermediate, 0).width());
  const std::int64_t of_adapters =
      saturating_product(saturating_product(adapters.max_loras, adapters.max_lora_rank), bytes.adapters);
  std::int64_t product = 1;
  for (const std::int64_t factor : {layers, slots, std::int64_t{place.num_ranks / place.ep},
                                    model.halves() + 1, model.hidden + columns, bytes.weights + of_adapters})
    product = saturating_product(product, factor);
  return product;
}

}  // namespace

void validate_price(const Deployment& deployment, const PricedModel& model, const ElementBytes& bytes,
                    const AdapterSizes& adapters) {
  constexpr std::int64_t kMaxSize = std::int64_t{1}
                                    << 20;  // products of two sizes and a count stay in 64 bits
  require_in_range("experts of the model", model.num_experts, 1, kMaxSize);
  require_in_range("experts per token", model.top_k, 1, model.num_experts);
  require_in_range("hidden size", model.hidden, 1, kMaxSize);
  require_in_range("intermediate size", model.intermediate, 1, kMaxSize);
  if (model.moe_layers.empty())
    reject("layers with experts", "none", "the model must have at least one (num_hidden_layers)");
  for (const std::int64_t size : {bytes.weights, bytes.adapters, bytes.activations})
    require_in_range("bytes of an element", size, 1, 8);
  require_in_range("adapters (L)", adapters.max_loras, 0, kMaxSize);
  require_in_range("max_lora_rank (R)", adapters.max_lora_rank, 1, kMaxSize);
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 62;
  std::size_t covered = 0;
  std::int64_t most = 0;
  for (std::size_t c = 0; c < deployment.classes.size(); ++c) {
    const std::size_t layers = layers_of_class(deployment, c, model).size();
    covered += layers;
    validate_class(deployment.classes[c], model, adapters);
    const auto here =
        most_bytes(deployment.classes[c], static_cast<std::int64_t>(layers), model, bytes, adapters);
    if (here >= kMostBytes - most)
      reject("adapters (L) x max_lora_rank (R)",
             std::to_string(adapters.max_loras) + " x " + std::to_string(adapters.max_lora_rank),
             "with this model the bytes of all ranks must stay below 2^62");
    most += here;
  }
  if (covered != model.moe_layers.size())
    reject(
        "layers in a class", std::to_string(covered),
        "the model has " + std::to_string(model.moe_layers.size()) + " layers with experts, each in a class");
}

}  // namespace eplora
