// SPDX-License-Identifier: Apache-2.0
// A layout as a picture: experts from left to right, columns of the intermediate size from top to bottom,
// each rectangle coloured by the rank that owns it and carrying the rank's number, groups outlined.
#pragma once

#include <cstdint>
#include <string>

#include "reference/layout/layout.h"

namespace eplora {

/// The most ranks a picture can show and still be read.
inline constexpr std::int32_t kMaxPictureRanks = 1024;

/// A whole SVG document. `title` is the layout as the user wrote it. Throws `InvalidArgument` when the
/// columns do not divide or there are more than `kMaxPictureRanks` ranks.
std::string layout_svg(const Layout& layout, const std::string& title, std::int64_t intermediate);

}  // namespace eplora
