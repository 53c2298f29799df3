// SPDX-License-Identifier: Apache-2.0
#include "reference/price/price.h"

#include <algorithm>
#include <cstdio>

#include "reference/check.h"

namespace eplora {
namespace {

void add(LinkBytes& sum, const LinkBytes& one, std::int64_t times) {
  sum += {one.inside * times, one.between * times};
}

void add_layers(RankPrice& sum, const ClassPrice& one, std::int32_t rank, std::int64_t times,
                std::int64_t block_size) {
  const RankLoad& load = one.load.ranks[rank];
  sum.slots += times * load.slots;
  sum.blocks += times * load.blocks;
  sum.padding += times * load.padding(block_size);
  sum.lora_blocks += times * load.lora_blocks;
  sum.lora_padding += times * load.lora_padding(block_size);
  for (const auto part : {&RankTraffic::dispatch, &RankTraffic::dispatch_received, &RankTraffic::combine,
                          &RankTraffic::combine_received, &RankTraffic::home_gather, &RankTraffic::all_reduce,
                          &RankTraffic::shared_reduce, &RankTraffic::lora})
    add(sum.traffic.*part, one.traffic.ranks[rank].*part, times);
  for (const auto phase :
       {&RankTime::dispatch, &RankTime::experts, &RankTime::combine, &RankTime::reductions})
    sum.time.*phase += static_cast<double>(times) * one.time.ranks[rank].*phase;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

}  // namespace

double Price::imbalance() const {
  double worst = 1;
  for (const ClassPrice& one : classes) worst = std::max(worst, one.load.imbalance());
  return worst;
}

Price price_deployment(const Deployment& deployment, const PricedModel& model, const RoutingTrace& trace,
                       const PriceOptions& options) {
  Price out;
  out.ranks.resize(deployment.num_ranks);
  const std::vector<RankMemory> memory = memory_of_ranks(deployment, model, options.bytes, options.adapters);
  for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank) out.ranks[rank].memory = memory[rank];
  for (std::size_t index = 0; index < deployment.classes.size(); ++index) {
    const LayerClass& c = deployment.classes[index];
    const bool fused = c.spec.shared_experts.kind == SharedExpertsKind::fused;
    RoutingTrace widened;
    if (fused)
      widened = with_fused_columns(trace, model.top_k, model.num_experts, c.spec.shared_experts.count);
    if (!fused) with_fused_columns({0, trace.top_k, {}, {}}, model.top_k, model.num_experts, 0);
    const RoutingTrace& seen = fused ? widened : trace;
    ClassPrice& one = out.classes.emplace_back();
    one.name = c.spec.name;
    one.num_layers = static_cast<std::int64_t>(layers_of_class(deployment, index, model).size());
    one.load = routing_load(deployment, c, seen, options.adapters.max_loras, options.block_size);
    one.traffic =
        class_traffic(deployment, c, model, seen, one.load, options.bytes, options.adapters, options.traffic);
    one.time = class_time(deployment, c, model, seen.num_tokens, one.load, one.traffic, options.bytes,
                          options.adapters, options.block_size, options.rates);
    for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank)
      add_layers(out.ranks[rank], one, rank, c.layers_of(one.num_layers, rank).size(), options.block_size);
    for (std::int32_t stage = 0; stage < c.stages; ++stage)
      out.seconds += one.time.layer_of_stage[stage] *
                     static_cast<double>(contiguous_part(one.num_layers, c.stages, stage).size());
  }
  return out;
}

std::vector<Assumption> assumptions_of(const Deployment& deployment, const PriceOptions& options,
                                       const Price& price) {
  const Rates& rates = options.rates;
  std::vector<Assumption> out = {
      {"priced", "MoE layers alone", "no attention, embeddings, router, norms, biases, workspace"},
      {"routing", "one trace for every layer", "the trace given"},
      {"bytes of a base weight", std::to_string(options.bytes.weights), "--dtype; scales not counted"},
      {"bytes of an adapter weight", std::to_string(options.bytes.adapters), "--adapter-dtype"},
      {"bytes of an activation on the wire", std::to_string(options.bytes.activations), "--activation-dtype"},
      {"adapters (L), rank (R)",
       std::to_string(options.adapters.max_loras) + ", " + std::to_string(options.adapters.max_lora_rank),
       "--adapters, --rank; every adapter takes a full buffer slot"},
      {"block size (B)", std::to_string(options.block_size), "--block-size"},
      {"ranks of a node", std::to_string(options.traffic.ranks_per_node),
       "--ranks-per-node; rank r is on node r / this"},
      {"token home", "one of " + std::to_string(deployment.home_parts) + " parts",
       "the attention grid's token axes; holders of a part share the sending"},
      {"messages", options.traffic.once_a_rank ? "once a (token, rank)" : "once a slot", "--per-slot"},
  };
  for (const ClassPrice& one : price.classes)
    out.push_back({"exchange of class " + one.name, std::string(to_string(one.traffic.exchange)),
                   one.traffic.exchange == Exchange::all_reduce
                       ? "ranks hold the tokens they compute: ring of 2 (g-1)/g N"
                       : "hidden states to ranks that lack them, partial sums back to the sender"});
  const std::vector<Assumption> speeds = {
      {"compute", number(rates.flops) + " FLOP/s x " + number(rates.flops_efficiency),
       "--tflops; default H100 SXM data sheet, dense BF16; the factor is an estimate"},
      {"memory", number(rates.memory) + " B/s x " + number(rates.memory_efficiency),
       "--memory-rate; default H100 SXM data sheet; the factor is an estimate"},
      {"link inside a node", number(rates.inside) + " B/s x " + number(rates.link_efficiency),
       "--inside-rate; default NVLink 4, one way; the factor is an estimate"},
      {"link between nodes", number(rates.between) + " B/s x " + number(rates.link_efficiency),
       "--between-rate; default 400 Gbit/s a GPU; the factor is an estimate"},
      {"latency of dispatch, of combine", number(rates.exchange_latency * 1e6) + " us", "an estimate"},
      {"latency of a ring", number(rates.reduction_latency * 1e6) + " us", "an estimate"},
      {"overlap", "none", "phases follow each other; each ends with its slowest rank"},
  };
  out.insert(out.end(), speeds.begin(), speeds.end());
  return out;
}

}  // namespace eplora
