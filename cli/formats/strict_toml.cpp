// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/strict_toml.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace eplora {

std::vector<std::string> names_of(const std::vector<PlacedName>& placed) {
  std::vector<std::string> names;
  for (const PlacedName& one : placed) names.push_back(one.name);
  return names;
}

TomlFile::TomlFile(const std::filesystem::path& path) : name_(path.string()) {
  if (std::filesystem::is_directory(path)) reject("layout file", name_, "it is a folder");
  if (!std::filesystem::is_regular_file(path)) reject("layout file", name_, "there is no such file");
  try {
    root_ = toml::parse_file(name_);
  } catch (const toml::parse_error& error) {
    fail(error.source(), std::string(error.description()));
  }
}

void TomlFile::fail(const toml::source_region& at, const std::string& sentence) const {
  const std::uint32_t line = std::max<std::uint32_t>(at.begin.line, 1);
  const std::uint32_t column = std::max<std::uint32_t>(at.begin.column, 1);
  throw InvalidArgument(name_ + ":" + std::to_string(line) + ":" + std::to_string(column) + ": " + sentence);
}

const toml::array& TomlFile::array(const toml::node& node, const std::string& what) const {
  if (!node.is_array()) fail(node.source(), what + " must be an array");
  return *node.as_array();
}

const toml::table& TomlFile::table(const toml::node& node, const std::string& what) const {
  if (!node.is_table()) fail(node.source(), what + " must be a table");
  return *node.as_table();
}

std::string TomlFile::text(const toml::node& node, const std::string& what) const {
  if (!node.is_string()) fail(node.source(), what + " must be a string");
  return node.as_string()->get();
}

std::int64_t TomlFile::number(const toml::node& node, const std::string& what, std::int64_t low,
                              std::int64_t high) const {
  if (!node.is_integer()) fail(node.source(), what + " must be a whole number");
  const std::int64_t value = node.as_integer()->get();
  if (value < low || value > high)
    fail(node.source(), what + " is " + std::to_string(value) + "; it must be in [" + std::to_string(low) +
                            ", " + std::to_string(high) + "]");
  return value;
}

TomlTable::TomlTable(const TomlFile& file, const toml::table& table, std::string what,
                     std::initializer_list<std::string_view> keys)
    : file_(&file), table_(&table), what_(std::move(what)) {
  for (const auto& [key, node] : table) {
    if (std::find(keys.begin(), keys.end(), key.str()) != keys.end()) continue;
    std::string allowed;
    for (const std::string_view one : keys) allowed.append(allowed.empty() ? "" : ", ").append(one);
    file.fail(key.source(), "key '" + std::string(key.str()) + "' is unknown; the keys here are " + allowed);
  }
}

std::string TomlTable::called(std::string_view key) const {
  return (what_.empty() ? "" : what_ + ".") + std::string(key);
}

const toml::source_region& TomlTable::at(std::string_view key) const {
  const toml::node* node = find(key);
  return node == nullptr ? at() : node->source();
}

const toml::node& TomlTable::require(std::string_view key) const {
  const toml::node* node = find(key);
  if (node == nullptr) file_->fail(at(), called(key) + " is missing");
  return *node;
}

std::string TomlTable::text(std::string_view key, std::string otherwise) const {
  const toml::node* node = find(key);
  return node == nullptr ? std::move(otherwise) : file_->text(*node, called(key));
}

std::string TomlTable::name(std::string_view key, std::string otherwise) const {
  const toml::node* node = find(key);
  if (node == nullptr) return otherwise;
  std::string given = file_->text(*node, called(key));
  if (given.empty()) file_->fail(node->source(), called(key) + " is empty; it must be a name");
  return given;
}

std::int64_t TomlTable::number(std::string_view key, std::int64_t otherwise, std::int64_t low,
                               std::int64_t high) const {
  const toml::node* node = find(key);
  return node == nullptr ? otherwise : file_->number(*node, called(key), low, high);
}

bool TomlTable::flag(std::string_view key, bool otherwise) const {
  const toml::node* node = find(key);
  if (node == nullptr) return otherwise;
  if (!node->is_boolean()) file_->fail(node->source(), called(key) + " must be true or false");
  return node->as_boolean()->get();
}

std::vector<PlacedName> TomlTable::names(std::string_view key) const {
  std::vector<PlacedName> names;
  const toml::node* node = find(key);
  if (node == nullptr) return names;
  for (const toml::node& entry : file_->array(*node, called(key)))
    names.push_back({file_->text(entry, "an entry of " + called(key)), entry.source()});
  return names;
}

}  // namespace eplora
