// SPDX-License-Identifier: Apache-2.0
#include "reference/price/time.h"

#include <algorithm>
#include <cmath>

#include "reference/check.h"

namespace eplora {
namespace {

double seconds_on(const LinkBytes& bytes, const Rates& rates) {
  return std::max(static_cast<double>(bytes.inside) / rates.inside,
                  static_cast<double>(bytes.between) / rates.between) /
         rates.link_efficiency;
}

double exchange_seconds(const LinkBytes& sent, const LinkBytes& received, const Rates& rates) {
  if (sent.total() + received.total() == 0) return 0;
  return rates.exchange_latency + std::max(seconds_on(sent, rates), seconds_on(received, rates));
}

double expert_seconds(const Deployment& deployment, const LayerClass& c, const PricedModel& model,
                      std::int64_t num_tokens, const RankLoad& load, const ElementBytes& bytes,
                      const AdapterSizes& adapters, std::int64_t block_size, const Rates& rates,
                      std::int32_t rank) {
  const auto H = static_cast<double>(model.hidden), halves = static_cast<double>(model.halves());
  const auto w = static_cast<double>(c.columns(model.intermediate, rank).width());
  const auto B = static_cast<double>(block_size);
  const double expert = (halves + 1) * H * w;
  double flops = 2 * static_cast<double>(load.blocks) * B * expert;
  double moved = static_cast<double>(load.experts_used) * expert * static_cast<double>(bytes.weights);
  moved +=
      static_cast<double>(load.slots) * (2 * H + (halves + 1) * w) * static_cast<double>(bytes.activations);
  if (adapters.max_loras > 0) {
    const auto R = static_cast<double>(adapters.max_lora_rank);
    const auto a_rows = static_cast<double>(c.lora_rank_rows(adapters.max_lora_rank, rank).size());
    const auto b_rows = static_cast<double>(c.hidden_rows(model.hidden, rank).size());
    const double lora = halves * a_rows * H + (halves + 1) * w * R + b_rows * R;
    flops += 2 * static_cast<double>(load.lora_blocks) * B * lora;
    moved += static_cast<double>(load.virtual_experts_used) * lora * static_cast<double>(bytes.adapters);
  }
  const SharedExpertsSpec& shared = c.spec.shared_experts;
  if (shared.kind == SharedExpertsKind::replicated || shared.kind == SharedExpertsKind::sharded) {
    const std::int64_t wide = shared_intermediate(c, model);
    const std::int64_t mine =
        shared.kind == SharedExpertsKind::sharded ? c.shared_columns(wide, rank).size() : wide;
    const double elements = static_cast<double>(shared.count) * (halves + 1) * H * static_cast<double>(mine);
    flops += 2 * static_cast<double>(deployment.home_tokens(num_tokens, rank).size()) * elements;
    moved += elements * static_cast<double>(bytes.weights);
  }
  return std::max(flops / (rates.flops * rates.flops_efficiency),
                  moved / (rates.memory * rates.memory_efficiency));
}

}  // namespace

void validate(const Rates& rates) {
  const auto positive = [](const char* name, double value, double most) {
    if (!(value > 0) || !(value <= most) || !std::isfinite(value))
      reject(name, std::to_string(value),
             most == 1 ? "it must be above 0 and at most 1" : "it must be positive and finite");
  };
  constexpr double kAny = 1e30;
  positive("flops", rates.flops, kAny);
  positive("memory rate", rates.memory, kAny);
  positive("link rate inside a node", rates.inside, kAny);
  positive("link rate between nodes", rates.between, kAny);
  positive("flops efficiency", rates.flops_efficiency, 1);
  positive("memory efficiency", rates.memory_efficiency, 1);
  positive("link efficiency", rates.link_efficiency, 1);
  for (const double latency : {rates.exchange_latency, rates.reduction_latency})
    if (!(latency >= 0) || !std::isfinite(latency))
      reject("latency", std::to_string(latency), "it must be finite and not negative");
}

ClassTime class_time(const Deployment& deployment, const LayerClass& c, const PricedModel& model,
                     std::int64_t num_tokens, const ClassLoad& load, const ClassTraffic& traffic,
                     const ElementBytes& bytes, const AdapterSizes& adapters, std::int64_t block_size,
                     const Rates& rates) {
  validate(rates);
  ClassTime out;
  std::vector<RankTime> slowest(c.stages);
  for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank) {
    const RankTraffic& links = traffic.ranks[rank];
    RankTime time;
    time.dispatch = exchange_seconds(links.dispatch, links.dispatch_received, rates);
    time.combine = exchange_seconds(links.combine, links.combine_received, rates);
    for (const LinkBytes& ring : {links.home_gather, links.all_reduce, links.shared_reduce, links.lora})
      if (ring.total() > 0) time.reductions += rates.reduction_latency + seconds_on(ring, rates);
    time.experts = expert_seconds(deployment, c, model, num_tokens, load.ranks[rank], bytes, adapters,
                                  block_size, rates, rank);
    RankTime& most = slowest[c.stage[rank]];
    most.dispatch = std::max(most.dispatch, time.dispatch);
    most.experts = std::max(most.experts, time.experts);
    most.combine = std::max(most.combine, time.combine);
    most.reductions = std::max(most.reductions, time.reductions);
    out.ranks.push_back(time);
  }
  for (const RankTime& most : slowest) out.layer_of_stage.push_back(most.total());
  return out;
}

}  // namespace eplora
