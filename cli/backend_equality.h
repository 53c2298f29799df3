// SPDX-License-Identifier: Apache-2.0
// Byte equality of a backend and the reference, on every rank of a layout: the same routing data and the same
// adapters through dispatch, remap, align, route and slice, in guarded memory.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "cli/table.h"
#include "optimized/backend.h"
#include "reference/layout/layout.h"
#include "reference/lora/adapter.h"
#include "reference/routing/problem.h"

namespace eplora {

/// What a layout is tried on. Views; ids are global.
struct EqualityData {
  IdMatrix topk_ids;                                 ///< `[T, K]`
  std::span<const std::int32_t> token_lora_mapping;  ///< `[T]`
  MoeGeometry geometry;
  std::vector<const Adapter*> adapters;  ///< `[L]`, one a slot
  std::int32_t block_size = 16;
};

struct OperationVerdict {
  enum class State : std::uint8_t { not_supported, equal, different } state = State::not_supported;
  std::int64_t comparisons = 0;
  std::string difference;  ///< the first one, in a sentence with rank, array, place, found and expected value

  /// "equal", "DIFFERENT" or "-".
  Cell cell() const;
};

struct BackendVerdict {
  std::string backend;
  std::array<OperationVerdict, std::size(kOperations)> operations;

  const OperationVerdict& of(Operation operation) const {
    return operations[static_cast<std::size_t>(operation)];
  }
  bool agrees() const;
  /// The first difference with the operation's name; empty when there is none.
  std::string first_difference() const;
};

/// align and route run with both sentinel policies, remap and route with both no-adapter policies. A guard
/// violation or an exception of the backend is a difference.
BackendVerdict compare_backend(Backend& backend, const Layout& layout, const EqualityData& data);

/// {"backend", "agrees", "operations": {"dispatch": {"state", "comparisons", "difference"}, ...}}.
nlohmann::ordered_json to_json(const BackendVerdict& verdict);

/// "name[17] is 5; the reference has 4", or empty when equal.
template <class T>
std::string first_difference(const std::string& name, const std::vector<T>& got, const std::vector<T>& want);

/// The same for a whole route result.
std::string first_difference(const RouteResult& got, const RouteResult& want);

}  // namespace eplora
