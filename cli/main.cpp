// SPDX-License-Identifier: Apache-2.0
// The program `eplora`: the way from a command line to a command, and from what happened to an exit code.
// Commands are functions in files of their own (cli/commands.h), as are their options (cli/command_line.h).
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "cli/command_line.h"
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
  CommandLine program;
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
  add_command(app, program, "list",
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
