// SPDX-License-Identifier: Apache-2.0
// A receiver asks for all experts that stand on the same EP ranks in one go, so the work grows with the
// number of messages, not of elements.
#include "reference/price/reshard.h"

#include <algorithm>
#include <utility>

#include "reference/check.h"
#include "reference/price/reshard_steps.h"

namespace eplora {
namespace {

using resharding::Kind, resharding::Ranks, resharding::Step, resharding::Sought;

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
    const Kind& columns = step.kinds.front();
    slices_ = columns.before.parts.size();
    slice_ = part_at(columns, columns.after.parts[columns.after.index[rank_]].begin);
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
    for (std::size_t part = part_at(kind, missing.begin);
         part < parts.size() && parts[part].begin < missing.end; ++part) {
      const std::int64_t elements = times * overlap(parts[part], missing).size();
      if (elements == 0) continue;
      const std::int32_t sender = source(kind, places, part);
      out_.weights += elements * kind.weights;
      out_.adapters += elements * kind.adapters;
      if (from_[sender] == 0) senders_.push_back(sender);
      from_[sender] += elements * (kind.weights + kind.adapters);
    }
  }

  /// The part of `kind.before` that element `at` is in.
  static std::size_t part_at(const Kind& kind, std::int64_t at) {
    const std::vector<Range>& parts = kind.before.parts;
    return std::partition_point(parts.begin(), parts.end(), [&](const Range& one) { return one.end <= at; }) -
           parts.begin();
  }

  std::int32_t source(const Kind& kind, const Ranks& places, std::size_t part) const {
    const auto all = [&](std::int32_t place) -> const Ranks& { return kind.held(place, part); };
    if (kind.beside.empty()) return nearest(places, all);
    const auto with_columns = [&](std::int32_t place) -> const Ranks& {
      return kind.beside[(place * kind.before.parts.size() + part) * slices_ + slice_];
    };
    for (const bool near : {true, false}) {
      if (const std::int32_t one = pick(places, with_columns, near); one >= 0) return one;
      if (const std::int32_t one = pick(places, all, near); one >= 0) return one;
    }
    return -1;
  }

  template <class Held>
  std::int32_t nearest(const Ranks& places, const Held& held) const {
    const std::int32_t near = pick(places, held, true);
    return near >= 0 ? near : pick(places, held, false);
  }

  /// Of the ranks that hold it - on the receiver's node if `near` -, place after place, the one whose number
  /// is the sum of the receiver's digits in base n, mod n; -1 where there is none.
  template <class Held>
  std::int32_t pick(const Ranks& places, const Held& held, bool near) const {
    const std::int32_t first = near ? rank_ / rules_.ranks_per_node * rules_.ranks_per_node : 0;
    const std::int64_t end = near ? std::int64_t{first} + rules_.ranks_per_node : kMaxIndex;
    const auto candidates = [&](std::int32_t place) {
      const Ranks& ranks = held(place);
      const auto low = std::lower_bound(ranks.begin(), ranks.end(), first);
      return std::pair{low, std::lower_bound(low, ranks.end(), end) - low};
    };
    std::ptrdiff_t n = 0;
    for (const std::int32_t place : places) n += candidates(place).second;
    if (n == 0) return -1;
    std::ptrdiff_t at = 0;
    for (std::ptrdiff_t rest = n > 1 ? rank_ : 0; rest > 0; rest /= n) at += rest % n;
    at %= n;
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
  std::size_t slices_ = 1,
              slice_ = 0;  ///< of the columns before; which one the receiver's first column is in
};

}  // namespace

Reshard reshard(const Deployment& from, const Deployment& to, const PricedModel& model,
                const ElementBytes& bytes, const AdapterSizes& adapters, const ReshardRules& rules) {
  validate_price(from, model, bytes, adapters);
  validate_price(to, model, bytes, adapters);
  require_in_range("ranks of a node", rules.ranks_per_node, 1, kMaxIndex);
  const std::vector<Step> steps = resharding::steps_of(from, to, model, bytes, adapters);
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
