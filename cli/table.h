// SPDX-License-Identifier: Apache-2.0
// An aligned table for people: text to the left, numbers to the right, a rule under the header, an optional
// line above it that names groups of columns. Colour says nothing that the words do not say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace eplora {

enum class ColorMode : std::uint8_t { automatic, always, never };

/// Whether stdout gets colour: `always`, or `automatic` on a terminal with NO_COLOR unset or empty and TERM
/// not "dumb".
bool use_color(ColorMode mode);

enum class Style : std::uint8_t { plain, good, bad, caution, faint, heading };

/// `text` in the terminal's escape sequences for `style` when `color` is on, else `text`.
std::string styled(const std::string& text, Style style, bool color);

struct Cell {
  std::string text;
  Style style = Style::plain;
  Cell(std::string text_, Style style_ = Style::plain) : text(std::move(text_)), style(style_) {}
  Cell(const char* text_, Style style_ = Style::plain) : text(text_), style(style_) {}
};

class Table {
 public:
  enum class Align : std::uint8_t { left, right };

  /// Columns that follow each other with the same non-empty `group` share a line above their headers.
  Table& column(std::string header, Align align = Align::left, std::string group = "");
  /// Throws `std::logic_error` unless there is one cell per column.
  void row(std::vector<Cell> cells);
  bool empty() const { return rows_.empty(); }

  /// All lines, each ending in a newline; no trailing blanks.
  std::string render(bool color) const;
  /// The same as an HTML table of that class, groups and headers in its head.
  std::string html(const std::string& kind) const;

 private:
  struct Column {
    std::string header, group;
    Align align;
  };
  std::vector<std::size_t> widths() const;
  std::string group_line(const std::vector<std::size_t>& widths, bool color) const;
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace eplora
