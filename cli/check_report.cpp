// SPDX-License-Identifier: Apache-2.0
#include "cli/check_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/check_picture.h"
#include "cli/formats/atomic_file.h"

namespace eplora {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --ink: #1c2330; --soft: #566072; --paper: #ffffff; --tint: #f5f6f9; --line: #d3d8e2;
  --rule: #b9bfca; --bad: #b3261e; --good: #1a6b3c; --caution: #855300; }
* { box-sizing: border-box; }
body { font: 15px/1.55 system-ui, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 1040px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 10px; }
h3 { font-size: 16px; margin: 0 0 2px; overflow-wrap: anywhere; }
code, .mono { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
p { margin: 6px 0; } .soft, .legend, figcaption { color: var(--soft); font-size: 13px; }
table { border-collapse: collapse; font-size: 14px; margin: 8px 0; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } .matrix { width: 100%; } .matrix td:first-child { overflow-wrap: anywhere; }
.verdict { font-weight: 700; white-space: nowrap; } .held { color: var(--good); } .violated, .flaky { color: var(--bad); }
.skipped, .gave, .interrupted { color: var(--caution); font-weight: 400; }
.finding { border: 1px solid var(--line); border-left: 5px solid var(--bad); border-radius: 6px; padding: 18px 20px;
  margin: 18px 0; break-inside: avoid-page; }
.sentence { font-size: 17px; margin: 10px 0; } .facts { width: 100%; } .facts th { width: 9.5em; white-space: nowrap; }
.values { font: 13px/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; background: var(--paper); }
.values caption { text-align: left; font: 600 14px system-ui, "DejaVu Sans", sans-serif; padding-bottom: 4px; }
.values th, .values td { border: 1px solid var(--rule); padding: 3px 9px; text-align: right; }
.values th { background: var(--tint); font-weight: 600; }
.values .wrong { outline: 3px solid var(--bad); outline-offset: -2px; color: var(--bad); font-weight: 700; }
.values .word { border: none; color: var(--bad); font-weight: 700; text-align: left; white-space: nowrap; }
figure { margin: 14px 0 6px; border: 1px solid var(--line); border-radius: 6px; padding: 14px; }
.scroll { overflow-x: auto; } .picture { display: block; max-width: none; } .pair { display: flex; flex-wrap: wrap; gap: 28px; overflow-x: auto; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #a3acbb; --paper: #14171d;
  --tint: #1f242d; --line: #39414f; --rule: #4a5260; --bad: #ff8a80; --good: #7bd69b; --caution: #f0bf6a; } }
@media print { :root { --ink: #000; --soft: #333; --paper: #fff; --bad: #000; --good: #000; --caution: #000; --line: #888;
  --rule: #888; }
  body { max-width: none; padding: 0; font-size: 12px; } .picture { max-width: 100%; height: auto; } }
)css";

std::string capitals_where_it_failed(const suite::Outcome& outcome) {
  std::string word(suite::to_string(outcome.status));
  if (outcome.failed())
    std::transform(word.begin(), word.end(), word.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return word;
}

std::string verdict_html(const suite::Outcome& outcome) {
  const std::string word(suite::to_string(outcome.status));
  return fmt::format("<span class=\"verdict {}\">{}</span>", word.substr(0, word.find(' ')),
                     capitals_where_it_failed(outcome));
}

/// Lines of cells separated by " | " as a table; anything else as it stands.
std::string table_html(const std::string& text) {
  if (text.find(" | ") == std::string::npos) return "";
  std::string html = "<div class=\"scroll\"><table class=\"values\">\n";
  bool head = true;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    line.erase(0, line.find_first_not_of(' '));
    html += "<tr>";
    for (std::size_t from = 0; from <= line.size();) {
      const std::size_t bar = std::min(line.find(" | ", from), line.size());
      html += fmt::format("<{0}>{1}</{0}>", head ? "th" : "td", html_escaped(line.substr(from, bar - from)));
      from = bar == line.size() ? bar + 1 : bar + 3;
    }
    html += "</tr>\n";
    head = false;
    begin = end + 1;
  }
  return html + "</table></div>\n";
}

std::string fact(const std::string& name, const std::string& value, bool mono) {
  if (value.empty()) return "";
  return fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", name,
                     mono ? "<code>" + html_escaped(value) + "</code>" : html_escaped(value));
}

std::string finding_html(const suite::Outcome& outcome, std::size_t number) {
  const suite::Counterexample& found = *outcome.counterexample;
  std::string html =
      fmt::format("<section class=\"finding\" id=\"f{}\">\n<h3>{}</h3>\n<p class=\"soft\">{} on {}: {}</p>\n",
                  number, html_escaped(outcome.property.full_name()), found.contract,
                  html_escaped(outcome.backend), verdict_html(outcome));
  html += fmt::format("<p class=\"sentence\">{}</p>\n", html_escaped(found.sentence));
  html += "<table class=\"facts\">\n";
  html += fact("the law", outcome.property.sentence, false);
  html += fact("expected", found.expected, true);
  html += fact("found", found.found, true);
  html += fact("how often", suite::how_often(found), false);
  html += fact("smallest case", found.summary, true);
  html += "</table>\n" + table_html(found.table) + picture_html(found.picture);
  html += "<table class=\"facts\">\n";
  html += fact(
      "found in",
      fmt::format("case {}, made smaller {} times; seed {}", found.after_cases, found.shrinks, outcome.seed),
      false);
  html += fact("JSON file", found.shrunk_path, true);
  html += fact("as found", found.unshrunk_path, true);
  html += fact("replay with", found.replay, true);
  return html + "</table>\n</section>\n";
}

std::string backends_html(const ReportPage& page) {
  std::string html =
      "<h2>What was judged</h2>\n<table><tr><th>backend</th><th>offers</th><th>declares</th></tr>\n";
  for (const ReportedBackend& b : page.backends)
    html += fmt::format(
        "<tr><td><b>{}</b><br><span class=\"soft\">{}</span></td><td>{} in {} memory{}</td><td>form: {}; "
        "{}</td></tr>\n",
        html_escaped(b.name), html_escaped(b.description), html_escaped(b.offered), b.memory,
        b.lacking.empty() ? "" : "; does not offer " + html_escaped(b.lacking), html_escaped(b.form),
        html_escaped(b.determinism));
  return html +
         "</table>\n<p class=\"soft\">What a backend declares it does not promise is not asked of it, and "
         "stands below as "
         "skipped. Everything else it must keep.</p>\n";
}

std::string matrix_html(const ReportPage& page) {
  std::vector<std::string> names;
  std::map<std::string, std::map<std::string, std::vector<std::pair<const suite::Outcome*, std::size_t>>>>
      cells;
  std::size_t number = 0;
  for (const suite::Outcome& outcome : page.outcomes) {
    const std::string name = outcome.property.full_name();
    if (!cells.contains(name)) names.push_back(name);
    cells[name][outcome.backend].emplace_back(&outcome, outcome.counterexample ? ++number : 0);
  }
  std::string html =
      "<h2>Every property</h2>\n<table class=\"matrix\"><tr><th>property</th><th>contract</th>";
  for (const ReportedBackend& backend : page.backends) html += "<th>" + html_escaped(backend.name) + "</th>";
  html += "</tr>\n";
  for (const std::string& name : names) {
    const suite::Outcome& any = *cells[name].begin()->second.front().first;
    html += fmt::format("<tr><td>{}<br><span class=\"soft\">{}</span></td><td>{}</td>", html_escaped(name),
                        html_escaped(any.property.sentence),
                        any.property.contract.empty() ? "reference" : any.property.contract);
    for (const ReportedBackend& backend : page.backends) {
      html += "<td>";
      for (const auto& [outcome, at] : cells[name][backend.name]) {
        html += at > 0 ? fmt::format("<a href=\"#f{}\">{}</a>", at, verdict_html(*outcome))
                       : verdict_html(*outcome);
        html += outcome->reason.empty()
                    ? fmt::format(" <span class=\"soft\">{} {}</span><br>", outcome->cases,
                                  outcome->cases == 1 ? "case" : "cases")
                    : fmt::format(" <span class=\"soft\">{}</span><br>", html_escaped(outcome->reason));
      }
      html += "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

}  // namespace

ReportedBackend reported(const Backend& backend) {
  ReportedBackend words;
  words.name = backend.name();
  words.description = backend.description();
  for (const Operation operation : kOperations) {
    std::string& list = backend.supports(operation) ? words.offered : words.lacking;
    list += (list.empty() ? "" : ", ") + std::string(to_string(operation));
  }
  words.memory = to_string(backend.memory_space());
  words.form = contract::to_string(backend.form());
  words.determinism = contract::determinism_note(backend.form());
  return words;
}

std::string report_html(const ReportPage& page) {
  std::map<suite::Status, std::size_t> count;
  std::int64_t cases = 0;
  for (const suite::Outcome& outcome : page.outcomes) ++count[outcome.status], cases += outcome.cases;
  const std::size_t violated = count[suite::Status::violated], flaky = count[suite::Status::flaky];
  std::string names;
  for (const ReportedBackend& backend : page.backends) names += (names.empty() ? "" : ", ") + backend.name;
  std::string title = violated + flaky > 0
                          ? fmt::format("{} {} violated", violated + flaky,
                                        violated + flaky == 1 ? "property is" : "properties are")
                      : count[suite::Status::held] > 0 ? "No violation found"
                                                       : "Nothing was judged";
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>{}: "
      "{}</title>\n<style>{}</style>\n</head>\n<body>\n",
      html_escaped(names), title, kStyle);
  html += fmt::format(
      "<p class=\"soft\">eplora check</p>\n<h1>{}: {}</h1>\n<p>{} violated, {} flaky, {} held, {} skipped or "
      "gave up{}; {} cases; seed {}</p>\n",
      html_escaped(names), title, violated, flaky, count[suite::Status::held],
      count[suite::Status::skipped] + count[suite::Status::gave_up],
      page.not_reached > 0 ? fmt::format(", {} not reached in the time given", page.not_reached) : "", cases,
      page.seed);
  if (flaky > 0)
    html +=
        "<p><b>Flaky</b> means: equal inputs, results that differ from run to run. Look for memory nobody "
        "wrote, a race, an order that is "
        "not fixed.</p>\n";
  for (const std::string& note : page.notes) html += "<p>" + html_escaped(note) + "</p>\n";
  std::size_t number = 0;
  std::string findings;
  for (const suite::Outcome& outcome : page.outcomes)
    if (outcome.counterexample) findings += finding_html(outcome, ++number);
  if (number > 0) html += "<h2>Counterexamples</h2>\n" + findings;
  html += backends_html(page) + matrix_html(page);
  return html + "</body>\n</html>\n";
}

void write_report(const std::filesystem::path& path, const ReportPage& page) {
  write_text_file(path, report_html(page));
}

}  // namespace eplora
