// SPDX-License-Identifier: Apache-2.0
// Megatron-LM. An order string, leftmost fastest, is read twice: for the dense layers with ep = 1, for the
// experts with cp = 1, tp = etp and dp = edp = world / (etp*ep*pp). Both must give the same pipeline groups.
// Experts are contiguous, E % ep == 0. Sources: RankGenerator and initialize_model_parallel in
// megatron/core/parallel_state.py; megatron/core/transformer/moe/moe_layer.py.
#include <algorithm>
#include <array>

#include "reference/check.h"
#include "reference/layout/engines/engine_presets.h"

namespace eplora::engines {
namespace {

constexpr std::string_view kDefaultOrder = "tp-cp-ep-dp-pp";

/// The words of the order, fastest first. Those left out must have size 1 in both grids and come last.
Names order_of(const PresetArguments& a, std::int32_t etp, std::int32_t edp) {
  constexpr std::array<std::string_view, 5> kTokens = {"tp", "cp", "ep", "dp", "pp"};
  const std::string text = a.word("order", kDefaultOrder);
  Names order;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('-', begin), text.size());
    const std::string token = text.substr(begin, end - begin);
    if (std::find(kTokens.begin(), kTokens.end(), token) == kTokens.end() ||
        std::find(order.begin(), order.end(), token) != order.end())
      a.refuse("order", "'" + text + "'",
               "it must name tp, cp, ep, dp and pp, each at most once, with - between");
    order.push_back(token);
    begin = end + 1;
  }
  for (const std::string_view token : kTokens) {
    if (std::find(order.begin(), order.end(), token) != order.end()) continue;
    const std::int32_t of_experts = token == "tp" ? etp : token == "dp" ? edp : 1;
    const std::int32_t size = std::max(a.size(token), of_experts);
    if (size != 1) a.refuse(std::string(token), std::to_string(size), "order leaves it out, so it must be 1");
    order.emplace_back(token);
  }
  return order;
}

}  // namespace

DeploymentSpec megatron(const PresetArguments& a, const PresetInput& input) {
  const std::int32_t tp = a.size("tp"), cp = a.size("cp"), dp = a.size("dp"), pp = a.size("pp");
  const std::int32_t ep = a.size("ep"), etp = a.size("etp", tp), E = input.num_experts;
  const std::int32_t world = a.ranks({tp, cp, dp, pp});
  const std::int64_t inner = saturating_product(saturating_product(etp, ep), pp);
  a.require_divides("tp * cp * dp * pp", world, "etp * ep * pp", inner);
  const auto edp = static_cast<std::int32_t>(world / inner);
  std::vector<Axis> dense, experts;
  for (const std::string& token : order_of(a, etp, edp)) {  // leftmost is fastest, a grid's last axis is
    if (token == "tp") dense.insert(dense.begin(), {"tp", tp}), experts.insert(experts.begin(), {"etp", etp});
    if (token == "cp") dense.insert(dense.begin(), {"cp", cp});
    if (token == "ep") experts.insert(experts.begin(), {"ep", ep});
    if (token == "dp") dense.insert(dense.begin(), {"dp", dp}), experts.insert(experts.begin(), {"edp", edp});
    if (token == "pp") dense.insert(dense.begin(), {"pp", pp}), experts.insert(experts.begin(), {"pp", pp});
  }
  const std::string order = a.word("order", kDefaultOrder);
  if (pp > 1 && !order.ends_with("pp") && edp != dp)
    a.refuse("order", "'" + order + "'",
             "where it does not end in pp the experts' data parallel size, here " + std::to_string(edp) +
                 ", must be dp = " + std::to_string(dp));
  if (pp > 1 && Mesh(dense).groups({"pp"}) != Mesh(experts).groups({"pp"}))
    a.refuse("order", "'" + order + "'",
             "with these sizes the pipeline groups of dense layers and of experts differ; let it end in pp");
  a.require_divides("num_experts", E, "ep", ep);
  return two_grids(dense, {"dp", "cp"}, {"tp"}, experts, {{"edp"}, {"ep"}, {"etp"}, {}, {}, {"pp"}}, E);
}

}  // namespace eplora::engines
