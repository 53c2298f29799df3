// SPDX-License-Identifier: Apache-2.0
// Smaller routing cases: fewer tokens first, then smaller sizes, then simpler values and policies.
#include <algorithm>

#include "property_tests/generators/routing_cases.h"

namespace eplora::suite {
namespace {

template <class C>
class Smaller {
 public:
  explicit Smaller(const C& c) : c_(std::make_shared<const C>(c)) {}

  template <class Change>
  void edit(Change change) {
    result.push_back([c = c_, change] {
      C copy = *c;
      change(copy);
      return copy;
    });
  }
  /// A field towards `low`.
  template <class Field>
  void lower(Field C::*field, std::int64_t low) {
    for (const std::int64_t value : towards(low, static_cast<std::int64_t>((*c_).*field)))
      edit([field, value](C& copy) { copy.*field = static_cast<Field>(value); });
  }
  template <class Field>
  void plain(Field C::*field, Field value) {
    if ((*c_).*field != value) edit([field, value](C& copy) { copy.*field = value; });
  }
  void tokens() {
    for (const auto& [begin, end] : token_ranges(c_->batch.T))
      edit([begin = begin, end = end](C& copy) {
        erase_tokens(copy.batch, begin, end);
        if constexpr (requires { copy.mapping; }) erase_tokens(copy.mapping, begin, end);
      });
  }
  void ids(std::int64_t E) {
    for (auto& make : simpler_ids(c_->batch, E))
      edit([make = std::move(make)](C& copy) { copy.batch = make(); });
  }
  /// Fewer adapter slots, the mapping with them.
  void narrow_adapters() {
    for (const std::int64_t L : towards(1, c_->max_loras))
      edit([L](C& copy) {
        narrow_mapping(copy.mapping, copy.max_loras, static_cast<std::int32_t>(L));
        copy.max_loras = static_cast<std::int32_t>(L);
      });
  }
  void mapping(std::int32_t L) {
    for (auto& make : simpler_mapping(c_->mapping, L))
      edit([make = std::move(make)](C& copy) { copy.mapping = make(); });
  }

  Shrinks<C> result;

 private:
  std::shared_ptr<const C> c_;
};

/// Without the experts [begin, end) and their entries; ids behind them move down, theirs become invalid.
DispatchCase without_experts(const DispatchCase& c, std::int64_t begin, std::int64_t end) {
  DispatchCase copy = c;
  const std::int64_t first = c.offsets.empty() ? begin : c.offsets[begin],
                     last = c.offsets.empty() ? end : c.offsets[end];
  copy.table.erase(copy.table.begin() + first, copy.table.begin() + last);
  for (std::int64_t i = first; i < last; ++i)  // local ids stay without gaps
    for (std::int32_t& local : copy.table)
      if (c.table[i] >= 0 && local > c.table[i]) --local;
  if (!c.offsets.empty()) {
    copy.offsets.erase(copy.offsets.begin() + begin, copy.offsets.begin() + end);
    for (std::size_t e = static_cast<std::size_t>(begin); e < copy.offsets.size(); ++e)
      copy.offsets[e] -= static_cast<std::int32_t>(last - first);
  }
  copy.num_experts -= static_cast<std::int32_t>(end - begin);
  for (std::int64_t& id : copy.batch.ids)
    if (id >= c.num_experts)
      id = std::max<std::int64_t>(id - (last - first), copy.num_experts);
    else if (id >= begin)
      id = id >= end ? id - (end - begin) : copy.num_experts;
  return copy;
}

/// Without one of an expert's replicas.
DispatchCase without_replica(const DispatchCase& c, std::size_t entry) {
  DispatchCase copy = c;
  copy.table.erase(copy.table.begin() + static_cast<std::ptrdiff_t>(entry));
  for (std::int32_t& offset : copy.offsets)
    if (offset > static_cast<std::int32_t>(entry)) --offset;
  return copy;
}

/// The first `E` experts, and no replicas any more.
DispatchCase with_fewer_experts(const DispatchCase& c, std::int32_t E) {
  DispatchCase copy = c;
  copy.num_experts = E;
  copy.table.resize(c.offsets.empty() ? E : c.offsets[E]);
  if (!c.offsets.empty()) copy.offsets.resize(E + 1);
  return copy;
}

DispatchCase without_replicas(const DispatchCase& c) {
  DispatchCase copy = c;
  copy.offsets.clear();
  copy.table.clear();
  for (std::int32_t e = 0; e < c.num_experts; ++e) copy.table.push_back(c.table[c.offsets[e]]);
  return copy;
}

}  // namespace

Shrinks<DispatchCase> DispatchCase::shrinks() const {
  Smaller<DispatchCase> smaller(*this);
  smaller.tokens();
  if (!offsets.empty()) smaller.edit([](DispatchCase& c) { c = without_replicas(c); });
  for (const std::int64_t E : towards(1, num_experts))
    smaller.edit([E](DispatchCase& c) { c = with_fewer_experts(c, static_cast<std::int32_t>(E)); });
  for (const auto& [begin, end] : token_ranges(num_experts))
    if (end - begin < num_experts)
      smaller.edit([begin = begin, end = end](DispatchCase& c) { c = without_experts(c, begin, end); });
  for (std::size_t e = 0; e + 1 < std::min<std::size_t>(offsets.size(), 24); ++e)
    for (std::int32_t i = offsets[e]; offsets[e + 1] - offsets[e] > 1 && i < offsets[e + 1]; ++i)
      smaller.edit([i](DispatchCase& c) { c = without_replica(c, static_cast<std::size_t>(i)); });
  smaller.lower(&DispatchCase::slot_offset, 0);
  smaller.ids(num_experts);
  for (std::size_t i = 0; i < std::min<std::size_t>(table.size(), 24); ++i) {
    if (table[i] < -1) smaller.edit([i](DispatchCase& c) { c.table[i] = -1; });
    if (table[i] > 0) smaller.edit([i](DispatchCase& c) { c.table[i] = 0; });
    if (table[i] >= 0) smaller.edit([i](DispatchCase& c) { c.table[i] = -1; });
  }
  return smaller.result;
}

Shrinks<RemapCase> RemapCase::shrinks() const {
  Smaller<RemapCase> smaller(*this);
  smaller.tokens();
  smaller.plain(&RemapCase::shared_outer, false);
  smaller.plain(&RemapCase::no_adapter, NoAdapter::base_slot);
  smaller.lower(&RemapCase::num_experts, 1);
  smaller.lower(&RemapCase::max_loras, 1);
  for (const std::int64_t E : towards(1, num_experts))
    smaller.edit([E](RemapCase& c) {
      narrow_ids(c.batch, c.num_experts, E);
      c.num_experts = static_cast<std::int32_t>(E);
    });
  smaller.narrow_adapters();
  smaller.ids(num_experts);
  smaller.mapping(max_loras);
  return smaller.result;
}

Shrinks<AlignCase> AlignCase::shrinks() const {
  Smaller<AlignCase> smaller(*this);
  smaller.tokens();
  smaller.plain(&AlignCase::sentinels, Sentinels::keep);
  smaller.lower(&AlignCase::block_size, 1);
  smaller.lower(&AlignCase::num_buckets, 1);
  for (const std::int64_t V : towards(1, num_buckets))
    smaller.edit([V](AlignCase& c) {
      narrow_ids(c.batch, c.num_buckets, V);
      c.num_buckets = static_cast<std::int32_t>(V);
    });
  smaller.ids(num_buckets);
  return smaller.result;
}

Shrinks<RouteCase> RouteCase::shrinks() const {
  Smaller<RouteCase> smaller(*this);
  smaller.tokens();
  for (auto& make : simpler_layouts(layout))
    smaller.edit([make = std::move(make)](RouteCase& c) {
      c.layout = make();
      c.rank = std::min(c.rank, num_ranks_of(c.layout) - 1);
    });
  for (auto& make : simpler_layouts(layout))
    smaller.edit([make = std::move(make)](RouteCase& c) {
      const std::int32_t E = c.layout.placement.num_experts;
      c.layout = make();
      narrow_ids(c.batch, E, c.layout.placement.num_experts);
      c.rank = num_ranks_of(c.layout) - 1;
    });
  smaller.lower(&RouteCase::rank, 0);
  smaller.plain(&RouteCase::dispatch, false);
  smaller.plain(&RouteCase::shared_outer, false);
  smaller.plain(&RouteCase::no_adapter, NoAdapter::base_slot);
  smaller.plain(&RouteCase::sentinels, Sentinels::keep);
  smaller.lower(&RouteCase::slot_offset, 0);
  smaller.lower(&RouteCase::block_size, 1);
  smaller.lower(&RouteCase::max_loras, 1);
  smaller.narrow_adapters();
  smaller.ids(layout.placement.num_experts);
  smaller.mapping(max_loras);
  return smaller.result;
}

Shrinks<LayoutCase> LayoutCase::shrinks() const {
  Smaller<LayoutCase> smaller(*this);
  for (auto& make : simpler_layouts(layout))
    smaller.edit([make = std::move(make)](LayoutCase& c) { c.layout = make(); });
  smaller.lower(&LayoutCase::columns_per_rank, 1);
  smaller.lower(&LayoutCase::num_tokens, 0);
  return smaller.result;
}

}  // namespace eplora::suite
