// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/table.h"
#include "reference/check.h"

namespace eplora {
namespace {

constexpr std::int64_t kElement = 2;  // bytes of a bf16 weight, activation or LoRA factor

std::vector<std::int32_t> divisors(std::int32_t number) {
  std::vector<std::int32_t> result;
  for (std::int32_t d = 1; d <= number; ++d)
    if (number % d == 0) result.push_back(d);
  return result;
}

/// Axes of more than one rank in every order; one axis of size 1 where there is no other.
std::vector<std::vector<Axis>> orders(std::vector<Axis> axes, const char* alone) {
  std::erase_if(axes, [](const Axis& axis) { return axis.size == 1; });
  if (axes.empty()) return {{{alone, 1}}};
  std::vector<std::vector<Axis>> result;
  const auto by_name = [](const Axis& a, const Axis& b) { return a.name < b.name; };
  std::sort(axes.begin(), axes.end(), by_name);
  do result.push_back(axes);
  while (std::next_permutation(axes.begin(), axes.end(), by_name));
  return result;
}

std::vector<LayoutLine> candidates(const SearchRequest& request) {
  const std::int32_t N = request.ranks, E = request.model.num_experts;
  std::vector<LayoutLine> lines;
  for (const std::int32_t dp : divisors(N))
    for (const std::int32_t ep : divisors(N / dp))
      for (const auto& order : orders({{"moe_dp", dp}, {"moe_ep", ep}, {"moe_tp", N / dp / ep}}, "moe_ep"))
        for (const std::int32_t adp : divisors(N))
          for (const PlacementRule rule :
               {PlacementRule::linear, PlacementRule::round_robin, PlacementRule::redundant}) {
            if (rule != PlacementRule::linear && ep == 1) continue;  // all rules are one
            LayoutLine line{order, orders({{"adp", adp}, {"atp", N / adp}}, "adp").front(), rule, 0};
            if (rule == PlacementRule::redundant) line.redundant = E % ep == 0 ? ep : ep - E % ep;
            lines.push_back(std::move(line));
          }
  return lines;
}

/// The first reason against a layout, or "".
std::string reason_against(const SearchRequest& request, const DeploymentSpec& spec) {
  try {
    const Deployment deployment = make_deployment(spec);
    const LayerClass& c = deployment.classes.front();
    suite::LayoutTrial trial{spec, c.spec.name, suite::proof_sizes(c), 1};
    trial.sizes.tokens = request.tokens;
    trial.sizes.hidden = request.model.hidden;
    trial.sizes.intermediate = request.model.moe_intermediate;
    trial.sizes.max_lora_rank = request.max_lora_rank;
    const std::int64_t P = c.layout.place(0).moe_tp;
    if (trial.sizes.intermediate % P != 0) return "the intermediate size does not divide by moe_tp";
    if (c.layout.placement.num_experts() < c.layout.placement.ep()) return "ranks without an expert: E < ep";
    const suite::ResolvedTrial full = suite::resolve(trial);
    for (const suite::Proof proof : suite::kProofs)
      if (suite::is_structural(proof) && suite::prove(proof, full))
        return fmt::format("broken: {} ({})", words_of(proof), contract_of(proof));
    constexpr std::int32_t kFew = 16;
    const DeploymentSpec few = suite::shrunk_deployment(spec, kFew);
    const Deployment small = make_deployment(few);
    const suite::LayoutTrial batch{few, c.spec.name, suite::proof_sizes(small.classes.front()), 1};
    if (suite::prove(suite::Proof::whole, suite::resolve(batch))) return "broken: sharded is not whole (P7)";
    return "";
  } catch (const InvalidArgument& error) {
    const std::string sentence = error.what();
    if (sentence.find("two replicas") != std::string::npos) return "two replicas would stand on one rank";
    return sentence;
  }
}

/// Slots of one EP rank over the mean, experts chosen in proportion to 1/(e+1)^skew, replicas sharing evenly.
double imbalance(const SearchRequest& request, const Placement& placement) {
  std::vector<double> load(placement.ep(), 0.0);
  double all = 0;
  for (std::int32_t e = 0; e < placement.num_experts(); ++e) {
    const double share = std::pow(e + 1.0, -request.skew);
    const auto& replicas = placement.replicas(e);
    for (const ExpertReplica& replica : replicas)
      load[replica.ep_rank] += share / static_cast<double>(replicas.size());
    all += share;
  }
  return *std::max_element(load.begin(), load.end()) * placement.ep() / all;
}

std::int64_t overlap(const Range& a, const Range& b) {
  return std::max<std::int64_t>(0, std::min(a.end, b.end) - std::max(a.begin, b.begin));
}

RankedLayout priced(const SearchRequest& request, LayoutLine line) {
  const Deployment deployment = make_deployment(deployment_of_line(line, request.model.num_experts));
  const LayerClass& c = deployment.classes.front();
  const ModelConfig& m = request.model;
  const std::int64_t halves = m.gated ? 2 : 1, H = m.hidden,
                     i = m.moe_intermediate / c.layout.place(0).moe_tp;
  RankedLayout out{std::move(line), 0, imbalance(request, c.layout.placement), 0, 0};
  std::int64_t most = 0;
  for (const auto& row : c.layout.placement.experts_of_rank())
    most = std::max(most, static_cast<std::int64_t>(row.size()));
  const std::int64_t base = (halves + 1) * i * H;
  const std::int64_t lora = request.max_lora_rank * (halves * H + halves * i + i + H);
  out.memory = most * (base + request.max_loras * lora) * kElement;
  const PlanSizes sizes{request.tokens, H, m.moe_intermediate, 0, request.max_lora_rank, 1};
  const ClassPlan plan = make_class_plan(deployment, c, sizes);
  const std::vector<std::int32_t> sum_group = group_of_rank(plan.routed_sum, plan.num_ranks());
  for (std::int32_t rank = 0; rank < plan.num_ranks(); ++rank) {
    const RankPlan& mine = plan.ranks[rank];
    const auto far = [&](std::int32_t other) { return other / request.node != rank / request.node; };
    // Tokens that do not stand here come from the nearest rank that holds them, a home part once.
    std::int64_t bytes = 0, far_bytes = 0;
    for (std::int32_t d = 0; d < plan.home_parts; ++d) {
      const std::int64_t rows = overlap(mine.tokens, contiguous_part(request.tokens, plan.home_parts, d));
      if (rows == 0 || deployment.home[rank] == d) continue;
      bool near = false;
      for (std::int32_t other = rank / request.node * request.node;
           other < std::min(plan.num_ranks(), (rank / request.node + 1) * request.node); ++other)
        near = near || deployment.home[other] == d;
      bytes += rows * H * kElement;
      far_bytes += near ? 0 : rows * H * kElement;
    }
    // The sum as a ring: 2(G-1)/G of the rows, of which the share of far neighbours crosses nodes.
    const auto& group = plan.routed_sum.groups[sum_group[rank]];
    const auto G = static_cast<std::int64_t>(group.size());
    const std::int64_t reduced = 2 * (G - 1) * mine.tokens.size() * H * kElement / G;
    const auto others = std::count_if(group.begin(), group.end(), far);
    bytes += reduced;
    far_bytes += G == 1 ? 0 : reduced * others / (G - 1);
    out.bytes = std::max(out.bytes, bytes);
    out.far_bytes = std::max(out.far_bytes, far_bytes);
  }
  return out;
}

std::string bytes_words(std::int64_t bytes) {
  constexpr double kMiB = 1024.0 * 1024.0;
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / kMiB);
}

SearchObjective objective_of(const std::string& word) {
  if (word == "memory") return SearchObjective::memory;
  if (word == "balance") return SearchObjective::balance;
  if (word == "bytes") return SearchObjective::bytes;
  reject("--objective", "'" + word + "'", "it must be memory, balance or bytes");
}

}  // namespace

SearchResult search_layouts(const SearchRequest& request, Progress& progress) {
  require_in_range("--ranks", request.ranks, 1, 1024);
  SearchResult result;
  const std::vector<LayoutLine> lines = candidates(request);
  for (const LayoutLine& line : lines) {
    ++result.tried;
    progress.say(fmt::format("layout {} of {}", result.tried, lines.size()));
    const std::string reason = reason_against(request, deployment_of_line(line, request.model.num_experts));
    if (reason.empty())
      result.ranked.push_back(priced(request, line));
    else
      ++result.dropped[reason];
  }
  const auto key = [&](const RankedLayout& one) {
    const auto memory = static_cast<double>(one.memory), bytes = static_cast<double>(one.bytes),
               far = static_cast<double>(one.far_bytes);
    switch (request.objective) {
      case SearchObjective::memory:
        return std::tuple(memory, far, bytes, one.balance);
      case SearchObjective::balance:
        return std::tuple(one.balance, memory, far, bytes);
      case SearchObjective::bytes:
        break;
    }
    return std::tuple(far, bytes, memory, one.balance);
  };
  std::stable_sort(result.ranked.begin(), result.ranked.end(),
                   [&](const RankedLayout& a, const RankedLayout& b) { return key(a) < key(b); });
  return result;
}

int run_layout_search(const LayoutSearchOptions& options, const Output& output) {
  SearchRequest request;
  request.model = model_argument(options.model);
  request.ranks = options.ranks;
  request.objective = objective_of(options.objective);
  request.node = options.node;
  request.tokens = options.tokens;
  request.max_loras = options.adapters;
  request.max_lora_rank = options.lora_rank;
  Progress progress;
  const SearchResult result = search_layouts(request, progress);
  progress.clear();
  const auto shown = std::min<std::size_t>(result.ranked.size(), static_cast<std::size_t>(options.top));
  if (output.json) {
    nlohmann::ordered_json document = json_document("layout_search");
    document["model"] = request.model.name;
    document["ranks"] = request.ranks;
    document["objective"] = options.objective;
    document["assumptions"] = {{"tokens", request.tokens},      {"node", request.node},
                               {"adapters", request.max_loras}, {"lora_rank", request.max_lora_rank},
                               {"bytes_an_element", kElement},  {"skew", request.skew}};
    document["tried"] = result.tried;
    document["dropped"] = nlohmann::ordered_json::object();
    for (const auto& [reason, count] : result.dropped) document["dropped"][reason] = count;
    document["legal"] = result.ranked.size();
    document["layouts"] = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < shown; ++i) {
      const RankedLayout& one = result.ranked[i];
      document["layouts"].push_back({{"layout", layout_line(one.line)},
                                     {"memory", one.memory},
                                     {"balance", one.balance},
                                     {"bytes", one.bytes},
                                     {"far_bytes", one.far_bytes}});
    }
    print_json(document);
    return result.ranked.empty() ? kNothingRan : kAgreement;
  }
  Table table;
  table.column("#", Table::Align::right);
  table.column("memory", Table::Align::right, "fullest rank, a layer").column("balance", Table::Align::right);
  table.column("received", Table::Align::right, "busiest rank, a layer")
      .column("other nodes", Table::Align::right, "busiest rank, a layer");
  table.column("layout, as eplora layout check takes it");
  for (std::size_t i = 0; i < shown; ++i) {
    const RankedLayout& one = result.ranked[i];
    table.row({fmt::format("{}", i + 1), bytes_words(one.memory), fmt::format("{:.3f}", one.balance),
               bytes_words(one.bytes), bytes_words(one.far_bytes), layout_line(one.line)});
  }
  fmt::print("{}\n", styled(fmt::format("{} on {} ranks, by {}", request.model.name, request.ranks,
                                        options.objective),
                            Style::heading, output.color));
  fmt::print(
      "bf16, {} tokens a batch, nodes of {} ranks, {} adapters of rank {}; balance: experts chosen in "
      "proportion to "
      "1/(e+1)\n\n",
      request.tokens, request.node, request.max_loras, request.max_lora_rank);
  fmt::print("{}\n{} layouts tried, {} proven, the best {} shown.\n", table.render(output.color),
             result.tried, result.ranked.size(), shown);
  for (const auto& [reason, count] : result.dropped) fmt::print("{:>6} dropped: {}\n", count, reason);
  return result.ranked.empty() ? kNothingRan : kAgreement;
}

}  // namespace eplora
