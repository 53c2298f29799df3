// SPDX-License-Identifier: Apache-2.0
// The options of `eplora check` and `eplora mutants`.
#include "cli/command_line.h"

namespace eplora {

void add_check(CommandLine& program) {
  CheckOptions& options = program.check;
  CLI::App* app = add_command(program.app, program, "check",
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
  add_number(app, "--cases", options.cases,
             "cases a property (default: each property's own number; with --for alone, no limit)", 1,
             100'000'000, "N");
  add_time(app, "--for", options.seconds,
           "time for the whole run: 60s, 500ms, 2min (a plain number is seconds)");
  add_seed(app, options.seed, "seed; equal seeds, equal cases");
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
  add_number(app, "--reruns", options.reruns, "how often a counterexample runs again: fails always, or flaky",
             1, 10'000, "N")
      ->capture_default_str();
  app->add_flag("--verbose,-v", options.verbose, "print what the generated cases were like");
  add_time(app, "--time-limit", options.case_limit,
           "time that one case of a shared library may take: 10s, 500ms")
      ->capture_default_str();
  add_time(app, "--shrink-for", options.shrink_limit, "time for making one counterexample smaller: 10s, 2min")
      ->capture_default_str();
  app->add_option("--child", options.child)->group("");  // how check runs itself for one property
}

void add_mutants(CommandLine& program) {
  MutantsOptions& options = program.mutants;
  CLI::App* app =
      add_command(program.app, program, "mutants",
                  "Bugs that were once shipped, run through the ordinary suite, which must notice every one.",
                  "eplora mutants --mutant remap-neg",
                  [&options](const Output& output) { return run_mutants(options, output); });
  app->add_option("--mutant", options.mutant, "only this one")->type_name("NAME");
  add_number(app, "--seeds", options.seeds, "runs of everything, with this many seeds from --seed on", 1,
             10'000, "N");
  app->add_option("--save", options.save, "write the smallest case of each as DIR/NAME.json")
      ->type_name("DIR");
  add_number(app, "--cases", options.cases, "most cases a property", 1, 100'000'000, "N");
  add_seed(app, options.seed, "seed; equal seeds, equal cases");
}

}  // namespace eplora
