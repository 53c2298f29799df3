// SPDX-License-Identifier: Apache-2.0
// A layout as a picture: where tokens stand outside the experts, then every class of layers as experts x
// columns (class_picture.h), then the way of the example token if one was asked for, then what it all means.
#pragma once

#include <cstdint>
#include <string>

#include "cli/layout_view.h"
#include "cli/svg_canvas.h"

namespace eplora {

/// The most ranks a picture can show and still be read.
inline constexpr std::int32_t kMaxPictureRanks = 1024;

/// A whole SVG document; on a page without title and token path, which the page has in its own places. Throws
/// `InvalidArgument` when there are more than `kMaxPictureRanks` ranks.
std::string layout_svg(const LayoutView& view, SvgUse use);

}  // namespace eplora
