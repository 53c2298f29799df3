// SPDX-License-Identifier: Apache-2.0
// Route: dispatch, remap and align in one step, on a rank of a layout (contract, section 5).
#include "optimized/guarded_run.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/properties/compare.h"
#include "property_tests/properties/properties.h"
#include "reference/contract/blocks.h"
#include "reference/contract/ids.h"
#include "reference/routing/route.h"

namespace eplora::suite {
namespace {

using contract::Verdict;

void require_promised(const RouteCase& c, const Backend& backend) {
  require_accepted(c.batch, c.experts_of_ids(), backend.form());
}

Verdict equals_reference(const RouteCase& c, Backend& backend) {
  const RouteStorage storage(c, make_layout(c.layout));
  const RouteResult want = reference::route(storage.problem);
  return first_difference("differential", GuardedRun(backend).route(storage.problem), want);
}

Verdict is_the_composition(const RouteCase& c, Backend& backend) {
  const RouteStorage storage(c, make_layout(c.layout));
  const RouteProblem& p = storage.problem;
  const GuardedRun run(backend);
  DispatchResult local;
  IdMatrix ids = p.topk_ids;
  if (c.dispatch) {
    local = run.dispatch({p.topk_ids, p.num_experts, p.table, p.offsets, p.slot_offset, p.num_tokens});
    ids = IdMatrix::of(local.local_ids, c.batch.K);
  }
  RemapResult remapped = run.remap({ids, p.token_lora_mapping, p.num_local_experts, p.max_loras,
                                    p.shared_outer, p.no_adapter, p.num_tokens});
  RouteResult want;
  want.blocks =
      run.align({IdMatrix::of(remapped.virtual_ids, c.batch.K), static_cast<std::int32_t>(p.num_buckets()),
                 p.block_size, p.sentinels, p.num_tokens});
  want.token_lora_mask = std::move(remapped.token_lora_mask);
  return first_difference("composition", run.route(p), want);
}

/// The blocks are judged against the virtual ids that the contract gives these slots.
Verdict blocks_are_right(const RouteCase& c, Backend& backend) {
  require_promised(c, backend);
  const RouteStorage storage(c, make_layout(c.layout));
  const RouteProblem& p = storage.problem;
  const RouteResult result = GuardedRun(backend).route(p);
  return contract::judge_route(
      p, result, backend.capacity(c.batch.n(), p.num_buckets(), p.block_size, p.sentinels), backend.form());
}

contract::ResultBytes route_bytes(const RouteCase& c, Backend& backend, std::uint8_t poison) {
  require_promised(c, backend);
  const RouteStorage storage(c, make_layout(c.layout));
  const RouteResult result = GuardedRun(backend, poison).route(storage.problem);
  AlignProblem align;
  align.block_size = c.block_size;
  contract::ResultBytes bytes = as_bytes(result.blocks, align, backend.form());
  RemapResult mask;
  mask.token_lora_mask = result.token_lora_mask;
  bytes.push_back(as_bytes(mask).back());
  return bytes;
}

Verdict unwritten_memory(const RouteCase& c, Backend& backend) {
  return contract::p13_unwritten_memory([&](std::uint8_t poison) { return route_bytes(c, backend, poison); });
}

Verdict determinism(const RouteCase& c, Backend& backend) {
  return contract::p14_determinism([&] { return route_bytes(c, backend, 0xA5); }, 3);
}

Verdict one_size(const RouteCase& c, Backend& backend) {
  require_promised(c, backend);
  const Layout layout = make_layout(c.layout);
  const auto varied = [&](int variation) {
    RouteCase other = c;
    other.batch = with_other_values(c.batch, c.experts_of_ids(), variation, backend.form());
    return other;
  };
  return contract::p17_one_size(
      kValueVariations,
      [&](int i) {
        const RouteCase other = varied(i);
        return static_cast<std::int64_t>(backend.workspace_bytes(RouteStorage(other, layout).problem));
      },
      [&](int i) {
        const RouteCase other = varied(i);
        try {
          GuardedRun(backend).route(RouteStorage(other, layout).problem);
          return false;
        } catch (const GuardViolation&) {
          return true;
        }
      });
}

}  // namespace

std::vector<PropertyDefinition> route_properties() {
  const std::vector<Operation> needs = {Operation::route};
  return {
      property(
          {"route", "BlocksHoldTheSlotsOfTheirVirtualExpert",
           "the blocks on a rank partition the slots by the virtual id that dispatch and remap give them",
           "P3 P4 P5 P6"},
          needs, draw_route, blocks_are_right),
      byte_property(
          {"route", "EqualsTheReference", "blocks and mask equal the reference's byte for byte", ""}, needs,
          draw_route, equals_reference),
      byte_property({"route", "IsAlignOfRemapOfDispatch",
                     "route equals the backend's own dispatch, remap and align one after another", ""},
                    {Operation::dispatch, Operation::remap, Operation::align, Operation::route}, draw_route,
                    is_the_composition),
      property({"route", "DependsOnNoUnwrittenMemory", "two different poisons give equal bytes", "P13"},
               needs, draw_route, unwritten_memory),
      property({"route", "EqualInputsGiveEqualBytes", "three runs give equal bytes", "P14"}, needs,
               draw_route, determinism),
      property({"route", "OneSizeForAllValues",
                "the workspace depends on shapes alone and is enough for all values", "P17"},
               needs, draw_route, one_size),
  };
}

}  // namespace eplora::suite
