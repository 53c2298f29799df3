// SPDX-License-Identifier: Apache-2.0
#include "reference/contract/form.h"

namespace eplora::contract {

std::string_view to_string(Order order) {
  switch (order) {
    case Order::stable:
      return "stable";
    case Order::free:
      return "free";
    case Order::nondeterministic:
      return "nondeterministic";
  }
  return "?";
}

std::string_view to_string(SentinelPlace place) {
  switch (place) {
    case SentinelPlace::last:
      return "last";
    case SentinelPlace::first:
      return "first";
    case SentinelPlace::drop:
      return "drop";
    case SentinelPlace::per_foreign_expert:
      return "per_foreign_expert";
  }
  return "?";
}

std::string_view to_string(Tail tail) { return tail == Tail::written ? "written" : "unwritten"; }

std::string_view to_string(AcceptedIds ids) {
  switch (ids) {
    case AcceptedIds::any:
      return "any";
    case AcceptedIds::at_least_minus_one:
      return "at_least_minus_one";
    case AcceptedIds::minus_one_to_V:
      return "minus_one_to_V";
    case AcceptedIds::distinct_in_token:
      return "distinct_in_token";
  }
  return "?";
}

std::string_view to_string(SharedOuterSentinels policy) {
  return policy == SharedOuterSentinels::dropped ? "dropped" : "routed";
}

std::string to_string(const Form& form) {
  const Form canonical;
  std::string text;
  const auto add = [&](bool differs, std::string_view name, std::string_view value) {
    if (!differs) return;
    if (!text.empty()) text += ' ';
    text.append(name).append("=").append(value);
  };
  add(form.order != canonical.order, "order", to_string(form.order));
  add(form.sentinel != canonical.sentinel, "sentinel", to_string(form.sentinel));
  add(form.tail != canonical.tail, "tail", to_string(form.tail));
  add(form.ids != canonical.ids, "ids", to_string(form.ids));
  add(form.shared_outer_sentinels != canonical.shared_outer_sentinels, "shared_outer_sentinels",
      to_string(form.shared_outer_sentinels));
  add(form.scale_in_B != canonical.scale_in_B, "scale_in_B", form.scale_in_B ? "yes" : "no");
  add(form.canonical_values != canonical.canonical_values, "canonical_values",
      form.canonical_values ? "yes" : "no");
  return text.empty() ? "canonical" : text;
}

std::string_view determinism_note(const Form& form) {
  return form.order == Order::nondeterministic ? "deterministic: no (declared)" : "deterministic: yes";
}

}  // namespace eplora::contract
