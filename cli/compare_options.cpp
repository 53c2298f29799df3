// SPDX-License-Identifier: Apache-2.0
// The options of `eplora compare`.
#include "cli/command_line.h"

namespace eplora {

void add_compare(CommandLine& program) {
  CompareOptions& options = program.compare;
  CLI::App* app = add_command(
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
  add_number(app, "--tokens", options.tokens, "tokens a batch, for the timing table; several: 1,64", 0,
             1 << 24, "T")
      ->delimiter(',')
      ->capture_default_str();
  add_number(app, "--adapters", options.adapters, "adapter slots, for the timing table", 0, 1 << 16, "L")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--backend", options.backends,
                  "backends to compare (default: all that can run; see eplora list)")
      ->delimiter(',')
      ->type_name("NAME");
  add_seed(app, options.seed, "seed of the synthetic routing");
}

}  // namespace eplora
