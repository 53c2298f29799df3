// SPDX-License-Identifier: Apache-2.0
// A sheet that pictures are drawn on, and the SVG text it becomes: words, boxes, lines, patterns that still
// tell things apart in black and white. The same drawing serves as a file of its own, on white, and as a part
// of a page that may be dark.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace eplora {

enum class SvgUse : std::uint8_t {
  file,  ///< a whole document on a white ground
  page   ///< inline in HTML: ground transparent, ink from the page's style (--ink, --soft, --line)
};

/// `plain` and `soft` follow the page; `on_color` and `on_color_soft` stand on coloured boxes and stay dark.
enum class Ink : std::uint8_t { plain, soft, on_color, on_color_soft };

enum class Pattern : std::uint8_t {
  replica,  ///< diagonal lines
  padding,  ///< a grid of crosses
  shared    ///< dots
};

/// OKLCH -> "#rrggbb": equal lightness looks equally light in every hue (B. Ottosson, "A perceptual color
/// space").
std::string oklch(double lightness, double chroma, double degrees);

/// Width that `text` takes in the widest of the sheet's faces (DejaVu Sans, bold), so that what fits by this
/// number fits.
double text_width(const std::string& text, double size);
/// The largest type, at most `most`, in which `text` takes no more than `room`.
double fitting_size(const std::string& text, double room, double most);

/// `text` as character data of XML and HTML.
std::string escaped(const std::string& text);

class SvgCanvas {
 public:
  explicit SvgCanvas(SvgUse use) : use_(use) {}

  struct TextStyle {
    double size = 12;
    const char* anchor = "start";
    Ink ink = Ink::plain;
    int weight = 400;
    double turn = 0;        ///< degrees
    std::string halo = {};  ///< colour drawn around the letters; empty = none
  };
  void text(double x, double y, const std::string& words, const TextStyle& style);
  /// Words from `x` on in lines of at most `room`, the first on `y`; returns the line after the last.
  double paragraph(double x, double y, double room, const std::string& words, const TextStyle& style);

  /// What is drawn until `end_mark` belongs to these ranks: on a page it lights up with them, and `about` is
  /// what a pointer on it reads. A file has neither.
  void begin_mark(const std::vector<std::int32_t>& ranks, const std::string& about);
  void end_mark();

  /// A rounded rectangle filled with a colour, without an outline.
  void box(double x, double y, double w, double h, const std::string& fill, double radius = 4);
  void patterned(double x, double y, double w, double h, Pattern pattern, double radius = 0);
  enum class Outline : std::uint8_t { solid, dashed, faint };
  void outline(double x, double y, double w, double h, Outline kind, double radius = 4);
  /// A line from one point to the other; `width` in pixels. `arrow` ends it with a head.
  void line(double x1, double y1, double x2, double y2, Ink ink, double width, bool arrow = false);
  /// Thin rules from `y` downwards on coloured boxes.
  void rules(const std::vector<double>& xs, double y, double h);
  /// A smooth way from left to right, with an arrow head.
  void flow(double x1, double y1, double x2, double y2);

  std::string document(double width, double height, const std::string& title) const;
  /// The patterns that every picture of a page refers to: stands once on it.
  static std::string page_patterns();

 private:
  std::string color(Ink ink) const;
  SvgUse use_;
  std::string body_;
};

}  // namespace eplora
