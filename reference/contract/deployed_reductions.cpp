// SPDX-License-Identifier: Apache-2.0
// P7 for reductions: what the members of every group contribute, counted piece by piece. A piece that is
// missing says the sum is too small, a piece that stands twice says that it is counted twice.
#include <algorithm>
#include <map>

#include "reference/contract/class_reading.h"
#include "reference/contract/deployments.h"
#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

struct Piece {
  Range range;
  std::int32_t rank = 0;
};

/// Ranks of a group in words: "ranks 0, 2".
std::string ranks_words(const std::vector<std::int32_t>& ranks) {
  std::string words = "ranks ";
  for (std::size_t i = 0; i < ranks.size() && i < 8; ++i) words += (i ? ", " : "") + std::to_string(ranks[i]);
  return words + (ranks.size() > 8 ? ", ..." : "");
}

/// Pieces against [0, total): each unit exactly once.
Verdict not_once(const std::string& where, const std::string& unit, std::vector<Piece> pieces,
                 std::int64_t total) {
  std::erase_if(pieces, [](const Piece& piece) { return piece.range.size() <= 0; });
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return a.range.begin != b.range.begin ? a.range.begin < b.range.begin : a.rank < b.rank;
  });
  std::int64_t at = 0;
  for (const Piece& piece : pieces) {
    if (piece.range.begin > at)
      return violation("P7", piece.rank, where + "; who adds " + unit + " " + std::to_string(at),
                       "exactly one rank", "none: the sum is too small");
    if (piece.range.begin < at)
      return violation(
          "P7", piece.rank, where + "; who adds " + unit + " " + std::to_string(piece.range.begin),
          "exactly one rank", "two, rank " + std::to_string(piece.rank) + " again: counted twice");
    at = piece.range.end;
  }
  if (at == total) return std::nullopt;
  if (at > total)
    return violation("P7", pieces.back().rank, where + "; last " + unit, std::to_string(total - 1),
                     std::to_string(at - 1));
  return violation("P7", -1, where + "; who adds " + unit + " " + std::to_string(at), "exactly one rank",
                   "none: the sum is too small");
}

class Reductions {
 public:
  explicit Reductions(const ClassReading& reading, const ClassPlan& plan) : reading_(reading), plan_(plan) {}

  /// Every rank once, all members with the same tokens where `same_tokens`.
  Verdict wrong_members(const GroupSet& set, const std::string& what, bool same_tokens) const {
    std::vector<bool> seen(plan_.ranks.size(), false);
    for (const auto& group : set.groups)
      for (const std::int32_t rank : group) {
        if (rank < 0 || rank >= plan_.num_ranks() || seen[rank])
          return violation(
              "P7", rank, reading_.at() + "groups of " + what + " that hold rank " + std::to_string(rank),
              "one", rank < 0 || rank >= plan_.num_ranks() ? "one, but there is no such rank" : "two");
        seen[rank] = true;
        const Range &first = plan_.ranks[group.front()].tokens, &mine = plan_.ranks[rank].tokens;
        if (same_tokens && first != mine)
          return violation("P7", rank,
                           reading_.at() + what + " over " + ranks_words(group) + "; tokens of rank " +
                               std::to_string(rank),
                           range_words(first), range_words(mine));
      }
    const auto missing = std::find(seen.begin(), seen.end(), false);
    if (missing == seen.end()) return std::nullopt;
    return violation(
        "P7", missing - seen.begin(),
        reading_.at() + "groups of " + what + " that hold rank " + std::to_string(missing - seen.begin()),
        "one", "none");
  }

  /// Each expert place and column of the base experts once in every group.
  Verdict routed() const {
    const std::string what = "sum of expert outputs";
    if (auto bad = wrong_members(plan_.routed_sum, what, true)) return bad;
    for (const auto& group : plan_.routed_sum.groups) {
      std::map<std::int32_t, std::vector<Piece>> of_row;
      for (const std::int32_t rank : group)
        of_row[plan_.ranks[rank].place.ep_rank].push_back({plan_.ranks[rank].columns.real, rank});
      if (auto bad = each_row(group, what, of_row)) return bad;
    }
    return std::nullopt;
  }

  /// Each expert place, column and hidden row of the down delta once in every group.
  Verdict delta() const {
    const std::string what = "sum of the down delta";
    if (auto bad = wrong_members(plan_.delta_sum, what, true)) return bad;
    if (auto bad = wrong_members(plan_.shrink_sum, "sum of the down shrink", true)) return bad;
    std::vector<std::vector<Range>> shrunk;  // columns that a shrink group's sum holds, per group
    for (const auto& group : plan_.shrink_sum.groups) {
      std::vector<Piece> pieces;
      for (const std::int32_t rank : group) pieces.push_back({plan_.ranks[rank].columns.real, rank});
      std::sort(pieces.begin(), pieces.end(),
                [](const Piece& a, const Piece& b) { return a.range.begin < b.range.begin; });
      std::vector<Range>& merged = shrunk.emplace_back();
      for (const Piece& piece : pieces) {
        const std::string where = reading_.at() + "sum of the down shrink over " + ranks_words(group);
        if (plan_.ranks[piece.rank].place.ep_rank != plan_.ranks[group.front()].place.ep_rank)
          return violation("P7", piece.rank, where + "; EP rank of its members", "one",
                           "another on rank " + std::to_string(piece.rank));
        if (!merged.empty() && piece.range.begin < merged.back().end)
          return violation("P7", piece.rank, where + "; who adds column " + std::to_string(piece.range.begin),
                           "exactly one rank", "two: counted twice");
        if (!merged.empty() && piece.range.begin == merged.back().end)
          merged.back().end = piece.range.end;
        else
          merged.push_back(piece.range);
      }
    }
    const std::vector<std::int32_t> shrink_group = group_of_rank(plan_.shrink_sum, plan_.num_ranks());
    for (const auto& group : plan_.delta_sum.groups) {
      // By EP rank, then by hidden rows: the columns that are added there.
      std::map<std::int32_t, std::map<std::int64_t, std::pair<Range, std::vector<Piece>>>> rows;
      for (const std::int32_t rank : group) {
        const RankPlan& mine = plan_.ranks[rank];
        if (mine.hidden.size() == 0) continue;
        const Range written{mine.hidden_offset, mine.hidden_offset + mine.hidden.size()};
        auto& [range, pieces] =
            rows[mine.place.ep_rank].try_emplace(written.begin, written, std::vector<Piece>{}).first->second;
        if (range != written)
          return violation("P7", rank,
                           reading_.at() + what + " over " + ranks_words(group) + "; hidden rows of rank " +
                               std::to_string(rank),
                           range_words(range), range_words(written));
        for (const Range& columns : shrunk[shrink_group[rank]]) pieces.push_back({columns, rank});
      }
      for (std::int32_t q = 0; q < static_cast<std::int32_t>(plan_.loaded.size()); ++q) {
        if (plan_.loaded[q].empty()) continue;
        const std::string where = where_of(group, what, q);
        std::vector<Piece> hidden;
        for (auto& [begin, of] : rows[q]) {
          hidden.push_back({of.first, of.second.empty() ? -1 : of.second.front().rank});
          if (auto bad = not_once(where + ", hidden rows " + range_words(of.first), "column", of.second,
                                  plan_.sizes.intermediate))
            return bad;
        }
        if (auto bad = not_once(where, "hidden row", hidden, plan_.sizes.hidden)) return bad;
      }
    }
    return std::nullopt;
  }

  Verdict shared() const {
    const SharedExpertsKind kind = reading_.declared().shared_experts.kind;
    if (kind != SharedExpertsKind::replicated && kind != SharedExpertsKind::sharded) return std::nullopt;
    return tiles(plan_.shared_sum, "sum of shared experts", "shared column", plan_.sizes.shared_intermediate,
                 true, [](const RankPlan& rank) { return rank.shared_columns; });
  }

  Verdict gathers() const {
    if (auto bad = tiles(plan_.token_gather, "gather of tokens", "token", plan_.sizes.tokens, false,
                         [](const RankPlan& rank) { return rank.tokens; }))
      return bad;
    return tiles(plan_.lora_rank_gather, "gather of LoRA ranks", "rank row", plan_.sizes.max_lora_rank, true,
                 [](const RankPlan& rank) { return rank.lora_rank; });
  }

 private:
  std::string where_of(const std::vector<std::int32_t>& group, const std::string& what,
                       std::int32_t q) const {
    return reading_.at() + what + " over " + ranks_words(group) + ", experts of EP rank " + std::to_string(q);
  }

  Verdict each_row(const std::vector<std::int32_t>& group, const std::string& what,
                   const std::map<std::int32_t, std::vector<Piece>>& of_row) const {
    for (std::int32_t q = 0; q < static_cast<std::int32_t>(plan_.loaded.size()); ++q) {
      if (plan_.loaded[q].empty()) continue;
      const auto found = of_row.find(q);
      if (auto bad = not_once(where_of(group, what, q), "column",
                              found == of_row.end() ? std::vector<Piece>{} : found->second,
                              plan_.sizes.intermediate))
        return bad;
    }
    return std::nullopt;
  }

  template <class Part>
  Verdict tiles(const GroupSet& set, const std::string& what, const std::string& unit, std::int64_t total,
                bool same_tokens, Part&& part) const {
    if (auto bad = wrong_members(set, what, same_tokens)) return bad;
    for (const auto& group : set.groups) {
      std::vector<Piece> pieces;
      for (const std::int32_t rank : group) pieces.push_back({part(plan_.ranks[rank]), rank});
      if (auto bad =
              not_once(reading_.at() + what + " over " + ranks_words(group), unit, std::move(pieces), total))
        return bad;
    }
    return std::nullopt;
  }

  const ClassReading& reading_;
  const ClassPlan& plan_;
};

}  // namespace

Verdict p7_reductions(const DeploymentSpec& spec, const ClassPlan& plan) {
  const ClassReading reading(spec, plan);
  if (auto bad = reading.wrong_number_of_ranks("P7")) return bad;
  const Reductions reductions(reading, plan);
  if (auto bad = reductions.routed()) return bad;
  if (auto bad = reductions.delta()) return bad;
  if (auto bad = reductions.shared()) return bad;
  return reductions.gathers();
}

}  // namespace eplora::contract
