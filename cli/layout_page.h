// SPDX-License-Identifier: Apache-2.0
// `eplora layout show --html`: one self-contained page, light and dark, with the ranks, the pictures and the
// way of an example token. It holds no time and no path: equal layouts give equal bytes.
#pragma once

#include <string>

#include "cli/layout_view.h"

namespace eplora {

/// Throws `InvalidArgument` as `layout_svg` does.
std::string layout_page(const LayoutView& view);

}  // namespace eplora
