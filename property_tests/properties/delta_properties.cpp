// SPDX-License-Identifier: Apache-2.0
// Delta: what the adapters add to one projection (contract, section 7), against a direct sum in double over
// ids and mapping that knows nothing of blocks.
#include <bit>
#include <cmath>

#include "optimized/guarded_run.h"
#include "property_tests/generators/delta_cases.h"
#include "property_tests/properties/properties.h"
#include "reference/contract/callables.h"
#include "reference/contract/weights.h"

namespace eplora::suite {
namespace {

using contract::Verdict;
using reference::Matrix;

constexpr double kFloat = 0x1p-24;

/// The case as the backend's own slice would have stored it: with the scale beside B, or in it.
struct Stored : DeltaStorage {
  Stored(const DeltaCase& c, const Backend& backend, std::int32_t other_than = -2,
         std::uint64_t filler_seed = 0)
      : DeltaStorage(c, other_than, filler_seed) {
    if (backend.form().scale_in_B) put_scale_into_B();
  }
};

/// Where half `h`'s row `q` stands in gate_up's columns; down has one half.
std::int64_t column_of(const DeltaCase& c, std::int64_t h, std::int64_t q) {
  if (c.projection == DeltaProjection::down || !c.gated) return q;
  return c.form == GateUpForm::interleaved ? 2 * q + h : h * c.intermediate + q;
}

/// The direct sum and S; rows that get nothing are 0 here, and judged by their bits.
class DirectSum {
 public:
  DirectSum(const DeltaCase& c, const DeltaStorage& storage)
      : c_(c),
        p_(storage.problem),
        storage_(storage),
        value_(Matrix<double>::Zero(c.batch.n(), p_.output_columns())),
        sums_(value_) {
    for (std::int64_t s = 0; s < c.batch.n(); ++s)
      if (c.adapter_of(s) >= 0) add_slot(s);
  }

  Verdict judge(const DeltaResult& result) const {
    Matrix<double> got = Matrix<double>::Zero(value_.rows(), value_.cols());
    for (std::int64_t s = 0; s < got.rows(); ++s)
      for (std::int64_t d = 0; d < got.cols() && c_.adapter_of(s) >= 0; ++d)
        got(s, d) = double{result.output[static_cast<std::size_t>(s * got.cols() + d)]};
    return contract::p11_delta(got, value_, sums_, {kFloat, kFloat, 0, p_.input_columns(), c_.max_lora_rank});
  }

 private:
  void add_slot(std::int64_t s) {
    const std::int64_t e = c_.batch.ids[s], l = c_.adapter_of(s), E = c_.num_local_experts,
                       R = c_.max_lora_rank, width = p_.input_columns(), rows = p_.output_columns(),
                       t = s / c_.batch.K;
    const bool gate_up = c_.projection == DeltaProjection::gate_up;
    const std::int64_t halves = gate_up ? p_.halves() : 1;
    const std::int64_t outer = c_.shared_outer ? l : l * E + e, own = l * E + e;
    const std::int64_t A = (gate_up ? outer : own) * halves * R * width,
                       B = (gate_up ? own : outer) * rows * R;
    const double scale = double{p_.scale[l]} * (gate_up ? 1.0 : double{p_.topk_weights[s]});
    const std::int64_t row = (gate_up ? t : s) * p_.input.row_stride;
    for (std::int64_t d = 0; d < rows; ++d) {
      value_(s, d) = double{storage_.before[static_cast<std::size_t>(s * rows + d)]};
      sums_(s, d) = std::abs(value_(s, d));
    }
    for (std::int64_t h = 0; h < halves; ++h)
      for (std::int64_t j = 0; j < R; ++j) {
        double dot = 0, absolute = 0;
        for (std::int64_t k = 0; k < width; ++k) {
          const double term = double{load_as_float(p_.A, c_.dtype, A + (h * R + j) * width + k)} *
                              double{load_as_float(p_.input.data, c_.input_dtype, row + k)};
          dot += term;
          absolute += std::abs(term);
        }
        for (std::int64_t q = 0; q < rows / halves; ++q) {
          const std::int64_t column = column_of(c_, h, q);
          const double b = scale * double{load_as_float(p_.B, c_.dtype, B + column * R + j)};
          value_(s, column) += b * dot;
          sums_(s, column) += std::abs(b) * absolute;
        }
      }
  }

  const DeltaCase& c_;
  const DeltaProblem& p_;
  const DeltaStorage& storage_;
  Matrix<double> value_, sums_;
};

DeltaResult run(const DeltaStorage& storage, Backend& backend, std::uint8_t poison = 0xA5) {
  return GuardedRun(backend, poison).delta(storage.problem, storage.before);
}

bool ordered(const Backend& backend) { return backend.form().order != contract::Order::nondeterministic; }

contract::ResultBytes bytes_of_result(const DeltaResult& result) {
  const auto bytes = std::as_bytes(std::span(result.output));
  return {{"output", {bytes.begin(), bytes.end()}, sizeof(float)}};
}

/// Bit for bit, in the rows that `judged` picks.
template <class Judged>
Verdict same_bits(const std::string& law, const std::vector<float>& got, const std::vector<float>& want,
                  std::int64_t columns, const Judged& judged) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    const auto s = static_cast<std::int64_t>(i) / columns;
    if (!judged(s) || std::bit_cast<std::uint32_t>(got[i]) == std::bit_cast<std::uint32_t>(want[i])) continue;
    return contract::Violation{law,
                               "slot " + std::to_string(s) + ", column " +
                                   std::to_string(static_cast<std::int64_t>(i) % columns) +
                                   " of the output is " + std::to_string(got[i]) + ", expected the bits of " +
                                   std::to_string(want[i]),
                               s, std::to_string(want[i]), std::to_string(got[i])};
  }
  return std::nullopt;
}

Verdict within_bound(const DeltaCase& c, Backend& backend) {
  const Stored storage(c, backend);
  return DirectSum(c, storage).judge(run(storage, backend));
}

Verdict rows_without_adapter(const DeltaCase& c, Backend& backend) {
  const Stored storage(c, backend);
  return same_bits("P11", run(storage, backend).output, storage.before, storage.problem.output_columns(),
                   [&](std::int64_t s) { return c.adapter_of(s) < 0; });
}

/// The rows of each adapter, with all others' weights changed.
Verdict isolation(const DeltaCase& c, Backend& backend) {
  const Stored storage(c, backend);
  const DeltaResult whole = run(storage, backend);
  for (std::int32_t l = 0; l < c.max_loras(); ++l) {
    const Stored changed(c, backend, l);
    const DeltaResult other = run(changed, backend);
    if (!ordered(backend)) {
      if (auto verdict = DirectSum(c, changed).judge(other)) return verdict;
      continue;
    }
    if (auto verdict = same_bits("P12", other.output, whole.output, storage.problem.output_columns(),
                                 [&](std::int64_t s) { return c.adapter_of(s) == l; }))
      return verdict;
  }
  return std::nullopt;
}

Verdict unwritten_memory(const DeltaCase& c, Backend& backend) {
  const Stored storage(c, backend);
  if (!ordered(backend)) {
    const DirectSum want(c, storage);
    for (const std::uint8_t poison : {std::uint8_t{0xA5}, std::uint8_t{0x5A}})
      if (auto verdict = want.judge(run(storage, backend, poison))) return verdict;
    return std::nullopt;
  }
  return contract::p13_unwritten_memory(
      [&](std::uint8_t poison) { return bytes_of_result(run(storage, backend, poison)); });
}

Verdict determinism(const DeltaCase& c, Backend& backend) {
  const Stored storage(c, backend);
  if (!ordered(backend)) {
    const DirectSum want(c, storage);
    for (int i = 0; i < 3; ++i)
      if (auto verdict = want.judge(run(storage, backend))) return verdict;
    return std::nullopt;
  }
  return contract::p14_determinism([&] { return bytes_of_result(run(storage, backend)); }, 3);
}

Verdict fillers(const DeltaCase& c, Backend& backend) {
  const Stored varied(c, backend, -2, hash_at(c.seed, 8) | 1);
  const DeltaResult got = run(varied, backend);
  if (auto verdict = DirectSum(c, varied).judge(got)) return verdict;
  return same_bits("P4", got.output, varied.before, varied.problem.output_columns(),
                   [&](std::int64_t s) { return c.adapter_of(s) < 0; });
}

/// Other ids and adapters in the same shapes: no slot with an adapter, all with one, other weights.
Verdict one_size(const DeltaCase& c, Backend& backend) {
  const auto varied = [&](int variation) {
    DeltaCase other = c;
    if (variation == 1) std::fill(other.batch.ids.begin(), other.batch.ids.end(), -1);
    if (variation == 2) {
      std::fill(other.batch.ids.begin(), other.batch.ids.end(), 0);
      std::fill(other.mapping.begin(), other.mapping.end(), 0);
    }
    if (variation == 3) ++other.seed;
    return other;
  };
  return contract::p17_one_size(
      4,
      [&](int i) {
        const DeltaCase other = varied(i);
        return static_cast<std::int64_t>(backend.workspace_bytes(Stored(other, backend).problem));
      },
      [&](int i) {
        const DeltaCase other = varied(i);
        try {
          run(Stored(other, backend), backend);
          return false;
        } catch (const GuardViolation&) {
          return true;
        }
      });
}

}  // namespace

std::vector<PropertyDefinition> delta_properties() {
  const std::vector<Operation> needs = {Operation::delta};
  return {
      property({"delta", "IsWithinItsBound",
                "every element equals a direct sum in double over ids and mapping within the numeric bound",
                "P11", 1000},
               needs, draw_delta, within_bound),
      property(
          {"delta", "RowsWithoutAnAdapterKeepTheirBits",
           "sentinel slots, invalid ones and tokens without adapter keep what stood in the output, bit for "
           "bit",
           "P11 P12", 1000},
          needs, draw_delta, rows_without_adapter),
      property({"delta", "OtherAdaptersChangeNoBit",
                "an adapter's rows have the same bits whatever the other adapters' weights are", "P12", 500},
               needs, draw_delta, isolation),
      property(
          {"delta", "FillerIsNoToken",
           "any filler >= n in the blocks gives the right sums and touches no other row", "P4 P11", 1000},
          needs, draw_delta, fillers),
      property({"delta", "DependsOnNoUnwrittenMemory", "two different poisons give equal bytes", "P13", 1000},
               needs, draw_delta, unwritten_memory),
      property({"delta", "EqualInputsGiveEqualBytes", "three runs give equal bytes", "P14", 500}, needs,
               draw_delta, determinism),
      property({"delta", "OneSizeForAllValues",
                "the workspace depends on shapes alone and is enough for all values", "P17", 500},
               needs, draw_delta, one_size),
  };
}

}  // namespace eplora::suite
