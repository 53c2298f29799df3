// SPDX-License-Identifier: Apache-2.0
// `eplora layout cost`: memory, load, bytes on links and an estimate of time for every rank of a layout,
// under a recorded or synthetic trace, with everything that the numbers rest on.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/routing_trace_file.h"
#include "cli/json_output.h"
#include "cli/layout_cost_report.h"
#include "cli/layout_input.h"
#include "reference/check.h"

namespace eplora {
namespace {

Exchange exchange_of(const std::string& word) {
  for (const Exchange one : {Exchange::automatic, Exchange::all_reduce, Exchange::all_to_all})
    if (word == to_string(one)) return one;
  reject("--exchange", "'" + word + "'", "it must be automatic, all_reduce or all_to_all");
}

PriceOptions price_options(const LayoutCostOptions& options) {
  PriceOptions out;
  out.bytes = {bytes_of_type("--dtype", options.dtype),
               bytes_of_type("--adapter-dtype", options.adapter_dtype),
               bytes_of_type("--activation-dtype", options.activation_dtype)};
  out.adapters = {options.adapters, options.rank};
  out.block_size = options.block_size;
  out.traffic = {exchange_of(options.exchange), !options.per_slot, options.ranks_per_node};
  constexpr double kTera = 1e12, kGiga = 1e9;
  if (options.tflops > 0) out.rates.flops = options.tflops * kTera;
  if (options.memory_rate > 0) out.rates.memory = options.memory_rate * kGiga;
  if (options.inside_rate > 0) out.rates.inside = options.inside_rate * kGiga;
  if (options.between_rate > 0) out.rates.between = options.between_rate * kGiga;
  return out;
}

/// The trace, and how it is called in the report.
std::pair<RoutingTrace, std::string> trace_of(const LayoutCostOptions& options, const ModelConfig& model) {
  if (names_synthetic_trace(options.trace)) {
    if (options.tokens < 0) reject("--tokens", "missing", "give --tokens N, or --trace FILE");
    SyntheticTrace how = parse_synthetic_trace(options.trace);
    how.seed = options.seed;
    std::string words(to_string(how.kind));
    if (how.kind != TraceKind::uniform) words += fmt::format(":{:g}", how.exponent);
    return {make_trace(how, options.tokens, model.top_k, model.num_experts, options.adapters),
            fmt::format("{}, seed {}", words, how.seed)};
  }
  const std::string name = std::filesystem::path(options.trace).filename().string();
  RoutingTrace trace = read_routing_trace(options.trace);
  if (options.tokens < 0 || options.tokens == trace.num_tokens) return {std::move(trace), name};
  const std::int64_t recorded = trace.num_tokens;
  return {with_tokens(trace, options.tokens),
          fmt::format("{} ({} tokens recorded, {})", name, recorded,
                      options.tokens < recorded ? "the first taken" : "repeated")};
}

}  // namespace

int run_layout_cost(const LayoutCostOptions& options, const Output& output) {
  const ModelConfig model = model_argument(options.model);
  const PricedModel priced = priced_model(model);
  const Deployment deployment = make_deployment(read_deployment(options.layout, model.num_experts));
  const PriceOptions how = price_options(options);
  const auto [trace, words] = trace_of(options, model);
  const Price price = price_deployment(deployment, priced, trace, how);
  const std::vector<Assumption> assumptions = assumptions_of(deployment, how, price);
  constexpr std::int32_t kFew = 32;  // a table of ranks that can be read
  const bool every_rank = options.ranks || deployment.num_ranks <= kFew;
  const PriceTitle title{options.layout, model.name, words, trace.num_tokens};
  if (output.json) {
    nlohmann::ordered_json document = json_document("layout_cost");
    add_price(document, title, price, assumptions, every_rank);
    print_json(document);
  } else {
    fmt::print("{}", price_text(title, price, assumptions, every_rank, output.color));
  }
  return kAgreement;
}

}  // namespace eplora
