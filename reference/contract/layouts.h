// SPDX-License-Identifier: Apache-2.0
// P8 cover and P9 groups, and the layout half of P7: judges of meshes, shardings and placements (contract,
// section 2). They re-derive everything from the description and share no code with reference/layout.
#pragma once

#include "reference/contract/verdict.h"
#include "reference/layout/layout.h"

namespace eplora::contract {

// `Violation::place` is the rank; where P8 speaks of an expert, the expert, of a placement row or table, the
// EP rank.

/// P7, geometry: along the axes that shard it, the ranks' column ranges of `intermediate` tile it without gap
/// or overlap and none is empty; token ranges tile `num_tokens`; a rank owns no expert only if E < ep or its
/// table says so.
Verdict p7_shards(const LayoutSpec& spec, const Layout& layout, std::int64_t intermediate,
                  std::int64_t num_tokens);

/// P8: for each fixed coordinate of the axes that do not shard experts, every expert is owned by exactly its
/// declared number of (ep rank, local id), replicas on distinct ranks unless a table says otherwise; global
/// -> local -> global and local -> global -> local are identities, through the dispatch tables too; owners
/// follow the declared rule (linear: first `E % ep` ranks one more, contiguous; round_robin: e % ep, e / ep;
/// table: as given).
Verdict p8_cover(const LayoutSpec& spec, const Layout& layout);

/// P9: every rank stands in exactly one group of `axes`, at the index its coordinates give; members differ in
/// those coordinates alone.
Verdict p9_groups(const LayoutSpec& spec, const std::vector<std::string>& axes,
                  const std::vector<std::vector<std::int32_t>>& groups);

/// P9 for a whole layout: places (ep_rank, moe_tp_rank, token_shard) are the row-major indices of the
/// coordinates.
Verdict p9_places(const LayoutSpec& spec, const Layout& layout);

}  // namespace eplora::contract
