// SPDX-License-Identifier: Apache-2.0
// Layouts of a number of ranks, enumerated: axis orders, factorizations, placements, attention's data
// parallelism. What the judges or the sharded layer refuse is counted by reason; the rest is ranked by their
// price.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/layout_input.h"
#include "cli/progress.h"

namespace eplora {

enum class SearchObjective : std::uint8_t { memory, balance, bytes };

struct SearchRequest {
  ModelConfig model;
  std::int32_t ranks = 1;
  SearchObjective objective = SearchObjective::memory;
  std::int32_t node = 8;            ///< ranks of one node: where bytes become expensive
  std::int64_t tokens = 4096;       ///< T of a batch, all ranks together
  std::int32_t max_loras = 8;       ///< L
  std::int64_t max_lora_rank = 16;  ///< R
  std::string trace = "zipf";       ///< as `parse_synthetic_trace` takes it
};

/// A layout that passed every judge, with its price (reference/price).
struct RankedLayout {
  LayoutLine line;
  std::int64_t memory = 0;  ///< bytes on the fullest rank: expert weights and adapter buffers, all layers
  double balance = 1;       ///< slots on the busiest rank over the mean
  std::int64_t bytes = 0;   ///< bytes that the busiest rank sends, all layers
  std::int64_t between_bytes = 0;  ///< of those that leave the node, on the rank with most of them
  double seconds = 0;              ///< estimate, all layers
};

struct SearchResult {
  std::vector<RankedLayout> ranked;  ///< best first
  std::int64_t tried = 0;
  std::map<std::string, std::int64_t> dropped;  ///< reason, how often
};

SearchResult search_layouts(const SearchRequest& request, Progress& progress);

}  // namespace eplora
