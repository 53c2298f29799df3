// SPDX-License-Identifier: Apache-2.0
// The score of the suite against mechanical changes of the reference's operators: how many it notices, by
// file and by kind of change, and which survive. A survivor needs a written reason why no input can show it,
// and a reason needs a survivor. usage: eplora_second_order [--json] [--verbose] [--cases N] [--file PART]
// [--reasons FILE]
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "property_tests/second_order/trial.h"
#include "reference/check.h"

namespace {

using namespace eplora;
using second_order::Change;
using second_order::Trial;

struct Settings {
  second_order::TrialOptions trial;
  bool json = false, verbose = false;
  std::string file;  ///< part of a path; empty = all
  std::string reasons = EPLORA_SURVIVORS;
};

Settings read_settings(int argc, char** argv) {
  Settings settings;
  settings.trial.processes = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) reject("option", option, "followed by a value");
      return argv[++i];
    };
    if (option == "--json")
      settings.json = true;
    else if (option == "--verbose")
      settings.verbose = true;
    else if (option == "--cases")
      settings.trial.cases = std::atoi(value().c_str());
    else if (option == "--file")
      settings.file = value();
    else if (option == "--reasons")
      settings.reasons = value();
    else
      reject("option", option, "--json, --verbose, --cases N, --file PART or --reasons FILE");
  }
  require_in_range("--cases", settings.trial.cases, 1, kMaxIndex);
  return settings;
}

/// What a reason names; a line's number would not outlive the next edit.
std::string key_of(const std::string& file, const std::string& text, int column, const std::string& change) {
  return file + "\n" + text + "\n" + std::to_string(column) + "\n" + change;
}
std::string key_of(const Change& c) { return key_of(c.file, c.text, c.column, c.change); }

std::map<std::string, std::string> read_reasons(const Settings& settings) {
  std::ifstream file(settings.reasons);
  if (!file) reject("--reasons", settings.reasons, "a readable file");
  std::map<std::string, std::string> reasons;
  const nlohmann::json document = nlohmann::json::parse(file);
  for (const auto& entry : document.at("survivors")) {
    const std::string source = entry.at("file"), why = entry.at("why");
    if (source.find(settings.file) == std::string::npos) continue;
    if (why.empty()) reject("why", "empty", "the reason why no input can show the change");
    reasons[key_of(source, entry.at("text"), entry.at("column"), entry.at("change"))] = why;
  }
  return reasons;
}

struct Score {
  int killed = 0, total = 0;
};

void print_scores(const char* title, const std::map<std::string, Score>& scores) {
  fmt::print("{:<36} {:>7} {:>7}\n", title, "killed", "of");
  for (const auto& [name, score] : scores)
    fmt::print("{:<36} {:>7} {:>7}\n", name, score.killed, score.total);
  fmt::print("\n");
}

std::string place_of(const Change& c) {
  return fmt::format("{}:{}:{}  {}  in  {}", c.file, c.line, c.column, c.change, c.text);
}

int run(const Settings& settings) {
  std::vector<Change> changes;
  for (const Change& change : second_order::list_changes())
    if (change.file.find(settings.file) != std::string::npos) changes.push_back(change);
  if (changes.empty()) reject("--file", settings.file, "a part of the path of a changed file");
  std::map<std::string, std::string> reasons = read_reasons(settings);
  const bool talks = isatty(STDERR_FILENO) != 0;
  const std::vector<Trial> trials = second_order::try_changes(changes, settings.trial, [&](std::size_t done) {
    if (talks) fmt::print(stderr, "\r{} of {} ", done, changes.size());
  });
  if (talks) fmt::print(stderr, "\r");

  std::map<std::string, Score> by_file, by_kind;
  nlohmann::ordered_json survivors = nlohmann::ordered_json::array();
  int killed = 0, unexplained = 0;
  std::string text;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const Change& c = changes[i];
    for (Score* score : {&by_file[c.file], &by_kind[c.kind]}) {
      score->total += 1;
      score->killed += trials[i].killed ? 1 : 0;
    }
    killed += trials[i].killed ? 1 : 0;
    if (settings.verbose && trials[i].killed) text += place_of(c) + "\n    killed by " + trials[i].by + "\n";
    if (trials[i].killed) continue;
    const auto reason = reasons.find(key_of(c));
    const std::string why = reason == reasons.end() ? "" : reason->second;
    unexplained += why.empty() ? 1 : 0;
    if (reason != reasons.end()) reasons.erase(reason);
    text += place_of(c) + "\n    " + (why.empty() ? "SURVIVES without a reason" : "survives: " + why) + "\n";
    survivors.push_back({{"file", c.file},
                         {"line", c.line},
                         {"text", c.text},
                         {"column", c.column},
                         {"change", c.change},
                         {"why", why}});
  }
  const int explained = static_cast<int>(changes.size()) - killed - unexplained;
  if (settings.json) {
    const nlohmann::ordered_json document = {{"schema", "eplora.second_order/1"},
                                             {"changes", changes.size()},
                                             {"killed", killed},
                                             {"explained", explained},
                                             {"unexplained", unexplained},
                                             {"stale_reasons", reasons.size()},
                                             {"survivors", std::move(survivors)}};
    std::cout << document.dump(2) << "\n";
  } else {
    print_scores("file", by_file);
    print_scores("kind of change", by_kind);
    fmt::print("{}", text);
    for (const auto& [key, why] : reasons) {
      std::string line = key;
      std::replace(line.begin(), line.end(), '\n', ' ');
      fmt::print("stale: no survivor is {}\n", line);
    }
    fmt::print("\n{} of {} changes killed; {} survivors explained, {} not; {} stale reasons\n", killed,
               changes.size(), explained, unexplained, reasons.size());
  }
  return unexplained == 0 && reasons.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(read_settings(argc, argv));
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 2;
  }
}
