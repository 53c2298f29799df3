// SPDX-License-Identifier: Apache-2.0
// Device side of slots.h: the one predicate by which every kernel, in every pass, decides what a slot's id
// means. No array is read for a row past `num_tokens`, no table or mapping is indexed by a value that was not
// tested first.
#pragma once

#include "kernels/slots.h"

namespace eplora::kernels {

inline __device__ std::uint32_t divide(std::uint32_t x, const Divisor& by) {
  return __umulhi(x + x, by.multiplier) >> by.shift;
}

inline __device__ std::int32_t real_tokens(const IdSource& source) {
  if (source.num_tokens_pointer == nullptr) return source.num_tokens;
  return min(max(__ldcg(source.num_tokens_pointer), 0), source.num_rows);
}

/// An id as it stands in memory, the upper word only where ids are int64. Nothing is computed from it before
/// it is needed, so that loads of several slots are in flight together.
struct RawId {
  std::int32_t low = -1, high = -1;
};

inline __device__ std::int64_t id_index(const IdSource& source, std::uint32_t slot, std::uint32_t token) {
  return slot + std::int64_t{token} * source.row_gap;
}
inline __device__ RawId load_wide_id(const IdSource& source, std::int64_t index) {
  const int2 words = __ldcg(static_cast<const int2*>(source.ids) + index);
  return {words.x, words.y};
}
inline __device__ std::int32_t load_narrow_id(const IdSource& source, std::int64_t index) {
  return __ldcg(static_cast<const int*>(source.ids) + index);
}

/// An int64 that no int32 can hold becomes -1 (too small) or 2^31-1 (too large: never a valid id, as E <=
/// 2^31-1).
inline __device__ std::int32_t narrow(const RawId& id) {
  return id.high == id.low >> 31 ? id.low : id.high < 0 ? -1 : INT32_MAX;
}

/// The id of one slot; for several at once see list_rank.cuh.
inline __device__ std::int32_t load_id(const IdSource& source, std::uint32_t slot, std::uint32_t token) {
  const std::int64_t index = id_index(source, slot, token);
  return source.wide ? narrow(load_wide_id(source, index)) : load_narrow_id(source, index);
}

/// The entry of an id that has replicas. Rare, and long (a 64-bit remainder), hence out of line: the kernels
/// here are short, and what they wait for is their instructions.
__device__ __noinline__ inline std::int32_t replica_entry(const std::int32_t* table,
                                                          const std::int32_t* offsets,
                                                          std::int64_t slot_offset, std::int32_t id,
                                                          std::uint32_t slot) {
  const std::int32_t first = __ldcg(offsets + id), replicas = __ldcg(offsets + id + 1) - first;
  // Replica tables are checked by whoever builds them; a device-side table with no replica serves nobody.
  return replicas <= 0 ? -1 : table[first + (slot_offset + slot) % replicas];
}

/// Section 3. A negative id is unchanged; anything not served here becomes -1.
inline __device__ std::int32_t dispatch_id(const DispatchTable& d, const std::int32_t* table, std::int32_t id,
                                           std::uint32_t slot) {
  std::int32_t local = -1;
  if (static_cast<std::uint32_t>(id) < static_cast<std::uint32_t>(d.num_experts))
    local = d.offsets == nullptr ? table[id] : replica_entry(table, d.offsets, d.slot_offset, id, slot);
  return id < 0 ? id : local < 0 ? -1 : local;
}

/// Section 4. A negative id is unchanged. No branches: the cases are selected.
inline __device__ std::int32_t virtual_id(const RemapRule& rule, std::int32_t id, std::int32_t adapter) {
  const bool inside = (id < rule.num_experts) & (adapter < rule.max_loras) &
                      ((adapter >= 0) | (rule.base_slot & (rule.max_loras > 0)));
  const std::int32_t lora = max(adapter, 0);  // a token without adapter rides in adapter 0's bucket
  // With adapter >= L the product may wrap; it is not selected then.
  const std::int32_t virtual_expert = static_cast<std::int32_t>(
      (rule.shared_outer ? 0u : static_cast<std::uint32_t>(id)) +
      static_cast<std::uint32_t>(lora) * static_cast<std::uint32_t>(rule.adapter_stride));
  return id < 0 ? id : inside ? virtual_expert : -1;
}

/// A token's adapter counts only inside [0, L).
inline __device__ std::uint8_t lora_mask(const RemapRule& rule, std::int32_t adapter) {
  return adapter >= 0 && adapter < rule.max_loras ? 1 : 0;
}

}  // namespace eplora::kernels
