// SPDX-License-Identifier: Apache-2.0
// Outcomes in words.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "property_tests/suite/suite.h"

namespace eplora::suite {

std::string_view to_string(Status status) {
  switch (status) {
    case Status::held:
      return "held";
    case Status::violated:
      return "violated";
    case Status::flaky:
      return "flaky";
    case Status::gave_up:
      return "gave up";
    case Status::skipped:
      return "skipped";
    case Status::interrupted:
      return "interrupted";
  }
  return "?";
}

namespace {

/// Lists of numbers in one column, each cell as many, made to stand under each other.
void pad_lists(std::vector<std::vector<std::string>>& rows, std::size_t column) {
  std::vector<std::vector<std::string>> lists;
  std::vector<std::size_t> widths;
  for (std::size_t r = 1; r < rows.size(); ++r) {
    if (rows[r].size() != rows.front().size()) continue;
    std::vector<std::string> words(1);
    for (const char c : rows[r][column])
      if (c == ' ')
        words.emplace_back();
      else
        words.back() += c;
    widths.resize(std::max(widths.size(), words.size()), 0);
    for (std::size_t i = 0; i < words.size(); ++i) widths[i] = std::max(widths[i], words[i].size());
    lists.push_back(std::move(words));
  }
  auto list = lists.begin();
  for (std::size_t r = 1; r < rows.size(); ++r) {
    if (rows[r].size() != rows.front().size()) continue;
    rows[r][column].clear();
    for (std::size_t i = 0; i < list->size(); ++i)
      rows[r][column] += fmt::format("{}{:>{}}", i > 0 ? " " : "", (*list)[i], widths[i]);
    ++list;
  }
}

/// A table of cells separated by " | ", header first, with its columns aligned under a rule: numbers to the
/// right, words to the left. Lines of one cell stay as they are.
std::string aligned(const std::string& table) {
  std::vector<std::vector<std::string>> rows;
  for (std::size_t begin = 0; begin < table.size();) {
    const std::size_t end = std::min(table.find('\n', begin), table.size());
    std::vector<std::string> cells;
    for (std::size_t from = begin + std::min<std::size_t>(2, end - begin); from <= end;) {
      const std::size_t bar = std::min(table.find(" | ", from), end);
      cells.push_back(table.substr(from, bar - from));
      from = bar == end ? end + 1 : bar + 3;
    }
    rows.push_back(std::move(cells));
    begin = end + 1;
  }
  if (rows.empty() || rows.front().size() < 2) return table;
  const std::size_t columns = rows.front().size();
  if (rows.front().back() == "ids") pad_lists(rows, columns - 1);
  std::vector<std::size_t> widths(columns, 0);
  std::vector<bool> numeric(columns, true);
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; rows[r].size() == columns && c < columns; ++c) {
      widths[c] = std::max(widths[c], rows[r][c].size());
      if (r > 0 && rows[r][c].find_first_not_of("-0123456789. ") != std::string::npos) numeric[c] = false;
    }
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::string line = "    ";
    if (rows[r].size() != columns) {
      line += fmt::format("{}", fmt::join(rows[r], " | "));
    } else {
      for (std::size_t c = 0; c < columns; ++c)
        line += (c > 0 ? "  " : "") + (numeric[c] ? fmt::format("{:>{}}", rows[r][c], widths[c])
                                                  : fmt::format("{:<{}}", rows[r][c], widths[c]));
    }
    while (line.back() == ' ') line.pop_back();
    text += line + "\n";
    if (r > 0) continue;
    line = "   ";
    for (const std::size_t width : widths) line += fmt::format(" {0:-<{1}} ", "", width);
    line.pop_back();
    text += line + "\n";
  }
  return text;
}

}  // namespace

std::string how_often(const Counterexample& found) {
  if (found.failed == found.reruns) return fmt::format("fails always: {} of {}", found.failed, found.reruns);
  return fmt::format(
      "flaky: fails {} of {} times; the inputs were equal, the results differ from run to run{}",
      found.failed, found.reruns, found.failed == 0 ? " (the case failed once, when it was found)" : "");
}

std::string describe(const Outcome& outcome) {
  std::string text =
      fmt::format("{} on {}: {}", outcome.property.full_name(), outcome.backend, to_string(outcome.status));
  if (!outcome.reason.empty()) text += " (" + outcome.reason + ")";
  if (outcome.status != Status::skipped)
    text += fmt::format(", {} cases in {:.1f} s{}{}, seed {}", outcome.cases, outcome.seconds,
                        outcome.discarded > 0 ? fmt::format(", {} discarded", outcome.discarded) : "",
                        outcome.ended_by_time ? ", ended by time" : "", outcome.seed);
  text += "\n";
  if (!outcome.counterexample) return text;
  const Counterexample& found = *outcome.counterexample;
  text += fmt::format("  the law:        {}\n", outcome.property.sentence);
  text += fmt::format("  violated:       {}: {}\n", found.contract, found.sentence);
  if (!found.expected.empty() || !found.found.empty())
    text += fmt::format("  expected:       {}\n  found:          {}\n", found.expected, found.found);
  text += fmt::format("  smallest case:  {}\n{}", found.summary, aligned(found.table));
  text += fmt::format("  how often:      {}\n", how_often(found));
  text += fmt::format("  found in:       case {}, made smaller {} times\n", found.after_cases, found.shrinks);
  if (!found.unshrunk_path.empty()) text += fmt::format("  as found:       {}\n", found.unshrunk_path);
  if (!found.shrunk_path.empty()) text += fmt::format("  JSON file:      {}\n", found.shrunk_path);
  if (!found.replay.empty()) text += fmt::format("  replay with:    {}\n", found.replay);
  return text;
}

}  // namespace eplora::suite
