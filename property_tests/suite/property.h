// SPDX-License-Identifier: Apache-2.0
// A property as the suite holds it: its sentence, how its cases are drawn, and how one case is judged on one
// backend. A check returns the first violation; what it throws is a violation too, except `Discard`.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "property_tests/generators/case.h"
#include "property_tests/generators/draw.h"
#include "property_tests/suite/suite.h"
#include "reference/contract/verdict.h"

namespace eplora::suite {

/// Thrown by a check whose case asks for more than the backend's declared form promises.
struct Discard {
  std::string reason;
};

struct PropertyDefinition {
  PropertyInfo info;
  std::string_view kind;
  std::vector<Operation> needs;  ///< operations the backend must support
  bool canonical = false;        ///< compares bytes: asked only of backends in the canonical form
  bool host_only = false;        ///< judged in host memory alone
  bool scale_apart = false;      ///< asked only where B and its scale are kept apart
  std::function<CasePtr(Draw&, int size, const contract::Form&)> draw;
  std::function<contract::Verdict(const Case&, Backend&)> check;
};

/// A property over cases of type C.
template <class C>
PropertyDefinition property(PropertyInfo info, std::vector<Operation> needs,
                            C (*draw)(Draw&, int, const contract::Form&),
                            contract::Verdict (*check)(const C&, Backend&)) {
  PropertyDefinition p;
  p.info = std::move(info);
  p.kind = C::kKind;
  p.needs = std::move(needs);
  p.draw = [draw](Draw& random, int size, const contract::Form& form) -> CasePtr {
    const Origin origin{random.seed(), size, static_cast<int>(form.ids)};
    auto c = std::make_shared<CaseOf<C>>(draw(random, size, form));
    c->origin = origin;
    return c;
  };
  p.check = [check](const Case& c, Backend& backend) {
    return check(dynamic_cast<const CaseOf<C>&>(c).value, backend);
  };
  return p;
}

/// The same, for a comparison of bytes.
template <class C>
PropertyDefinition byte_property(PropertyInfo info, std::vector<Operation> needs,
                                 C (*draw)(Draw&, int, const contract::Form&),
                                 contract::Verdict (*check)(const C&, Backend&)) {
  PropertyDefinition p = property(std::move(info), std::move(needs), draw, check);
  p.canonical = true;
  return p;
}

/// All of them, in the order in which they run.
const std::vector<PropertyDefinition>& all_properties();
/// Throws `InvalidArgument` for an unknown full name.
const PropertyDefinition& definition_of(std::string_view full_name);
/// Why `property` is not asked of `backend`; nothing when it is.
std::optional<std::string> reason_to_skip(const PropertyDefinition& property, const Backend& backend);

/// One case on one backend: the check's verdict, or the guard's or the exception's sentence as a violation.
contract::Verdict judge(const PropertyDefinition& property, const Case& c, Backend& backend);

/// What several threads found before anything is shrunk.
struct Sweep {
  struct Found {
    std::int64_t index;  ///< the lowest of the failing cases, counted from 0
    CasePtr failing;
    contract::Verdict violation;
  };
  std::int64_t cases = 0, discarded = 0;
  std::map<std::string, std::int64_t> distribution;
  std::optional<Found> found;
  bool ended_by_time = false, interrupted = false, gave_up = false;
};

/// Judges `wanted` cases, or those up to the first that fails, on `options.threads` threads. Case `i` is
/// drawn from `seed` and `i` alone.
Sweep sweep(const PropertyDefinition& property, Backend& backend, const RunOptions& options,
            std::int64_t wanted, std::uint64_t seed);

/// The case in a replayable file, parsed. Throws `InvalidArgument` or `nlohmann::json::exception` where it is
/// no case of this build.
CasePtr case_of_file(const PropertyDefinition& property, const nlohmann::json& file);
/// The text of a replayable file (docs/failure_files.md), and where it is written: `NAME-KIND.json` in `dir`.
std::string case_file_text(const PropertyDefinition& property, const Case& c, std::string_view backend,
                           std::string_view sentence, std::uint64_t seed);
std::string save_case(const std::filesystem::path& dir, const PropertyDefinition& property,
                      std::string_view backend, std::string_view suffix, const std::string& text);

}  // namespace eplora::suite
