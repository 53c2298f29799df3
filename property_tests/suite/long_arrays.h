// SPDX-License-Identifier: Apache-2.0
// Long arrays of a case's JSON told by those of the case that was drawn: pieces of the generated array and,
// where the case differs, the values themselves (docs/failure_files.md).
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace eplora::suite {

/// Arrays of numbers longer than this are told by the generated ones.
inline constexpr int kLongArray = 4096;

/// `full` with its long arrays as {"length", "hash", "parts"}, where `generated` has an array at that place
/// and the parts are less than half as long as the values; others stay as they are. Parts are [from, count],
/// a piece of the generated array, or {"values": [...]}.
nlohmann::json shortened(const nlohmann::json& full, const nlohmann::json& generated);
bool is_shortened(const nlohmann::json& json);
/// Undoes `shortened`. Throws `InvalidArgument` where a part does not fit or the values do not have the hash:
/// another build's generator, or a file that was edited.
nlohmann::json written_out(const nlohmann::json& json, const nlohmann::json& generated);

}  // namespace eplora::suite
