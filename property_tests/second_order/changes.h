// SPDX-License-Identifier: Apache-2.0
// The changes that scripts/second_order.py made to the reference's operators: one number chooses one, 0 none.
#pragma once

#include <string>
#include <vector>

namespace eplora::second_order {

struct Change {
  int id;  ///< 1, 2, ...
  std::string file;
  int line, column;    ///< of the operator, counted from 1
  std::string kind;    ///< "comparison", "arithmetic", "constant", ...
  std::string change;  ///< "< -> <="
  std::string text;    ///< the line, trimmed
};

const std::vector<Change>& list_changes();

/// The change that the reference's functions compute with now.
extern int chosen;

}  // namespace eplora::second_order
