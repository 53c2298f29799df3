// SPDX-License-Identifier: Apache-2.0
// The activation between the two projections of an expert (contract, section 7): silu(gate) * up where the
// layer is gated, the squared ReLU where it is not.
#pragma once

#include <cmath>

#include "reference/lora/adapter.h"

namespace eplora::reference {

/// `a[q]`, q in `[0, width)`, from one slot's gate_up row `[c*width]` in the geometry's form.
template <class Scalar>
void activate(const MoeGeometry& geometry, std::int64_t width, const Scalar* gate_up, Scalar* a) {
  for (std::int64_t q = 0; q < width; ++q) {
    const Scalar gate = gate_up[gate_up_row(geometry.form, geometry.halves(), width, 0, q)];
    if (geometry.gated) {
      const Scalar up = gate_up[gate_up_row(geometry.form, 2, width, 1, q)];
      a[q] = gate / (Scalar{1} + std::exp(-gate)) * up;
    } else {
      const Scalar positive = gate > Scalar{0} || std::isnan(gate) ? gate : Scalar{0};
      a[q] = positive * positive;
    }
  }
}

}  // namespace eplora::reference
