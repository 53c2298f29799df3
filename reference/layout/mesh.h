// SPDX-License-Identifier: Apache-2.0
// A mesh: ranks arranged on an ordered list of named axes, the last axis varying fastest over ranks
// (contract, section 2). Everything a rank needs to know about its neighbours - coordinates, groups, its
// index in a group - follows from the axes alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace eplora {

struct Axis {
  std::string name;
  std::int32_t size = 1;
  bool operator==(const Axis&) const = default;
};

class Mesh {
 public:
  /// Axes from slowest to fastest. Throws `InvalidArgument` for an empty or repeated name, a size < 1, or
  /// more than 2^31-1 ranks. No axes at all is the mesh of one rank.
  explicit Mesh(std::vector<Axis> axes = {});

  const std::vector<Axis>& axes() const { return axes_; }
  std::int32_t num_ranks() const { return num_ranks_; }

  /// Size of the axis called `name`; throws when there is none.
  std::int32_t size_of(std::string_view name) const;

  /// Coordinates of `rank`, one per axis, in axis order.
  std::vector<std::int32_t> coordinates(std::int32_t rank) const;

  /// The rank that stands at `coordinates`.
  std::int32_t rank_at(const std::vector<std::int32_t>& coordinates) const;

  /// Product of the sizes of `names` (a set: order and place in the list do not matter; 1 for the empty set).
  std::int32_t extent(const std::vector<std::string>& names) const;

  /// Row-major index of `rank`'s coordinates along the axes in `names`, taken in mesh order: its index in its
  /// group, in [0, extent(names)).
  std::int32_t index_along(const std::vector<std::string>& names, std::int32_t rank) const;

  /// The groups of the axis set `names`: ranks that agree in every *other* coordinate. Each group is in index
  /// order; groups are ordered by their first rank; every rank is in exactly one.
  std::vector<std::vector<std::int32_t>> groups(const std::vector<std::string>& names) const;

  bool operator==(const Mesh&) const = default;

 private:
  std::vector<bool> selected(const std::vector<std::string>& names) const;
  std::vector<Axis> axes_;
  std::int32_t num_ranks_ = 1;
};

}  // namespace eplora
