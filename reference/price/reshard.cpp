// SPDX-License-Identifier: Apache-2.0
// Layers that stand alike - same class and stage before, same class and stage after - are counted once. So
// are experts: a receiver asks for those that stand on the same EP ranks in one go, and the work grows with
// the number of messages, not of elements.
#include "reference/price/reshard.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "reference/check.h"

namespace eplora {
namespace {

using Ranks = std::vector<std::int32_t>;

/// One dimension cut over the ranks of a class.
struct Cut {
  std::vector<Range> parts;         ///< ascending; some may be empty
  std::vector<std::int32_t> index;  ///< `[num_ranks]`
};

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

/// What moves in one way: a dimension that both layouts cut, and bytes of one of its elements.
struct Kind {
  Cut before, after;
  bool per_expert = false;  ///< else every rank of the layer holds it
  bool is_columns = false;  ///< of the routed experts: what is counted as experts and columns
  std::int64_t weights = 0, adapters = 0;
  std::vector<Ranks> holders;  ///< by EP rank (0 unless per_expert) and part of `before`, ascending
  const Ranks& held(std::int32_t ep_rank, std::size_t part) const {
    return holders[ep_rank * before.parts.size() + part];
  }
};

/// Experts that stand on the same EP ranks before, and how many of them an EP rank has after.
struct Sought {
  std::int32_t places = 0;  ///< index of `Step::places`
  std::int64_t experts = 0;
};

/// Layers that stand alike.
struct Step {
  const LayerClass* before = nullptr;
  const LayerClass* after = nullptr;
  std::int32_t stage_before = 0, stage_after = 0;
  std::int64_t layers = 0;
  std::vector<Kind> kinds;
  std::vector<Ranks> places;                ///< sets of EP ranks, ascending
  std::vector<std::vector<Sought>> sought;  ///< `[ep after]`
};

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
  const std::int32_t ep = kind.per_expert ? before.layout.place(0).ep : 1;
  kind.holders.resize(ep * kind.before.parts.size());
  for (const RankPlace& place : before.layout.places)
    if (before.stage[place.rank] == stage)
      kind.holders[(kind.per_expert ? place.ep_rank : 0) * kind.before.parts.size() +
                   kind.before.index[place.rank]]
          .push_back(place.rank);
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
    step.kinds.push_back({std::move(before), std::move(after), per_expert, false, weights, lora, {}});
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

Range overlap(const Range& a, const Range& b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

/// What one rank needs, has and asks for.
class Receiver {
 public:
  Receiver(std::int32_t rank, const ReshardRules& rules, RankReshard& out, std::vector<std::int64_t>& from)
      : rank_(rank), rules_(rules), out_(out), from_(from) {}

  void take(const Step& step) {
    const std::int32_t q = step.after->layout.place(rank_).ep_rank;
    const auto ranks_before = static_cast<std::int32_t>(step.before->stage.size());
    const bool has_layer = rank_ < ranks_before && step.before->stage[rank_] == step.stage_before;
    const std::int32_t had = has_layer ? step.before->layout.place(rank_).ep_rank : -1;
    static const Ranks kEveryone = {0};
    for (const Kind& kind : step.kinds) {
      if (!kind.per_expert) {
        take(kind, kEveryone, has_layer, step.layers);
        continue;
      }
      for (const Sought& sought : step.sought[q]) {
        const Ranks& places = step.places[sought.places];
        const bool has = has_layer && std::binary_search(places.begin(), places.end(), had);
        take(kind, places, has, step.layers * sought.experts);
      }
    }
  }

  /// Senders so far, in the order of their first message.
  const Ranks& senders() const { return senders_; }

 private:
  void take(const Kind& kind, const Ranks& places, bool has, std::int64_t times) {
    const Range need = kind.after.parts[kind.after.index[rank_]];
    Range have = has ? overlap(kind.before.parts[kind.before.index[rank_]], need) : Range{};
    if (have.size() == 0) have = {need.begin, need.begin};
    out_.kept += times * have.size() * (kind.weights + kind.adapters);
    if (kind.is_columns) {
      (have == need ? out_.whole : have.size() > 0 ? out_.partly : out_.arriving) += times;
      out_.columns_kept += times * have.size();
      out_.columns_arriving += times * (need.size() - have.size());
    }
    ask(kind, places, {need.begin, have.begin}, times);
    ask(kind, places, {have.end, need.end}, times);
  }

  /// The missing range, piece by piece as the senders hold it.
  void ask(const Kind& kind, const Ranks& places, const Range& missing, std::int64_t times) {
    if (missing.size() <= 0) return;
    const std::vector<Range>& parts = kind.before.parts;
    auto part = std::partition_point(parts.begin(), parts.end(),
                                     [&](const Range& one) { return one.end <= missing.begin; });
    for (; part != parts.end() && part->begin < missing.end; ++part) {
      const std::int64_t elements = times * overlap(*part, missing).size();
      if (elements == 0) continue;
      const std::int32_t sender = source(kind, places, part - parts.begin());
      out_.weights += elements * kind.weights;
      out_.adapters += elements * kind.adapters;
      if (from_[sender] == 0) senders_.push_back(sender);
      from_[sender] += elements * (kind.weights + kind.adapters);
    }
  }

  std::int32_t source(const Kind& kind, const Ranks& places, std::ptrdiff_t part) const {
    const std::int32_t first = rank_ / rules_.ranks_per_node * rules_.ranks_per_node;
    const std::int64_t end = std::int64_t{first} + rules_.ranks_per_node;
    const auto in_node = [&](std::int32_t place) {
      const Ranks& held = kind.held(place, part);
      const auto low = std::lower_bound(held.begin(), held.end(), first);
      const auto high = std::lower_bound(low, held.end(), end);
      return std::pair{low, high - low};
    };
    const auto everywhere = [&](std::int32_t place) {
      const Ranks& held = kind.held(place, part);
      return std::pair{held.begin(), held.end() - held.begin()};
    };
    if (const std::int32_t near = pick(places, in_node); near >= 0) return near;
    return pick(places, everywhere);
  }

  /// Of the candidates, place after place, the one number `rank_ mod n`; -1 where there is none.
  template <class Candidates>
  std::int32_t pick(const Ranks& places, const Candidates& candidates) const {
    std::ptrdiff_t n = 0;
    for (const std::int32_t place : places) n += candidates(place).second;
    if (n == 0) return -1;
    std::ptrdiff_t at = rank_ % n;
    for (const std::int32_t place : places) {
      const auto [begin, count] = candidates(place);
      if (at < count) return begin[at];
      at -= count;
    }
    return -1;
  }

  std::int32_t rank_;
  const ReshardRules& rules_;
  RankReshard& out_;
  std::vector<std::int64_t>& from_;  ///< bytes by sender, zero before and after
  Ranks senders_;
};

}  // namespace

Reshard reshard(const Deployment& from, const Deployment& to, const PricedModel& model,
                const ElementBytes& bytes, const AdapterSizes& adapters, const ReshardRules& rules) {
  validate_price(from, model, bytes, adapters);
  validate_price(to, model, bytes, adapters);
  require_in_range("ranks of a node", rules.ranks_per_node, 1, kMaxIndex);
  const std::vector<Step> steps = steps_of(from, to, model, bytes, adapters);
  Reshard out;
  out.ranks.resize(std::max(from.num_ranks, to.num_ranks));
  std::vector<std::int64_t> bytes_from(from.num_ranks, 0);
  for (std::int32_t rank = 0; rank < to.num_ranks; ++rank) {
    RankReshard& mine = out.ranks[rank];
    Receiver receiver(rank, rules, mine, bytes_from);
    for (const Step& step : steps)
      if (step.after->stage[rank] == step.stage_after) receiver.take(step);
    Ranks senders = receiver.senders();
    std::sort(senders.begin(), senders.end());
    for (const std::int32_t sender : senders) {
      const std::int64_t sum = std::exchange(bytes_from[sender], 0);
      const bool inside = sender / rules.ranks_per_node == rank / rules.ranks_per_node;
      const LinkBytes link = inside ? LinkBytes{sum, 0} : LinkBytes{0, sum};
      mine.received += link;
      out.ranks[sender].sent += link;
      if (rules.keep_messages) out.messages.push_back({sender, rank, sum});
    }
  }
  return out;
}

}  // namespace eplora
