// SPDX-License-Identifier: Apache-2.0
// TOML read strictly: every complaint carries the file, line and column of the node it is about, and a
// table's keys are checked when it is opened. Includes the whole of toml++, so only readers (.cpp) include
// it.
#pragma once

#include <toml++/toml.h>

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "reference/check.h"

namespace eplora {

/// A name, and where in the file it stands.
struct PlacedName {
  std::string name;
  toml::source_region at;
};
std::vector<std::string> names_of(const std::vector<PlacedName>& placed);

class TomlFile {
 public:
  /// Parses the file. Throws `InvalidArgument` where it is missing or no TOML.
  explicit TomlFile(const std::filesystem::path& path);

  const toml::table& root() const { return root_; }
  /// Throws `InvalidArgument`: "<file>:<line>:<column>: <sentence>".
  [[noreturn]] void fail(const toml::source_region& at, const std::string& sentence) const;
  /// Runs `check`; what it refuses is told with the place `at`.
  template <class Check>
  void check_at(const toml::source_region& at, Check check) const {
    std::string sentence;
    try {
      check();
      return;
    } catch (const InvalidArgument& error) {
      sentence = error.what();
    }
    fail(at, sentence);
  }

  const toml::array& array(const toml::node& node, const std::string& what) const;
  const toml::table& table(const toml::node& node, const std::string& what) const;
  std::string text(const toml::node& node, const std::string& what) const;
  std::int64_t number(const toml::node& node, const std::string& what, std::int64_t low,
                      std::int64_t high) const;

 private:
  std::string name_;
  toml::table root_;
};

/// One table of the file. `what` opens the sentences about its keys, "" for the root.
class TomlTable {
 public:
  TomlTable(const TomlFile& file, const toml::table& table, std::string what,
            std::initializer_list<std::string_view> keys);

  const toml::source_region& at() const { return table_->source(); }
  /// Where the value of `key` stands, or the table where the key is left out.
  const toml::source_region& at(std::string_view key) const;
  const toml::node* find(std::string_view key) const { return table_->get(key); }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// Throws when the key is left out.
  const toml::node& require(std::string_view key) const;

  std::string text(std::string_view key, std::string otherwise) const;
  /// As `text`, and not empty.
  std::string name(std::string_view key, std::string otherwise) const;
  std::int64_t number(std::string_view key, std::int64_t otherwise, std::int64_t low,
                      std::int64_t high) const;
  bool flag(std::string_view key, bool otherwise) const;
  std::vector<PlacedName> names(std::string_view key) const;
  /// One of `values` by its word (`to_string`).
  template <class Enum>
  Enum word(std::string_view key, Enum otherwise, std::initializer_list<Enum> values) const {
    const toml::node* node = find(key);
    if (node == nullptr) return otherwise;
    const std::string given = file_->text(*node, called(key));
    std::string words;
    std::size_t left = values.size();
    for (const Enum value : values) {
      if (given == to_string(value)) return value;
      --left;
      words += std::string(to_string(value)) + (left > 1 ? ", " : left == 1 ? " or " : "");
    }
    file_->fail(node->source(), called(key) + " is '" + given + "'; it must be " + words);
  }

 private:
  std::string called(std::string_view key) const;

  const TomlFile* file_;
  const toml::table* table_;
  std::string what_;
};

}  // namespace eplora
