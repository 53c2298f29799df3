// SPDX-License-Identifier: Apache-2.0
// Dispatch: global ids to local ids on one EP rank (contract, section 3).
#include <algorithm>

#include "optimized/guarded_run.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/properties/compare.h"
#include "property_tests/properties/properties.h"
#include "reference/contract/ids.h"
#include "reference/routing/dispatch.h"

namespace eplora::suite {
namespace {

using contract::Verdict;
using contract::Violation;

Verdict equals_reference(const DispatchCase& c, Backend& backend) {
  const DispatchStorage storage(c);
  const DispatchResult want = reference::dispatch(storage.problem);
  return first_difference("differential", "local_ids",
                          GuardedRun(backend).dispatch(storage.problem).local_ids, want.local_ids);
}

Verdict closure(const DispatchCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_experts, backend.form());
  const DispatchStorage storage(c);
  return contract::p1_closure(storage.problem, GuardedRun(backend).dispatch(storage.problem), backend.form());
}

Verdict unwritten_memory(const DispatchCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_experts, backend.form());
  const DispatchStorage storage(c);
  return contract::p13_unwritten_memory(
      [&](std::uint8_t poison) { return as_bytes(GuardedRun(backend, poison).dispatch(storage.problem)); });
}

Verdict determinism(const DispatchCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_experts, backend.form());
  const DispatchStorage storage(c);
  return contract::p14_determinism([&] { return as_bytes(GuardedRun(backend).dispatch(storage.problem)); },
                                   3);
}

/// Over the ranks of the EP group of the case's rank every valid slot has exactly one owner, who holds its
/// expert; every other slot none.
Verdict ranks_partition_slots(const RouteCase& c, Backend& backend) {
  require_accepted(c.batch, c.layout.placement.num_experts, backend.form());
  const Layout layout = backend.layout(c.layout);
  const IdStorage ids(c.batch);
  const std::int32_t E = c.layout.placement.num_experts;
  std::vector<std::int32_t> owner(c.batch.n(), -1);
  const std::vector<std::vector<std::int32_t>> groups = layout.mesh.groups(c.layout.sharding.experts);
  const auto own = std::find_if(groups.begin(), groups.end(), [&](const std::vector<std::int32_t>& group) {
    return std::find(group.begin(), group.end(), c.rank) != group.end();
  });
  if (own == groups.end())
    return Violation{"P9", "rank " + std::to_string(c.rank) + " is in no group of the expert axes", c.rank,
                     "one group", "none"};
  for (const std::int32_t rank : *own) {
    const DispatchTable table = layout.placement.dispatch_table(layout.place(rank).ep_rank);
    const DispatchResult local = GuardedRun(backend).dispatch(
        {ids.matrix(), E, table.local_ids, table.offsets, c.slot_offset, ids.num_tokens()});
    const std::vector<std::int32_t>& experts = layout.local_experts(rank);
    for (std::int64_t s = 0; s < c.batch.n(); ++s) {
      const std::int32_t id = local.local_ids[s];
      if (id < 0) continue;
      const std::string who = "slot " + std::to_string(s) + " with id " + std::to_string(c.batch.ids[s]);
      if (owner[s] >= 0)
        return Violation{
            "P8",
            who + " is served by rank " + std::to_string(owner[s]) + " and by rank " + std::to_string(rank),
            s, "one rank", "two ranks"};
      owner[s] = rank;
      if (id >= static_cast<std::int64_t>(experts.size()) || experts[id] != c.batch.ids[s])
        return Violation{"P8",
                         who + " became local id " + std::to_string(id) + " on rank " + std::to_string(rank) +
                             ", which does not hold that expert there",
                         s, "the expert's local id", std::to_string(id)};
    }
  }
  for (std::int64_t s = 0; s < c.batch.n(); ++s) {
    const bool valid = s / c.batch.K < c.batch.real_rows() && 0 <= c.batch.ids[s] && c.batch.ids[s] < E;
    if (valid != (owner[s] >= 0))
      return Violation{
          "P8",
          "slot " + std::to_string(s) + " with id " + std::to_string(c.batch.ids[s]) +
              (valid ? " is served by no rank" : " is served by rank " + std::to_string(owner[s])),
          s, valid ? "one rank" : "no rank", std::to_string(owner[s])};
  }
  return std::nullopt;
}

}  // namespace

std::vector<PropertyDefinition> dispatch_properties() {
  const std::vector<Operation> needs = {Operation::dispatch};
  return {
      property(
          {"dispatch", "SentinelsAndForeignExpertsComeOutNegative",
           "owned ids become their local id, every other id comes out negative, negative ids bit for bit",
           "P1"},
          needs, draw_dispatch, closure),
      byte_property({"dispatch", "EqualsTheReference", "local_ids equal the reference's byte for byte", ""},
                    needs, draw_dispatch, equals_reference),
      property({"dispatch", "RanksPartitionTheValidSlots",
                "the ranks of an EP group share the valid slots, each served by exactly one rank that holds "
                "its expert",
                "P8"},
               needs, draw_route, ranks_partition_slots),
      property({"dispatch", "DependsOnNoUnwrittenMemory", "two different poisons give equal bytes", "P13"},
               needs, draw_dispatch, unwritten_memory),
      property({"dispatch", "EqualInputsGiveEqualBytes", "three runs give equal bytes", "P14"}, needs,
               draw_dispatch, determinism),
  };
}

}  // namespace eplora::suite
