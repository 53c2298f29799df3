// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/presets.h"

#include <charconv>

#include "reference/check.h"

namespace eplora {

LayoutSpec sglang_layout(const SglangSizes& sizes, std::int32_t num_experts, PlacementKind placement) {
  require_in_range("tp", sizes.tp, 1, kMaxIndex);
  require_in_range("ep", sizes.ep, 1, kMaxIndex);
  require_in_range("moe_dp", sizes.moe_dp, 1, kMaxIndex);
  if (sizes.tp % saturating_product(sizes.ep, sizes.moe_dp) != 0)
    reject("tp", std::to_string(sizes.tp),
           "it must be divisible by ep * moe_dp = " + std::to_string(sizes.ep) + " * " +
               std::to_string(sizes.moe_dp));
  LayoutSpec spec;
  spec.axes = {{"moe_dp", sizes.moe_dp}, {"moe_ep", sizes.ep}, {"moe_tp", sizes.moe_tp()}};
  spec.sharding = {{"moe_dp"}, {"moe_ep"}, {"moe_tp"}};
  spec.placement = {placement, num_experts};
  return spec;
}

SglangSizes parse_sglang_sizes(std::string_view text) {
  SglangSizes sizes;
  bool seen[3] = {};
  constexpr std::string_view kKeys[3] = {"tp", "ep", "moe_dp"};
  std::int32_t* const values[3] = {&sizes.tp, &sizes.ep, &sizes.moe_dp};
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(item.size() == text.size() ? text.size() : item.size() + 1);
    const std::size_t equals = item.find('=');
    const std::string_view key = item.substr(0, equals);
    int which = -1;
    for (int i = 0; i < 3; ++i)
      if (key == kKeys[i]) which = i;
    if (which < 0) reject("layout key", "'" + std::string(key) + "'", "the keys are tp, ep and moe_dp");
    if (seen[which]) reject("layout key " + std::string(key), "given twice", "give each key once");
    seen[which] = true;
    const std::string_view digits = equals == std::string_view::npos ? "" : item.substr(equals + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *values[which]);
    if (error != std::errc{} || end != digits.data() + digits.size())
      reject("layout value of " + std::string(key), "'" + std::string(digits) + "'",
             "it must be a whole number >= 1");
    require_in_range("layout value of " + std::string(key), *values[which], 1, kMaxIndex);
  }
  if (sizes.tp % saturating_product(sizes.ep, sizes.moe_dp) != 0)
    reject("tp", std::to_string(sizes.tp),
           "it must be divisible by ep * moe_dp = " + std::to_string(sizes.ep) + " * " +
               std::to_string(sizes.moe_dp));
  return sizes;
}

std::vector<SglangSizes> sglang_sizes_that_divide(std::int32_t max_tp, std::int64_t intermediate) {
  std::vector<SglangSizes> result;
  for (std::int32_t tp = 1; tp <= max_tp; ++tp)
    for (std::int32_t ep = 1; ep <= tp; ++ep)
      for (std::int32_t moe_dp = 1; ep * moe_dp <= tp; ++moe_dp)
        if (tp % (ep * moe_dp) == 0 && intermediate % (tp / ep / moe_dp) == 0)
          result.push_back({tp, ep, moe_dp});
  return result;
}

std::string to_string(const SglangSizes& sizes) {
  return "tp=" + std::to_string(sizes.tp) + " ep=" + std::to_string(sizes.ep) +
         " moe_dp=" + std::to_string(sizes.moe_dp);
}

const std::vector<PresetInfo>& layout_presets() {
  static const std::vector<PresetInfo> kPresets = {
      {"tp=,ep=,moe_dp=",
       "SGLang's, without attention: grid (moe_dp, moe_ep, moe_tp), moe_tp = tp/ep/moe_dp"},
  };
  return kPresets;
}

}  // namespace eplora
