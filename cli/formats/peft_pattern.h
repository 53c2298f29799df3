// SPDX-License-Identifier: Apache-2.0
// Keys of PEFT's rank_pattern and alpha_pattern: Python regular expressions that must match a whole module
// name, or its end after a dot; the first key that matches wins (PEFT 0.17 to 0.21, peft/utils/other.py,
// get_pattern_key). What a C++ expression would read differently from Python is refused, not guessed.
#pragma once

#include <optional>
#include <regex>
#include <string>
#include <string_view>

namespace eplora {

class PeftPattern {
 public:
  /// Throws `InvalidArgument` ("<subject> is '<key>'; ...") when the expression is malformed or uses a
  /// construct that C++ lacks or reads differently: named or atomic groups, inline flags, look-behind, back
  /// references, escapes other than \d \D \w \W \s \S \b \B and punctuation, classes of classes, repeats of
  /// repeats.
  PeftPattern(std::string key, const std::string& subject);

  /// `name` is the module's in the base model, for a targeted parameter with the parameter's own name behind
  /// it: "model.layers.1.mlp.experts.down_proj".
  bool matches(std::string_view name) const;

 private:
  std::string key_;
  std::optional<std::regex> expression_;  ///< none where the key is plain: letters, digits, '_', '-' and '.'
};

}  // namespace eplora
