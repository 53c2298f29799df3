// SPDX-License-Identifier: Apache-2.0
#include "reference/price/memory.h"

namespace eplora {
namespace {

/// What an EP rank holds, counted once for all ranks that share it.
struct Held {
  std::int64_t routed = 0, fused = 0, replicas = 0;
  std::int64_t experts() const { return routed + fused; }
};

std::vector<Held> held_experts(const LayerClass& c, const PricedModel& model) {
  std::vector<Held> held(c.layout.placement.ep());
  for (std::int32_t e = 0; e < c.layout.placement.num_experts(); ++e) {
    const std::vector<ExpertReplica>& replicas = c.layout.placement.replicas(e);
    for (std::size_t j = 0; j < replicas.size(); ++j) {
      Held& here = held[replicas[j].ep_rank];
      ++(e < model.num_experts ? here.routed : here.fused);
      if (j > 0 && e < model.num_experts) ++here.replicas;
    }
  }
  return held;
}

RankMemory layer_memory(const LayerClass& c, const Held& held, std::int32_t rank, const PricedModel& model,
                        const ElementBytes& bytes, const AdapterSizes& adapters) {
  const std::int64_t H = model.hidden, halves = model.halves();
  const PaddedRange columns = c.columns(model.intermediate, rank);
  const std::int64_t column = (halves + 1) * H * bytes.weights;  // one column of one expert, all matrices
  RankMemory out;
  out.routed_weights = held.routed * columns.width() * column;
  out.shared_weights = held.fused * columns.width() * column;
  out.replicas = held.replicas * columns.width() * column;
  out.padding = held.experts() * columns.padding * column;
  const SharedExpertsSpec& shared = c.spec.shared_experts;
  const std::int64_t wide = shared_intermediate(c, model);
  if (shared.kind == SharedExpertsKind::replicated) out.shared_weights = shared.count * wide * column;
  if (shared.kind == SharedExpertsKind::sharded)
    out.shared_weights = shared.count * c.shared_columns(wide, rank).size() * column;
  if (adapters.max_loras == 0) return out;
  const std::int64_t R = adapters.max_lora_rank, X = held.experts();
  const std::int64_t outer = c.spec.shared_outer ? 1 : X;
  const std::int64_t a_rows = c.lora_rank_rows(R, rank).size(), b_rows = c.hidden_rows(H, rank).size();
  const std::int64_t per_column = X * (halves + 1) * R;                         // gate_up B and down A
  const std::int64_t uncut = outer * halves * a_rows * H + outer * b_rows * R;  // gate_up A and down B
  out.one_adapter = (uncut + per_column * columns.real.size()) * bytes.adapters;
  const std::int64_t elements = uncut + per_column * columns.width();
  constexpr std::int64_t kScales = 2 * 4;  // float32 for gate_up and for down
  out.adapter_buffers = adapters.max_loras * (elements * bytes.adapters + kScales);
  out.padding += adapters.max_loras * per_column * columns.padding * bytes.adapters;
  return out;
}

}  // namespace

std::vector<RankMemory> memory_of_ranks(const Deployment& deployment, const PricedModel& model,
                                        const ElementBytes& bytes, const AdapterSizes& adapters) {
  validate_price(deployment, model, bytes, adapters);
  std::vector<RankMemory> out(deployment.num_ranks);
  for (std::size_t index = 0; index < deployment.classes.size(); ++index) {
    const LayerClass& c = deployment.classes[index];
    const auto layers = static_cast<std::int64_t>(layers_of_class(deployment, index, model).size());
    const std::vector<Held> held = held_experts(c, model);
    for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank) {
      const RankMemory one =
          layer_memory(c, held[c.layout.place(rank).ep_rank], rank, model, bytes, adapters);
      const std::int64_t times = c.layers_of(layers, rank).size();
      out[rank].routed_weights += times * one.routed_weights;
      out[rank].shared_weights += times * one.shared_weights;
      out[rank].adapter_buffers += times * one.adapter_buffers;
      out[rank].one_adapter += times * one.one_adapter;
      out[rank].replicas += times * one.replicas;
      out[rank].padding += times * one.padding;
    }
  }
  return out;
}

}  // namespace eplora
