// SPDX-License-Identifier: Apache-2.0
#include "reference/lora/moe_layer.h"

#include <string>

#include "reference/check.h"
#include "reference/lora/activation.h"

namespace eplora::reference {
namespace {

template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

void require_elements(std::string_view what, std::size_t found, std::int64_t expected,
                      std::string_view shape) {
  if (static_cast<std::int64_t>(found) == expected) return;
  reject(std::string(what) + " elements", std::to_string(found),
         "shape " + std::string(shape) + " has " + std::to_string(expected));
}

/// `out[o] = sum_d W[o,d] x[d]`, W `[rows, cols]` float32 row-major.
template <class Scalar>
void multiply(const float* W, std::int64_t rows, const Vector<Scalar>& x, Vector<Scalar>& out) {
  using Row = Eigen::Map<const Eigen::VectorXf>;
  out.resize(rows);
  for (std::int64_t o = 0; o < rows; ++o) out[o] = Row(W + o * x.size(), x.size()).cast<Scalar>().dot(x);
}

/// `out[o] = sum_d M[e,o,d] x[d]`, M `[E|1, rows, cols]` a view.
template <class Scalar>
void multiply(const StridedTensor& M, std::int64_t e, const Vector<Scalar>& x, Vector<Scalar>& out) {
  out.resize(M.rows);
  for (std::int64_t o = 0; o < M.rows; ++o) {
    Scalar sum = 0;
    for (std::int64_t d = 0; d < M.cols; ++d) sum += static_cast<Scalar>(M.at(e, o, d)) * x[d];
    out[o] = sum;
  }
}

/// One expert of one layer applied to one token.
template <class Scalar>
class Expert {
 public:
  explicit Expert(const MoeLayerProblem& problem)
      : problem_(problem), activation_(problem.geometry.intermediate) {}

  /// `(D + dD)_e ( silu((G + dG)_e x) * ((U + dU)_e x) )`, `[H]`; no delta where `lora` is null.
  const Vector<Scalar>& apply(std::int64_t e, const Vector<Scalar>& x, const AdapterLayer* lora) {
    const MoeGeometry& geometry = problem_.geometry;
    const std::int64_t H = geometry.hidden, I = geometry.intermediate, c = geometry.halves();
    multiply(problem_.base.gate_up_proj.data() + e * c * I * H, c * I, x, gate_up_);
    for (std::int64_t h = 0; lora != nullptr && h < c; ++h) {
      if (!lora_delta(lora->gate_up[h], e, x)) continue;
      const auto scale = static_cast<Scalar>(lora->gate_up_scale);
      for (std::int64_t q = 0; q < I; ++q)
        gate_up_[gate_up_row(geometry.form, c, I, h, q)] += scale * delta_[q];
    }
    activate(geometry, I, gate_up_.data(), activation_.data());
    multiply(problem_.base.down_proj.data() + e * H * I, H, activation_, output_);
    if (lora != nullptr && lora_delta(lora->down, e, activation_))
      output_ += static_cast<Scalar>(lora->down_scale) * delta_;
    return output_;
  }

 private:
  /// `delta_ = B_e (A_e x)`; false where the adapter lacks the pair.
  bool lora_delta(const LoraPair& pair, std::int64_t e, const Vector<Scalar>& x) {
    if (!pair.present()) return false;
    multiply(pair.A, e, x, shrunk_);
    multiply(pair.B, e, shrunk_, delta_);
    return true;
  }

  const MoeLayerProblem& problem_;
  Vector<Scalar> gate_up_, activation_, shrunk_, delta_, output_;
};

}  // namespace

void validate(const MoeLayerProblem& problem) {
  const MoeGeometry& geometry = problem.geometry;
  eplora::validate(geometry);
  const std::int64_t L = static_cast<std::int64_t>(problem.adapters.size());
  require_in_range("number of adapters (L)", L, 0, kMaxIndex);
  eplora::validate(RemapProblem{problem.topk_ids,
                                problem.token_lora_mapping,
                                geometry.num_experts,
                                static_cast<std::int32_t>(L),
                                false,
                                NoAdapter::base_slot,
                                {}});
  const std::int64_t E = geometry.num_experts, H = geometry.hidden, I = geometry.intermediate;
  const std::int64_t T = problem.topk_ids.rows;
  const std::int64_t expert_elements = saturating_product(H, I);
  require_elements("gate_up_proj", problem.base.gate_up_proj.size(),
                   saturating_product(expert_elements, E * geometry.halves()), "[E, c*I, H]");
  require_elements("down_proj", problem.base.down_proj.size(), saturating_product(expert_elements, E),
                   "[E, H, I]");
  require_elements("topk_weights", problem.topk_weights.size(), problem.topk_ids.size(), "[T, K]");
  require_elements("hidden_states", problem.hidden_states.size(), saturating_product(T, H), "[T, H]");
  for (std::size_t l = 0; l < problem.adapters.size(); ++l)
    if (problem.adapters[l] != nullptr)
      eplora::validate("adapters[" + std::to_string(l) + "]", *problem.adapters[l], geometry, kMaxIndex);
}

template <class Scalar>
Matrix<Scalar> moe_layer(const MoeLayerProblem& problem) {
  validate(problem);
  const std::int64_t T = problem.topk_ids.rows, K = problem.topk_ids.cols, H = problem.geometry.hidden;
  const auto L = static_cast<std::int64_t>(problem.adapters.size());
  Matrix<Scalar> y = Matrix<Scalar>::Zero(T, H);
  Expert<Scalar> expert(problem);
  Vector<Scalar> x;
  for (std::int64_t t = 0; t < T; ++t) {
    x = Eigen::Map<const Eigen::VectorXf>(problem.hidden_states.data() + t * H, H).template cast<Scalar>();
    const std::int32_t l = problem.token_lora_mapping[t];
    const AdapterLayer* lora = 0 <= l && l < L ? problem.adapters[l] : nullptr;
    for (std::int64_t k = 0; k < K; ++k) {
      const std::int64_t e = problem.topk_ids.at(t, k);
      if (e < 0 || e >= problem.geometry.num_experts) continue;
      y.row(t) += static_cast<Scalar>(problem.topk_weights[t * K + k]) * expert.apply(e, x, lora).transpose();
    }
  }
  return y;
}

template Matrix<float> moe_layer<float>(const MoeLayerProblem&);
template Matrix<double> moe_layer<double>(const MoeLayerProblem&);

}  // namespace eplora::reference
