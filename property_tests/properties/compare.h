// SPDX-License-Identifier: Apache-2.0
// Comparisons that several properties share: byte equality told as a sentence, results as named bytes for the
// judges that run an operation several times, and the limits of a declared form.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "property_tests/generators/id_batch.h"
#include "property_tests/suite/property.h"
#include "reference/contract/callables.h"
#include "reference/routing/problem.h"

namespace eplora::suite {

/// The first differing element of `what`, lengths first. `law` is what the violation is filed under.
template <class Int>
contract::Verdict first_difference(const std::string& law, const std::string& what, std::span<const Int> got,
                                   std::span<const Int> want) {
  if (got.size() != want.size())
    return contract::Violation{
        law,
        what + " has " + std::to_string(got.size()) + " elements, expected " + std::to_string(want.size()),
        -1, std::to_string(want.size()), std::to_string(got.size())};
  for (std::size_t i = 0; i < got.size(); ++i)
    if (got[i] != want[i])
      return contract::Violation{law,
                                 what + "[" + std::to_string(i) + "] is " + std::to_string(got[i]) +
                                     ", expected " + std::to_string(want[i]),
                                 static_cast<std::int64_t>(i), std::to_string(want[i]),
                                 std::to_string(got[i])};
  return std::nullopt;
}
template <class Int>
contract::Verdict first_difference(const std::string& law, const std::string& what,
                                   const std::vector<Int>& got, const std::vector<Int>& want) {
  return first_difference(law, what, std::span<const Int>(got), std::span<const Int>(want));
}
contract::Verdict first_difference(const std::string& law, const AlignResult& got, const AlignResult& want);
contract::Verdict first_difference(const std::string& law, const RemapResult& got, const RemapResult& want);
contract::Verdict first_difference(const std::string& law, const RouteResult& got, const RouteResult& want);

/// A result as bytes, reduced to what the form promises: the used prefix where the tail is unwritten, slots
/// sorted inside a bucket where the order is nondeterministic.
contract::ResultBytes as_bytes(const DispatchResult& result);
contract::ResultBytes as_bytes(const RemapResult& result);
contract::ResultBytes as_bytes(const AlignResult& result, const AlignProblem& problem,
                               const contract::Form& form);

/// Slots of every bucket in ascending order, [V] = those in blocks labelled -1; entries that are no slot are
/// left out. Labels outside [-1, V) and slots outside [0, n) are judged elsewhere and ignored here.
std::vector<std::vector<std::int32_t>> slots_by_bucket(const AlignResult& result, std::int64_t n,
                                                       std::int64_t V, std::int64_t B);

/// Throws `Discard` when the batch holds ids that the form does not take.
void require_accepted(const IdBatch& batch, std::int64_t V, const contract::Form& form);

/// The batch with other values in the same places, of those that the form takes: 0 as it is, then all -1, the
/// first ids, valid ones at random.
IdBatch with_other_values(const IdBatch& batch, std::int64_t E, int variation, const contract::Form& form);
inline constexpr int kValueVariations = 4;

}  // namespace eplora::suite
