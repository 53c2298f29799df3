// SPDX-License-Identifier: Apache-2.0
// One generated problem as a value. A case holds everything that a property needs, can be written to a file
// and read back, shows itself in a line and in a few lines, says which kinds of input it stands for, and
// offers smaller cases. `CaseOf<V>` makes a case from a plain struct V and its six functions.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace eplora::suite {

class Case;
using CasePtr = std::shared_ptr<const Case>;
using Labels = std::vector<std::string>;
/// Smaller variants, most promising first; each is made only when it is tried, while the case is alive.
template <class V>
using Shrinks = std::vector<std::function<V()>>;

/// What a generator was given: the case that a case was drawn as, before it was made smaller.
struct Origin {
  std::uint64_t seed = 0;
  int size = -1;  ///< negative = drawn by nobody: read from a file or written by hand
  int ids = 0;    ///< the `contract::AcceptedIds` asked for
};

class Case {
 public:
  virtual ~Case() = default;
  Origin origin;
  virtual std::string_view kind() const = 0;  ///< "align": names the JSON form
  virtual std::string show() const = 0;       ///< one line
  virtual std::string table() const = 0;      ///< a few lines
  virtual nlohmann::json json() const = 0;
  virtual Labels labels() const = 0;
  virtual Shrinks<CasePtr> shrinks() const = 0;  ///< a candidate may be null: it came out equal to this case
};

/// V brings `static constexpr std::string_view kKind`, `show()`, `table_text()`, `labels()`, `shrinks() ->
/// Shrinks<V>`, `json()`, `static V from_json(const nlohmann::json&)` and `==`.
template <class V>
class CaseOf final : public Case {
 public:
  explicit CaseOf(V v) : value(std::move(v)) {}
  std::string_view kind() const override { return V::kKind; }
  std::string show() const override { return value.show(); }
  std::string table() const override { return value.table_text(); }
  nlohmann::json json() const override;  ///< defined where JSON is a complete type
  Labels labels() const override { return value.labels(); }
  Shrinks<CasePtr> shrinks() const override {
    Shrinks<CasePtr> result;
    for (auto& smaller : value.shrinks())
      result.push_back([this, make = std::move(smaller)]() -> CasePtr {
        V candidate = make();
        if (candidate == value) return nullptr;
        auto smaller_case = std::make_shared<CaseOf>(std::move(candidate));
        smaller_case->origin = origin;
        return smaller_case;
      });
    return result;
  }
  const V value;
};

/// Reads the JSON form of `kind`. Throws `InvalidArgument` for an unknown kind or a form that does not fit.
CasePtr case_from_json(std::string_view kind, const nlohmann::json& json);

}  // namespace eplora::suite
