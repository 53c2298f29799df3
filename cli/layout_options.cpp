// SPDX-License-Identifier: Apache-2.0
// The options of the commands of `eplora layout`.
#include "cli/command_line.h"
#include "reference/check.h"

namespace eplora {
namespace {

void add_layout_check(CLI::App& layout, CommandLine& program) {
  LayoutCheckOptions& options = program.layout_check;
  CLI::App* app = add_command(
      layout, program, "check",
      "Proves a layout: groups, slices, owners and reductions on every rank at full size, then the sharded "
      "layer against\n"
      "the whole one for random weights, the golden fixtures and every backend. A broken proof comes with "
      "the "
      "smallest\n"
      "mesh, expert count and batch that show it.",
      "eplora layout check tp=4,ep=2 --model qwen3-30b-a3b",
      [&options](const Output& output) { return run_layout_check(options, output); });
  app->add_option(
      "layout", options.layout,
      "\"tp=4,ep=2\", a .toml or .json file, a preset such as \"vllm:tp=8,dp=2,ep\" (eplora list has them "
      "all), or\n\"order=moe_ep:8/moe_tp:2,placement=round_robin\"");
  add_number(app, "--experts", options.experts, "experts of the model, E", 1, 1 << 20, "E");
  app->add_option("--model", options.model,
                  "config.json, or a name of examples/models, to take E, H and I from")
      ->type_name("MODEL");
  app->add_option("--backend", options.backends,
                  "backends to route and slice with (default: all that can run)")
      ->delimiter(',')
      ->type_name("NAME");
  app->add_option_function<std::vector<std::string>>(
         "--sum-over",
         [&options](const std::vector<std::string>& axes) {
           options.has_sum_over = true;
           for (const std::string& axis : axes)
             if (axis != "none") options.sum_over.push_back(axis);
         },
         "the axes that an engine sums outputs over, to be judged: moe_ep,moe_tp, or none")
      ->delimiter(',')
      ->type_name("AXES");
  add_number(app, "--batches", options.batches, "random batches a class and backend", 1, 100'000, "N")
      ->capture_default_str();
  add_seed(app, options.seed, "seed; equal seeds, equal batches");
  app->add_option("--save", options.save, "folder for the smallest cases")->type_name("DIR");
  app->add_option("--replay", options.replay, "run the one case of a saved file")->type_name("FILE");
  app->add_flag("--mutants", options.mutants, "layouts with bugs that were once shipped: all must be caught");
  app->add_option("--mutant", options.mutant, "only this one, with its sentence")->type_name("NAME");
}

void add_layout_search(CLI::App& layout, CommandLine& program) {
  LayoutSearchOptions& options = program.layout_search;
  CLI::App* app = add_command(
      layout, program, "search",
      "Every layout of a number of ranks - axis orders, factorizations, placements, attention's data "
      "parallelism -\n"
      "judged, and those that hold ranked by memory, balance or bytes.",
      "eplora layout search --model qwen3-30b-a3b --ranks 16 --objective memory",
      [&options](const Output& output) { return run_layout_search(options, output); });
  app->add_option("--model", options.model, "config.json, or a name of examples/models")
      ->required()
      ->type_name("MODEL");
  add_number(app, "--ranks", options.ranks, "number of ranks", 1, 1024, "N")->required();
  app->add_option("--objective", options.objective, "memory, balance or bytes")
      ->type_name("WHAT")
      ->capture_default_str();
  add_number(app, "--top", options.top, "rows to show", 1, 1 << 20, "N")->capture_default_str();
  add_number(app, "--node", options.node, "ranks of one node", 1, 1 << 20, "N")->capture_default_str();
  add_number(app, "--tokens", options.tokens, "tokens of a batch", 0, 1 << 24, "T")->capture_default_str();
  add_number(app, "--adapters", options.adapters, "adapter slots", 0, 1 << 16, "L")->capture_default_str();
  add_number(app, "--lora-rank", options.lora_rank, "largest rank of an adapter", 1, 1 << 16, "R")
      ->capture_default_str();
  app->add_option("--trace", options.trace, "routing: uniform, zipf, zipf:1.1, adapter")
      ->type_name("KIND")
      ->capture_default_str();
}

/// What `cost` and `diff` ask about weights, adapters and nodes, and how much they print.
template <class Options>
void add_priced_sizes(CLI::App* app, Options& options) {
  add_number(app, "--adapters", options.adapters, "adapter slots, L", 0, 1 << 16, "L")->capture_default_str();
  add_number(app, "--rank", options.rank, "largest rank of an adapter, R", 1, 1 << 16, "R")
      ->capture_default_str();
  app->add_option("--dtype", options.dtype, "base weights: f32, bf16, f16 or fp8")
      ->type_name("TYPE")
      ->capture_default_str();
  app->add_option("--adapter-dtype", options.adapter_dtype, "adapter buffers")
      ->type_name("TYPE")
      ->capture_default_str();
  add_number(app, "--ranks-per-node", options.ranks_per_node, "ranks of one node", 1, 1 << 20, "N")
      ->capture_default_str();
  app->add_flag("--ranks", options.ranks, "a row a rank, also for more than 32 ranks");
}

void add_layout_cost(CLI::App& layout, CommandLine& program) {
  LayoutCostOptions& options = program.layout_cost;
  CLI::App* app =
      add_command(layout, program, "cost",
                  "The price of a layout: bytes of weights and adapter buffers, slots, blocks and "
                  "padding, bytes sent, an "
                  "estimate\n"
                  "of time, for every rank; and every assumption with its value.",
                  "eplora layout cost tp=8,ep=4 --model qwen3-30b-a3b --tokens 4096 --trace zipf:1.1",
                  [&options](const Output& output) { return run_layout_cost(options, output); });
  app->add_option("layout", options.layout, "as for eplora layout check")->required();
  app->add_option("--model", options.model, "config.json, or a name of examples/models")
      ->required()
      ->type_name("MODEL");
  add_number(app, "--tokens", options.tokens, "tokens of a batch (default: those of a recorded trace)", 0,
             kMaxIndex, "T");
  app->add_option("--trace", options.trace,
                  "topk_ids as .npy or .safetensors, or uniform, zipf:1.1, adapter:1.1")
      ->type_name("TRACE")
      ->capture_default_str();
  add_seed(app, options.seed, "seed of a synthetic trace");
  add_priced_sizes(app, options);
  app->add_option("--activation-dtype", options.activation_dtype, "what travels over links")
      ->type_name("TYPE")
      ->capture_default_str();
  add_number(app, "--block-size", options.block_size, "rows of a block, B", 1, 1 << 20, "B")
      ->capture_default_str();
  app->add_option("--exchange", options.exchange, "automatic, all_reduce or all_to_all")
      ->type_name("WAY")
      ->capture_default_str();
  app->add_flag("--per-slot", options.per_slot,
                "a hidden state travels once a slot, not once for a token and rank");
  add_rate(app, "--tflops", options.tflops, "peak compute of a rank, TFLOP/s (default 989.4)");
  add_rate(app, "--memory-rate", options.memory_rate, "memory of a rank, GB/s (default 3350)");
  add_rate(app, "--inside-rate", options.inside_rate, "links inside a node, GB/s one way (default 450)");
  add_rate(app, "--between-rate", options.between_rate, "links between nodes, GB/s one way (default 50)");
}

void add_layout_diff(CLI::App& layout, CommandLine& program) {
  LayoutDiffOptions& options = program.layout_diff;
  CLI::App* app = add_command(layout, program, "diff",
                              "What moves when a model goes from one layout to another: bytes of weights and "
                              "adapter buffers that each "
                              "rank\n"
                              "keeps, receives and sends, who sends to whom, inside nodes and between them.",
                              "eplora layout diff tp=8,ep=4 tp=8,ep=8 --model qwen3-30b-a3b",
                              [&options](const Output& output) { return run_layout_diff(options, output); });
  app->add_option("before", options.before, "as for eplora layout check")->required();
  app->add_option("after", options.after, "as for eplora layout check")->required();
  app->add_option("--model", options.model, "config.json, or a name of examples/models")
      ->required()
      ->type_name("MODEL");
  add_priced_sizes(app, options);
  app->add_option("--svg", options.svg, "write a picture of who sends how much to whom")->type_name("FILE");
}

void add_layout_eplb(CLI::App& layout, CommandLine& program) {
  LayoutEplbOptions& options = program.layout_eplb;
  CLI::App* app = add_command(
      layout, program, "eplb",
      "Replicates and places experts by the load that they had, as DeepSeek's EPLB does, each layer by its "
      "own:\n"
      "how uneven ranks were and are, and the placement as a layout file for check and cost.",
      "eplora layout eplb --model qwen3-30b-a3b --trace zipf:1.2 --ranks 16 --redundant 32 --toml eplb.toml",
      [&options](const Output& output) { return run_layout_eplb(options, output); });
  const auto size = [&](const char* name, std::int32_t& value, const char* about, int low) {
    return add_number(app, name, value, about, low, 1 << 17, "N")->capture_default_str();
  };
  app->add_option("--load", options.load, "recorded counts of experts, .npy [E] or [layers, E]")
      ->type_name("FILE");
  app->add_option("--trace", options.trace,
                  "instead of --load: topk_ids as .npy or .safetensors, or uniform, zipf:1.1")
      ->type_name("TRACE");
  add_number(app, "--tokens", options.tokens, "tokens of a synthetic trace", 0, 1 << 24, "T")
      ->capture_default_str();
  add_seed(app, options.seed, "seed of a synthetic trace");
  app->add_option("--model", options.model,
                  "config.json, or a name of examples/models: its layers with experts are the load's rows")
      ->type_name("MODEL");
  size("--ranks", options.ranks, "ranks in all", 1)->required();
  size("--tp", options.tp, "consecutive ranks that share the columns of an expert", 1);
  size("--nodes", options.nodes, "nodes; above 1, a group's experts and replicas stay on one node", 1);
  size("--groups", options.groups, "groups of experts, of which a router picks some", 1);
  size("--redundant", options.redundant, "slots beyond the experts", 0);
  app->add_flag("--duplicates", options.duplicates,
                "replicas of an expert may share a rank, as in DeepSeek's code");
  app->add_option(
         "--replicas", options.replicas,
         "which replica serves a slot: by number of token or slot, a fixed one a source, or the first")
      ->type_name("RULE")
      ->capture_default_str();
  app->add_option("--toml", options.toml, "write the placement as a layout file")->type_name("FILE");
}

}  // namespace

void add_layout(CommandLine& program) {
  LayoutShowOptions& options = program.layout_show;
  CLI::App* layout =
      program.app.add_subcommand("layout", "Parallel layouts: see `eplora layout show --help`.");
  layout->require_subcommand(1);
  layout->footer("example: eplora layout show tp=4,ep=2 --experts 128 --intermediate 768\n");
  CLI::App* app = add_command(
      *layout, program, "show",
      "What every rank owns under a layout: coordinates in every grid, tokens, experts, columns, groups; the "
      "way of one\n"
      "token; as a picture with --svg, as a page with --html.",
      "eplora layout show tp=4,ep=2 --experts 128 --intermediate 768 --svg layout.svg",
      [&options](const Output& output) { return run_layout_show(options, output); });
  app->add_option("layout", options.layout, "as for eplora layout check")->required();
  add_number(app, "--experts", options.experts, "experts of the model, E", 1, 1 << 20, "E");
  add_number(app, "--intermediate", options.intermediate, "MoE intermediate size, I", 1, kMaxIndex, "I");
  app->add_option("--model", options.model, "config.json, or a name of examples/models, to take E and I from")
      ->type_name("MODEL");
  app->add_option("--placement", options.placement, "linear or round_robin, for layouts that leave it out")
      ->type_name("KIND");
  add_number(app, "--tokens", options.tokens, "also show each rank's part of T tokens", 0, kMaxIndex, "T");
  add_number(app, "--token", options.token, "also show the way of this token of the batch", 0, kMaxIndex - 1,
             "t");
  app->add_option("--ids", options.ids, "the token's expert ids, topk_ids: 3,7 (default: spread)")
      ->delimiter(',')
      ->type_name("IDS");
  app->add_option("--svg", options.svg, "write a picture of experts x columns, coloured by owner")
      ->type_name("FILE");
  app->add_option("--html", options.html, "write one self-contained page: pictures, token path, rank table")
      ->type_name("FILE");
  add_layout_diff(*layout, program);
  add_layout_check(*layout, program);
  add_layout_search(*layout, program);
  add_layout_cost(*layout, program);
  add_layout_eplb(*layout, program);
}

}  // namespace eplora
