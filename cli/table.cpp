// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "cli/svg_canvas.h"

namespace eplora {
namespace {

constexpr std::size_t kGap = 2;

/// One line out of its cells, without the blanks at its end.
struct LineCell {
  const std::string& text;
  Style style;
  Table::Align align;
  std::size_t width;
};

std::string line_of(const std::vector<LineCell>& cells, bool color) {
  std::string line;
  std::size_t pending = 0;  // blanks owed before the next text
  for (const LineCell& cell : cells) {
    const std::size_t fill = cell.width - cell.text.size();
    if (cell.align == Table::Align::right || cell.text.empty()) pending += fill;
    if (!cell.text.empty()) {
      line.append(pending, ' ');
      line += styled(cell.text, cell.style, color);
      pending = cell.align == Table::Align::left ? fill : 0;
    }
    pending += kGap;
  }
  return line + "\n";
}

}  // namespace

bool use_color(ColorMode mode) {
  if (mode != ColorMode::automatic) return mode == ColorMode::always;
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && (term == nullptr || std::string_view(term) != "dumb");
}

std::string styled(const std::string& text, Style style, bool color) {
  if (!color || style == Style::plain || text.empty()) return text;
  const char* code = "";
  switch (style) {
    case Style::good:
      code = "32";
      break;
    case Style::bad:
      code = "1;31";
      break;
    case Style::caution:
      code = "33";
      break;
    case Style::faint:
      code = "2";
      break;
    case Style::heading:
      code = "1";
      break;
    case Style::plain:
      break;
  }
  return fmt::format("\033[{}m{}\033[0m", code, text);
}

Table& Table::column(std::string header, Align align, std::string group) {
  columns_.push_back({std::move(header), std::move(group), align});
  return *this;
}

void Table::row(std::vector<Cell> cells) {
  if (cells.size() != columns_.size())
    throw std::logic_error(
        fmt::format("a table of {} columns got a row of {}", columns_.size(), cells.size()));
  rows_.push_back(std::move(cells));
}

std::vector<std::size_t> Table::widths() const {
  std::vector<std::size_t> widths(columns_.size());
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    widths[c] = columns_[c].header.size();
    for (const auto& row : rows_) widths[c] = std::max(widths[c], row[c].text.size());
  }
  // A group's name must fit over its columns; what is missing goes to the last of them.
  for (std::size_t first = 0; first < columns_.size();) {
    std::size_t end = first, span = 0;
    while (end < columns_.size() && columns_[end].group == columns_[first].group)
      span += widths[end++] + kGap;
    span -= kGap;
    if (!columns_[first].group.empty() && span < columns_[first].group.size())
      widths[end - 1] += columns_[first].group.size() - span;
    first = end;
  }
  return widths;
}

std::string Table::group_line(const std::vector<std::size_t>& widths, bool color) const {
  if (std::all_of(columns_.begin(), columns_.end(), [](const Column& c) { return c.group.empty(); }))
    return "";
  std::vector<LineCell> cells;
  for (std::size_t first = 0; first < columns_.size();) {
    std::size_t end = first, span = 0;
    while (end < columns_.size() && columns_[end].group == columns_[first].group)
      span += widths[end++] + kGap;
    cells.push_back({columns_[first].group, Style::heading, Align::left, span - kGap});
    first = end;
  }
  return line_of(cells, color);
}

std::string Table::render(bool color) const {
  const std::vector<std::size_t> width = widths();
  std::string result = group_line(width, color);
  std::vector<LineCell> header, rule;
  std::vector<std::string> rules;
  rules.reserve(width.size());
  for (const std::size_t w : width) rules.emplace_back(w, '-');
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    header.push_back({columns_[c].header, Style::heading, columns_[c].align, width[c]});
    rule.push_back({rules[c], Style::faint, Align::left, width[c]});
  }
  result += line_of(header, color) + line_of(rule, color);
  for (const auto& row : rows_) {
    std::vector<LineCell> cells;
    for (std::size_t c = 0; c < columns_.size(); ++c)
      cells.push_back({row[c].text, row[c].style, columns_[c].align, width[c]});
    result += line_of(cells, color);
  }
  return result;
}

std::string Table::html(const std::string& kind) const {
  std::string groups, headers, result;
  const auto side = [&](std::size_t c) {
    return columns_[c].align == Align::right ? " class=\"right\"" : "";
  };
  for (std::size_t first = 0; first < columns_.size();) {
    std::size_t end = first;
    while (end < columns_.size() && columns_[end].group == columns_[first].group) ++end;
    groups += fmt::format("<th class=\"group\" colspan=\"{}\">{}</th>", end - first,
                          escaped(columns_[first].group));
    first = end;
  }
  for (std::size_t c = 0; c < columns_.size(); ++c)
    headers += fmt::format("<th{}>{}</th>", side(c), escaped(columns_[c].header));
  result = fmt::format("<table class=\"{}\">\n<thead><tr>{}</tr>\n<tr>{}</tr></thead>\n<tbody>\n", kind,
                       groups, headers);
  for (const auto& row : rows_) {
    result += "<tr>";
    for (std::size_t c = 0; c < columns_.size(); ++c)
      result += fmt::format("<td{}>{}</td>", side(c), escaped(row[c].text));
    result += "</tr>\n";
  }
  return result + "</tbody>\n</table>\n";
}

}  // namespace eplora
