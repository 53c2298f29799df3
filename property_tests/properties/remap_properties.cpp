// SPDX-License-Identifier: Apache-2.0
// Remap: (expert, adapter) to virtual expert, sentinels preserved (contract, section 4).
#include <algorithm>

#include "optimized/guarded_run.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/properties/compare.h"
#include "property_tests/properties/properties.h"
#include "reference/contract/ids.h"
#include "reference/routing/remap.h"

namespace eplora::suite {
namespace {

using contract::Verdict;

Verdict equals_reference(const RemapCase& c, Backend& backend) {
  const RemapStorage storage(c);
  const RemapResult want = reference::remap(storage.problem);
  return first_difference("differential", GuardedRun(backend).remap(storage.problem), want);
}

Verdict closure(const RemapCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_experts, backend.form());
  const RemapStorage storage(c);
  return contract::p1_closure(storage.problem, GuardedRun(backend).remap(storage.problem), backend.form());
}

Verdict decode(const RemapCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_experts, backend.form());
  const RemapStorage storage(c);
  return contract::p2_decode(storage.problem, GuardedRun(backend).remap(storage.problem));
}

Verdict unwritten_memory(const RemapCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_experts, backend.form());
  const RemapStorage storage(c);
  return contract::p13_unwritten_memory(
      [&](std::uint8_t poison) { return as_bytes(GuardedRun(backend, poison).remap(storage.problem)); });
}

Verdict determinism(const RemapCase& c, Backend& backend) {
  require_accepted(c.batch, c.num_experts, backend.form());
  const RemapStorage storage(c);
  return contract::p14_determinism([&] { return as_bytes(GuardedRun(backend).remap(storage.problem)); }, 3);
}

/// The ids stand so far apart that offsets pass 2^31; copying them would not do, so the backend runs
/// unguarded.
Verdict wide_indices(const RemapCase& c, Backend& backend) {
  if (backend.memory_space() != MemorySpace::host)
    throw Discard{"judged through a sparse mapping in host memory"};
  // Ids go up to 160; some take none past the last expert.
  const bool takes_invalid = backend.form().ids != contract::AcceptedIds::minus_one_to_V;
  const std::int32_t E = takes_invalid ? c.num_experts : std::max(c.num_experts, 161);
  const auto run = [&](const std::int32_t* base, std::int64_t rows, std::int64_t cols,
                       std::int64_t row_stride) {
    const std::vector<std::int32_t> mapping(rows, 0);
    RemapProblem problem;
    problem.topk_ids = {base, IdType::int32, rows, cols, row_stride};
    problem.token_lora_mapping = mapping;
    problem.num_experts = E;
    problem.max_loras = 1;
    std::vector<std::int32_t> virtual_ids(rows * cols, -77);
    std::vector<std::uint8_t> mask(rows, 77);
    std::vector<std::byte> workspace(backend.workspace_bytes(problem));
    backend.remap(problem, {virtual_ids.data(), mask.data()}, {workspace.data(), workspace.size(), nullptr});
    return virtual_ids;
  };
  return contract::p15_wide_indices(run, [E](std::int32_t id) {
    return id < 0 ? id : id < E ? id : std::int32_t{-1};
  });
}

}  // namespace

std::vector<PropertyDefinition> remap_properties() {
  const std::vector<Operation> needs = {Operation::remap};
  std::vector<PropertyDefinition> properties = {
      property({"remap", "NegativeIdsPassThroughBitForBit",
                "every sentinel and every invalid slot comes out negative, everything else in [0, V)", "P1"},
               needs, draw_remap, closure),
      property(
          {"remap", "VirtualIdsDecodeToExpertAndAdapter",
           "a valid slot's output divides back into its adapter and its expert, and the mask is right", "P2"},
          needs, draw_remap, decode),
      byte_property(
          {"remap", "EqualsTheReference", "virtual_ids and token_lora_mask equal the reference's", ""}, needs,
          draw_remap, equals_reference),
      property({"remap", "DependsOnNoUnwrittenMemory", "two different poisons give equal bytes", "P13"},
               needs, draw_remap, unwritten_memory),
      property({"remap", "EqualInputsGiveEqualBytes", "three runs give equal bytes", "P14"}, needs,
               draw_remap, determinism),
      property({"remap", "IdsPastTwoToTheThirtyOneAreRead", "offsets past 2^31 elements address the right id",
                "P15", 20},
               needs, draw_remap, wide_indices),
  };
  properties.back().host_only = true;
  return properties;
}

}  // namespace eplora::suite
