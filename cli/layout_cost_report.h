// SPDX-License-Identifier: Apache-2.0
// A price as tables and as JSON: the same numbers, one list of what they are.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "reference/price/price.h"

namespace eplora {

/// What was priced, in words.
struct PriceTitle {
  std::string layout, model, trace;
  std::int64_t tokens = 0;
};

/// Least, mean and greatest value over ranks, and the first rank that has the greatest.
struct Spread {
  double min = 0, mean = 0, max = 0;
  std::int32_t worst_rank = 0;
};

/// A quantity of a rank's price.
struct Quantity {
  enum class Unit : std::uint8_t { bytes, count, seconds };
  const char* key;    ///< in JSON, with the unit at its end where it has one
  const char* group;  ///< memory, compute, links, time
  const char* label;
  Unit unit;
  double (*of)(const RankPrice&);
  bool in_rank_table;
};
const std::vector<Quantity>& price_quantities();
Spread spread_of(const Price& price, const Quantity& quantity);

/// Tables for people; the table of ranks where `every_rank`.
std::string price_text(const PriceTitle& title, const Price& price,
                       const std::vector<Assumption>& assumptions, bool every_rank, bool color);
/// Keys of the document of `eplora layout cost --json`.
void add_price(nlohmann::ordered_json& document, const PriceTitle& title, const Price& price,
               const std::vector<Assumption>& assumptions, bool every_rank);

}  // namespace eplora
