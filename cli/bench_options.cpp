// SPDX-License-Identifier: Apache-2.0
// The options of `eplora bench` and of its subcommands.
#include "cli/command_line.h"

namespace eplora {
namespace {

/// `bench` runs by itself; these are the things to do with its files.
void add_bench_files(CLI::App& bench, CommandLine& program) {
  BenchVerifyOptions& verify = program.bench_verify;
  CLI::App* app =
      add_command(bench, program, "verify",
                  "Makes sampled inputs of a result file again, runs the reference on them and compares "
                  "the hashes of both\n"
                  "with the recorded ones: that a kernel was right can be checked without its GPU.",
                  "eplora bench verify benchmarks/results/FILE.json --sample 20",
                  [&verify](const Output& output) { return run_bench_verify(verify, output); });
  app->add_option("file", verify.file, "result file")->required();
  add_number(app, "--sample", verify.sample,
             "shapes to draw, one part of each; 0 = every part of every shape", 0, 1 << 20, "N")
      ->capture_default_str();
  add_seed(app, verify.seed, "seed of the draw");

  BenchCompareOptions& compare = program.bench_compare;
  app = add_command(
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

}  // namespace

void add_bench(CommandLine& program) {
  BenchOptions& options = program.bench;
  CLI::App* app = add_command(
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

}  // namespace eplora
