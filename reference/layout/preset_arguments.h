// SPDX-License-Identifier: Apache-2.0
// The sizes behind a preset's name, "tp=8,ep=4,attention_dp": keys with a number or a word, and flags that
// stand alone. Strict: a key that the preset lacks, given twice, or with a value of another kind is refused
// by name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace eplora {

/// Ranks that a preset may ask for in all.
inline constexpr std::int32_t kMostPresetRanks = 1 << 17;

class PresetArguments {
 public:
  /// `keys` are all that the preset takes: "tp=" a number, "order=*" a word, "ep" a flag. Throws
  /// `InvalidArgument`.
  PresetArguments(std::string_view preset, std::string_view text, const std::vector<std::string_view>& keys);

  const std::string& preset() const { return preset_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool flag(std::string_view key) const { return has(key); }
  /// A number in `[low, 2^20]`.
  std::int32_t size(std::string_view key, std::int32_t otherwise = 1, std::int32_t low = 1) const;
  std::string word(std::string_view key, std::string_view otherwise) const;
  /// One of `allowed`; the first where the key is left out.
  std::string one_of(std::string_view key, const std::vector<std::string_view>& allowed) const;

  /// Throws `InvalidArgument`: "<preset>: <what> is <value>; <allowed>".
  [[noreturn]] void refuse(const std::string& what, const std::string& value,
                           const std::string& allowed) const;
  /// Throws unless `divisor` divides `value`.
  void require_divides(const std::string& what, std::int64_t value, const std::string& by,
                       std::int64_t divisor) const;
  /// The product of `sizes`, at most `kMostPresetRanks`.
  std::int32_t ranks(const std::vector<std::int32_t>& sizes) const;

 private:
  struct Item {
    std::string key, value;
  };
  const Item* find(std::string_view key) const;
  std::string preset_;
  std::vector<Item> items_;
};

}  // namespace eplora
