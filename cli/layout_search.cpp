// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/table.h"
#include "reference/check.h"
#include "reference/price/price.h"

namespace eplora {
namespace {

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
    std::string sentence = error.what();
    if (sentence.find("two replicas") != std::string::npos) return "two replicas would stand on one rank";
    return sentence;
  }
}

/// One layer where the file does not say how many.
PricedModel searched_model(const ModelConfig& model) {
  PricedModel priced = priced_model(model);
  if (priced.moe_layers.empty()) priced.moe_layers = {0};
  return priced;
}

RankedLayout priced(const SearchRequest& request, const RoutingTrace& trace, LayoutLine line) {
  const Deployment deployment = make_deployment(deployment_of_line(line, request.model.num_experts));
  PriceOptions options;
  options.adapters = {request.max_loras, request.max_lora_rank};
  options.traffic.ranks_per_node = request.node;
  const Price price = price_deployment(deployment, searched_model(request.model), trace, options);
  RankedLayout out{std::move(line), 0, price.imbalance(), 0, 0, price.seconds};
  for (const RankPrice& rank : price.ranks) {
    out.memory = std::max(out.memory, rank.memory.total());
    out.bytes = std::max(out.bytes, rank.traffic.sent().total());
    out.between_bytes = std::max(out.between_bytes, rank.traffic.sent().between);
  }
  return out;
}

std::string bytes_words(std::int64_t bytes) {
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  return fmt::format("{:.3f} GiB", static_cast<double>(bytes) / kGiB);
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
  const RoutingTrace trace = make_trace(parse_synthetic_trace(request.trace), request.tokens,
                                        request.model.top_k, request.model.num_experts, request.max_loras);
  for (const LayoutLine& line : lines) {
    ++result.tried;
    progress.say(fmt::format("layout {} of {}", result.tried, lines.size()));
    const std::string reason = reason_against(request, deployment_of_line(line, request.model.num_experts));
    if (reason.empty())
      result.ranked.push_back(priced(request, trace, line));
    else
      ++result.dropped[reason];
  }
  const auto key = [&](const RankedLayout& one) {
    const auto memory = static_cast<double>(one.memory), bytes = static_cast<double>(one.bytes),
               between = static_cast<double>(one.between_bytes);
    switch (request.objective) {
      case SearchObjective::memory:
        return std::tuple(memory, between, bytes, one.balance);
      case SearchObjective::balance:
        return std::tuple(one.balance, memory, between, bytes);
      case SearchObjective::bytes:
        break;
    }
    return std::tuple(between, bytes, memory, one.balance);
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
  request.trace = options.trace;
  Progress progress;
  const SearchResult result = search_layouts(request, progress);
  progress.clear();
  const auto shown = std::min<std::size_t>(result.ranked.size(), static_cast<std::size_t>(options.top));
  if (output.json) {
    nlohmann::ordered_json document = json_document("layout_search");
    document["model"] = request.model.name;
    document["ranks"] = request.ranks;
    document["objective"] = options.objective;
    document["assumptions"] = {{"tokens", request.tokens},
                               {"node", request.node},
                               {"adapters", request.max_loras},
                               {"lora_rank", request.max_lora_rank},
                               {"bytes_an_element", ElementBytes{}.weights},
                               {"trace", request.trace}};
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
                                     {"between_bytes", one.between_bytes},
                                     {"seconds", one.seconds}});
    }
    print_json(document);
    return result.ranked.empty() ? kNothingRan : kAgreement;
  }
  Table table;
  table.column("#", Table::Align::right);
  table.column("memory", Table::Align::right, "fullest rank")
      .column("max/mean", Table::Align::right, "slots");
  table.column("in all", Table::Align::right, "busiest rank sends")
      .column("to other nodes", Table::Align::right, "busiest rank sends");
  table.column("time", Table::Align::right, "estimate");
  table.column("layout, as eplora layout check takes it");
  for (std::size_t i = 0; i < shown; ++i) {
    const RankedLayout& one = result.ranked[i];
    table.row({fmt::format("{}", i + 1), bytes_words(one.memory), fmt::format("{:.3f}", one.balance),
               bytes_words(one.bytes), bytes_words(one.between_bytes),
               fmt::format("{:.2f} ms", one.seconds * 1e3), layout_line(one.line)});
  }
  fmt::print("{}\n", styled(fmt::format("{} on {} ranks, by {}", request.model.name, request.ranks,
                                        options.objective),
                            Style::heading, output.color));
  fmt::print(
      "all {} MoE layers; bf16, {} tokens a batch routed by {}, nodes of {} ranks, {} adapters of rank {}; "
      "rates as in "
      "reference/price/time.h\n\n",
      std::max<std::size_t>(1, request.model.moe_layers.size()), request.tokens, request.trace, request.node,
      request.max_loras, request.max_lora_rank);
  fmt::print("{}\n{} layouts tried, {} proven, the best {} shown.\n", table.render(output.color),
             result.tried, result.ranked.size(), shown);
  for (const auto& [reason, count] : result.dropped) fmt::print("{:>6} dropped: {}\n", count, reason);
  return result.ranked.empty() ? kNothingRan : kAgreement;
}

}  // namespace eplora
