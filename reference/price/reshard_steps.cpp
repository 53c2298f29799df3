// SPDX-License-Identifier: Apache-2.0
#include "reference/price/reshard_steps.h"

#include <map>
#include <set>
#include <string>
#include <utility>

#include "reference/check.h"

namespace eplora::resharding {
namespace {

template <class RangeOf>
Cut cut_of(std::int32_t parts, std::vector<std::int32_t> index, const RangeOf& range) {
  Cut cut{std::vector<Range>(parts), std::move(index)};
  std::vector<bool> known(parts, false);
  for (std::size_t rank = 0; rank < cut.index.size(); ++rank) {
    if (known[cut.index[rank]]) continue;
    known[cut.index[rank]] = true;
    cut.parts[cut.index[rank]] = range(static_cast<std::int32_t>(rank));
  }
  return cut;
}

std::vector<std::int32_t> one_index(const LayerClass& c, std::int32_t RankPlace::*which) {
  std::vector<std::int32_t> index;
  for (const RankPlace& place : c.layout.places) index.push_back(place.*which);
  return index;
}

Cut column_cut(const LayerClass& c, std::int64_t I) {
  return cut_of(c.layout.place(0).moe_tp, one_index(c, &RankPlace::moe_tp_rank),
                [&](std::int32_t rank) { return c.columns(I, rank).real; });
}

Cut shared_cut(const LayerClass& c, std::int64_t I, std::int64_t shared) {
  if (c.spec.shared_experts.kind == SharedExpertsKind::fused) return column_cut(c, I);
  return cut_of(c.shared_parts, c.shared_index,
                [&](std::int32_t rank) { return c.shared_columns(shared, rank); });
}

Cut uncut(const LayerClass& c) { return {{{0, 1}}, std::vector<std::int32_t>(c.layout.places.size(), 0)}; }

void seek_experts(Step& step, std::int32_t num_experts) {
  std::map<Ranks, std::int32_t> known;
  std::vector<std::int32_t> place_of(num_experts);
  for (std::int32_t e = 0; e < num_experts; ++e) {
    std::set<std::int32_t> on;  // a table may name an expert twice on one EP rank
    for (const ExpertReplica& replica : step.before->layout.placement.replicas(e)) on.insert(replica.ep_rank);
    const Ranks key(on.begin(), on.end());
    const auto [found, is_new] = known.emplace(key, static_cast<std::int32_t>(known.size()));
    if (is_new) step.places.push_back(key);
    place_of[e] = found->second;
  }
  for (const std::vector<std::int32_t>& experts : step.after->layout.placement.experts_of_rank()) {
    std::map<std::int32_t, std::int64_t> count;
    for (const std::int32_t e : std::set<std::int32_t>(experts.begin(), experts.end()))
      if (e < num_experts) ++count[place_of[e]];
    std::vector<Sought>& here = step.sought.emplace_back();
    for (const auto& [places, number] : count) here.push_back({places, number});
  }
}

void find_holders(Kind& kind, const LayerClass& before, std::int32_t stage) {
  const std::size_t parts = kind.before.parts.size(), slices = before.layout.place(0).moe_tp;
  const std::size_t ep = kind.per_expert ? before.layout.place(0).ep : 1;
  const bool rows = kind.per_expert && !kind.is_columns;
  kind.holders.resize(ep * parts);
  if (rows) kind.beside.resize(ep * parts * slices);
  for (const RankPlace& place : before.layout.places) {
    if (before.stage[place.rank] != stage) continue;
    const std::size_t at = (kind.per_expert ? place.ep_rank : 0) * parts + kind.before.index[place.rank];
    kind.holders[at].push_back(place.rank);
    if (rows) kind.beside[at * slices + place.moe_tp_rank].push_back(place.rank);
  }
}

void check_same_model(const LayerClass& a, const LayerClass& b, const PricedModel& model,
                      const AdapterSizes& adapters) {
  const auto shared = [&](const LayerClass& c) {
    const SharedExpertsSpec& spec = c.spec.shared_experts;
    return spec.count == 0
               ? std::string("none")
               : std::to_string(spec.count) + " of " + std::to_string(shared_intermediate(c, model));
  };
  if (shared(a) != shared(b))
    reject(
        "shared experts of class " + b.spec.name, shared(b),
        "class " + a.spec.name + " of the other layout has " + shared(a) + "; both must hold the same model");
  if (adapters.max_loras > 0 && a.spec.shared_outer != b.spec.shared_outer)
    reject("shared_outer of class " + b.spec.name, b.spec.shared_outer ? "true" : "false",
           "class " + a.spec.name + " of the other layout says otherwise; both must hold the same adapters");
}

void add_kinds(Step& step, const PricedModel& model, const ElementBytes& bytes,
               const AdapterSizes& adapters) {
  const LayerClass &a = *step.before, &b = *step.after;
  const std::int64_t H = model.hidden, I = model.intermediate, halves = model.halves();
  const std::int64_t L = adapters.max_loras, R = adapters.max_lora_rank;
  const std::int64_t column = (halves + 1) * H * bytes.weights;
  const std::int64_t lora_column = L * (halves + 1) * R * bytes.adapters;
  const auto add = [&](Cut before, Cut after, bool per_expert, std::int64_t weights, std::int64_t lora) {
    step.kinds.push_back({std::move(before), std::move(after), per_expert, false, weights, lora, {}, {}});
  };
  const auto rows = [&](bool per_expert, std::int64_t number) {  // gate_up A and down B
    const auto lora_rank = [&](const LayerClass& c) {
      return cut_of(c.lora_rank_parts, c.lora_rank_index,
                    [&](std::int32_t rank) { return c.lora_rank_rows(R, rank); });
    };
    const auto hidden = [&](const LayerClass& c) {
      return cut_of(c.hidden_parts, c.hidden_index,
                    [&](std::int32_t rank) { return c.hidden_rows(H, rank); });
    };
    add(lora_rank(a), lora_rank(b), per_expert, 0, number * L * halves * H * bytes.adapters);
    add(hidden(a), hidden(b), per_expert, 0, number * L * R * bytes.adapters);
  };
  add(column_cut(a, I), column_cut(b, I), true, column, lora_column);
  step.kinds.back().is_columns = true;
  const std::int64_t shared = shared_intermediate(a, model), count = a.spec.shared_experts.count;
  const bool both_fused = a.spec.shared_experts.kind == SharedExpertsKind::fused &&
                          b.spec.shared_experts.kind == SharedExpertsKind::fused;
  if (count > 0)
    add(shared_cut(a, I, shared), shared_cut(b, I, shared), false, count * column,
        both_fused ? count * lora_column : 0);
  if (L > 0) {
    constexpr std::int64_t kScales = 2 * 4;  // float32 for gate_up and for down
    add(uncut(a), uncut(b), false, 0, L * kScales);
    rows(!a.spec.shared_outer, 1);
    if (both_fused && !a.spec.shared_outer) rows(false, count);
  }
  for (Kind& kind : step.kinds) find_holders(kind, a, step.stage_before);
}

/// `[number of MoE layers]`: class and stage of each.
std::vector<std::pair<std::size_t, std::int32_t>> stands(const Deployment& deployment,
                                                         const PricedModel& model) {
  std::map<std::int32_t, std::pair<std::size_t, std::int32_t>> of_layer;
  for (std::size_t c = 0; c < deployment.classes.size(); ++c) {
    const std::vector<std::int32_t> layers = layers_of_class(deployment, c, model);
    const std::int32_t stages = deployment.classes[c].stages;
    for (std::int32_t stage = 0; stage < stages; ++stage) {
      const Range part = contiguous_part(static_cast<std::int64_t>(layers.size()), stages, stage);
      for (std::int64_t i = part.begin; i < part.end; ++i) of_layer[layers[i]] = {c, stage};
    }
  }
  std::vector<std::pair<std::size_t, std::int32_t>> out;
  for (const auto& [layer, stand] : of_layer) out.push_back(stand);
  return out;
}

}  // namespace

std::vector<Step> steps_of(const Deployment& from, const Deployment& to, const PricedModel& model,
                           const ElementBytes& bytes, const AdapterSizes& adapters) {
  const auto before = stands(from, model), after = stands(to, model);
  std::map<std::pair<std::pair<std::size_t, std::int32_t>, std::pair<std::size_t, std::int32_t>>,
           std::int64_t>
      alike;
  for (std::size_t l = 0; l < before.size(); ++l) ++alike[{before[l], after[l]}];
  std::vector<Step> steps;
  for (const auto& [stand, layers] : alike) {
    Step& step = steps.emplace_back();
    step.before = &from.classes[stand.first.first];
    step.after = &to.classes[stand.second.first];
    step.stage_before = stand.first.second;
    step.stage_after = stand.second.second;
    step.layers = layers;
    check_same_model(*step.before, *step.after, model, adapters);
    seek_experts(step, model.num_experts);
    add_kinds(step, model, bytes, adapters);
  }
  return steps;
}

}  // namespace eplora::resharding
