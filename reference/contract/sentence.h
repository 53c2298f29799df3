// SPDX-License-Identifier: Apache-2.0
// How the judges tell a violation: the few phrases that every property uses. Internal to reference/contract.
#pragma once

#include <cstdint>
#include <string>

#include "reference/contract/verdict.h"

namespace eplora::contract {

/// "<what>: expected <expected>, found <found>", as a verdict.
Verdict violation(std::string property, std::int64_t place, const std::string& what, std::string expected,
                  std::string found);

/// "slot 5 (token 2, k 1)" for K experts per token.
std::string slot_words(std::int64_t slot, std::int64_t K);

/// "3 blocks", "1 block".
std::string count_words(std::int64_t count, const std::string& noun);

/// The shortest decimal that reads back as the same number; "nan", "inf", "-inf".
std::string number_words(float value);
std::string number_words(double value);

}  // namespace eplora::contract
