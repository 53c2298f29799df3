// SPDX-License-Identifier: Apache-2.0
// A counterexample's picture (property_tests/suite/picture.h) as SVG and tables for a page: blocks with their
// labels and slots, or a grid of tokens, expected beside found. What is wrong has a thick outline and a word;
// padding is hatched; colour repeats what they say.
#pragma once

#include <string>

namespace eplora {

/// HTML of all figures of `picture` (JSON text); empty for an empty text. Throws `nlohmann::json::exception`
/// for what no `picture_of` made.
std::string picture_html(const std::string& picture);

/// `text` fit for HTML content and attribute values.
std::string html_escaped(const std::string& text);

}  // namespace eplora
