// SPDX-License-Identifier: Apache-2.0
#include "cli/check_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/svg_canvas.h"

namespace eplora {
namespace {

using Json = nlohmann::json;

constexpr double kCell = 30, kCellHeight = 26, kGap = 14, kHead = 24, kWidth = 920;

/// In every picture, so that it can be taken out of the page as it is.
constexpr const char* kStyle = R"css(
svg.picture { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 13px; }
.picture text { fill: #1c2330; }
.picture .heading { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 14px; font-weight: 600; }
.picture .note, .picture .note-left { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 12px; fill: #566072; }
.picture .small { font-size: 11px; text-anchor: middle; fill: #566072; }
.picture .label { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 12px; font-weight: 600; text-anchor: middle; }
.picture .number { text-anchor: middle; }
.picture .block { stroke: #566072; stroke-width: 1.2; }
.picture .bucket { fill: #dbe7fb; }
.picture .sentinel { fill: #ececf0; stroke: #8d95a3; }
.picture .unused { fill: none; stroke: #8d95a3; stroke-dasharray: 4 3; }
.picture .slot { fill: #ffffff; stroke: #8d95a3; }
.picture .padding { fill: #f4f4f6; stroke: #b9bfca; }
.picture .hatch { stroke: #9aa2b1; stroke-width: 1.6; }
.picture .wrong-outline { fill: none; stroke: #b3261e; stroke-width: 3.2; }
.picture .wrong-cell { fill: none; stroke: #b3261e; stroke-width: 2; }
.picture .wrong-text { fill: #b3261e; font-weight: 700; }
.picture .wrong-word { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 13px; font-weight: 700; fill: #b3261e; }
@media screen and (prefers-color-scheme: dark) {
.picture text { fill: #e7eaf0; } .picture .note, .picture .note-left, .picture .small { fill: #a3acbb; }
.picture .block { stroke: #98a2b3; } .picture .bucket { fill: #24406b; } .picture .sentinel { fill: #2c323d; }
.picture .sentinel, .picture .slot { stroke: #8a94a4; } .picture .slot { fill: #14171d; }
.picture .padding { fill: #1f242d; stroke: #59626f; } .picture .hatch { stroke: #6b7585; }
.picture .wrong-outline, .picture .wrong-cell { stroke: #ff8a80; }
.picture .wrong-text, .picture .wrong-word { fill: #ff8a80; } }
)css";

std::string text_at(double x, double y, const std::string& kind, const std::string& text) {
  return fmt::format("<text class=\"{}\" x=\"{:g}\" y=\"{:g}\">{}</text>\n", kind, x, y, html_escaped(text));
}
std::string box(double x, double y, double w, double h, const std::string& kind) {
  return fmt::format("<rect class=\"{}\" x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\" rx=\"3\"/>\n",
                     kind, x, y, w, h);
}

/// `text` is its own description for those who hear the page.
std::string svg(double width, double height, const std::string& title, const std::string& body) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"picture\" role=\"img\" viewBox=\"0 0 {0:g} {1:g}\" "
      "width=\"{0:g}\" height=\"{1:g}\">\n<title>{2}</title>\n<style>{4}</style>\n<defs><pattern "
      "id=\"hatch\" width=\"6\" "
      "height=\"6\" "
      "patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><line class=\"hatch\" x1=\"0\" "
      "y1=\"0\" "
      "x2=\"0\" y2=\"6\"/></pattern></defs>\n{3}</svg>\n",
      width, height, html_escaped(title), body, kStyle);
}

/// One side of a blocks figure: what stands in memory, block by block.
class Row {
 public:
  Row(const Json& figure, const char* which)
      : figure_(figure),
        side_(figure.at(which)),
        other_(figure.at(which == std::string("found") ? "expected" : "found")),
        judged_(which == std::string("found")),
        B_(figure.at("block_size").get<std::int64_t>()),
        columns_(std::clamp<std::int64_t>(B_, 1,
                                          B_ <= 4    ? B_
                                          : B_ <= 16 ? 4
                                                     : 8)) {
    cells_ = std::min<std::int64_t>(B_, 32);
    block_width_ = std::max(static_cast<double>(columns_) * kCell + 8, 86.0);
    const std::int64_t rows = (cells_ + columns_ - 1) / columns_;
    block_height_ = kHead + static_cast<double>(rows) * kCellHeight + 8;
  }

  /// Draws from `y` downwards and returns where it ends.
  double draw(double y, std::string& out) {
    const auto blocks = static_cast<std::int64_t>(side_.at("labels").size());
    const std::int64_t first = figure_.at("first_block").get<std::int64_t>();
    const std::int64_t length = side_.at("length").get<std::int64_t>();
    out += text_at(0, y + 14, "heading", judged_ ? "found" : "expected");
    out += text_at(judged_ ? 58 : 80, y + 14, "note", heading(length, first, blocks));
    y += 26;
    double x = 0;
    bool any_wrong = false, said = false;
    if (blocks == 0) {
      out += text_at(0, y + 16, "note", "no block at all");
      return y + 34;
    }
    for (std::int64_t b = 0; b < blocks; ++b) {
      if (x + block_width_ > kWidth) {
        x = 0;
        y += block_height_ + (any_wrong ? 46 : 28);
        any_wrong = false;
      }
      const bool wrong = judged_ && is_wrong(b);
      block(x, y, b, (first + b) * B_ < length, wrong, out);
      out +=
          text_at(x + block_width_ / 2, y + block_height_ + 17, "small", fmt::format("block {}", first + b));
      if (wrong) {
        out += box(x - 4, y - 4, block_width_ + 8, block_height_ + 8, "wrong-outline");
        if (!said) out += text_at(x - 4, y + block_height_ + 36, "wrong-word", "▲ wrong here");
        said = any_wrong = true;
      }
      x += block_width_ + kGap;
    }
    return y + block_height_ + (any_wrong ? 50 : 31);
  }

 private:
  std::string heading(std::int64_t length, std::int64_t first, std::int64_t blocks) const {
    std::string text = fmt::format("num_tokens_post_padded = {}", length);
    if (judged_ && other_.at("length") != side_.at("length"))
      text += fmt::format(", expected {}: wrong", other_.at("length").get<std::int64_t>());
    const auto all = figure_.at("num_blocks").get<std::int64_t>();
    if (blocks < all) text += fmt::format("; blocks {} to {} of {}", first, first + blocks - 1, all);
    return text;
  }

  std::int64_t bucket_of(std::int64_t slot) const {
    const auto place = figure_.at("buckets").find(std::to_string(slot));
    return place == figure_.at("buckets").end() ? -1 : place->get<std::int64_t>();
  }

  /// In the canonical form every value counts; else what no form allows: a slot under another bucket's label.
  bool is_wrong_entry(std::int64_t b, std::int64_t i) const {
    const Json& entries = side_.at("entries");
    if (figure_.at("canonical").get<bool>()) {
      const Json& want = other_.at("entries");
      return static_cast<std::size_t>(b * B_ + i) >= want.size() || want[b * B_ + i] != entries[b * B_ + i];
    }
    const std::int64_t slot = entries[b * B_ + i].get<std::int64_t>(), label = side_.at("labels")[b];
    return 0 <= slot && slot < figure_.at("slots").get<std::int64_t>() &&
           bucket_of(slot) != std::max<std::int64_t>(label, -1);
  }
  bool is_wrong_label(std::int64_t b) const {
    const Json& want = other_.at("labels");
    return figure_.at("canonical").get<bool>() &&
           (static_cast<std::size_t>(b) >= want.size() || want[b] != side_.at("labels")[b]);
  }
  bool is_wrong(std::int64_t b) const {
    if (other_.is_null()) return false;
    if (is_wrong_label(b)) return true;
    for (std::int64_t i = 0; i < B_ && b * B_ + i < static_cast<std::int64_t>(side_.at("entries").size());
         ++i)
      if (is_wrong_entry(b, i)) return true;
    return false;
  }

  void block(double x, double y, std::int64_t b, bool used, bool wrong, std::string& out) const {
    const std::int64_t label = side_.at("labels")[b], n = figure_.at("slots").get<std::int64_t>();
    const std::string name = !used       ? fmt::format("unused ({})", label)
                             : label < 0 ? fmt::format("sentinel {}", label)
                                         : fmt::format("bucket {}", label);
    const std::string kind = !used ? "unused" : label < 0 ? "sentinel" : "bucket";
    out += box(x, y, block_width_, block_height_, "block " + kind);
    out += text_at(x + block_width_ / 2, y + 16, wrong && is_wrong_label(b) ? "label wrong-text" : "label",
                   name);
    const double left = x + (block_width_ - static_cast<double>(columns_) * kCell) / 2;
    for (std::int64_t i = 0; i < cells_ && b * B_ + i < static_cast<std::int64_t>(side_.at("entries").size());
         ++i) {
      const std::int64_t slot = side_.at("entries")[b * B_ + i];
      const double cx = left + static_cast<double>(i % columns_) * kCell;
      const std::int64_t row = i / columns_;
      const double cy = y + kHead + static_cast<double>(row) * kCellHeight;
      const bool is_slot = 0 <= slot && slot < n;
      out += box(cx + 1, cy + 1, kCell - 2, kCellHeight - 2, is_slot ? "slot" : "padding");
      if (!is_slot)
        out +=
            fmt::format("<rect x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\" fill=\"url(#hatch)\"/>\n",
                        cx + 2, cy + 2, kCell - 4, kCellHeight - 4);
      const bool bad = wrong && is_wrong_entry(b, i);
      if (is_slot || slot != n)
        out += text_at(cx + kCell / 2, cy + 17, bad ? "number wrong-text" : "number", short_number(slot));
      if (bad) out += box(cx + 1, cy + 1, kCell - 2, kCellHeight - 2, "wrong-cell");
    }
    if (cells_ < B_)
      out += text_at(x + block_width_ / 2, y + block_height_ - 3, "small", fmt::format("+ {}", B_ - cells_));
  }

  static std::string short_number(std::int64_t value) {
    const std::string text = std::to_string(value);
    return text.size() <= 4 ? text : "…" + text.substr(text.size() - 3);
  }

  const Json &figure_, &side_, &other_;
  bool judged_;
  std::int64_t B_, columns_, cells_ = 0;
  double block_width_ = 0, block_height_ = 0;
};

std::string blocks_html(const Json& figure) {
  std::string body;
  double y = Row(figure, "expected").draw(6, body);
  if (!figure.at("found").is_null())
    y = Row(figure, "found").draw(y + 8, body);
  else
    body += text_at(0, y + 14, "heading", "found: the process was lost before it could be read"), y += 26;
  std::string html = "<div class=\"scroll\">" +
                     svg(kWidth + 8, y + 4, "Blocks with their labels and slots, expected and found",
                         "<g transform=\"translate(5 0)\">" + body + "</g>") +
                     "</div>\n";
  html += fmt::format(
      "<p class=\"legend\">A box is a block of {} {}, its label on top; a number is a slot (slot s = "
      "token·{} + k); hatched is "
      "padding, with its value where that is not n = {}. {}</p>\n",
      figure.at("block_size").get<std::int64_t>(), figure.at("block_size") == 1 ? "entry" : "entries",
      figure.at("top_k").get<std::int64_t>(), figure.at("slots").get<std::int64_t>(),
      figure.at("canonical").get<bool>() ? ""
                                         : "The backend declares another form: expected is the canonical "
                                           "one, and only what no form allows is marked.");
  return html;
}

std::string cell_text(const Json& cell) { return cell.is_string() ? cell.get<std::string>() : cell.dump(); }

/// Panels of tokens x k side by side: the ids, what is expected, what was found.
std::string grid_html(const Json& figure) {
  const Json& rows = figure.at("rows");
  const std::size_t K = rows.empty() ? 0 : rows[0].at("input").size();
  std::size_t widest = 2;
  for (const Json& row : rows)
    for (const char* which : {"input", "expected", "found"})
      if (row.at(which).is_array())
        for (const Json& cell : row.at(which)) widest = std::max(widest, cell_text(cell).size());
  const double cell = std::max(44.0, 8.2 * static_cast<double>(widest) + 12), height = 28;
  const double left = 128, panel = std::max(static_cast<double>(K) * cell + 40, 130.0);
  std::string body;
  const char* kTitles[] = {"input ids", "expected", "found"};
  const char* kKeys[] = {"input", "expected", "found"};
  const double top = 46;
  body += text_at(0, top - 8, "note-left", "token");
  body += text_at(64, top - 8, "note-left", rows.empty() || rows[0].at("adapter") == "" ? "" : "adapter");
  bool lost = false;
  double end = left;
  for (std::size_t p = 0; p < 3; ++p) {
    const double x = left + static_cast<double>(p) * panel;
    body += text_at(x, 16, "heading", kTitles[p]);
    for (std::size_t k = 0; k < K; ++k)
      body += text_at(x + (static_cast<double>(k) + 0.5) * cell, top - 8, "small", fmt::format("k={}", k));
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const double y = top + static_cast<double>(r) * (height + 4);
      const Json& row = rows[r];
      if (p == 0) {
        body += text_at(0, y + 19, "number-left", row.at("label").dump());
        body += text_at(64, y + 19, "number-left", row.at("adapter").get<std::string>());
      }
      if (!row.at(kKeys[p]).is_array()) {
        lost = true;
        continue;
      }
      for (std::size_t k = 0; k < K; ++k) {
        const double cx = x + static_cast<double>(k) * cell;
        const bool padding = row.at("padding").get<bool>(), wrong = p == 2 && row.at("wrong")[k].get<bool>();
        const Json& value = row.at(kKeys[p])[k];
        const bool negative = value.is_number() && value.get<std::int64_t>() < 0;
        body += box(cx + 1, y, cell - 2, height,
                    padding && p == 0 ? "padding"
                    : negative        ? "sentinel"
                                      : "slot");
        if (padding && p == 0)
          body += fmt::format(
              "<rect x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\" fill=\"url(#hatch)\"/>\n", cx + 2,
              y + 1, cell - 4, height - 2);
        else
          body += text_at(cx + cell / 2, y + 19, wrong ? "number wrong-text" : "number", cell_text(value));
        if (wrong) body += box(cx - 1, y - 2, cell + 2, height + 4, "wrong-outline");
      }
      if (p == 2) {
        const bool any = std::any_of(row.at("wrong").begin(), row.at("wrong").end(),
                                     [](const Json& w) { return w.get<bool>(); });
        if (any) body += text_at(x + static_cast<double>(K) * cell + 8, y + 19, "wrong-word", "◀ wrong");
      }
    }
    end = x + panel;
  }
  if (lost) body += text_at(left + 2 * panel, top + 19, "note", "the process was lost");
  double bottom = top + static_cast<double>(rows.size()) * (height + 4) + 8;
  const auto tokens = figure.at("tokens").get<std::size_t>();
  if (tokens > rows.size()) {
    body += text_at(0, bottom + 10, "note-left", fmt::format("{} of {} tokens", rows.size(), tokens));
    bottom += 20;
  }
  return "<div class=\"scroll\">" +
         svg(std::max(end + 60, 400.0), bottom,
             "Tokens by k: " + figure.at("name").get<std::string>() + " expected and found",
             "<g transform=\"translate(3 0)\">" + body + "</g>") +
         "</div>\n";
}

/// Two tables, cells that differ outlined and said.
std::string pair_of_tables(const Json& figure, const std::vector<std::string>& head, bool row_numbers) {
  const Json& want = figure.at("expected");
  const Json& found = figure.at("found");
  const auto first_row = row_numbers ? figure.at("first_row").get<std::size_t>() : 0;
  std::string html = "<div class=\"pair\">\n";
  for (const bool judged : {false, true}) {
    html += fmt::format("<table class=\"values\"><caption>{}</caption>\n<tr>", judged ? "found" : "expected");
    if (row_numbers) html += "<th></th>";
    for (const std::string& name : head) html += "<th>" + html_escaped(name) + "</th>";
    html += "</tr>\n";
    const Json& rows = judged ? found : want;
    if (rows.is_null())
      html += fmt::format("<tr><td colspan=\"{}\">nothing could be read</td></tr>", head.size() + 1);
    bool said = false;
    for (std::size_t r = 0; rows.is_array() && r < rows.size(); ++r) {
      html += "<tr>";
      if (row_numbers) html += fmt::format("<th>{}</th>", first_row + r);
      bool wrong_row = false;
      for (std::size_t c = 0; c < rows[r].size(); ++c) {
        const bool wrong = judged && (r >= want.size() || c >= want[r].size() || want[r][c] != rows[r][c]);
        html += fmt::format("<td{}>{}</td>", wrong ? " class=\"wrong\"" : "",
                            html_escaped(rows[r][c].get<std::string>()));
        wrong_row |= wrong;
      }
      if (wrong_row) html += said ? "<td class=\"word\">◀</td>" : "<td class=\"word\">◀ wrong</td>";
      said |= wrong_row;
      html += "</tr>\n";
    }
    html += "</table>\n";
  }
  return html + "</div>\n";
}

std::string tensor_html(const Json& figure) {
  std::vector<std::string> head;
  const auto first = figure.at("first_col").get<std::size_t>();
  const std::size_t shown = figure.at("expected").empty() ? 0 : figure.at("expected")[0].size();
  for (std::size_t c = 0; c < shown; ++c) head.push_back(std::to_string(first + c));
  return fmt::format(
             "<p class=\"legend\">{}: a matrix of {} x {}, around the first element that differs.</p>\n",
             html_escaped(figure.at("name").get<std::string>()), figure.at("rows").get<std::int64_t>(),
             figure.at("cols").get<std::int64_t>()) +
         pair_of_tables(figure, head, true);
}

std::string ranks_html(const Json& figure) {
  const auto head = figure.at("columns").get<std::vector<std::string>>();
  if (figure.at("found") == figure.at("expected")) {
    std::string html =
        "<p class=\"legend\">What every rank owns, by the backend as by the reference:</p>\n<table "
        "class=\"values\"><tr>";
    for (const std::string& name : head) html += "<th>" + html_escaped(name) + "</th>";
    html += "</tr>\n";
    for (const Json& row : figure.at("expected")) {
      html += "<tr>";
      for (const Json& cell : row) html += "<td>" + html_escaped(cell.get<std::string>()) + "</td>";
      html += "</tr>\n";
    }
    return html + "</table>\n";
  }
  return "<p class=\"legend\">What every rank owns:</p>\n" + pair_of_tables(figure, head, false);
}

}  // namespace

std::string html_escaped(const std::string& text) { return escaped(text); }

std::string picture_html(const std::string& picture) {
  if (picture.empty()) return "";
  const Json parsed = Json::parse(picture);
  std::string html = "<figure>\n";
  for (const Json& figure : parsed.at("figures")) {
    const std::string type = figure.at("type");
    if (type == "blocks") html += blocks_html(figure);
    if (type == "grid") html += grid_html(figure);
    if (type == "tensor") html += tensor_html(figure);
    if (type == "ranks") html += ranks_html(figure);
  }
  html += "<figcaption>";
  html += parsed.at("differs").get<bool>()
              ? fmt::format("The first call of {} that does not give what the reference gives.",
                            html_escaped(parsed.at("operation").get<std::string>()))
              : "By itself this result equals the reference's: the law compares it with something else, as "
                "the sentence says.";
  return html + "</figcaption>\n</figure>\n";
}

}  // namespace eplora
