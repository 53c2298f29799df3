// SPDX-License-Identifier: Apache-2.0
// Random routing problems for the tests of the judges: ids of every kind, both dtypes, padded batches whose
// padding rows do not exist in memory, so that a judge that reads them reads past the array.
#pragma once

#include <limits>
#include <vector>

#include "property_tests/unit/contract_expect.h"
#include "reference/layout/placement.h"
#include "reference/routing/problem.h"

namespace eplora::contract {

/// Owns what a problem points to.
struct RoutingCase {
  std::vector<std::int32_t> ids32, mapping;
  std::vector<std::int64_t> ids64;
  DispatchTable table;
  IdMatrix ids;
  NumTokens num_tokens;
  std::int32_t num_experts = 0, num_local_experts = 0, max_loras = 0, block_size = 1;
  std::int64_t slot_offset = 0;
  bool shared_outer = false;
  NoAdapter no_adapter = NoAdapter::base_slot;
  Sentinels sentinels = Sentinels::keep;

  std::span<const std::int32_t> token_lora_mapping() const {
    return {mapping.data(), static_cast<std::size_t>(ids.rows)};
  }
  DispatchProblem dispatch() const {
    return {ids, num_experts, table.local_ids, table.offsets, slot_offset, num_tokens};
  }
  RemapProblem remap() const {
    return {ids, token_lora_mapping(), num_experts, max_loras, shared_outer, no_adapter, num_tokens};
  }
  AlignProblem align() const { return {ids, num_experts, block_size, sentinels, num_tokens}; }
  RouteProblem route() const {
    return {ids,           token_lora_mapping(), num_experts,       table.local_ids,
            table.offsets, slot_offset,          num_local_experts, max_loras,
            shared_outer,  no_adapter,           block_size,        sentinels,
            num_tokens};
  }
};

inline RoutingCase random_case(std::uint64_t seed) {
  Random random(seed);
  RoutingCase c;
  const std::int64_t T = random.one_in(8) ? 0 : random.in(1, 24), K = random.in(1, 6);
  const std::int64_t real = random.one_in(3) ? random.in(0, T) : T;
  c.num_experts = static_cast<std::int32_t>(random.one_in(8) ? 0 : random.in(1, 20));
  c.max_loras = static_cast<std::int32_t>(random.in(0, 4));
  c.block_size = static_cast<std::int32_t>(random.in(1, 9));
  c.slot_offset = random.in(0, 50);
  c.shared_outer = random.one_in(3);
  c.no_adapter = random.one_in(3) ? NoAdapter::sentinel : NoAdapter::base_slot;
  c.sentinels = random.one_in(2) ? Sentinels::keep : Sentinels::drop;
  if (real < T || random.one_in(4)) c.num_tokens = NumTokens::of(static_cast<std::int32_t>(real));
  const bool wide = random.one_in(3);
  const std::int64_t stride = K + (random.one_in(3) ? random.in(1, 3) : 0);
  const std::int64_t odd[] = {-1,
                              -1,
                              -2,
                              -9,
                              std::numeric_limits<std::int32_t>::min(),
                              c.num_experts,
                              c.num_experts + random.in(0, 40),
                              std::numeric_limits<std::int32_t>::max(),
                              wide ? -(std::int64_t{1} << 40) : -3,
                              wide ? std::int64_t{1} << 32 : c.num_experts};
  for (std::int64_t i = 0; i < real * stride; ++i) {
    const std::int64_t id =
        c.num_experts == 0 || random.one_in(4) ? odd[random.in(0, 9)] : random.in(0, c.num_experts - 1);
    if (wide)
      c.ids64.push_back(id);
    else
      c.ids32.push_back(static_cast<std::int32_t>(id));
  }
  for (std::int64_t t = 0; t < real; ++t)
    c.mapping.push_back(
        static_cast<std::int32_t>(random.one_in(6) ? c.max_loras : random.in(-2, c.max_loras)));
  static const std::int64_t none = 0;
  const void* data = wide ? static_cast<const void*>(c.ids64.data()) : c.ids32.data();
  c.ids = {real == 0 ? &none : data, wide ? IdType::int64 : IdType::int32, T, K, stride};
  if (c.num_experts > 0) {
    const auto ep = static_cast<std::int32_t>(random.in(1, 4));
    std::vector<std::vector<std::int32_t>> rows(ep);
    for (std::int32_t e = 0; e < c.num_experts; ++e)
      for (std::int64_t copies = random.one_in(4) ? 2 : 1; copies > 0; --copies)
        rows[random.in(0, ep - 1)].push_back(e);
    const auto q = static_cast<std::int32_t>(random.in(0, ep - 1));
    const Placement placement = Placement::table(c.num_experts, rows);
    c.table = placement.dispatch_table(q);
    c.num_local_experts = static_cast<std::int32_t>(placement.local_experts(q).size());
  } else {
    c.num_local_experts = 0;
  }
  return c;
}

/// Another value for one element.
inline std::int32_t other_value(Random& random, std::int32_t value) {
  const std::int64_t other = random.one_in(4)   ? std::numeric_limits<std::int32_t>::min()
                             : random.one_in(4) ? std::numeric_limits<std::int32_t>::max()
                                                : value + random.in(-3, 3);
  return other == value ? value ^ 1 : static_cast<std::int32_t>(other);
}

}  // namespace eplora::contract
