// SPDX-License-Identifier: Apache-2.0
// How the rows of a gate/up projection stand in a tensor. Engines and checkpoints differ; a rank's slice
// keeps the form (contract, section 6).
#pragma once

#include <cstdint>
#include <string_view>

namespace eplora {

enum class WeightForm : std::uint8_t {
  stacked,            ///< all gate rows, then all up rows
  interleaved,        ///< g0, u0, g1, u1, ...
  block_interleaved,  ///< `block` gate rows, `block` up rows, ...
  up_first,           ///< all up rows, then all gate rows
  non_gated           ///< one matrix; no halves
};

/// "stacked", "interleaved", "block_interleaved", "up_first", "non_gated": the words of layout files.
std::string_view to_string(WeightForm form);

/// Row at which row `q` of half `h` (0 = gate, 1 = up) stands in a tensor of `width` rows a half. `block` is
/// read for block_interleaved only and divides `width`. No range is checked.
inline std::int64_t weight_row(WeightForm form, std::int64_t block, std::int64_t width, std::int64_t h,
                               std::int64_t q) {
  switch (form) {
    case WeightForm::stacked:
      return h * width + q;
    case WeightForm::interleaved:
      return q * 2 + h;
    case WeightForm::block_interleaved:
      return (q / block * 2 + h) * block + q % block;
    case WeightForm::up_first:
      return (1 - h) * width + q;
    case WeightForm::non_gated:
      break;
  }
  return q;
}

}  // namespace eplora
