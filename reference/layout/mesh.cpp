// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/mesh.h"

#include <algorithm>

#include "reference/check.h"

namespace eplora {

Mesh::Mesh(std::vector<Axis> axes) : axes_(std::move(axes)) {
  std::int64_t ranks = 1;
  std::string factors;
  for (std::size_t a = 0; a < axes_.size(); ++a) {
    const Axis& axis = axes_[a];
    if (axis.name.empty()) reject("mesh axis " + std::to_string(a), "nameless", "every axis needs a name");
    for (std::size_t b = 0; b < a; ++b)
      if (axes_[b].name == axis.name)
        reject("mesh axis " + axis.name, "named twice", "axis names must differ");
    require_in_range("mesh axis " + axis.name, axis.size, 1, kMaxIndex);
    ranks = saturating_product(ranks, axis.size);
    factors += (a ? " * " : "") + axis.name + "=" + std::to_string(axis.size);
  }
  require_index_range("number of ranks", ranks, factors);
  num_ranks_ = static_cast<std::int32_t>(ranks);
}

std::int32_t Mesh::size_of(std::string_view name) const {
  for (const Axis& axis : axes_)
    if (axis.name == name) return axis.size;
  std::string known;
  for (const Axis& axis : axes_) known += (known.empty() ? "" : ", ") + axis.name;
  reject("axis name", name, "the mesh has the axes: " + known);
}

std::vector<std::int32_t> Mesh::coordinates(std::int32_t rank) const {
  require_in_range("rank", rank, 0, num_ranks_ - 1);
  std::vector<std::int32_t> result(axes_.size());
  for (std::size_t a = axes_.size(); a-- > 0;) {
    result[a] = rank % axes_[a].size;
    rank /= axes_[a].size;
  }
  return result;
}

std::int32_t Mesh::rank_at(const std::vector<std::int32_t>& coordinates) const {
  if (coordinates.size() != axes_.size())
    reject("number of coordinates", std::to_string(coordinates.size()),
           "the mesh has " + std::to_string(axes_.size()) + " axes");
  std::int32_t rank = 0;
  for (std::size_t a = 0; a < axes_.size(); ++a) {
    require_in_range("coordinate " + axes_[a].name, coordinates[a], 0, axes_[a].size - 1);
    rank = rank * axes_[a].size + coordinates[a];
  }
  return rank;
}

std::vector<bool> Mesh::selected(const std::vector<std::string>& names) const {
  for (const std::string& name : names) size_of(name);  // every name must exist
  std::vector<bool> in_set(axes_.size());
  for (std::size_t a = 0; a < axes_.size(); ++a)
    in_set[a] = std::find(names.begin(), names.end(), axes_[a].name) != names.end();
  return in_set;
}

std::int32_t Mesh::extent(const std::vector<std::string>& names) const {
  const std::vector<bool> in_set = selected(names);
  std::int32_t product = 1;
  for (std::size_t a = 0; a < axes_.size(); ++a)
    if (in_set[a]) product *= axes_[a].size;
  return product;
}

std::int32_t Mesh::index_along(const std::vector<std::string>& names, std::int32_t rank) const {
  const std::vector<bool> in_set = selected(names);
  const std::vector<std::int32_t> at = coordinates(rank);
  std::int32_t index = 0;
  for (std::size_t a = 0; a < axes_.size(); ++a)
    if (in_set[a]) index = index * axes_[a].size + at[a];
  return index;
}

std::vector<std::vector<std::int32_t>> Mesh::groups(const std::vector<std::string>& names) const {
  const std::vector<bool> in_set = selected(names);
  const std::int32_t members = extent(names);
  std::vector<std::vector<std::int32_t>> result;
  std::vector<std::int32_t> group_of(num_ranks_, -1);
  for (std::int32_t rank = 0; rank < num_ranks_; ++rank) {
    std::vector<std::int32_t> at = coordinates(rank);
    const std::int32_t index = index_along(names, rank);
    for (std::size_t a = 0; a < axes_.size(); ++a)
      if (in_set[a]) at[a] = 0;
    const std::int32_t first = rank_at(at);  // the member with index 0; it comes before all others
    if (group_of[first] < 0) {
      group_of[first] = static_cast<std::int32_t>(result.size());
      result.emplace_back(members);
    }
    result[group_of[first]][index] = rank;
  }
  return result;
}

}  // namespace eplora
