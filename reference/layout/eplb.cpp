// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/eplb.h"

#include <algorithm>
#include <numeric>
#include <queue>
#include <string>

#include "reference/check.h"

namespace eplora {
namespace {

constexpr std::int64_t kMostLoad = std::int64_t{1} << 40;  // times 2^20 replicas stays inside int64
constexpr std::int32_t kMostSlots = 1 << 20;

/// Something to pack: a group of experts, or a replica of one.
struct Item {
  std::int32_t id = 0;
  double weight = 0;
};

/// Packs of equal size that are being filled.
class Packs {
 public:
  Packs(std::int32_t count, std::size_t capacity, bool distinct)
      : items_(count), load_(count, 0.0), capacity_(capacity), distinct_(distinct) {}

  /// Into the lightest pack with room that lacks the id; where all with room have it, by an exchange.
  void put(const Item& item) {
    std::int32_t lightest = -1, with_room = -1;
    for (std::int32_t q = 0; q < static_cast<std::int32_t>(items_.size()); ++q) {
      if (items_[q].size() == capacity_) continue;
      if (with_room < 0 || load_[q] < load_[with_room]) with_room = q;
      if (distinct_ && has(q, item.id)) continue;
      if (lightest < 0 || load_[q] < load_[lightest]) lightest = q;
    }
    if (lightest >= 0)
      add(lightest, item);
    else
      exchange(with_room, item);
  }
  ExpertRows ids() const {
    ExpertRows rows;
    for (const std::vector<Item>& pack : items_) {
      std::vector<std::int32_t>& row = rows.emplace_back();
      for (const Item& item : pack) row.push_back(item.id);
      std::sort(row.begin(), row.end());
    }
    return rows;
  }

 private:
  bool has(std::int32_t pack, std::int32_t id) const {
    return std::any_of(items_[pack].begin(), items_[pack].end(),
                       [&](const Item& item) { return item.id == id; });
  }
  void add(std::int32_t pack, const Item& item) {
    items_[pack].push_back(item);
    load_[pack] += item.weight;
  }
  // `open` has room but holds the id already. A pack without the id (there is one: an id has at most as many
  // items as there are packs) is full of distinct ids, more than `open` has: one of them `open` lacks. That
  // one moves to `open` and makes room; of all such moves, the one that leaves the lesser load.
  void exchange(std::int32_t open, const Item& item) {
    std::int32_t from = -1;
    std::size_t at = 0;
    double best = 0;
    for (std::int32_t r = 0; r < static_cast<std::int32_t>(items_.size()); ++r) {
      if (has(r, item.id)) continue;
      for (std::size_t i = 0; i < items_[r].size(); ++i) {
        if (has(open, items_[r][i].id)) continue;
        const double moved = items_[r][i].weight;
        const double left = std::max(load_[open] + moved, load_[r] - moved + item.weight);
        if (from >= 0 && left >= best) continue;
        best = left;
        from = r;
        at = i;
      }
    }
    const Item moved = items_[from][at];
    items_[from][at] = item;
    load_[from] += item.weight - moved.weight;
    add(open, moved);
  }

  std::vector<std::vector<Item>> items_;
  std::vector<double> load_;
  std::size_t capacity_;
  bool distinct_;
};

ExpertRows packed(std::vector<Item> items, std::int32_t packs, bool distinct) {
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  });
  Packs filled(packs, items.size() / packs, distinct);
  for (const Item& item : items) filled.put(item);
  return filled.ids();
}

double heaviest(const ExpertRows& rows, const std::vector<std::int64_t>& load) {
  const std::vector<double> loads = rank_loads(rows, load);
  return *std::max_element(loads.begin(), loads.end());
}

/// One node's experts, counted from 0, on its ranks: the better of what was packed and the start map.
ExpertRows balanced_node(const std::vector<std::int64_t>& load, std::int32_t ranks, std::int32_t slots,
                         bool distinct) {
  const auto E = static_cast<std::int32_t>(load.size());
  const std::vector<std::int32_t> replicas = replica_counts(load, slots, distinct ? ranks : slots);
  std::vector<Item> items;
  for (std::int32_t e = 0; e < E; ++e)
    items.insert(items.end(), replicas[e], {e, static_cast<double>(load[e]) / replicas[e]});
  ExpertRows rows = packed(std::move(items), ranks, distinct), start = start_map(E, ranks, slots);
  for (std::vector<std::int32_t>& row : start) std::sort(row.begin(), row.end());
  return heaviest(rows, load) <= heaviest(start, load) ? rows : start;
}

/// Experts of every node: groups of equal number, packed by their loads.
ExpertRows experts_of_node(const std::vector<std::int64_t>& load, const EplbSizes& sizes) {
  const std::int32_t of_group = static_cast<std::int32_t>(load.size()) / sizes.groups;
  std::vector<Item> groups(sizes.groups);
  for (std::int32_t g = 0; g < sizes.groups; ++g) {
    const auto first = load.begin() + std::ptrdiff_t{g} * of_group;
    groups[g] = {g, static_cast<double>(std::accumulate(first, first + of_group, std::int64_t{0}))};
  }
  ExpertRows nodes = packed(std::move(groups), sizes.nodes, true);
  for (std::vector<std::int32_t>& node : nodes) {
    std::vector<std::int32_t> experts;
    for (const std::int32_t g : node)
      for (std::int32_t i = 0; i < of_group; ++i) experts.push_back(g * of_group + i);
    node = std::move(experts);
  }
  return nodes;
}

void require_divides(const std::string& what, std::int64_t value, const std::string& by,
                     std::int64_t divisor) {
  if (value % divisor != 0)
    reject(what, std::to_string(value), "it must be divisible by " + by + " = " + std::to_string(divisor));
}

void check(const std::vector<std::int64_t>& load, const EplbSizes& sizes) {
  const auto E = static_cast<std::int64_t>(load.size());
  require_in_range("number of experts", E, 1, kMostSlots);
  for (const std::int64_t one : load) require_in_range("load of an expert", one, 0, kMostLoad);
  require_in_range("slots", sizes.slots, E, kMostSlots);
  require_in_range("EP ranks", sizes.ranks, 1, sizes.slots);
  require_in_range("nodes", sizes.nodes, 1, sizes.ranks);
  require_in_range("groups", sizes.groups, 1, E);
  require_divides("slots", sizes.slots, "EP ranks", sizes.ranks);
  require_divides("EP ranks", sizes.ranks, "nodes", sizes.nodes);
  require_divides("number of experts", E, "groups", sizes.groups);
  require_divides("groups", sizes.groups, "nodes", sizes.nodes);
  const std::int64_t a_rank = sizes.slots / sizes.ranks, a_node = E / sizes.nodes;
  if (sizes.distinct && a_rank > a_node)
    reject("slots", std::to_string(sizes.slots),
           std::to_string(a_rank) + " a rank are more than the " + std::to_string(a_node) +
               " experts of a node: two replicas of one would share a rank, which distinct ranks forbid");
}

}  // namespace

std::vector<std::int32_t> replica_counts(const std::vector<std::int64_t>& load, std::int32_t slots,
                                         std::int32_t most) {
  const auto E = static_cast<std::int64_t>(load.size());
  require_in_range("most replicas of an expert", most, 1, kMostSlots);
  require_in_range("slots", slots, E, std::min<std::int64_t>(kMostSlots, saturating_product(E, most)));
  std::vector<std::int32_t> replicas(load.size(), 1);
  const auto later = [&](std::int32_t a, std::int32_t b) {  // whether b's replicas carry more than a's
    const std::int64_t of_a = load[a] * replicas[b], of_b = load[b] * replicas[a];
    if (of_a != of_b) return of_a < of_b;
    return replicas[a] != replicas[b] ? replicas[a] > replicas[b] : a > b;
  };
  std::vector<std::int32_t> all(load.size());
  std::iota(all.begin(), all.end(), 0);
  std::priority_queue<std::int32_t, std::vector<std::int32_t>, decltype(later)> waiting(later,
                                                                                        std::move(all));
  for (std::int64_t slot = E; slot < slots; ++slot) {
    while (replicas[waiting.top()] == most) waiting.pop();
    const std::int32_t e = waiting.top();
    waiting.pop();
    ++replicas[e];
    waiting.push(e);
  }
  return replicas;
}

ExpertRows start_map(std::int32_t num_experts, std::int32_t ranks, std::int32_t slots) {
  require_in_range("number of experts", num_experts, 1, kMostSlots);
  require_in_range("slots", slots, num_experts, kMostSlots);
  require_in_range("ranks", ranks, 1, slots);
  require_divides("slots", slots, "ranks", ranks);
  ExpertRows rows(ranks);
  for (std::int32_t p = 0; p < slots; ++p) rows[p / (slots / ranks)].push_back(p % num_experts);
  return rows;
}

std::vector<double> rank_loads(const ExpertRows& experts_of_rank, const std::vector<std::int64_t>& load) {
  std::vector<std::int32_t> replicas(load.size(), 0);
  for (const auto& row : experts_of_rank)
    for (const std::int32_t e : row) ++replicas.at(e);
  std::vector<double> loads;
  for (const auto& row : experts_of_rank) {
    double& sum = loads.emplace_back(0.0);
    for (const std::int32_t e : row) sum += static_cast<double>(load[e]) / replicas[e];
  }
  return loads;
}

double imbalance(const ExpertRows& experts_of_rank, const std::vector<std::int64_t>& load) {
  const std::vector<double> loads = rank_loads(experts_of_rank, load);
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  if (sum == 0) return 1;
  return *std::max_element(loads.begin(), loads.end()) * static_cast<double>(loads.size()) / sum;
}

ExpertBalance balance_experts(const std::vector<std::int64_t>& load, const EplbSizes& sizes) {
  check(load, sizes);
  ExpertBalance out;
  for (const std::vector<std::int32_t>& experts : experts_of_node(load, sizes)) {
    std::vector<std::int64_t> of_node;
    for (const std::int32_t e : experts) of_node.push_back(load[e]);
    for (std::vector<std::int32_t>& row :
         balanced_node(of_node, sizes.ranks / sizes.nodes, sizes.slots / sizes.nodes, sizes.distinct)) {
      for (std::int32_t& e : row) e = experts[e];
      out.experts_of_rank.push_back(std::move(row));
    }
  }
  out.log2phy.resize(load.size());
  for (const std::vector<std::int32_t>& row : out.experts_of_rank)
    for (const std::int32_t e : row) {
      out.log2phy[e].push_back(static_cast<std::int32_t>(out.phy2log.size()));
      out.phy2log.push_back(e);
    }
  return out;
}

}  // namespace eplora
