// SPDX-License-Identifier: Apache-2.0
// The form an implementation declares (contract, section 5): what it does not promise is not asked of it. The
// defaults are ours, the canonical form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace eplora::contract {

enum class Order : std::uint8_t { stable, free, nondeterministic };
enum class SentinelPlace : std::uint8_t { last, first, drop, per_foreign_expert };
enum class Tail : std::uint8_t { written, unwritten };
enum class AcceptedIds : std::uint8_t { any, at_least_minus_one, minus_one_to_V, distinct_in_token };
enum class SharedOuterSentinels : std::uint8_t { dropped, routed };

struct Form {
  Order order = Order::stable;
  SentinelPlace sentinel = SentinelPlace::last;  ///< where `sentinels = keep` puts the sentinel bucket
  Tail tail = Tail::written;
  AcceptedIds ids = AcceptedIds::any;
  SharedOuterSentinels shared_outer_sentinels = SharedOuterSentinels::dropped;
  bool scale_in_B = false;
  bool canonical_values = true;  ///< ours: fillers are exactly n, sentinels exactly as in sections 3 and 4
  bool operator==(const Form&) const = default;
};

std::string_view to_string(Order order);
std::string_view to_string(SentinelPlace place);
std::string_view to_string(Tail tail);
std::string_view to_string(AcceptedIds ids);
std::string_view to_string(SharedOuterSentinels policy);

/// "order=stable sentinel=last tail=written ids=any", only what differs from the canonical form; "canonical"
/// if nothing.
std::string to_string(const Form& form);

/// What a report says of P14: "deterministic: yes" or, with `order = nondeterministic`, "deterministic: no
/// (declared)".
std::string_view determinism_note(const Form& form);

}  // namespace eplora::contract
