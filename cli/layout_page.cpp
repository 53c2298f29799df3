// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_page.h"

#include <fmt/format.h>

#include "cli/layout_svg.h"
#include "cli/layout_text.h"
#include "cli/token_path_picture.h"

namespace eplora {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --ink: #1f2430; --soft: #5b6375; --paper: #ffffff; --tint: #f4f5f8; --line: #d9dde6;
  --lit: #d6336c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf2; --soft: #a6aebd; --paper: #14171d; --tint: #1c2129;
  --line: #353c49; --lit: #ff8fb1; } }
* { box-sizing: border-box; }
body { font: 15px/1.6 Inter, system-ui, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 1200px; margin: 0 auto; padding: 40px 24px 72px; }
header p { margin: 0; color: var(--soft); }
h1 { font-size: 30px; line-height: 1.25; margin: 2px 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 48px 0 6px; } h3 { font-size: 16px; margin: 24px 0 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 20px; margin: 14px 0 0; }
dt { color: var(--soft); } dd { margin: 0; }
.soft { color: var(--soft); font-size: 13.5px; margin: 0 0 8px; max-width: 70em; }
.scroll { overflow: auto; max-height: 640px; border: 1px solid var(--line); border-radius: 8px; }
figure { margin: 10px 0; overflow-x: auto; } figure svg { display: block; max-width: 100%; height: auto; min-width: 720px; }
table { border-collapse: separate; border-spacing: 0; font-size: 13.5px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: 4px 14px; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { position: sticky; top: 0; background: var(--tint); font-weight: 600; z-index: 1; }
thead tr:nth-child(2) th { top: 30px; } thead .group { color: var(--soft); font-weight: 400; height: 30px; }
.right { text-align: right; } tbody tr:last-child td { border-bottom: none; }
tbody tr.lit td { background: color-mix(in srgb, var(--lit) 16%, transparent); }
.mark { cursor: default; } .mark.lit > rect:first-of-type { stroke: var(--lit); stroke-width: 3px; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; overflow-x: auto;
  font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
@media print { :root { --ink: #000; --soft: #333; --paper: #fff; --line: #999; } .scroll { max-height: none; } }
)css";

/// A rank lights up everywhere when the pointer is on it; without scripts the page is as complete.
constexpr const char* kScript = R"js(
for (const row of document.querySelectorAll("table.ranks tbody tr")) row.dataset.ranks = row.cells[0].textContent;
const marks = [...document.querySelectorAll("[data-ranks]")].map(e => [e, new Set(e.dataset.ranks.split(" "))]);
for (const [element, ranks] of marks) {
  element.addEventListener("pointerenter", () => {
    for (const [other, theirs] of marks) other.classList.toggle("lit", [...ranks].some(rank => theirs.has(rank)));
  });
  element.addEventListener("pointerleave", () => { for (const [other] of marks) other.classList.remove("lit"); });
}
)js";

std::string fact(const std::string& name, const std::string& words) {
  return words.empty() ? "" : fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, escaped(words));
}

std::string facts(const LayoutView& view) {
  const Deployment& d = view.deployment;
  std::string html = "<dl>\n" + fact("ranks", fmt::format("{}", d.num_ranks));
  html += fact("outside the experts", attention_sentence(view));
  for (const LayerClass& c : d.classes) {
    const std::string of = d.classes.size() > 1 ? "class " + escaped(c.spec.name) : "experts";
    html += fact(of, layers_sentence(view, c) + "; " + c.spec.grid + ": " + class_sentence(view, c));
    html += fact("shared experts", shared_sentence(view, c));
    html += fact("recombine", describe_recombination(c));
  }
  return html + "</dl>\n";
}

std::string paths_html(const LayoutView& view) {
  if (view.paths.empty()) return "";
  std::string html =
      "<h2>The way of one token</h2>\n<p class=\"soft\">From where it stands, to the ranks that compute its "
      "experts, and back.</p>\n";
  for (std::size_t c = 0; c < view.paths.size(); ++c) {
    if (view.paths.size() > 1)
      html += fmt::format("<h3>Class {}</h3>\n", escaped(view.deployment.classes[c].spec.name));
    html += "<figure>\n" + token_path_svg(view, c) + "</figure>\n<pre>" +
            escaped(token_path_text(view, c, false)) + "</pre>\n";
  }
  return html;
}

}  // namespace

std::string layout_page(const LayoutView& view) {
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>Layout {}</title>\n<style>{}</style>\n"
      "</head>\n<body>\n{}<header>\n<p>eplora layout show</p>\n<h1>{}</h1>\n{}</header>\n",
      escaped(view.title), kStyle, SvgCanvas::page_patterns(), escaped(view.title), facts(view));
  html +=
      "<h2>Who owns what</h2>\n<p class=\"soft\">Experts from left to right, columns of the intermediate "
      "size "
      "from top to bottom; a number is a rank.</p>\n<figure>\n" +
      layout_svg(view, SvgUse::page) + "</figure>\n";
  html += paths_html(view) + "<h2>Every rank</h2>\n";
  for (const NamedTable& one : rank_tables(view)) {
    if (!one.name.empty()) html += "<h3>" + escaped(one.name) + "</h3>\n";
    html += "<div class=\"scroll\">\n" + one.table.html("ranks") + "</div>\n";
  }
  return html + "<script>" + kScript + "</script>\n</body>\n</html>\n";
}

}  // namespace eplora
