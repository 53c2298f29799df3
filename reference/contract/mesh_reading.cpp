// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/mesh_reading.h"

#include <algorithm>

namespace eplora::contract {

MeshReading::MeshReading(const std::vector<Axis>& axes) : axes_(axes), strides_(axes.size()) {
  for (std::size_t a = axes.size(); a-- > 0;) {
    strides_[a] = num_ranks_;
    num_ranks_ *= axes[a].size;
  }
}

bool MeshReading::in(const std::vector<std::string>& set, std::size_t axis) const {
  return std::find(set.begin(), set.end(), axes_[axis].name) != set.end();
}

std::int64_t MeshReading::extent(const std::vector<std::string>& set) const {
  std::int64_t extent = 1;
  for (std::size_t a = 0; a < axes_.size(); ++a) extent *= in(set, a) ? axes_[a].size : 1;
  return extent;
}

std::int64_t MeshReading::index_along(const std::vector<std::string>& set, std::int64_t rank) const {
  std::int64_t index = 0;
  for (std::size_t a = 0; a < axes_.size(); ++a)
    if (in(set, a)) index = index * axes_[a].size + coordinate(a, rank);
  return index;
}

std::int64_t MeshReading::index_outside(const std::vector<std::string>& set, std::int64_t rank) const {
  std::int64_t index = 0;
  for (std::size_t a = 0; a < axes_.size(); ++a)
    if (!in(set, a)) index = index * axes_[a].size + coordinate(a, rank);
  return index;
}

bool MeshReading::agree_outside(const std::vector<std::string>& set, std::int64_t a, std::int64_t b) const {
  return index_outside(set, a) == index_outside(set, b);
}

std::string MeshReading::words(std::int64_t rank) const {
  std::string words = "rank " + std::to_string(rank);
  for (std::size_t a = 0; a < axes_.size(); ++a)
    words += (a == 0 ? " (" : ", ") + axes_[a].name + " " + std::to_string(coordinate(a, rank));
  return axes_.empty() ? words : words + ")";
}

}  // namespace eplora::contract
