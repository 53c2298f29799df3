// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <utility>

namespace eplora {
namespace {

constexpr double kMostSeconds = 366 * 86'400;

/// The number in `text`; nan where there is none. CLI11's own checks let nan through and print the largest
/// double in full.
double number_of(const std::string& text) {
  double number = 0;
  return CLI::detail::lexical_cast(text, number) ? number : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

CLI::App* add_command(CLI::App& parent, CommandLine& program, const std::string& name,
                      const std::string& about, const std::string& example,
                      std::function<int(const Output&)> run) {
  CLI::App* app = parent.add_subcommand(name, about);
  app->footer("example: " + example + "\n");
  app->add_flag("--json", program.json, "print one JSON document with a versioned schema on stdout");
  app->callback([&program, run = std::move(run)] { program.chosen = run; });
  return app;
}

CLI::Option* add_seed(CLI::App* app, std::uint64_t& value, const std::string& about) {
  // Read as CLI11 will, which makes the largest number of one that is too large.
  const auto fault = [](const std::string& text) -> std::string {
    char* end = nullptr;
    errno = 0;
    std::strtoull(text.c_str(), &end, 0);
    const bool whole = !text.empty() && text.front() >= '0' && text.front() <= '9' && *end == '\0';
    if (whole && errno == 0) return "";
    return fmt::format("Value {} not in range 0 to {}", text, std::numeric_limits<std::uint64_t>::max());
  };
  return app->add_option("--seed", value, about)
      ->check(CLI::Validator(fault, ""))
      ->type_name("S")
      ->capture_default_str();
}

CLI::Option* add_time(CLI::App* app, const std::string& name, double& value, const std::string& about) {
  const auto fault = [](const std::string& text) -> std::string {
    const double seconds = number_of(text);
    if (seconds > 0 && seconds <= kMostSeconds) return "";
    return fmt::format("Value {} s not in range 0 (excluded) to {} s", text, kMostSeconds);
  };
  return app->add_option(name, value, about)
      ->transform(CLI::AsNumberWithUnit(
          std::map<std::string, double>{{"ms", 0.001}, {"s", 1}, {"min", 60}, {"h", 3600}}))
      ->check(CLI::Validator(fault, ""))
      ->type_name("TIME");
}

CLI::Option* add_rate(CLI::App* app, const std::string& name, double& value, const std::string& about) {
  const auto fault = [](const std::string& text) -> std::string {
    const double rate = number_of(text);
    if (rate > 0 && std::isfinite(rate)) return "";
    return fmt::format("Value {} must be a finite number > 0", text);
  };
  return app->add_option(name, value, about)->check(CLI::Validator(fault, ""))->type_name("X");
}

}  // namespace eplora
