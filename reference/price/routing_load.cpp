// SPDX-License-Identifier: Apache-2.0
#include "reference/price/routing_load.h"

#include <algorithm>
#include <string>

#include "reference/check.h"
#include "reference/price/slot_server.h"

namespace eplora {
namespace {

/// Counts of one token shard; `touched` keeps the reset as short as the shard.
class Buckets {
 public:
  explicit Buckets(std::int64_t size) : count_(size) {}
  void add(std::int64_t bucket) {
    if (count_[bucket]++ == 0) touched_.push_back(bucket);
  }
  /// `visit(bucket, count)` for every bucket with slots, in no promised order; then all are empty again.
  template <class Visit>
  void drain(const Visit& visit) {
    for (const std::int64_t bucket : touched_) {
      visit(bucket, count_[bucket]);
      count_[bucket] = 0;
    }
    touched_.clear();
  }

 private:
  std::vector<std::int32_t> count_;
  std::vector<std::int64_t> touched_;
};

}  // namespace

ClassLoad routing_load(const Deployment& deployment, const LayerClass& c, const RoutingTrace& trace,
                       std::int32_t max_loras, std::int64_t block_size) {
  validate(trace);
  require_in_range("block size (B)", block_size, 1, kMaxIndex);
  require_in_range("adapters (L)", max_loras, 0, kMaxIndex);
  const SlotServer server(c);
  const std::int64_t P = server.num_physical(), L = max_loras;
  if (saturating_product(P, L) > (std::int64_t{1} << 28))
    reject("buckets", std::to_string(P) + " experts * " + std::to_string(L) + " adapters",
           "the product must be at most 2^28");
  Buckets base(P), lora(P * L);
  ClassLoad out;
  const std::int32_t ep = c.layout.placement.ep(), shards = c.layout.places.front().token_shards;
  std::vector<RankLoad> cells(static_cast<std::size_t>(shards) * ep);
  std::int32_t home = 0;
  for (std::int32_t d = 0; d < shards; ++d) {
    RankLoad* const of_ep = cells.data() + static_cast<std::int64_t>(d) * ep;
    const Range tokens = contiguous_part(trace.num_tokens, shards, d);
    for (std::int64_t t = tokens.begin; t < tokens.end; ++t) {
      while (t >= contiguous_part(trace.num_tokens, deployment.home_parts, home).end) ++home;
      const std::int32_t l = trace.lora(t);
      for (std::int32_t k = 0; k < trace.top_k; ++k) {
        const std::int32_t physical = server.serve(trace.id(t, k), t, k, trace.top_k, home);
        if (physical < 0) {
          ++out.unrouted_slots;
          continue;
        }
        base.add(physical);
        if (L == 0 || l >= L) continue;
        lora.add(physical + std::max(l, 0) * P);
        if (l >= 0) ++of_ep[server.ep_of(physical)].adapter_slots;
      }
    }
    base.drain([&](std::int64_t physical, std::int64_t count) {
      RankLoad& load = of_ep[server.ep_of(static_cast<std::int32_t>(physical))];
      load.slots += count;
      load.blocks += (count + block_size - 1) / block_size;
      ++load.experts_used;
    });
    lora.drain([&](std::int64_t bucket, std::int64_t count) {
      RankLoad& load = of_ep[server.ep_of(static_cast<std::int32_t>(bucket % P))];
      load.lora_slots += count;
      load.lora_blocks += (count + block_size - 1) / block_size;
      ++load.virtual_experts_used;
    });
  }
  std::int64_t total = 0;
  for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank) {
    const RankPlace& at = c.layout.place(rank);
    out.ranks.push_back(cells[static_cast<std::int64_t>(at.token_shard) * ep + at.ep_rank]);
    total += out.ranks.back().slots;
    out.max_slots = std::max(out.max_slots, out.ranks.back().slots);
  }
  out.mean_slots = static_cast<double>(total) / deployment.num_ranks;
  return out;
}

}  // namespace eplora
