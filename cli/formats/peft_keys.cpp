// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/peft_keys.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace eplora {
namespace {

constexpr std::string_view kPeftPrefix = "base_model.model.";
using Parts = std::vector<std::string_view>;

Parts split(std::string_view name) {
  Parts parts;
  for (std::size_t begin = 0;;) {
    const std::size_t dot = name.find('.', begin);
    parts.push_back(name.substr(begin, dot - begin));
    if (dot == std::string_view::npos) return parts;
    begin = dot + 1;
  }
}

std::string join(const Parts& parts, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text.append(i == 0 ? "" : ".").append(parts[i]);
  return text;
}

/// Digits alone, no leading zero, within int32: "01" and "1" must not be the same expert.
std::optional<std::int32_t> number(std::string_view text) {
  std::int32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  if (text.size() > 1 && text[0] == '0') return std::nullopt;
  return value;
}

std::optional<Projection> projection_of(std::string_view name) {
  if (name == "gate_proj" || name == "w1") return Projection::gate;
  if (name == "up_proj" || name == "w3") return Projection::up;
  if (name == "gate_up_proj") return Projection::gate_up;
  if (name == "down_proj" || name == "w2") return Projection::down;
  return std::nullopt;
}

std::optional<std::size_t> place_of_experts(const Parts& parts) {
  const auto found = std::find(parts.rbegin(), parts.rend(), "experts");
  if (found == parts.rend() || found == parts.rbegin()) return std::nullopt;
  return static_cast<std::size_t>(parts.rend() - found) - 1;
}

}  // namespace

std::string_view to_string(PeftKeyLayout layout) {
  switch (layout) {
    case PeftKeyLayout::per_expert:
      return "per expert";
    case PeftKeyLayout::fused:
      return "fused";
    case PeftKeyLayout::stacked:
      return "stacked";
  }
  return "?";
}

std::string_view to_string(Projection projection) {
  switch (projection) {
    case Projection::gate:
      return "gate_proj";
    case Projection::up:
      return "up_proj";
    case Projection::gate_up:
      return "gate_up_proj";
    case Projection::down:
      return "down_proj";
  }
  return "?";
}

std::string_view to_string(Factor factor) { return factor == Factor::A ? "lora_A" : "lora_B"; }

bool names_expert_tensor(std::string_view name) { return place_of_experts(split(name)).has_value(); }

std::optional<PeftKey> parse_peft_key(std::string_view name) {
  if (name.starts_with(kPeftPrefix)) name.remove_prefix(kPeftPrefix.size());
  const Parts parts = split(name);
  const std::optional<std::size_t> experts = place_of_experts(parts);
  if (!experts || parts.size() < *experts + 3 || parts.back() != "weight") return std::nullopt;

  PeftKey key;
  const std::string_view factor = parts[parts.size() - 2];
  if (factor != "lora_A" && factor != "lora_B") return std::nullopt;
  key.factor = factor == "lora_A" ? Factor::A : Factor::B;

  std::optional<std::int32_t> layer;
  for (std::size_t i = 0; i + 1 < *experts; ++i)
    if (parts[i] == "layers") layer = number(parts[i + 1]);
  if (!layer) return std::nullopt;
  key.layer = *layer;
  key.experts = join(parts, *experts + 1);
  key.module = join(parts, parts.size() - 2);

  const Parts between(parts.begin() + static_cast<std::ptrdiff_t>(*experts) + 1, parts.end() - 2);
  if (between.empty()) return key;
  if (between.size() == 1 && between[0] == "base_layer") {
    key.base_layer = true;
    key.module = key.experts;
    return key;
  }
  key.projection = projection_of(between.back());
  if (!key.projection) return std::nullopt;
  if (between.size() == 1) {
    key.layout = PeftKeyLayout::stacked;
    return key;
  }
  const std::optional<std::int32_t> expert = number(between[0]);
  if (between.size() != 2 || !expert || key.projection == Projection::gate_up) return std::nullopt;
  key.layout = PeftKeyLayout::per_expert;
  key.expert = *expert;
  return key;
}

}  // namespace eplora
