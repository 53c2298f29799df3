// SPDX-License-Identifier: Apache-2.0
// The program's commands as functions: options in, exit code out. main.cpp fills the options; each command is
// one file (or two), prints data on stdout and talk on stderr, and throws `InvalidArgument` or
// `BackendUnavailable` for main to map.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace eplora {

/// How to print.
struct Output {
  bool color = false;
  bool json = false;
};

struct CompareOptions {
  std::string golden;   ///< a folder of fixtures, or one fixture; empty = the project's own
  std::string adapter;  ///< a PEFT adapter's folder; empty = none
  std::string model;    ///< a config.json; empty = every known model
  std::string layout;   ///< "tp=4,ep=2" or a .toml file; empty = all for golden, tp=4,ep=4 for timing
  std::vector<std::int64_t> tokens = {1, 64, 4096};
  std::vector<std::int32_t> adapters = {8};  ///< L
  std::vector<std::string> backends;         ///< empty = all that can run
  std::uint64_t seed = 1;
};
int run_compare(const CompareOptions& options, const Output& output);

struct CheckOptions {
  std::vector<std::string> backends;  ///< empty = all that can run
  std::string property;               ///< empty = all
  int cases = 0;                      ///< 0 = each property's default
  double seconds = 0;                 ///< 0 = no limit
  std::uint64_t seed = 1;
  std::string replay;  ///< a saved case
  std::string save;    ///< folder for counterexamples; empty = the project's own
  std::string corpus;  ///< folder of cases to replay first and to grow; empty = none
  std::string report;  ///< HTML file to write; empty = none
  int reruns = 10;     ///< how often a counterexample runs again: always or flaky
  bool verbose = false;
  double case_limit = 10;    ///< seconds that one case of a shared library may take
  double shrink_limit = 10;  ///< seconds for making one counterexample smaller
  std::string child;         ///< folder through which a child process reports; empty = this is no child
};
int run_check(const CheckOptions& options, const Output& output);

struct LayoutShowOptions {
  std::string layout;
  std::int32_t experts = 0;       ///< 0 = from the model or the layout file
  std::int64_t intermediate = 0;  ///< 0 = from the model
  std::string model;              ///< a config.json, or a name of examples/models
  std::string placement;          ///< of layouts that leave it out
  std::int64_t tokens = -1;       ///< negative = no token columns
  std::int64_t token = -1;        ///< whose way is shown; negative = an example, for the page
  std::vector<std::int32_t> ids;  ///< its topk_ids; empty = spread over the experts
  std::string svg, html;          ///< files to write
};
int run_layout_show(const LayoutShowOptions& options, const Output& output);

struct LayoutDiffOptions {
  std::string before, after;  ///< layouts
  std::string model;          ///< a config.json, or a name of examples/models
  std::int32_t adapters = 8;
  std::int64_t rank = 16;  ///< of the adapter buffers, R
  std::string dtype = "bf16", adapter_dtype = "bf16";
  std::int32_t ranks_per_node = 8;
  bool ranks = false;  ///< a row a rank, however many
  std::string svg;     ///< file to write
};
int run_layout_diff(const LayoutDiffOptions& options, const Output& output);

struct LayoutCheckOptions {
  std::string layout;                 ///< empty with --replay or --mutants
  std::int32_t experts = 0;           ///< 0 = from the model or the layout file
  std::string model;                  ///< a config.json or a name of examples/models
  std::vector<std::string> backends;  ///< empty = all that can run
  std::vector<std::string> sum_over;  ///< axes that an engine sums over, in place of the right ones
  bool has_sum_over = false;
  int batches = 24;
  std::uint64_t seed = 1;
  std::string save;    ///< folder for the smallest cases; empty = the project's own
  std::string replay;  ///< a saved case
  bool mutants = false;
  std::string mutant;  ///< only this one
};
int run_layout_check(const LayoutCheckOptions& options, const Output& output);

struct LayoutSearchOptions {
  std::string model;
  std::int32_t ranks = 0;
  std::string objective = "memory";
  int top = 10;
  std::int32_t node = 8;
  std::int64_t tokens = 4096;
  std::int32_t adapters = 8;
  std::int64_t lora_rank = 16;
  std::string trace = "zipf";
};
int run_layout_search(const LayoutSearchOptions& options, const Output& output);

struct LayoutCostOptions {
  std::string layout;
  std::string model;         ///< a config.json, or a name of examples/models
  std::int64_t tokens = -1;  ///< negative = as many as a recorded trace has
  std::string trace = "uniform";
  std::uint64_t seed = 1;  ///< of synthetic traces
  std::int32_t adapters = 8;
  std::int64_t rank = 16;  ///< of the adapter buffers, R
  std::string dtype = "bf16", adapter_dtype = "bf16", activation_dtype = "bf16";
  std::int64_t block_size = 64;
  std::int32_t ranks_per_node = 8;
  std::string exchange = "automatic";
  bool per_slot = false;
  /// 0 = the defaults of reference/price/time.h; TFLOP/s and GB/s.
  double tflops = 0, memory_rate = 0, inside_rate = 0, between_rate = 0;
  bool ranks = false;  ///< a row a rank, however many
};
int run_layout_cost(const LayoutCostOptions& options, const Output& output);

struct LayoutEplbOptions {
  std::string load;   ///< .npy of counts, [E] or [layers, E]
  std::string trace;  ///< instead: topk_ids as a file, or a synthetic trace
  std::int64_t tokens = 65'536;
  std::uint64_t seed = 1;  ///< both of a synthetic trace
  std::string model;       ///< a config.json, or a name of examples/models; may be empty with a load
  std::int32_t ranks = 0, tp = 1, nodes = 1, groups = 1, redundant = 0;
  bool duplicates = false;         ///< replicas of an expert may share a rank
  std::string replicas = "token";  ///< the rule that picks one
  std::string toml;                ///< layout file to write
};
int run_layout_eplb(const LayoutEplbOptions& options, const Output& output);

struct MutantsOptions {
  std::string mutant;  ///< empty = all
  int cases = 0;
  std::uint64_t seed = 1;
  int seeds = 1;     ///< that many runs of everything, from `seed` on
  std::string save;  ///< folder for the smallest cases, ID.json; empty = nowhere
};
int run_mutants(const MutantsOptions& options, const Output& output);

struct BenchOptions {
  std::vector<std::string> suites, backends, shapes, patterns;  ///< empty = what benchmarks/run.h says
  bool quick = false;
  std::string format;  ///< "csv", "markdown"; empty = a table for people
  std::string output;  ///< result file to write
  std::string commit;  ///< of the sources; empty = not given
  std::string date;    ///< empty = today, UTC
};
int run_bench(const BenchOptions& options, const Output& output);

struct BenchVerifyOptions {
  std::string file;
  int sample = 12;  ///< shapes; 0 = every part of every shape
  std::uint64_t seed = 1;
};
int run_bench_verify(const BenchVerifyOptions& options, const Output& output);

struct BenchCompareOptions {
  std::string before, after;
};
int run_bench_compare(const BenchCompareOptions& options, const Output& output);

struct BenchShowOptions {
  std::string file;
  std::string suite;  ///< also "models"; empty = all
  bool all = false, markdown = false, csv = false;
};
int run_bench_show(const BenchShowOptions& options, const Output& output);

int run_list(const Output& output);

}  // namespace eplora
