// SPDX-License-Identifier: Apache-2.0
// What a judge returns: nothing when the property holds, else its first violation, told in words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace eplora::contract {

struct Violation {
  std::string property;  ///< "P3"
  std::string sentence;  ///< one sentence with the place, the expected and the found value
  std::int64_t place =
      -1;  ///< the slot, token, block, element or rank the sentence is about; -1 when there is none
  std::string expected;
  std::string found;
};

using Verdict = std::optional<Violation>;

}  // namespace eplora::contract
