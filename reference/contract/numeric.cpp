// SPDX-License-Identifier: Apache-2.0
// P7 and P11 for outputs, and P16: judges of numbers and of names.
#include <algorithm>
#include <cmath>
#include <set>

#include "reference/contract/sentence.h"
#include "reference/contract/weights.h"

namespace eplora::contract {
namespace {

using reference::Matrix;

std::string shape_words(const Matrix<double>& matrix) {
  return "[" + std::to_string(matrix.rows()) + ", " + std::to_string(matrix.cols()) + "]";
}

std::string element_words(std::int64_t row, std::int64_t col) {
  return "element (row " + std::to_string(row) + ", column " + std::to_string(col) + ")";
}

Verdict wrong_shape(const char* property, const char* name, const Matrix<double>& got,
                    const Matrix<double>& want) {
  if (got.rows() == want.rows() && got.cols() == want.cols()) return std::nullopt;
  return violation(property, -1, std::string("shape of ") + name, shape_words(want), shape_words(got));
}

/// NaN equals only NaN, an infinity only the same infinity.
bool settled(double got, double want, bool& equal) {
  if (std::isfinite(got) && std::isfinite(want)) return false;
  equal = (std::isnan(got) && std::isnan(want)) || got == want;
  return true;
}

}  // namespace

Verdict p7_empty_rank(const Layout& layout, std::int32_t rank, const Matrix<double>& contribution) {
  if (rank < 0 || rank >= static_cast<std::int64_t>(layout.places.size()))
    return violation("P7", rank, "rank", "one of the layout's " + std::to_string(layout.places.size()),
                     std::to_string(rank));
  const auto& owned = layout.placement.experts_of_rank();
  const std::int64_t q = layout.places[rank].ep_rank;
  if (q < 0 || q >= static_cast<std::int64_t>(owned.size()))
    return violation("P7", rank, "ep_rank of rank " + std::to_string(rank),
                     "one of the placement's " + count_words(static_cast<std::int64_t>(owned.size()), "row"),
                     std::to_string(q));
  if (!owned[q].empty()) return std::nullopt;
  for (std::int64_t row = 0; row < contribution.rows(); ++row)
    for (std::int64_t col = 0; col < contribution.cols(); ++col)
      if (!(contribution(row, col) == 0))
        return violation("P7", row * contribution.cols() + col,
                         "rank " + std::to_string(rank) + " owns no expert; " + element_words(row, col) +
                             " of its contribution",
                         "0", number_words(contribution(row, col)));
  return std::nullopt;
}

Verdict p7_output(const Matrix<double>& got, const Matrix<double>& want, double relative_bound) {
  if (auto bad = wrong_shape("P7", "the output", got, want)) return bad;
  double largest = 0;  // of |want| and |got - want|: squares of quotients neither overflow nor vanish
  double worst = -1;
  std::int64_t worst_row = 0, worst_col = 0;
  for (std::int64_t row = 0; row < want.rows(); ++row)
    for (std::int64_t col = 0; col < want.cols(); ++col) {
      bool equal = true;
      if (settled(got(row, col), want(row, col), equal)) {
        if (equal) continue;
        return violation("P7", row * want.cols() + col, element_words(row, col) + " of the output",
                         number_words(want(row, col)), number_words(got(row, col)));
      }
      const double error = std::abs(got(row, col) - want(row, col));
      largest = std::max({largest, std::abs(want(row, col)), error});
      if (error <= worst) continue;
      worst = error;
      worst_row = row;
      worst_col = col;
    }
  if (worst <= 0) return std::nullopt;
  double error_squares = 0, want_squares = 0;
  for (std::int64_t row = 0; row < want.rows(); ++row)
    for (std::int64_t col = 0; col < want.cols(); ++col) {
      if (!std::isfinite(want(row, col))) continue;
      const double error = (got(row, col) - want(row, col)) / largest, value = want(row, col) / largest;
      error_squares += error * error;
      want_squares += value * value;
    }
  if (std::isfinite(largest) && std::sqrt(error_squares) <= relative_bound * std::sqrt(want_squares))
    return std::nullopt;
  return violation("P7", worst_row * want.cols() + worst_col,
                   "relative error ||got - want|| / ||want|| is " +
                       number_words(std::sqrt(error_squares) / std::sqrt(want_squares)) + ", the bound " +
                       number_words(relative_bound) + "; worst at " + element_words(worst_row, worst_col),
                   number_words(want(worst_row, worst_col)), number_words(got(worst_row, worst_col)));
}

Verdict p11_delta(const Matrix<double>& got, const Matrix<double>& ref, const Matrix<double>& absolute_sum,
                  const NumericBound& bound) {
  if (auto bad = wrong_shape("P11", "the output", got, ref)) return bad;
  if (auto bad = wrong_shape("P11", "S", absolute_sum, ref)) return bad;
  const double terms = 4.0 * static_cast<double>(bound.H + bound.r + 8);
  for (std::int64_t row = 0; row < ref.rows(); ++row)
    for (std::int64_t col = 0; col < ref.cols(); ++col) {
      const double g = got(row, col), r = ref(row, col), S = absolute_sum(row, col);
      bool equal = false;
      const double allowed = bound.u_out * std::abs(r) + terms * bound.u_acc * S + bound.u_mid * S;
      if (settled(g, r, equal) ? equal : std::abs(g - r) <= allowed) continue;
      return violation("P11", row * ref.cols() + col,
                       element_words(row, col) + " of the output, allowed error " + number_words(allowed) +
                           " (S=" + number_words(S) + ")",
                       number_words(r), number_words(g));
    }
  return std::nullopt;
}

Verdict p16_strict_load(std::span<const std::string> in_file, std::span<const std::string> consumed,
                        std::span<const std::string> refused) {
  const std::set<std::string_view> held(in_file.begin(), in_file.end());
  const std::set<std::string_view> taken(consumed.begin(), consumed.end());
  const std::set<std::string_view> named(refused.begin(), refused.end());
  for (std::size_t i = 0; i < in_file.size(); ++i) {
    const bool is_taken = taken.contains(in_file[i]), is_refused = named.contains(in_file[i]);
    if (is_taken != is_refused) continue;
    return violation("P16", static_cast<std::int64_t>(i), "tensor '" + in_file[i] + "' of the file",
                     "consumed or refused by name", is_taken ? "both" : "neither: silently ignored");
  }
  for (std::size_t i = 0; i < consumed.size(); ++i)
    if (!held.contains(consumed[i]))
      return violation("P16", static_cast<std::int64_t>(i),
                       "tensor '" + consumed[i] + "', said to be consumed", "in the file", "not in the file");
  return std::nullopt;
}

}  // namespace eplora::contract
