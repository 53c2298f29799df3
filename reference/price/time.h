// SPDX-License-Identifier: Apache-2.0
// Seconds of one layer, estimated from stated rates: a lower-bound model of the roofline kind, every number
// of it a field here. Phases follow each other without overlap; a phase ends when its slowest rank ends.
//   dispatch, combine   latency + max over link kinds of max(sent, received) / (rate * efficiency)
//   reductions          the same for bytes sent in rings (home_gather, all_reduce, shared_reduce, lora)
//   experts             max(flops / (peak * efficiency), bytes / (memory rate * efficiency))
// with, c = 2 gated, 1 not; w columns of the rank; B rows a block; X' experts, V' virtual experts in use:
//   flops  blocks*B * 2(c+1)Hw + lora_blocks*B * 2(c R'H + c w R + R w + H'R) + home tokens * shared experts
//   bytes  X'(c+1)Hw + V'(c R'H + (c+1) w R + H'R) + shared experts + slots (2H + (c+1)w) activations
#pragma once

#include <string>
#include <vector>

#include "reference/price/traffic.h"

namespace eplora {

/// Defaults: one NVIDIA H100 SXM5 80GB, data sheet: 989.4 TFLOP/s dense BF16, 3.35 TB/s HBM3, NVLink 900 GB/s
/// both ways, hence 450 one way; 400 Gbit/s InfiniBand NDR a GPU. The efficiencies are estimates.
struct Rates {
  double flops = 989.4e12;           ///< 1/s
  double memory = 3.35e12;           ///< bytes/s
  double inside = 450e9;             ///< bytes/s a rank sends inside a node
  double between = 50e9;             ///< bytes/s a rank sends to other nodes
  double flops_efficiency = 0.5;     ///< in (0, 1]
  double memory_efficiency = 0.8;    ///< in (0, 1]
  double link_efficiency = 0.8;      ///< in (0, 1]
  double exchange_latency = 10e-6;   ///< s, a dispatch or combine that sends anything
  double reduction_latency = 10e-6;  ///< s, every kind of ring that sends anything
};

/// Throws `InvalidArgument` unless every rate is positive and finite, efficiencies at most 1, latencies >= 0.
void validate(const Rates& rates);

/// Seconds of one rank in one layer.
struct RankTime {
  double dispatch = 0, experts = 0, combine = 0, reductions = 0;
  double total() const { return dispatch + experts + combine + reductions; }
};

struct ClassTime {
  std::vector<RankTime> ranks;  ///< `[num_ranks]`
  /// `[stages]`: of each phase the slowest rank of the stage, summed.
  std::vector<double> layer_of_stage;
};

ClassTime class_time(const Deployment& deployment, const LayerClass& layer_class, const PricedModel& model,
                     std::int64_t num_tokens, const ClassLoad& load, const ClassTraffic& traffic,
                     const ElementBytes& bytes, const AdapterSizes& adapters, std::int64_t block_size,
                     const Rates& rates);

}  // namespace eplora
