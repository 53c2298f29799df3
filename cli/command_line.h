// SPDX-License-Identifier: Apache-2.0
// The command line as one object, and the kinds of option that several commands have. Each command's options
// are added by a function in a file beside the command's own.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "cli/commands.h"

namespace eplora {

/// Everything the command line fills, and the command it chose.
struct CommandLine {
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

void add_compare(CommandLine& program);
void add_check(CommandLine& program);
void add_layout(CommandLine& program);
void add_mutants(CommandLine& program);
void add_bench(CommandLine& program);

/// A command that prints data, hence with --json.
CLI::App* add_command(CLI::App& parent, CommandLine& program, const std::string& name,
                      const std::string& about, const std::string& example,
                      std::function<int(const Output&)> run);

/// A whole number in `[low, high]`, or several in a vector.
template <class Value>
CLI::Option* add_number(CLI::App* app, const std::string& name, Value& value, const std::string& about,
                        std::int64_t low, std::int64_t high, const std::string& type) {
  return app->add_option(name, value, about)->check(CLI::Range(low, high).description(""))->type_name(type);
}

/// "--seed", every 64-bit number.
CLI::Option* add_seed(CLI::App* app, std::uint64_t& value, const std::string& about);

/// A time with a unit, in seconds: 60s, 500ms; above 0.
CLI::Option* add_time(CLI::App* app, const std::string& name, double& value, const std::string& about);

/// How much of something a second: above 0.
CLI::Option* add_rate(CLI::App* app, const std::string& name, double& value, const std::string& about);

}  // namespace eplora
