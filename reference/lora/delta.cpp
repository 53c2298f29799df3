// SPDX-License-Identifier: Apache-2.0
// Two passes, as kernels make them: shrink `u = A x` into an intermediate [n, c*R], expand `out += scale * B
// u`. Each pass walks the blocks of the routing that its weight tensor follows and reads one weight tile per
// block.
#include "reference/lora/delta.h"

#include <limits>
#include <string>

#include "reference/check.h"
#include "reference/lora/block_walk.h"

namespace eplora::reference {
namespace {

/// The weights a pass reads: tile `(l, e)` is `[rows, cols]`, contiguous in the buffer tensor.
template <class Scalar>
class Tiles {
 public:
  Tiles(const LoraBuffers& buffers, std::size_t layer, BufferTensor tensor, std::int64_t rows,
        std::int64_t cols)
      : data_(buffers.bytes(layer, tensor).data()), dtype_(buffers.shape().dtype), tile_(rows, cols) {}

  const Matrix<Scalar>& read(std::int64_t index) {
    const std::int64_t begin = index * tile_.size();
    for (std::int64_t i = 0; i < tile_.size(); ++i)
      tile_.data()[i] = static_cast<Scalar>(load_as_float(data_, dtype_, begin + i));
    return tile_;
  }

 private:
  const std::byte* data_;
  DType dtype_;
  Matrix<Scalar> tile_;
};

/// One pass: the weights of one tensor, and the routing it follows.
class Pass {
 public:
  /// `outer`: the tensor that shared-outer adapters hold once (gate_up A, down B).
  Pass(const BufferShape& shape, const DeltaRouting& routing, bool outer)
      : experts_(outer ? shape.outer_experts() : shape.local_experts),
        routing_(routing),
        route_(outer && shape.shared_outer ? routing.shared_outer : routing.per_expert),
        num_labels_(experts_ * shape.max_loras) {
    require_pointer(outer && shape.shared_outer ? "routing.shared_outer" : "routing.per_expert", route_, 1);
    require_in_range("block_size (B)", routing.block_size, 1, kMaxIndex);
    require_in_range("top_k (K)", routing.top_k, 1, kMaxIndex);
  }

  /// `body(l, tile, slots)` for each used block with a label; `tile = l*experts + e` indexes the buffer
  /// tensor, for label v of the per-expert routing as of the shared one that is v itself.
  template <class Body>
  void for_each_tile(Body&& body) const {
    for_each_block(route_->blocks, routing_.block_size, num_labels_,
                   [&](std::int64_t v, std::span<const std::int32_t> slots) {
                     body(static_cast<std::int32_t>(v / experts_), v, slots);
                   });
  }

  /// A slot whose token has an adapter; filler and tokens without one are left alone.
  bool takes(std::int64_t slot, std::int64_t n) const {
    return 0 <= slot && slot < n && route_->token_lora_mask[slot / routing_.top_k] != 0;
  }

  void require_tokens(std::int64_t n) const {
    if (static_cast<std::int64_t>(route_->token_lora_mask.size()) * routing_.top_k != n)
      reject("slots of the delta's output", std::to_string(n),
             "the routing has T=" + std::to_string(route_->token_lora_mask.size()) +
                 " * K=" + std::to_string(routing_.top_k));
  }

 private:
  std::int64_t experts_;
  DeltaRouting routing_;
  const RouteResult* route_;
  std::int64_t num_labels_;
};

/// `u[s, j] = sum_d A[j, d] x[s / slots_per_row, d]`. A slot that this pass does not visit stays NaN: an
/// expand that reads it shows.
template <class Scalar>
Matrix<Scalar> shrink(const Pass& pass, Tiles<Scalar> tiles, std::int64_t n, std::int64_t rows,
                      const Matrix<Scalar>& x, std::int64_t slots_per_row) {
  Matrix<Scalar> u = Matrix<Scalar>::Constant(n, rows, std::numeric_limits<Scalar>::quiet_NaN());
  pass.for_each_tile([&](std::int32_t, std::int64_t tile, std::span<const std::int32_t> slots) {
    const Matrix<Scalar>& A = tiles.read(tile);
    for (std::int64_t s : slots)
      if (pass.takes(s, n))
        for (std::int64_t j = 0; j < rows; ++j) u(s, j) = A.row(j).dot(x.row(s / slots_per_row));
  });
  return u;
}

/// `sum_j B[row, j] u[j]` over the buffers' whole rank, in order: padding adds exact zeros, so R changes no
/// bit.
template <class Scalar>
Scalar rank_sum(const Scalar* B_row, const Scalar* u, std::int64_t R) {
  Scalar sum = 0;
  for (std::int64_t j = 0; j < R; ++j) sum += B_row[j] * u[j];
  return sum;
}

void require_matrix(std::string_view name, std::int64_t rows, std::int64_t cols, std::int64_t want_rows,
                    std::int64_t want_cols) {
  if (rows == want_rows && cols == want_cols) return;
  reject(std::string(name) + " shape", "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]",
         "it must be [" + std::to_string(want_rows) + ", " + std::to_string(want_cols) + "]");
}

}  // namespace

template <class Scalar>
void add_gate_up_delta(const LoraBuffers& buffers, std::size_t layer, const DeltaRouting& routing,
                       const Matrix<Scalar>& x, Matrix<Scalar>& out) {
  const BufferShape& shape = buffers.shape();
  if (!shape.active(layer, BufferTensor::gate_up_A)) return;
  const std::int64_t n = out.rows(), c = shape.halves(), R = shape.max_lora_rank, H = shape.hidden,
                     i = shape.intermediate;
  const Pass shrink_pass(shape, routing, true), expand_pass(shape, routing, false);
  shrink_pass.require_tokens(n);
  expand_pass.require_tokens(n);
  require_matrix("x", x.rows(), x.cols(), n / routing.top_k, H);
  require_matrix("gate_up output", n, out.cols(), n, c * i);

  const Matrix<Scalar> u =
      shrink(shrink_pass, Tiles<Scalar>(buffers, layer, BufferTensor::gate_up_A, c * R, H), n, c * R, x,
             routing.top_k);
  Tiles<Scalar> tiles(buffers, layer, BufferTensor::gate_up_B, c * i, R);
  expand_pass.for_each_tile([&](std::int32_t l, std::int64_t tile, std::span<const std::int32_t> slots) {
    const Matrix<Scalar>& B = tiles.read(tile);
    const auto scale = static_cast<Scalar>(buffers.scale(layer, 0, l));
    for (std::int64_t s : slots) {
      if (!expand_pass.takes(s, n)) continue;
      for (std::int64_t h = 0; h < c; ++h) {
        for (std::int64_t q = 0; q < i; ++q) {
          const std::int64_t row = gate_up_row(shape.form, c, i, h, q);
          out(s, row) += scale * rank_sum(&B(row, 0), &u(s, h * R), R);
        }
      }
    }
  });
}

template <class Scalar>
void add_down_delta(const LoraBuffers& buffers, std::size_t layer, const DeltaRouting& routing,
                    std::span<const float> topk_weights, const Matrix<Scalar>& a, Matrix<Scalar>& out) {
  const BufferShape& shape = buffers.shape();
  if (!shape.active(layer, BufferTensor::down_A)) return;
  const std::int64_t n = out.rows(), R = shape.max_lora_rank, H = shape.hidden, i = shape.intermediate;
  const Pass shrink_pass(shape, routing, false), expand_pass(shape, routing, true);
  shrink_pass.require_tokens(n);
  expand_pass.require_tokens(n);
  require_matrix("activation", a.rows(), a.cols(), n, i);
  require_matrix("down output", n, out.cols(), n, H);
  require_in_range("topk_weights elements", static_cast<std::int64_t>(topk_weights.size()), n, n);

  const Matrix<Scalar> u =
      shrink(shrink_pass, Tiles<Scalar>(buffers, layer, BufferTensor::down_A, R, i), n, R, a, 1);
  Tiles<Scalar> tiles(buffers, layer, BufferTensor::down_B, H, R);
  expand_pass.for_each_tile([&](std::int32_t l, std::int64_t tile, std::span<const std::int32_t> slots) {
    const Matrix<Scalar>& B = tiles.read(tile);
    const auto scale = static_cast<Scalar>(buffers.scale(layer, 1, l));
    for (std::int64_t s : slots) {
      if (!expand_pass.takes(s, n)) continue;
      const Scalar weight = static_cast<Scalar>(topk_weights[s]) * scale;
      for (std::int64_t d = 0; d < H; ++d) out(s, d) += weight * rank_sum(&B(d, 0), &u(s, 0), R);
    }
  });
}

template void add_gate_up_delta<float>(const LoraBuffers&, std::size_t, const DeltaRouting&,
                                       const Matrix<float>&, Matrix<float>&);
template void add_gate_up_delta<double>(const LoraBuffers&, std::size_t, const DeltaRouting&,
                                        const Matrix<double>&, Matrix<double>&);
template void add_down_delta<float>(const LoraBuffers&, std::size_t, const DeltaRouting&,
                                    std::span<const float>, const Matrix<float>&, Matrix<float>&);
template void add_down_delta<double>(const LoraBuffers&, std::size_t, const DeltaRouting&,
                                     std::span<const float>, const Matrix<double>&, Matrix<double>&);

}  // namespace eplora::reference
