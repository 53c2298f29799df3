// SPDX-License-Identifier: Apache-2.0
// Expert-parallel load balancing: from the load that experts had, how many replicas each gets and which rank
// holds which. The algorithm is that of DeepSeek's EPLB (github deepseek-ai/EPLB, eplb.py): groups of experts
// are packed onto nodes, experts replicated inside a node, replicas packed onto the node's ranks. Ours
// differs in three points: replicas of one expert stand on distinct ranks, sizes that do not fit are refused,
// and it is never worse than the start map.
//
// Ties, all of them, so that equal loads give equal maps:
//   a further replica: largest load/replicas, then fewest replicas, then lowest expert
//   what is packed next: the heaviest, then the lowest expert or group
//   where to: the lightest pack with room, then the lowest
// The slots of a rank are in the order of their experts.
#pragma once

#include <cstdint>
#include <vector>

namespace eplora {

struct EplbSizes {
  std::int32_t ranks = 1;   ///< EP ranks; those of a node follow each other
  std::int32_t nodes = 1;   ///< 1: the global policy; more: the hierarchical one
  std::int32_t groups = 1;  ///< of experts that a router chooses among, contiguous; each stays on one node
  std::int32_t slots = 0;   ///< P physical experts in all, P/ranks a rank
  bool distinct = true;     ///< replicas of one expert on distinct ranks; false: as in DeepSeek's code
};

/// Global experts of every EP rank in local order.
using ExpertRows = std::vector<std::vector<std::int32_t>>;

struct ExpertBalance {
  ExpertRows experts_of_rank;         ///< `[ranks][P/ranks]`
  std::vector<std::int32_t> phy2log;  ///< `[P]`: the expert in slot p; p stands on rank p / (P/ranks)
  std::vector<std::vector<std::int32_t>> log2phy;  ///< `[E]`: an expert's slots, ascending
};

/// Places E experts of the given loads (tokens, or anything proportional to them; `[E]`, each in [0, 2^40]).
/// Every expert has a slot, every rank P/ranks slots, a group's experts stand on one node. The largest load
/// of a rank, where each expert's is shared evenly by its replicas, is at most that of the start map in the
/// same node (on one node: slot p holds expert p mod E; without redundant slots that is the contiguous
/// placement). Throws `InvalidArgument` unless nodes divide ranks and groups, groups divide E, ranks divide
/// P, P >= E, and with `distinct` P/ranks <= E/nodes: beyond that two replicas of an expert must share a
/// rank. Time O(P * ranks), and P^2 at worst where distinct ranks ask for exchanges.
ExpertBalance balance_experts(const std::vector<std::int64_t>& load, const EplbSizes& sizes);

/// Replicas `[E]` of experts in `slots` slots, at most `most` each: each slot beyond the first E goes where
/// load/replicas is largest. No other choice of that many has a smaller largest load/replicas.
std::vector<std::int32_t> replica_counts(const std::vector<std::int64_t>& load, std::int32_t slots,
                                         std::int32_t most);

/// What engines start from before a load is known: slot p of `slots` holds expert p mod E.
ExpertRows start_map(std::int32_t num_experts, std::int32_t ranks, std::int32_t slots);

/// Load of every rank, each expert's shared evenly by all places where it stands.
std::vector<double> rank_loads(const ExpertRows& experts_of_rank, const std::vector<std::int64_t>& load);

/// Largest over mean of `rank_loads`; 1 where nothing is loaded.
double imbalance(const ExpertRows& experts_of_rank, const std::vector<std::int64_t>& load);

}  // namespace eplora
