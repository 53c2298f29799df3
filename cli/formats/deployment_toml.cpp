// SPDX-License-Identifier: Apache-2.0
// The writing half of deployment_file.h.

#include "cli/formats/deployment_file.h"
#include "cli/formats/strict_toml.h"

namespace eplora {
namespace {

/// A basic string of TOML.
std::string quoted(const std::string& text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out = "\"";
  for (const char letter : text) {
    const auto byte = static_cast<unsigned char>(letter);
    if (letter == '"' || letter == '\\') {
      out += '\\';
      out += letter;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\u00";
      out += kHex[byte / 16];
      out += kHex[byte % 16];
    } else {
      out += letter;
    }
  }
  return out + "\"";
}

template <class Items, class Word>
std::string listed(const Items& items, Word word) {
  std::string out = "[";
  for (const auto& item : items) out += (out.size() == 1 ? "" : ", ") + word(item);
  return out + "]";
}

std::string axes_text(const std::vector<Axis>& axes) {
  return listed(axes, [](const Axis& axis) {
    return "{name = " + quoted(axis.name) + ", size = " + std::to_string(axis.size) + "}";
  });
}

/// Ids, runs of four and more as first and last.
std::string ids_text(const std::vector<std::int32_t>& ids) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < ids.size();) {
    std::size_t end = i + 1;
    while (end < ids.size() && ids[end] == ids[end - 1] + 1 && ids[end] <= kMostFileExperts) ++end;
    if (end - i < 4) {
      words.push_back(std::to_string(ids[i++]));
      continue;
    }
    words.push_back("{first = " + std::to_string(ids[i]) + ", last = " + std::to_string(ids[end - 1]) + "}");
    i = end;
  }
  return listed(words, [](const std::string& word) { return word; });
}

class Writer {
 public:
  void line(const std::string& text) { text_ += text + "\n"; }
  void header(const std::string& name) { text_ += "\n" + name + "\n"; }
  void value(const std::string& key, const std::string& value) { line(key + " = " + value); }
  /// Left out where it is empty.
  void names(const std::string& key, const std::vector<std::string>& names) {
    if (!names.empty()) value(key, listed(names, quoted));
  }
  template <class Enum>
  void word(const std::string& key, Enum value_of) {
    value(key, quoted(std::string(to_string(value_of))));
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

void write_placement(Writer& out, const ExpertPlacementSpec& place) {
  out.header("[layers.placement]");
  out.word("kind", place.rule);
  out.value("num_experts", std::to_string(place.num_experts));
  if (place.redundant != 0) out.value("redundant", std::to_string(place.redundant));
  if (place.rule == PlacementRule::table)
    out.value("table", listed(place.table, [](const std::vector<std::int32_t>& row) {
                return listed(row, [](std::int32_t expert) { return std::to_string(expert); });
              }));
  if (place.replicas != ReplicaRule::slot) out.word("replicas", place.replicas);
}

void write_class(Writer& out, const LayerClassSpec& c) {
  const LayerClassSpec usual;
  out.header("[[layers]]");
  out.value("name", quoted(c.name));
  out.value("grid", quoted(c.grid));
  if (!c.layers.empty()) out.value("ids", ids_text(c.layers));
  if (c.weight_form != usual.weight_form) out.word("weight_form", c.weight_form);
  if (c.interleave_block != 1) out.value("interleave_block", std::to_string(c.interleave_block));
  if (c.shared_outer) out.value("shared_outer", "true");
  if (c.sum_over) out.value("sum_over", listed(*c.sum_over, quoted));
  if (c.sharding != usual.sharding) {
    out.header("[layers.sharding]");
    out.names("tokens", c.sharding.tokens);
    out.names("experts", c.sharding.experts);
    out.names("intermediate", c.sharding.intermediate);
    out.names("hidden", c.sharding.hidden);
    out.names("lora_rank", c.sharding.lora_rank);
    out.names("layers", c.sharding.layers);
  }
  write_placement(out, c.placement);
  if (c.padding != usual.padding) {
    out.header("[layers.padding]");
    out.value("multiple", std::to_string(c.padding.multiple));
    out.word("place", c.padding.place);
  }
  if (c.shared_experts != usual.shared_experts) {
    out.header("[layers.shared_experts]");
    out.word("kind", c.shared_experts.kind);
    out.value("count", std::to_string(c.shared_experts.count));
    if (c.shared_experts.intermediate != 0)
      out.value("intermediate", std::to_string(c.shared_experts.intermediate));
    out.names("axes", c.shared_experts.axes);
  }
}

}  // namespace

std::string write_deployment_toml(const DeploymentSpec& spec) {
  Writer out;
  out.value("name", quoted(spec.name));
  for (const GridSpec& grid : spec.grids) {
    out.header("[[grid]]");
    out.value("name", quoted(grid.name));
    out.value("axes", axes_text(grid.axes));
  }
  if (spec.attention != AttentionSpec{}) {
    out.header("[attention]");
    out.value("grid", quoted(spec.attention.grid));
    out.names("tokens", spec.attention.tokens);
    out.names("heads", spec.attention.heads);
  }
  for (const LayerClassSpec& c : spec.classes) write_class(out, c);
  std::string text = out.take();
  try {
    static_cast<void>(toml::parse(text));
  } catch (const toml::parse_error& error) {
    reject("deployment " + spec.name, "not writable as TOML", std::string(error.description()));
  }
  return text;
}

}  // namespace eplora
