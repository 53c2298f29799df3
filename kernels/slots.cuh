// SPDX-License-Identifier: Apache-2.0
// Device side of slots.h: the one predicate by which every kernel, in every pass, decides what a slot's id
// means. No array is read for a row past `num_tokens`, no table or mapping is indexed by a value that was not
// tested first.
#pragma once

#include "kernels/slots.h"

namespace eplora::kernels {

inline __device__ std::uint32_t divide(std::uint32_t x, const Divisor& by) {
  return static_cast<std::uint32_t>((std::uint64_t{x} * by.multiplier) >> by.shift);
}

inline __device__ std::int32_t real_tokens(const IdSource& source) {
  if (source.num_tokens_pointer == nullptr) return source.num_tokens;
  return min(max(*source.num_tokens_pointer, 0), source.num_rows);
}

/// An id as it stands in memory, the upper word only where ids are int64. Nothing is computed from it before
/// it is needed, so that loads of several slots are in flight together.
struct RawId {
  std::int32_t low = -1, high = -1;
};

inline __device__ RawId load_id(const IdSource& source, std::uint32_t token, std::uint32_t column) {
  const std::int64_t index = std::int64_t{token} * source.row_stride + column;
  RawId id;
  if (source.wide) {
    const int2 words = __ldg(static_cast<const int2*>(source.ids) + index);
    id.low = words.x;
    id.high = words.y;
  } else {
    id.low = __ldg(static_cast<const int*>(source.ids) + index);
  }
  return id;
}

/// An int64 that no int32 can hold becomes -1 (too small) or 2^31-1 (too large: never a valid id, as E <=
/// 2^31-1).
inline __device__ std::int32_t narrow(const IdSource& source, const RawId& id) {
  if (!source.wide || id.high == id.low >> 31) return id.low;
  return id.high < 0 ? -1 : INT32_MAX;
}

/// Section 3. A negative id is unchanged; anything not served here becomes -1.
inline __device__ std::int32_t dispatch_id(const DispatchTable& d, const std::int32_t* table, std::int32_t id,
                                           std::uint32_t slot) {
  if (id < 0) return id;
  if (id >= d.num_experts) return -1;
  std::int64_t entry = id;
  if (d.offsets != nullptr) {
    const std::int32_t first = __ldg(d.offsets + id), replicas = __ldg(d.offsets + id + 1) - first;
    // Replica tables are checked by whoever builds them; a device-side table with no replica serves nobody.
    if (replicas <= 0) return -1;
    entry = first + (d.slot_offset + slot) % replicas;
  }
  const std::int32_t local = table[entry];
  return local < 0 ? -1 : local;
}

/// Section 4. A negative id is unchanged.
inline __device__ std::int32_t virtual_id(const RemapRule& rule, std::int32_t id, std::int32_t adapter) {
  if (id < 0) return id;
  if (id >= rule.num_experts || adapter >= rule.max_loras) return -1;
  if (adapter >= 0) return rule.shared_outer ? adapter : id + adapter * rule.num_experts;
  if (!rule.base_slot || rule.max_loras == 0) return -1;
  return rule.shared_outer ? 0 : id;
}

/// A token's adapter counts only inside [0, L).
inline __device__ std::uint8_t lora_mask(const RemapRule& rule, std::int32_t adapter) {
  return adapter >= 0 && adapter < rule.max_loras ? 1 : 0;
}

}  // namespace eplora::kernels
