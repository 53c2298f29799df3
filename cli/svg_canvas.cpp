// SPDX-License-Identifier: Apache-2.0
#include "cli/svg_canvas.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace eplora {
namespace {

constexpr const char* kDark = "#1f2430";
constexpr const char* kDarkSoft = "#3c4454";
constexpr const char* kSoft = "#5b6375";

constexpr const char* kFont = "Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif";

/// Lines are dark on coloured boxes, so one set serves light and dark pages.
constexpr const char* kPatterns =
    "<defs>\n"
    "<pattern id=\"replica\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" "
    "patternTransform=\"rotate(45)\"><line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"7\" stroke=\"#1f2430\" "
    "stroke-opacity=\"0.55\" stroke-width=\"2.4\"/></pattern>\n"
    "<pattern id=\"padding\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">"
    "<rect width=\"6\" height=\"6\" fill=\"#ffffff\" fill-opacity=\"0.72\"/>"
    "<path d=\"M1 1 L5 5 M5 1 L1 5\" stroke=\"#1f2430\" stroke-opacity=\"0.75\" stroke-width=\"0.9\"/>"
    "</pattern>\n"
    "<pattern id=\"shared\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">"
    "<circle cx=\"3\" cy=\"3\" r=\"1.25\" fill=\"#1f2430\" fill-opacity=\"0.6\"/></pattern>\n"
    "</defs>\n";

const char* id_of(Pattern pattern) {
  return pattern == Pattern::replica ? "replica" : pattern == Pattern::padding ? "padding" : "shared";
}

}  // namespace

std::string oklch(double lightness, double chroma, double degrees) {
  const double a = chroma * std::cos(degrees * M_PI / 180), b = chroma * std::sin(degrees * M_PI / 180);
  const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
  const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
  const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
  const double linear[3] = {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
                            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
                            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
  std::string color = "#";
  for (const double value : linear) {
    const double v = std::clamp(value, 0.0, 1.0);
    const double encoded = v <= 0.0031308 ? 12.92 * v : 1.055 * std::pow(v, 1 / 2.4) - 0.055;
    color += fmt::format("{:02x}", static_cast<int>(std::lround(encoded * 255)));
  }
  return color;
}

double text_width(const std::string& text, double size) {
  double ems = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0) == 0x80) continue;  // not the first byte of a letter
    if (std::string_view(" .,:;'|ijlI()[]").find(c) != std::string_view::npos)
      ems += 0.44;
    else if (std::string_view("mwMW@+=<>").find(c) != std::string_view::npos)
      ems += 1.0;
    else
      ems += 'A' <= c && c <= 'Z' ? 0.8 : 0.7;
  }
  return ems * size;
}

double fitting_size(const std::string& text, double room, double most) {
  return text.empty() ? most : std::min(most, room / text_width(text, 1));
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '"')
      result += "&quot;";
    else
      result += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? '?' : c;  // not XML
  }
  return result;
}

std::string SvgCanvas::color(Ink ink) const {
  if (ink == Ink::on_color) return kDark;
  if (ink == Ink::on_color_soft) return kDarkSoft;
  if (use_ == SvgUse::page) return ink == Ink::plain ? "var(--ink)" : "var(--soft)";
  return ink == Ink::plain ? kDark : kSoft;
}

void SvgCanvas::text(double x, double y, const std::string& words, const TextStyle& style) {
  const std::string anchor =
      std::string_view(style.anchor) == "start" ? "" : fmt::format(" text-anchor=\"{}\"", style.anchor);
  const std::string weight = style.weight == 400 ? "" : fmt::format(" font-weight=\"{}\"", style.weight);
  const std::string rotate =
      style.turn == 0 ? "" : fmt::format(" transform=\"rotate({:.0f} {:.1f} {:.1f})\"", style.turn, x, y);
  const std::string halo = style.halo.empty()
                               ? ""
                               : fmt::format(
                                     " stroke=\"{}\" stroke-width=\"{:.1f}\" stroke-linejoin=\"round\" "
                                     "paint-order=\"stroke\"",
                                     style.halo, std::max(3.0, style.size * 0.32));
  body_ += fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{:.3g}\" style=\"fill:{}\"{}{}{}{}>{}</text>\n", x, y,
      style.size, color(style.ink), anchor, weight, halo, rotate, escaped(words));
}

double SvgCanvas::paragraph(double x, double y, double room, const std::string& words,
                            const TextStyle& style) {
  const double line = std::round(1.5 * style.size);
  const double regular = style.weight < 600 ? 0.88 : 1.0;  // words of a text are narrower than bold ones
  std::string held;
  for (std::size_t begin = 0; begin < words.size();) {
    const std::size_t end = std::min(words.find(' ', begin + 1), words.size());
    const std::string more = words.substr(begin, end - begin);
    if (!held.empty() && regular * text_width(held + more, style.size) > room) {
      text(x, y, held, style);
      y += line;
      held.clear();
    }
    held += held.empty() ? more.substr(std::min(more.find_first_not_of(' '), more.size())) : more;
    begin = end;
  }
  text(x, y, held, style);
  return y + line;
}

void SvgCanvas::begin_mark(const std::vector<std::int32_t>& ranks, const std::string& about) {
  if (use_ == SvgUse::file) return;
  body_ += fmt::format("<g class=\"mark\" data-ranks=\"{}\"><title>{}</title>\n", fmt::join(ranks, " "),
                       escaped(about));
}

void SvgCanvas::end_mark() {
  if (use_ == SvgUse::page) body_ += "</g>\n";
}

void SvgCanvas::rules(const std::vector<double>& xs, double y, double h) {
  if (xs.empty()) return;
  std::string path;
  for (const double x : xs) path += fmt::format("M{:.1f} {:.1f}v{:.1f}", x, y, h);
  body_ += fmt::format(
      "<path d=\"{}\" stroke=\"{}\" stroke-opacity=\"0.28\" stroke-width=\"0.8\" fill=\"none\"/>\n", path,
      kDark);
}

void SvgCanvas::box(double x, double y, double w, double h, const std::string& fill, double radius) {
  body_ += fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"{:g}\" fill=\"{}\"/>\n", x, y,
      w, h, radius, fill);
}

void SvgCanvas::patterned(double x, double y, double w, double h, Pattern pattern, double radius) {
  box(x, y, w, h, fmt::format("url(#{})", id_of(pattern)), radius);
}

void SvgCanvas::outline(double x, double y, double w, double h, Outline kind, double radius) {
  const std::string stroke = kind == Outline::solid
                                 ? fmt::format("stroke:{};stroke-width:1.4", color(Ink::plain))
                                 : fmt::format("stroke:{};stroke-width:1.1;stroke-dasharray:{}",
                                               color(Ink::soft), kind == Outline::dashed ? "5 4" : "2 3");
  body_ += fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"{:g}\" fill=\"none\" "
      "style=\"{}\"/>\n",
      x, y, w, h, radius, stroke);
}

void SvgCanvas::line(double x1, double y1, double x2, double y2, Ink ink, double width, bool arrow) {
  body_ += fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" style=\"stroke:{}\" "
      "stroke-width=\"{:g}\"/>\n",
      x1, y1, x2, y2, color(ink), width);
  if (arrow)
    body_ +=
        fmt::format("<path d=\"M{0:.1f} {1:.1f} l-8 -4 l0 8 z\" style=\"fill:{2}\"/>\n", x2, y2, color(ink));
}

void SvgCanvas::flow(double x1, double y1, double x2, double y2) {
  const double middle = (x1 + x2) / 2;
  body_ += fmt::format(
      "<path d=\"M{0:.1f} {1:.1f} C{2:.1f} {1:.1f} {2:.1f} {3:.1f} {4:.1f} {3:.1f}\" fill=\"none\" "
      "style=\"stroke:{5}\" stroke-width=\"1.3\"/>\n<path d=\"M{6:.1f} {3:.1f} l-8 -4 l0 8 z\" "
      "style=\"fill:{5}\"/>\n",
      x1, y1, middle, y2, x2 - 6, color(Ink::soft), x2);
}

std::string SvgCanvas::document(double width, double height, const std::string& title) const {
  const std::string head = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" font-family=\"{2}\">\n<title>{3}</title>\n",
      width, height, kFont, escaped(title));
  if (use_ == SvgUse::page) return head + body_ + "</svg>\n";
  return head + kPatterns + "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n" + body_ + "</svg>\n";
}

std::string SvgCanvas::page_patterns() {
  return std::string("<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\">") +
         kPatterns + "</svg>\n";
}

}  // namespace eplora
