// SPDX-License-Identifier: Apache-2.0
// The price of a deployment under a trace: memory, load, traffic and estimated time of every rank. A class of
// layers is counted once and taken as often as the rank's pipeline stage has layers of it.
#pragma once

#include <string>
#include <vector>

#include "reference/price/memory.h"
#include "reference/price/routing_load.h"
#include "reference/price/time.h"
#include "reference/price/traffic.h"

namespace eplora {

struct PriceOptions {
  ElementBytes bytes;
  AdapterSizes adapters;
  std::int64_t block_size = 64;  ///< B
  TrafficRules traffic;
  Rates rates;
};

struct ClassPrice {
  std::string name;
  std::int64_t num_layers = 0;  ///< of the model, over all stages
  ClassLoad load;               ///< one layer
  ClassTraffic traffic;         ///< one layer
  ClassTime time;               ///< one layer
};

/// Sums over the layers of a rank's stage.
struct RankPrice {
  RankMemory memory;
  std::int64_t slots = 0, blocks = 0, padding = 0, lora_blocks = 0, lora_padding = 0;  ///< padding in rows
  RankTraffic traffic;
  RankTime time;
};

struct Price {
  std::vector<RankPrice> ranks;
  std::vector<ClassPrice> classes;
  double seconds = 0;  ///< all layers, one after the other, each at the speed of its slowest ranks
  /// The worst class's max over mean of slots in one layer.
  double imbalance() const;
};

/// `trace` has the columns that the router chose; fused shared experts get columns of their own. Throws
/// `InvalidArgument` for sizes that do not fit each other.
Price price_deployment(const Deployment& deployment, const PricedModel& model, const RoutingTrace& trace,
                       const PriceOptions& options);

/// One number that the price rests on, as it is printed.
struct Assumption {
  std::string name, value, source;
};
std::vector<Assumption> assumptions_of(const Deployment& deployment, const PriceOptions& options,
                                       const Price& price);

}  // namespace eplora
