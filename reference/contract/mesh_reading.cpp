// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/mesh_reading.h"

#include <algorithm>

#include "reference/contract/sentence.h"

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

Verdict wrong_place(const MeshReading& mesh, const PlaceAxes& axes, std::int64_t rank, const RankPlace& got,
                    const std::string& at) {
  const struct {
    const char* name;
    std::int64_t expected, found;
  } fields[] = {{"rank", rank, got.rank},
                {"num_ranks", mesh.num_ranks(), got.num_ranks},
                {"ep", mesh.extent(axes.experts), got.ep},
                {"ep_rank", mesh.index_along(axes.experts, rank), got.ep_rank},
                {"moe_tp", mesh.extent(axes.intermediate), got.moe_tp},
                {"moe_tp_rank", mesh.index_along(axes.intermediate, rank), got.moe_tp_rank},
                {"token_shards", mesh.extent(axes.tokens), got.token_shards},
                {"token_shard", mesh.index_along(axes.tokens, rank), got.token_shard}};
  for (const auto& field : fields)
    if (field.expected != field.found)
      return violation("P9", rank, at + mesh.words(rank) + "; its " + field.name,
                       std::to_string(field.expected), std::to_string(field.found));
  return std::nullopt;
}

}  // namespace eplora::contract
