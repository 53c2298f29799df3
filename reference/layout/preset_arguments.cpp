// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/preset_arguments.h"

#include <charconv>

#include "reference/check.h"

namespace eplora {

PresetArguments::PresetArguments(std::string_view preset, std::string_view text,
                                 const std::vector<std::string_view>& keys)
    : preset_(preset) {
  std::string known;
  for (const std::string_view key : keys)
    known += (known.empty() ? "" : ", ") + std::string(key.substr(0, key.find('*')));
  for (bool more = !text.empty(); more;) {
    const std::string_view item = text.substr(0, text.find(','));
    more = item.size() < text.size();  // a comma, behind which a key must stand
    text.remove_prefix(item.size() + (more ? 1 : 0));
    const std::size_t equals = item.find('=');
    const std::string key(item.substr(0, equals));
    std::string_view kind;
    for (const std::string_view one : keys)
      if (one.substr(0, one.find('=')) == key) kind = one;
    if (kind.empty()) refuse("key", "'" + key + "'", "the keys are " + known);
    if (find(key) != nullptr) refuse("key " + key, "given twice", "give each key once");
    const bool wants_value = kind.find('=') != std::string_view::npos;
    const bool has_value = equals != std::string_view::npos && equals + 1 < item.size();
    if (wants_value && !has_value) refuse("key " + key, "without a value", "write " + key + "=...");
    if (!wants_value && equals != std::string_view::npos)
      refuse("key " + key, "'" + std::string(item) + "'", "it takes no value");
    items_.push_back({key, has_value ? std::string(item.substr(equals + 1)) : ""});
  }
}

const PresetArguments::Item* PresetArguments::find(std::string_view key) const {
  for (const Item& item : items_)
    if (item.key == key) return &item;
  return nullptr;
}

std::int32_t PresetArguments::size(std::string_view key, std::int32_t otherwise, std::int32_t low) const {
  constexpr std::int32_t kMost = 1 << 20;
  const Item* item = find(key);
  if (item == nullptr) return otherwise;
  std::int32_t value = 0;
  const char* const last = item->value.data() + item->value.size();
  const auto [end, fault] = std::from_chars(item->value.data(), last, value);
  if (fault != std::errc{} || end != last || value < low || value > kMost)
    refuse(item->key, "'" + item->value + "'",
           "it must be a whole number in [" + std::to_string(low) + ", " + std::to_string(kMost) + "]");
  return value;
}

std::string PresetArguments::word(std::string_view key, std::string_view otherwise) const {
  const Item* item = find(key);
  return item == nullptr ? std::string(otherwise) : item->value;
}

std::string PresetArguments::one_of(std::string_view key,
                                    const std::vector<std::string_view>& allowed) const {
  std::string given = word(key, allowed.front()), words;
  for (const std::string_view one : allowed) {
    if (given == one) return given;
    words += (words.empty() ? "" : ", ") + std::string(one);
  }
  refuse(std::string(key), "'" + given + "'", "it must be one of " + words);
}

void PresetArguments::refuse(const std::string& what, const std::string& value,
                             const std::string& allowed) const {
  reject(preset_ + ": " + what, value, allowed);
}

void PresetArguments::require_divides(const std::string& what, std::int64_t value, const std::string& by,
                                      std::int64_t divisor) const {
  if (value % divisor != 0)
    refuse(what, std::to_string(value), "it must be divisible by " + by + " = " + std::to_string(divisor));
}

std::int32_t PresetArguments::ranks(const std::vector<std::int32_t>& sizes) const {
  std::int64_t product = 1;
  for (const std::int32_t size : sizes) product = saturating_product(product, size);
  if (product > kMostPresetRanks)
    refuse("number of ranks", std::to_string(product),
           "it must be at most " + std::to_string(kMostPresetRanks));
  return static_cast<std::int32_t>(product);
}

}  // namespace eplora
