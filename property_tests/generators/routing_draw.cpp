// SPDX-License-Identifier: Apache-2.0
// How routing cases are drawn and laid out in memory.
#include <algorithm>
#include <limits>

#include "property_tests/generators/routing_cases.h"

namespace eplora::suite {
namespace {

/// A dispatch table may hold any negative value for "not here".
void vary_negative_entries(Draw& draw, std::vector<std::int32_t>& table) {
  if (!draw.percent(25)) return;
  const std::uint64_t seed = draw.bits();
  for (std::size_t i = 0; i < table.size(); ++i)
    if (table[i] < 0)
      table[i] = below(hash_at(seed, i), 3) == 0
                     ? std::numeric_limits<std::int32_t>::min()
                     : -1 - static_cast<std::int32_t>(below(hash_at(seed, i + 1), 1000));
}

std::int64_t draw_slot_offset(Draw& draw) {
  if (draw.percent(60)) return 0;
  return draw.percent(80) ? draw.in(1, 1000) : (std::int64_t{1} << 33) + draw.in(0, 1000);
}

std::int32_t virtual_experts_limit(std::int32_t L) { return L == 0 ? 512 : std::min(512, 16384 / L); }

RouteProblem route_problem(const RouteCase& c, const Layout& layout, const IdStorage& ids,
                           const DispatchTable& table) {
  RouteProblem problem;
  problem.topk_ids = ids.matrix();
  problem.token_lora_mapping = c.mapping;
  problem.num_experts = c.layout.placement.num_experts;
  if (c.dispatch) {
    problem.table = table.local_ids;
    problem.offsets = table.offsets;
    problem.slot_offset = c.slot_offset;
  }
  problem.num_local_experts = static_cast<std::int32_t>(layout.local_experts(c.rank).size());
  problem.max_loras = c.max_loras;
  problem.shared_outer = c.shared_outer;
  problem.no_adapter = c.no_adapter;
  problem.block_size = c.block_size;
  problem.sentinels = c.sentinels;
  problem.num_tokens = ids.num_tokens();
  return problem;
}

}  // namespace

DispatchCase draw_dispatch(Draw& draw, int size, const contract::Form& form) {
  DispatchCase c;
  const LayoutSpec layout = draw_layout(draw, {});
  const Placement placement = make_layout(layout).placement;
  c.num_experts = layout.placement.num_experts;
  // The last rank owns the last expert of a linear placement, where a wrapped index lands.
  const std::int32_t ep_rank =
      static_cast<std::int32_t>(draw.percent(30) ? placement.ep() - 1 : draw.in(0, placement.ep() - 1));
  DispatchTable table = placement.dispatch_table(ep_rank);
  c.table = std::move(table.local_ids);
  c.offsets = std::move(table.offsets);
  vary_negative_entries(draw, c.table);
  c.slot_offset = draw_slot_offset(draw);
  c.batch = draw_ids(draw, size, c.num_experts, form.ids);
  return c;
}

RemapCase draw_remap(Draw& draw, int size, const contract::Form& form) {
  RemapCase c;
  c.max_loras = draw_adapters(draw);
  c.num_experts = draw.percent(2) ? 0 : draw_experts(draw, 512);
  c.shared_outer = draw.percent(25);
  c.no_adapter = draw.percent(40) ? NoAdapter::sentinel : NoAdapter::base_slot;
  c.batch = draw_ids(draw, size, c.num_experts, form.ids);
  c.mapping = draw_mapping(draw, c.batch.T, c.max_loras);
  return c;
}

AlignCase draw_align(Draw& draw, int size, const contract::Form& form) {
  AlignCase c;
  if (draw.percent(2))
    c.num_buckets = 0;
  else if (draw.percent(60))
    c.num_buckets = draw_experts(draw, 512);
  else
    c.num_buckets =
        static_cast<std::int32_t>(draw.percent(50) ? draw.in(1000, 2100) : draw.log_uniform(1, 16384));
  c.sentinels = draw.percent(40) ? Sentinels::drop : Sentinels::keep;
  c.batch = draw_ids(draw, size, c.num_buckets, form.ids);
  c.block_size = draw_block_size(draw, c.batch.n(), c.num_buckets);
  return c;
}

RouteCase draw_route(Draw& draw, int size, const contract::Form& form) {
  RouteCase c;
  c.max_loras = draw_adapters(draw);
  c.layout =
      draw_layout(draw, {.ranks = 64, .experts = virtual_experts_limit(c.max_loras), .replicas = true});
  c.rank = static_cast<std::int32_t>(draw.in(0, num_ranks_of(c.layout) - 1));
  c.dispatch = draw.percent(80);
  c.shared_outer = draw.percent(25);
  c.no_adapter = draw.percent(40) ? NoAdapter::sentinel : NoAdapter::base_slot;
  c.sentinels = draw.percent(40) ? Sentinels::drop : Sentinels::keep;
  c.slot_offset = draw_slot_offset(draw);
  const bool takes_all = form.ids == contract::AcceptedIds::any;
  c.batch = draw_ids(draw, size, takes_all ? c.layout.placement.num_experts : c.experts_of_ids(), form.ids);
  c.mapping = draw_mapping(draw, c.batch.T, c.max_loras);
  const std::int64_t V = std::int64_t{c.layout.placement.num_experts} * std::max(c.max_loras, 1);
  c.block_size = draw_block_size(draw, c.batch.n(), V);
  return c;
}

std::int32_t RouteCase::experts_of_ids() const {
  if (dispatch) return layout.placement.num_experts;
  return static_cast<std::int32_t>(make_layout(layout).local_experts(rank).size());
}

LayoutCase draw_layout_case(Draw& draw, int, const contract::Form&) {
  LayoutCase c;
  c.layout = draw_layout(draw, {});
  c.columns_per_rank = draw.log_uniform(1, 2048);
  c.num_tokens = draw.log_uniform(0, 20'000);
  return c;
}

DispatchStorage::DispatchStorage(const DispatchCase& c)
    : ids_(c.batch), problem{ids_.matrix(), c.num_experts, c.table,
                             c.offsets,     c.slot_offset, ids_.num_tokens()} {}

RemapStorage::RemapStorage(const RemapCase& c)
    : ids_(c.batch), problem{ids_.matrix(),  c.mapping,    c.num_experts,    c.max_loras,
                             c.shared_outer, c.no_adapter, ids_.num_tokens()} {}

AlignStorage::AlignStorage(const AlignCase& c)
    : ids_(c.batch), problem{ids_.matrix(), c.num_buckets, c.block_size, c.sentinels, ids_.num_tokens()} {}

RouteStorage::RouteStorage(const RouteCase& c, const Layout& layout)
    : ids_(c.batch),
      table_(layout.placement.dispatch_table(layout.place(c.rank).ep_rank)),
      problem(route_problem(c, layout, ids_, table_)) {}

}  // namespace eplora::suite
