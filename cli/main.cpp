// SPDX-License-Identifier: Apache-2.0
// The program `eplora`: its command line, and the way from what happened to an exit code. Each command is a
// function in a file of its own (cli/commands.h).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <new>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "optimized/backend.h"
#include "reference/check.h"

namespace {

using namespace eplora;

constexpr const char* kExitCodes =
    "exit codes: 0 agreement   1 a difference or violation   2 usage or bad input   3 nothing ran\n"
    "            4 backend or device missing   5 internal fault   130 interrupted\n"
    "data goes to stdout, progress to stderr and only on a terminal; NO_COLOR is honoured\n";

/// Everything the command line fills, and the command it chose.
struct Program {
  CLI::App app{
      "EPLoRA: a test bed for Mixture-of-Experts LoRA under tensor and expert parallelism.\n"
      "example: eplora compare\n",
      "eplora"};
  std::string color = "auto";
  bool json = false;
  CompareOptions compare;
  CheckOptions check;
  LayoutShowOptions layout_show;
  LayoutDiffOptions layout_diff;
  LayoutCheckOptions layout_check;
  LayoutSearchOptions layout_search;
  LayoutCostOptions layout_cost;
  LayoutEplbOptions layout_eplb;
  MutantsOptions mutants;
  BenchOptions bench;
  BenchVerifyOptions bench_verify;
  BenchCompareOptions bench_compare;
  BenchShowOptions bench_show;
  std::function<int(const Output&)> chosen;
};

/// The library's own checks print the limits of a double in full, and let "nan" through.
CLI::Validator positive_number() {
  return {[](std::string& text) -> std::string {
            double value = 0;
            const bool good = CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value > 0;
            return good ? "" : "Value " + text + " must be a finite number > 0";
          },
          ""};
}

CLI::Validator seed_number() {
  return {[](std::string& text) -> std::string {
            std::uint64_t value = 0;
            const char* const last = text.data() + text.size();
            const auto [end, fault] = std::from_chars(text.data(), last, value);
            return fault == std::errc{} && end == last
                       ? ""
                       : "Value " + text + " not in range 0 to 18446744073709551615";
          },
          ""};
}

CLI::App* command(CLI::App& parent, Program& program, const std::string& name, const std::string& about,
                  const std::string& example, std::function<int(const Output&)> run) {
  CLI::App* app = parent.add_subcommand(name, about);
  app->footer("example: " + example + "\n");
  app->add_flag("--json", program.json, "print one JSON document with a versioned schema on stdout");
  app->callback([&program, run = std::move(run)] { program.chosen = run; });
  return app;
}

void add_compare(Program& program) {
  CompareOptions& options = program.compare;
  CLI::App* app = command(
      program.app, program, "compare",
      "The main job: the sharded reference against outputs that transformers and PEFT recorded, under every "
      "layout,\n"
      "every backend against the reference, and the time of each backend in the geometry of real models.",
      "eplora compare --layout tp=4,ep=2 --tokens 1,64",
      [&options](const Output& output) { return run_compare(options, output); });
  app->add_option("--golden", options.golden,
                  "folder of golden fixtures, or one fixture (default: the project's own)")
      ->type_name("DIR");
  app->add_option("--adapter", options.adapter,
                  "check a PEFT adapter instead: slices, reassembly, delta sharded = whole")
      ->type_name("DIR");
  app->add_option("--model", options.model,
                  "config.json, or a name of examples/models (default: one for each way to route)")
      ->type_name("MODEL");
  app->add_option("--layout", options.layout,
                  "\"tp=4,ep=2\", a preset or a .toml file (default: every layout that divides)")
      ->type_name("LAYOUT");
  app->add_option("--tokens", options.tokens, "tokens a batch, for the timing table; several: 1,64")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24).description(""))
      ->type_name("T")
      ->capture_default_str();
  app->add_option("--adapters", options.adapters, "adapter slots, for the timing table")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 16).description(""))
      ->type_name("L")
      ->capture_default_str();
  app->add_option("--backend", options.backends,
                  "backends to compare (default: all that can run; see eplora list)")
      ->delimiter(',')
      ->type_name("NAME");
  app->add_option("--seed", options.seed, "seed of the synthetic routing")
      ->check(seed_number())
      ->type_name("S")
      ->capture_default_str();
}

void add_check(Program& program) {
  CheckOptions& options = program.check;
  CLI::App* app = command(program.app, program, "check",
                          "Runs the property suite: random cases against the contract and against the "
                          "reference. A violation is shrunk,\n"
                          "saved as a file, and printed with the line that replays it. The earlier of "
                          "--cases and --for ends the run.",
                          "eplora check --backend thrust-host --property Remap --cases 500",
                          [&options](const Output& output) { return run_check(options, output); });
  app->add_option(
         "--backend", options.backends,
         "backends, mutants, or paths of shared libraries to check (default: all backends that can run)")
      ->delimiter(',')
      ->type_name("NAME");
  app->add_option("--property", options.property,
                  "only properties of this name, operation or start of a name")
      ->type_name("NAME");
  app->add_option("--cases", options.cases,
                  "cases a property (default: each property's own number; with --for alone, no limit)")
      ->check(CLI::Range(1, 100'000'000).description(""))
      ->type_name("N");
  app->add_option("--for", options.seconds,
                  "time for the whole run: 60s, 500ms, 2min (a plain number is seconds)")
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, double>{{"ms", 0.001}, {"s", 1}, {"min", 60}, {"h", 3600}}))
      ->type_name("TIME");
  app->add_option("--seed", options.seed, "seed; equal seeds, equal cases")
      ->check(seed_number())
      ->type_name("S")
      ->capture_default_str();
  app->add_option("--replay", options.replay, "run the one case of a saved file")->type_name("FILE");
  app->add_option("--save", options.save, "folder for counterexamples")
      ->type_name("DIR")
      ->capture_default_str();
  app->add_option("--corpus", options.corpus,
                  "folder of saved cases: those of the chosen properties run first, new counterexamples are "
                  "added")
      ->type_name("DIR");
  app->add_option("--report", options.report, "write one self-contained HTML page with pictures")
      ->type_name("FILE");
  app->add_option("--reruns", options.reruns, "how often a counterexample runs again: fails always, or flaky")
      ->check(CLI::Range(1, 10'000).description(""))
      ->type_name("N")
      ->capture_default_str();
  app->add_flag("--verbose,-v", options.verbose, "print what the generated cases were like");
  app->add_option("--time-limit", options.case_limit,
                  "time that one case of a shared library may take: 10s, 500ms")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, double>{{"ms", 0.001}, {"s", 1}, {"min", 60}}))
      ->type_name("TIME")
      ->capture_default_str();
  app->add_option("--shrink-for", options.shrink_limit,
                  "time for making one counterexample smaller: 10s, 2min")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, double>{{"ms", 0.001}, {"s", 1}, {"min", 60}}))
      ->type_name("TIME")
      ->capture_default_str();
  app->add_option("--child", options.child)->group("");  // how check runs itself for one property
}

void add_layout_check(CLI::App& layout, Program& program) {
  LayoutCheckOptions& options = program.layout_check;
  CLI::App* app = command(
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
  app->add_option("--experts", options.experts, "experts of the model, E")
      ->check(CLI::Range(1, 1 << 20).description(""))
      ->type_name("E");
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
  app->add_option("--batches", options.batches, "random batches a class and backend")
      ->check(CLI::Range(1, 100'000).description(""))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--seed", options.seed, "seed; equal seeds, equal batches")
      ->check(seed_number())
      ->type_name("S")
      ->capture_default_str();
  app->add_option("--save", options.save, "folder for the smallest cases")->type_name("DIR");
  app->add_option("--replay", options.replay, "run the one case of a saved file")->type_name("FILE");
  app->add_flag("--mutants", options.mutants, "layouts with bugs that were once shipped: all must be caught");
  app->add_option("--mutant", options.mutant, "only this one, with its sentence")->type_name("NAME");
}

void add_layout_search(CLI::App& layout, Program& program) {
  LayoutSearchOptions& options = program.layout_search;
  CLI::App* app =
      command(layout, program, "search",
              "Every layout of a number of ranks - axis orders, factorizations, placements, attention's data "
              "parallelism -\n"
              "judged, and those that hold ranked by memory, balance or bytes.",
              "eplora layout search --model qwen3-30b-a3b --ranks 16 --objective memory",
              [&options](const Output& output) { return run_layout_search(options, output); });
  app->add_option("--model", options.model, "config.json, or a name of examples/models")
      ->required()
      ->type_name("MODEL");
  app->add_option("--ranks", options.ranks, "number of ranks")
      ->required()
      ->check(CLI::Range(1, 1024).description(""))
      ->type_name("N");
  app->add_option("--objective", options.objective, "memory, balance or bytes")
      ->type_name("WHAT")
      ->capture_default_str();
  app->add_option("--top", options.top, "rows to show")
      ->check(CLI::Range(1, 1 << 20).description(""))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--node", options.node, "ranks of one node")
      ->check(CLI::Range(1, 1 << 20).description(""))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--tokens", options.tokens, "tokens of a batch")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24).description(""))
      ->type_name("T")
      ->capture_default_str();
  app->add_option("--adapters", options.adapters, "adapter slots")
      ->check(CLI::Range(0, 1 << 16).description(""))
      ->type_name("L")
      ->capture_default_str();
  app->add_option("--lora-rank", options.lora_rank, "largest rank of an adapter")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 16).description(""))
      ->type_name("R")
      ->capture_default_str();
  app->add_option("--trace", options.trace, "routing: uniform, zipf, zipf:1.1, adapter")
      ->type_name("KIND")
      ->capture_default_str();
}

/// What `cost` and `diff` ask about weights, adapters and nodes, and how much they print.
template <class Options>
void add_priced_sizes(CLI::App* app, Options& options) {
  app->add_option("--adapters", options.adapters, "adapter slots, L")
      ->check(CLI::Range(0, 1 << 16).description(""))
      ->type_name("L")
      ->capture_default_str();
  app->add_option("--rank", options.rank, "largest rank of an adapter, R")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 16).description(""))
      ->type_name("R")
      ->capture_default_str();
  app->add_option("--dtype", options.dtype, "base weights: f32, bf16, f16 or fp8")
      ->type_name("TYPE")
      ->capture_default_str();
  app->add_option("--adapter-dtype", options.adapter_dtype, "adapter buffers")
      ->type_name("TYPE")
      ->capture_default_str();
  app->add_option("--ranks-per-node", options.ranks_per_node, "ranks of one node")
      ->check(CLI::Range(1, 1 << 20).description(""))
      ->type_name("N")
      ->capture_default_str();
  app->add_flag("--ranks", options.ranks, "a row a rank, also for more than 32 ranks");
}

void add_layout_cost(CLI::App& layout, Program& program) {
  LayoutCostOptions& options = program.layout_cost;
  CLI::App* app = command(layout, program, "cost",
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
  app->add_option("--tokens", options.tokens, "tokens of a batch (default: those of a recorded trace)")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{kMaxIndex}).description(""))
      ->type_name("T");
  app->add_option("--trace", options.trace,
                  "topk_ids as .npy or .safetensors, or uniform, zipf:1.1, adapter:1.1")
      ->type_name("TRACE")
      ->capture_default_str();
  app->add_option("--seed", options.seed, "seed of a synthetic trace")
      ->check(seed_number())
      ->type_name("S")
      ->capture_default_str();
  add_priced_sizes(app, options);
  app->add_option("--activation-dtype", options.activation_dtype, "what travels over links")
      ->type_name("TYPE")
      ->capture_default_str();
  app->add_option("--block-size", options.block_size, "rows of a block, B")
      ->check(CLI::Range(1, 1 << 20).description(""))
      ->type_name("B")
      ->capture_default_str();
  app->add_option("--exchange", options.exchange, "automatic, all_reduce or all_to_all")
      ->type_name("WAY")
      ->capture_default_str();
  app->add_flag("--per-slot", options.per_slot,
                "a hidden state travels once a slot, not once for a token and rank");
  app->add_option("--tflops", options.tflops, "peak compute of a rank, TFLOP/s (default 989.4)")
      ->check(positive_number())
      ->type_name("X");
  app->add_option("--memory-rate", options.memory_rate, "memory of a rank, GB/s (default 3350)")
      ->check(positive_number())
      ->type_name("X");
  app->add_option("--inside-rate", options.inside_rate, "links inside a node, GB/s one way (default 450)")
      ->check(positive_number())
      ->type_name("X");
  app->add_option("--between-rate", options.between_rate, "links between nodes, GB/s one way (default 50)")
      ->check(positive_number())
      ->type_name("X");
}

void add_layout_diff(CLI::App& layout, Program& program) {
  LayoutDiffOptions& options = program.layout_diff;
  CLI::App* app = command(layout, program, "diff",
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

void add_layout_eplb(CLI::App& layout, Program& program) {
  LayoutEplbOptions& options = program.layout_eplb;
  CLI::App* app = command(
      layout, program, "eplb",
      "Replicates and places experts by the load that they had, as DeepSeek's EPLB does, each layer by its "
      "own:\n"
      "how uneven ranks were and are, and the placement as a layout file for check and cost.",
      "eplora layout eplb --model qwen3-30b-a3b --trace zipf:1.2 --ranks 16 --redundant 32 --toml eplb.toml",
      [&options](const Output& output) { return run_layout_eplb(options, output); });
  const auto size = [&](const char* name, std::int32_t& value, const char* about, int low) {
    return app->add_option(name, value, about)
        ->check(CLI::Range(low, 1 << 17).description(""))
        ->type_name("N")
        ->capture_default_str();
  };
  app->add_option("--load", options.load, "recorded counts of experts, .npy [E] or [layers, E]")
      ->type_name("FILE");
  app->add_option("--trace", options.trace,
                  "instead of --load: topk_ids as .npy or .safetensors, or uniform, zipf:1.1")
      ->type_name("TRACE");
  app->add_option("--tokens", options.tokens, "tokens of a synthetic trace")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24).description(""))
      ->type_name("T")
      ->capture_default_str();
  app->add_option("--seed", options.seed, "seed of a synthetic trace")
      ->check(seed_number())
      ->type_name("S")
      ->capture_default_str();
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

void add_layout(Program& program) {
  LayoutShowOptions& options = program.layout_show;
  CLI::App* layout =
      program.app.add_subcommand("layout", "Parallel layouts: see `eplora layout show --help`.");
  layout->require_subcommand(1);
  layout->footer("example: eplora layout show tp=4,ep=2 --experts 128 --intermediate 768\n");
  CLI::App* app = command(
      *layout, program, "show",
      "What every rank owns under a layout: coordinates in every grid, tokens, experts, columns, groups; the "
      "way of one\n"
      "token; as a picture with --svg, as a page with --html.",
      "eplora layout show tp=4,ep=2 --experts 128 --intermediate 768 --svg layout.svg",
      [&options](const Output& output) { return run_layout_show(options, output); });
  app->add_option("layout", options.layout, "as for eplora layout check")->required();
  app->add_option("--experts", options.experts, "experts of the model, E")
      ->check(CLI::Range(1, 1 << 20).description(""))
      ->type_name("E");
  app->add_option("--intermediate", options.intermediate, "MoE intermediate size, I")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{kMaxIndex}).description(""))
      ->type_name("I");
  app->add_option("--model", options.model, "config.json, or a name of examples/models, to take E and I from")
      ->type_name("MODEL");
  app->add_option("--placement", options.placement, "linear or round_robin, for layouts that leave it out")
      ->type_name("KIND");
  app->add_option("--tokens", options.tokens, "also show each rank's part of T tokens")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{kMaxIndex}).description(""))
      ->type_name("T");
  app->add_option("--token", options.token, "also show the way of this token of the batch")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{kMaxIndex} - 1).description(""))
      ->type_name("t");
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

void add_mutants(Program& program) {
  MutantsOptions& options = program.mutants;
  CLI::App* app =
      command(program.app, program, "mutants",
              "Bugs that were once shipped, run through the ordinary suite, which must notice every one.",
              "eplora mutants --mutant remap-neg",
              [&options](const Output& output) { return run_mutants(options, output); });
  app->add_option("--mutant", options.mutant, "only this one")->type_name("NAME");
  app->add_option("--seeds", options.seeds, "runs of everything, with this many seeds from --seed on")
      ->check(CLI::Range(1, 10'000).description(""))
      ->type_name("N");
  app->add_option("--save", options.save, "write the smallest case of each as DIR/NAME.json")
      ->type_name("DIR");
  app->add_option("--cases", options.cases, "most cases a property")
      ->check(CLI::Range(1, 100'000'000).description(""))
      ->type_name("N");
  app->add_option("--seed", options.seed, "seed; equal seeds, equal cases")
      ->check(seed_number())
      ->type_name("S")
      ->capture_default_str();
}

/// `bench` runs by itself; these are the things to do with its files.
void add_bench_files(CLI::App& bench, Program& program) {
  BenchVerifyOptions& verify = program.bench_verify;
  CLI::App* app =
      command(bench, program, "verify",
              "Makes sampled inputs of a result file again, runs the reference on them and compares "
              "the hashes of both\n"
              "with the recorded ones: that a kernel was right can be checked without its GPU.",
              "eplora bench verify benchmarks/results/FILE.json --sample 20",
              [&verify](const Output& output) { return run_bench_verify(verify, output); });
  app->add_option("file", verify.file, "result file")->required();
  app->add_option("--sample", verify.sample,
                  "shapes to draw, one part of each; 0 = every part of every shape")
      ->check(CLI::Range(0, 1 << 20).description(""))
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--seed", verify.seed, "seed of the draw")
      ->check(seed_number())
      ->type_name("S")
      ->capture_default_str();

  BenchCompareOptions& compare = program.bench_compare;
  app = command(
      bench, program, "compare",
      "Two result files of one device: SAME, FASTER or SLOWER for every shape, pattern and backend, by "
      "ranks of the raw samples.",
      "eplora bench compare old.json new.json",
      [&compare](const Output& output) { return run_bench_compare(compare, output); });
  app->add_option("old", compare.before, "result file")->required();
  app->add_option("new", compare.after, "result file")->required();

  BenchShowOptions& show = program.bench_show;
  app = bench.add_subcommand("show", "The tables of a result file, as the README holds them.");
  app->footer("example: eplora bench show benchmarks/results/FILE.json --markdown --suite route\n");
  app->callback([&program, &show] {
    program.chosen = [&show](const Output& output) { return run_bench_show(show, output); };
  });
  app->add_option("file", show.file, "result file")->required();
  app->add_option("--suite", show.suite, "route, remap, align, slice or models (default: all)")
      ->type_name("NAME");
  app->add_flag("--all", show.all, "a row for every backend and pattern instead of the summary");
  app->add_flag("--markdown", show.markdown, "print Markdown");
  app->add_flag("--csv", show.csv, "print comma-separated values");
}

void add_bench(Program& program) {
  BenchOptions& options = program.bench;
  CLI::App* app = command(
      program.app, program, "bench",
      "Times every backend side by side: medians, spread, launches, bytes, rates, ratios to the measured "
      "floors.\n"
      "Outputs are checked afterwards. On a GPU where there is one, else on the host.",
      "eplora bench --suite route --shape '64x8*' --output results.json",
      [&options](const Output& output) { return run_bench(options, output); });
  app->callback([&program, app, &options] {  // after a subcommand's own
    if (app->get_subcommands().empty())
      program.chosen = [&options](const Output& output) { return run_bench(options, output); };
  });
  add_bench_files(*app, program);
  app->add_option("--suite", options.suites,
                  "route, remap, align, slice; several: route,slice (default: all)")
      ->delimiter(',')
      ->type_name("NAME");
  app->add_option("--backend", options.backends,
                  "backends to time, all of the GPU or all of the host (default: see eplora list)")
      ->delimiter(',')
      ->type_name("NAME");
  app->add_option("--shape", options.shapes, "shapes by name or glob: '64x8*'")
      ->delimiter(',')
      ->type_name("NAME");
  app->add_option(
         "--pattern", options.patterns,
         "uniform, zipf, one-expert, sentinels (default: all for route, uniform for remap and align)")
      ->delimiter(',')
      ->type_name("NAME");
  app->add_flag("--quick", options.quick, "few shapes and samples, to see that it works");
  app->add_flag_callback(
      "--csv", [&options] { options.format = "csv"; }, "print comma-separated values");
  app->add_flag_callback(
      "--markdown", [&options] { options.format = "markdown"; }, "print Markdown");
  app->add_option("--output", options.output, "also write a result file")->type_name("FILE");
  app->add_option("--commit", options.commit, "commit of the sources, for the result file")
      ->type_name("HASH");
  app->add_option("--date", options.date, "date for the result file (default: today, UTC)")
      ->type_name("DATE");
}

/// CLI11 has codes of its own from 100 upwards; help and version are successes, the rest is a usage error.
int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
    app.exit(error);
    return kAgreement;
  }
  const std::vector<std::string> unknown = app.remaining();
  const bool is_command = !unknown.empty() && app.get_subcommands().empty();
  fmt::print(stderr, "eplora: {}\nRun eplora --help, or the command with --help.\n",
             is_command ? fmt::format("there is no command '{}'", unknown.front()) : error.what());
  return kBadInput;
}

int run(int argc, char** argv) {
  Program program;
  CLI::App& app = program.app;
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", "eplora " + program_version());
  app.footer(kExitCodes);
  app.add_option("--color", program.color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}).description(""))
      ->type_name("WHEN");
  add_compare(program);
  add_check(program);
  add_layout(program);
  add_mutants(program);
  add_bench(program);
  command(app, program, "list",
          "Backends (and why one is not available), properties, mutants, presets and models.",
          "eplora list --json", [](const Output& output) { return run_list(output); });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report_usage(app, error);
  }
  return program.chosen({use_color(program.color == "always"  ? ColorMode::always
                                   : program.color == "never" ? ColorMode::never
                                                              : ColorMode::automatic),
                         program.json});
}

}  // namespace

int main(int argc, char** argv) {
  install_interrupt_handler();
  try {
    const int code = run(argc, argv);
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      fmt::print(stderr, "eplora: stdout could not be written\n");
      return kInternal;
    }
    return code;
  } catch (const InvalidArgument& error) {
    fmt::print(stderr, "eplora: {}\n", error.what());
    return kBadInput;
  } catch (const BackendUnavailable& error) {
    fmt::print(stderr, "eplora: {}\n", error.what());
    return kBackendMissing;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "eplora: internal fault: out of memory\n");
    return kInternal;
  } catch (const std::exception& error) {
    fmt::print(stderr, "eplora: internal fault: {}\n", error.what());
    return kInternal;
  }
}
