// SPDX-License-Identifier: Apache-2.0
// The way of one token through a class of layers (reference/layout/token_path.h), in words and drawn: where
// it stands, who computes its slots, who sums, where the result stands again.
#pragma once

#include <string>

#include "cli/layout_view.h"
#include "cli/svg_canvas.h"

namespace eplora {

/// "Token 8 of 16", and the class's name if one is given.
std::string path_title(const TokenPath& path, const std::string& class_name);

/// Lines of text, the slots as a table.
std::string token_path_text(const LayoutView& view, std::size_t class_index, bool color);

/// Draws from `y` downwards; returns where it ends.
double draw_token_path(SvgCanvas& canvas, const LayoutView& view, std::size_t class_index, double y);

/// A picture of its own, for a page.
std::string token_path_svg(const LayoutView& view, std::size_t class_index);

}  // namespace eplora
