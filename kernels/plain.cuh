// SPDX-License-Identifier: Apache-2.0
// Instances of a route kernel for the usual calls. Ids may be 64 bits wide, rows may have gaps, experts
// replicas: each possibility costs instructions where it does not occur, and the small kernels do little but
// instructions. The host looks at the arguments once; a kernel of the kind that it finds sees constants.
#pragma once

#include <type_traits>

#include "kernels/route.h"

namespace eplora::kernels {

enum class CallKind : std::uint8_t {
  general,
  plain,      ///< int32 ids without gaps, all rows real or a host value, adapters, outputs on 16 bytes
  dispatched  ///< the same behind a dispatch table that shared memory holds
};

inline CallKind call_kind(const RouteArguments& a) {
  const auto outputs = reinterpret_cast<std::uintptr_t>(a.sorted_token_ids);
  if (a.source.wide || a.source.row_gap != 0 || a.source.num_tokens_pointer != nullptr ||
      a.dispatch.offsets != nullptr || a.remap.mapping == nullptr || a.token_lora_mask == nullptr ||
      a.remap.shared_outer || !a.remap.base_slot || a.remap.max_loras <= 0 || !a.keep_sentinels ||
      a.block_size.value % 4 != 0 || outputs % 16 != 0)
    return CallKind::general;
  if (a.dispatch.table == nullptr) return CallKind::plain;
  return a.dispatch.num_experts <= static_cast<std::int32_t>(kStagedExperts) ? CallKind::dispatched
                                                                             : CallKind::general;
}

/// Calls `launch` with the kind as a constant: `launch(std::integral_constant<CallKind, ...>)`.
template <typename Launch>
cudaError_t launch_for_kind(const RouteArguments& a, const Launch& launch) {
  switch (call_kind(a)) {
    case CallKind::plain:
      return launch(std::integral_constant<CallKind, CallKind::plain>{});
    case CallKind::dispatched:
      return launch(std::integral_constant<CallKind, CallKind::dispatched>{});
    case CallKind::general:
      break;
  }
  return launch(std::integral_constant<CallKind, CallKind::general>{});
}

/// The arguments as a kernel of a kind sees them: what the kind says of them is a constant.
template <CallKind kKind>
__device__ __forceinline__ RouteArguments as_kind(RouteArguments a) {
  if constexpr (kKind != CallKind::general) {
    a.source.wide = false;
    a.source.row_gap = 0;
    a.source.num_tokens_pointer = nullptr;
    a.dispatch.offsets = nullptr;
    a.remap.shared_outer = false;
    a.remap.base_slot = a.keep_sentinels = true;
    __builtin_assume(a.remap.mapping != nullptr);
    __builtin_assume(a.token_lora_mask != nullptr);
    __builtin_assume(a.remap.max_loras > 0);
  }
  if constexpr (kKind == CallKind::plain) a.dispatch.table = nullptr;
  if constexpr (kKind == CallKind::dispatched) {
    __builtin_assume(a.dispatch.table != nullptr);
    __builtin_assume(a.dispatch.num_experts <= static_cast<std::int32_t>(kStagedExperts));
  }
  return a;
}

}  // namespace eplora::kernels
