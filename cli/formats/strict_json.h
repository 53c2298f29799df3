// SPDX-License-Identifier: Apache-2.0
// JSON as this project reads it: one object, no key twice in the same object (a parser that keeps the last
// one would hide a contradiction), bounded depth, order of keys kept - PEFT's patterns are matched in file
// order.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace eplora {

/// Parses `text`, which must be one JSON object. `what` opens every sentence, for instance the file's name.
/// Throws `InvalidArgument` with the byte of the fault.
nlohmann::ordered_json parse_json_object(std::string_view text, const std::string& what);

/// Reads and parses a JSON file of at most 16 MiB.
nlohmann::ordered_json read_json_object(const std::filesystem::path& path);

/// A name or value from a file as it may stand in a sentence: control characters escaped, cut after 200
/// bytes, in quotes.
std::string in_quotes(std::string_view text);

}  // namespace eplora
