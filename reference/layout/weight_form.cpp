// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/weight_form.h"

namespace eplora {

std::string_view to_string(WeightForm form) {
  switch (form) {
    case WeightForm::stacked:
      return "stacked";
    case WeightForm::interleaved:
      return "interleaved";
    case WeightForm::block_interleaved:
      return "block_interleaved";
    case WeightForm::up_first:
      return "up_first";
    case WeightForm::non_gated:
      return "non_gated";
  }
  return "?";
}

}  // namespace eplora
