// SPDX-License-Identifier: Apache-2.0
// Section 2's arithmetic of ranks and coordinates as the judges of layouts do it: the last axis varies
// fastest, an index along a set of axes is the row-major order of their coordinates. Shares no code with
// reference/layout. Internal to reference/contract.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reference/contract/verdict.h"
#include "reference/layout/layout.h"
#include "reference/layout/mesh.h"

namespace eplora::contract {

class MeshReading {
 public:
  explicit MeshReading(const std::vector<Axis>& axes);

  std::int64_t num_ranks() const { return num_ranks_; }
  std::int64_t extent(const std::vector<std::string>& set) const;
  std::int64_t index_along(const std::vector<std::string>& set, std::int64_t rank) const;
  /// Whether two ranks have the same coordinates on every axis that is not in `set`.
  bool agree_outside(const std::vector<std::string>& set, std::int64_t a, std::int64_t b) const;
  /// A number that two ranks share exactly if they agree outside `set`; in `[0, num_ranks)`.
  std::int64_t index_outside(const std::vector<std::string>& set, std::int64_t rank) const;
  /// "rank 5 (moe_dp 0, moe_ep 1, moe_tp 1)".
  std::string words(std::int64_t rank) const;

 private:
  std::int64_t coordinate(std::size_t axis, std::int64_t rank) const {
    return rank / strides_[axis] % axes_[axis].size;
  }
  bool in(const std::vector<std::string>& set, std::size_t axis) const;
  std::vector<Axis> axes_;
  std::vector<std::int64_t> strides_;
  std::int64_t num_ranks_ = 1;
};

/// The axes that split a layer's experts, its columns and its tokens.
struct PlaceAxes {
  const std::vector<std::string>&experts, &intermediate, &tokens;
};

/// The first number of a rank's place that its coordinates do not give; `at` opens the sentence.
Verdict wrong_place(const MeshReading& mesh, const PlaceAxes& axes, std::int64_t rank, const RankPlace& got,
                    const std::string& at);

}  // namespace eplora::contract
