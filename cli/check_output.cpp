// SPDX-License-Identifier: Apache-2.0
#include "cli/check_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "cli/exit_code.h"
#include "cli/json_output.h"

namespace eplora {
namespace {

Style style_of(suite::Status status) {
  switch (status) {
    case suite::Status::held:
      return Style::good;
    case suite::Status::violated:
    case suite::Status::flaky:
      return Style::bad;
    case suite::Status::gave_up:
    case suite::Status::skipped:
    case suite::Status::interrupted:
      return Style::caution;
  }
  return Style::plain;
}

/// The word as printed: failures in capitals.
std::string word_of(const suite::Outcome& outcome) {
  std::string word(to_string(outcome.status));
  if (outcome.failed())
    std::transform(word.begin(), word.end(), word.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return word;
}

nlohmann::ordered_json entry_of(const suite::Outcome& outcome) {
  nlohmann::ordered_json entry = {{"property", outcome.property.full_name()},
                                  {"contract", outcome.property.contract},
                                  {"backend", outcome.backend},
                                  {"status", to_string(outcome.status)},
                                  {"reason", outcome.reason},
                                  {"cases", outcome.cases},
                                  {"discarded", outcome.discarded},
                                  {"seconds", outcome.seconds},
                                  {"seed", outcome.seed},
                                  {"ended_by_time", outcome.ended_by_time},
                                  {"distribution", outcome.distribution}};
  if (!outcome.counterexample) return entry;
  const suite::Counterexample& found = *outcome.counterexample;
  const auto parsed = nlohmann::ordered_json::parse(found.json, nullptr, false);
  entry["counterexample"] = {{"contract", found.contract},
                             {"sentence", found.sentence},
                             {"expected", found.expected},
                             {"found", found.found},
                             {"failed", found.failed},
                             {"reruns", found.reruns},
                             {"after_cases", found.after_cases},
                             {"shrinks", found.shrinks},
                             {"summary", found.summary},
                             {"unshrunk_file", found.unshrunk_path},
                             {"shrunk_file", found.shrunk_path},
                             {"replay", found.replay},
                             {"case", parsed.is_discarded() ? nlohmann::ordered_json() : parsed}};
  return entry;
}

nlohmann::ordered_json entry_of(const ReportedBackend& backend) {
  return {{"name", backend.name},
          {"description", backend.description},
          {"offers", backend.offered},
          {"lacks", backend.lacking},
          {"memory", backend.memory},
          {"form", backend.form},
          {"determinism", backend.determinism}};
}

}  // namespace

void CheckOutput::widths(std::size_t name_width, std::size_t backend_width) {
  name_width_ = std::max<std::size_t>(name_width, 8);
  backend_width_ = std::max<std::size_t>(backend_width, 7);
}

void CheckOutput::add(const suite::Outcome& outcome) {
  page.outcomes.push_back(outcome);
  ++count_[outcome.status];
  cases_ += outcome.cases;
  if (output_.json) {
    entries_.push_back(entry_of(outcome));
    return;
  }
  if (lines_++ == 0) header();
  const std::string word = fmt::format("{:<11}", word_of(outcome));
  fmt::print("{:<{}}  {:<{}}  {}  {:>8}  {:>7.2f}{}\n", outcome.property.full_name(), name_width_,
             outcome.backend, backend_width_, styled(word, style_of(outcome.status), output_.color),
             outcome.cases, outcome.seconds, outcome.reason.empty() ? "" : "  " + outcome.reason);
  if (outcome.discarded > 0 && outcome.status == suite::Status::held)
    fmt::print("{:<{}}  {} more drawn cases were not asked: the form does not promise them\n", "",
               name_width_, outcome.discarded);
  if (verbose_) distribution(outcome);
  if (outcome.counterexample) fmt::print("\n{}\n", suite::describe(outcome));
  std::fflush(stdout);
}

int CheckOutput::finish(std::uint64_t seed, double seconds, std::int64_t not_reached, bool name_missing,
                        const Corpus* corpus) {
  if (output_.json) {
    print_json(document(seed, seconds, not_reached, corpus));
  } else {
    print("", Style::plain);
    fmt::print("{}; {} cases in {:.1f} s; seed {}\n",
               styled(sums(not_reached), failed() > 0 ? Style::bad : Style::good, output_.color), cases_,
               seconds, seed);
    if (corpus != nullptr) fmt::print("{}\n", corpus->summary());
    if (name_missing) fmt::print("{}", describe_missing_backends());
  }
  if (failed() > 0) return kDifference;
  if (corpus != nullptr && !corpus->refused().empty()) return kBadInput;
  return count(suite::Status::held) > 0 ? kAgreement : kNothingRan;
}

std::int64_t CheckOutput::count(suite::Status status) const {
  const auto found = count_.find(status);
  return found == count_.end() ? 0 : found->second;
}

std::int64_t CheckOutput::failed() const {
  return count(suite::Status::violated) + count(suite::Status::flaky);
}

std::string CheckOutput::sums(std::int64_t not_reached) const {
  const std::int64_t flaky = count(suite::Status::flaky);
  std::string words;
  if (failed() > 0) words = fmt::format("{} VIOLATED, ", count(suite::Status::violated));
  if (flaky > 0) words += fmt::format("{} FLAKY, ", flaky);
  words += fmt::format("{} held, {} skipped or gave up", count(suite::Status::held),
                       count(suite::Status::skipped) + count(suite::Status::gave_up));
  if (not_reached > 0) words += fmt::format(", {} not reached in the time given", not_reached);
  return words;
}

nlohmann::ordered_json CheckOutput::document(std::uint64_t seed, double seconds, std::int64_t not_reached,
                                             const Corpus* corpus) const {
  nlohmann::ordered_json document = json_document("check");
  document["seed"] = seed;
  document["seconds"] = seconds;
  document["summary"] = {{"held", count(suite::Status::held)},
                         {"failed", failed()},
                         {"flaky", count(suite::Status::flaky)},
                         {"skipped", count(suite::Status::skipped) + count(suite::Status::gave_up)},
                         {"not_reached", not_reached},
                         {"cases", cases_}};
  document["backends"] = nlohmann::ordered_json::array();
  for (const ReportedBackend& backend : page.backends) document["backends"].push_back(entry_of(backend));
  if (corpus != nullptr)
    document["corpus"] = {{"summary", corpus->summary()}, {"refused", corpus->refused()}};
  document["outcomes"] = entries_;
  return document;
}

void CheckOutput::header() const {
  print(fmt::format("{:<{}}  {:<{}}  {:<11}  {:>8}  {:>7}", "property", name_width_, "backend",
                    backend_width_, "verdict", "cases", "seconds"),
        Style::heading);
  print(fmt::format("{0:-<{1}}  {0:-<{2}}  {0:-<11}  {0:-<8}  {0:-<7}", "", name_width_, backend_width_),
        Style::faint);
}

void CheckOutput::print(const std::string& text, Style style) const {
  fmt::print("{}\n", styled(text, style, output_.color));
}

void CheckOutput::distribution(const suite::Outcome& outcome) const {
  const auto cases = static_cast<double>(std::max<std::int64_t>(outcome.cases, 1));
  for (const auto& [label, count] : outcome.distribution)
    fmt::print("    {:>5.1f}%  {}\n", 100.0 * static_cast<double>(count) / cases, label);
}

}  // namespace eplora
