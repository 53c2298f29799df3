// SPDX-License-Identifier: Apache-2.0
// A parallel layout = mesh + sharding + expert placement (contract, section 2). `LayoutSpec` is the
// description a user writes; `Layout` is what it means for each rank: which experts, which columns of the
// intermediate size, which tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reference/layout/mesh.h"
#include "reference/layout/placement.h"

namespace eplora {

/// Names of the mesh axes that cut each dimension. An axis may appear once in all; an axis that appears
/// nowhere is replicated (every copy computes the same).
struct Sharding {
  std::vector<std::string> tokens;
  std::vector<std::string> experts;
  std::vector<std::string> intermediate;
  bool operator==(const Sharding&) const = default;
};

/// How experts are placed on the ranks of the expert axes.
struct PlacementSpec {
  PlacementKind kind = PlacementKind::linear;
  std::int32_t num_experts = 0;                       ///< E of the model
  std::vector<std::vector<std::int32_t>> table = {};  ///< kind = table only: global experts of each EP rank
  bool operator==(const PlacementSpec&) const = default;
};

struct LayoutSpec {
  std::vector<Axis> axes;
  Sharding sharding;
  PlacementSpec placement;
  bool operator==(const LayoutSpec&) const = default;
};

/// Where one rank stands. `moe_tp_rank` - never `rank` - selects columns of the intermediate size.
struct RankPlace {
  std::int32_t rank = 0, num_ranks = 1;
  std::int32_t ep_rank = 0, ep = 1;                ///< coordinate along the expert axes, and their extent
  std::int32_t moe_tp_rank = 0, moe_tp = 1;        ///< along the intermediate axes (SGLang's name)
  std::int32_t token_shard = 0, token_shards = 1;  ///< along the token axes (SGLang: moe_dp)
  bool operator==(const RankPlace&) const = default;
};

/// A half-open range of rows or columns.
struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// Contiguous cut of `total` into `parts`: part d has `total/parts + (d < total % parts)`, possibly none.
Range contiguous_part(std::int64_t total, std::int32_t parts, std::int32_t part);

/// Plain data, one entry per rank, so that a layout no formula covers - or a deliberately wrong one - is a
/// value too.
struct Layout {
  Mesh mesh;
  Sharding sharding;
  Placement placement;
  std::vector<RankPlace> places;  ///< `[num_ranks]`

  const RankPlace& place(std::int32_t rank) const;
  const std::vector<std::int32_t>& local_experts(std::int32_t rank) const;
  Range token_range(std::int64_t num_tokens, std::int32_t rank) const;
  /// Columns `[p*i, (p+1)*i)` of the intermediate size, `i = I/P`. Throws when `I % P != 0`, naming I and P.
  Range column_range(std::int64_t intermediate, std::int32_t rank) const;
};

/// Builds the layout. Throws `InvalidArgument` for an unknown axis, an axis used twice, or a table that does
/// not have one row per EP rank.
Layout make_layout(const LayoutSpec& spec);

/// Throws unless every rank's slice of the intermediate size is whole; `layer` goes into the sentence.
std::int64_t intermediate_per_rank(std::int64_t intermediate, std::int32_t moe_tp, const std::string& layer);

}  // namespace eplora
