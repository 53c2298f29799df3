// SPDX-License-Identifier: Apache-2.0
// Bugs of rank maps, groups and expert placement: backends that answer differently what a rank owns.
#include <algorithm>
#include <vector>

#include "property_tests/mutants/mutants.h"

namespace eplora::suite {
namespace {

/// Every rank's place through `change`.
template <class Change>
Layout places_changed(const LayoutSpec& spec, Change change) {
  Layout layout = make_layout(spec);
  for (RankPlace& place : layout.places) change(place);
  return layout;
}

/// The rank in the world stands for the rank in the expert group.
struct WorldRankAsEp : Mutated<WorldRankAsEp> {
  Layout layout(const LayoutSpec& spec) const override {
    Layout layout = make_layout(spec);
    for (RankPlace& place : layout.places) place.ep_rank = std::min(place.rank, place.ep - 1);
    return layout;
  }
};

/// Experts that do not divide evenly all go to the last rank.
struct UnevenExperts : Mutated<UnevenExperts> {
  Layout layout(const LayoutSpec& spec) const override {
    Layout layout = make_layout(spec);
    const std::int32_t E = spec.placement.num_experts, ep = layout.placement.ep();
    if (spec.placement.kind != PlacementKind::linear || E % ep == 0) return layout;
    std::vector<std::vector<std::int32_t>> table(ep);
    for (std::int32_t e = 0; e < E; ++e)
      table[std::min(E / ep == 0 ? ep - 1 : e / (E / ep), ep - 1)].push_back(e);
    layout.placement = Placement::table(E, std::move(table));
    return layout;
  }
};

/// Data parallelism is folded into tensor parallelism: columns are cut once for each token shard too.
struct DpInTp : Mutated<DpInTp> {
  Layout layout(const LayoutSpec& spec) const override {
    return places_changed(spec, [](RankPlace& place) {
      place.moe_tp_rank = place.token_shard * place.moe_tp + place.moe_tp_rank;
      place.moe_tp *= place.token_shards;
    });
  }
};

/// The number of experts is passed as the size of the expert group.
struct ExpertsAsGroup : Mutated<ExpertsAsGroup> {
  Layout layout(const LayoutSpec& spec) const override {
    return places_changed(spec, [&](RankPlace& place) { place.ep = spec.placement.num_experts; });
  }
};

/// The group of ranks with the same experts is used only where there is expert parallelism.
struct GroupOnlyWithEp : Mutated<GroupOnlyWithEp> {
  Layout layout(const LayoutSpec& spec) const override {
    return places_changed(spec, [](RankPlace& place) {
      if (place.ep == 1) place.token_shard = 0, place.token_shards = 1;
    });
  }
};

/// Extra groups are built in a fixed order of axes, whatever order the mesh has.
struct FixedOrder : Mutated<FixedOrder> {
  Layout layout(const LayoutSpec& spec) const override {
    LayoutSpec fixed = spec;
    std::stable_sort(fixed.axes.begin(), fixed.axes.end(),
                     [](const Axis& a, const Axis& b) { return a.name < b.name; });
    Layout layout = make_layout(spec);
    layout.mesh = make_layout(fixed).mesh;
    return layout;
  }
};

/// Tokens are scattered over the global group: a rank's token shard comes from its rank in the world.
struct WrongGroupOfTokens : Mutated<WrongGroupOfTokens> {
  Layout layout(const LayoutSpec& spec) const override {
    return places_changed(spec,
                          [](RankPlace& place) { place.token_shard = place.rank % place.token_shards; });
  }
};

/// Packing may put two replicas of an expert on one rank.
struct ReplicasTogether : Mutated<ReplicasTogether> {
  Layout layout(const LayoutSpec& spec) const override {
    Layout layout = make_layout(spec);
    std::vector<std::vector<std::int32_t>> rows = layout.placement.experts_of_rank();
    for (std::int32_t e = 0; e < layout.placement.num_experts(); ++e) {
      const auto& replicas = layout.placement.replicas(e);
      if (replicas.size() < 2 || replicas[0].ep_rank == replicas[1].ep_rank) continue;
      std::erase(rows[replicas[1].ep_rank], e);
      rows[replicas[0].ep_rank].push_back(e);
      layout.placement = Placement::table(layout.placement.num_experts(), rows);
      break;
    }
    return layout;
  }
};

/// The router spreads experts round-robin, the map was built for contiguous ones.
struct MapOfOtherPlacement : Mutated<MapOfOtherPlacement> {
  Layout layout(const LayoutSpec& spec) const override {
    LayoutSpec other = spec;
    if (spec.placement.kind == PlacementKind::round_robin) other.placement.kind = PlacementKind::linear;
    return make_layout(other);
  }
};

}  // namespace

std::vector<Mutant> layout_mutants() {
  return {
      mutant<WorldRankAsEp>("world-rank-as-ep", "vllm-project/vllm#46441",
                            "the rank in the world is taken for the rank in the expert group",
                            {{"ranks", 4}, {"E", 2}}),
      mutant<UnevenExperts>("uneven-experts", "vllm-project/vllm#21497",
                            "experts that do not divide evenly all go to the last rank", {{"ranks", 2}}),
      mutant<DpInTp>("dp-in-tp", "vllm-project/vllm#36240",
                     "columns are cut by data parallelism as well as by tensor parallelism", {{"ranks", 2}}),
      mutant<ExpertsAsGroup>("E-as-ep", "deepspeedai/DeepSpeed#7551",
                             "the number of experts is taken for the size of the expert group",
                             {{"E", 2}, {"ranks", 2}}),
      mutant<GroupOnlyWithEp>("edp-condition", "NVIDIA-NeMo/Megatron-Bridge#5229",
                              "token shards exist only where there is expert parallelism", {{"ranks", 2}}),
      mutant<FixedOrder>("rankgen-hardcoded", "NVIDIA/Megatron-LM#4261",
                         "groups are built in a fixed order of axes", {{"ranks", 4}, {"T", 1}}),
      mutant<WrongGroupOfTokens>("mask-wrong-group", "NVIDIA/Megatron-LM#7452",
                                 "token shards follow the rank in the world", {{"ranks", 4}}),
      mutant<ReplicasTogether>("eplb-dup", "deepseek-ai/EPLB#22",
                               "two replicas of an expert stand on one rank", {{"ranks", 2}}),
      mutant<MapOfOtherPlacement>("router-weight-mismatch", "vllm-project/vllm#23745",
                                  "the map is contiguous where the placement is round-robin",
                                  {{"ranks", 2}, {"E", 3}}),
  };
}

}  // namespace eplora::suite
