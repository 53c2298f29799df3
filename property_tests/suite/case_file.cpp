// SPDX-License-Identifier: Apache-2.0
// Counterexamples as files: a case with all its values, the property it belongs to, and what was seen.
// Reading one back and running it is a replay.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cli/formats/atomic_file.h"
#include "property_tests/generators/delta_cases.h"
#include "property_tests/generators/layer_cases.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/generators/slice_cases.h"
#include "property_tests/suite/long_arrays.h"
#include "property_tests/suite/picture.h"
#include "property_tests/suite/property.h"
#include "reference/check.h"

namespace eplora::suite {

template <class C>
nlohmann::json CaseOf<C>::json() const {
  return value.json();
}
template nlohmann::json CaseOf<DispatchCase>::json() const;
template nlohmann::json CaseOf<RemapCase>::json() const;
template nlohmann::json CaseOf<AlignCase>::json() const;
template nlohmann::json CaseOf<RouteCase>::json() const;
template nlohmann::json CaseOf<LayoutCase>::json() const;
template nlohmann::json CaseOf<SliceCase>::json() const;
template nlohmann::json CaseOf<DeltaCase>::json() const;
template nlohmann::json CaseOf<LayerCase>::json() const;

namespace {

constexpr const char* kSchema = "eplora.case/1";

template <class C>
CasePtr read(const nlohmann::json& json) {
  return std::make_shared<CaseOf<C>>(C::from_json(json));
}

/// Objects one field a line, everything else on its line: readable, and small where arrays are long.
template <class Json>
std::string one_field_a_line(const Json& json, const std::string& indent = "") {
  if (!json.is_object() || json.empty()) return json.dump();
  const std::string inner = indent + " ";
  std::string text = "{";
  for (const auto& [key, field] : json.items()) {
    text.append(text.size() > 1 ? ",\n" : "\n").append(inner).append(1, '"').append(key).append("\": ");
    text.append(one_field_a_line(field, inner));
  }
  return text.append("\n").append(indent).append("}");
}

void refuse_unknown_keys(const nlohmann::json& json, std::initializer_list<std::string_view> known,
                         const std::string& where) {
  if (!json.is_object()) reject(where, json.dump().substr(0, 40), "an object");
  for (const auto& [key, field] : json.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      reject(where + " key", "'" + key + "'", "one of the keys of docs/failure_files.md");
}

nlohmann::json read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) reject("case file", path.string(), "a readable file");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded()) reject("case file", path.string(), "JSON; this file cannot be parsed");
  return json;
}

bool has_long_array(const nlohmann::json& json) {
  if (json.is_array()) return json.size() > kLongArray;
  return json.is_object() && std::any_of(json.begin(), json.end(),
                                         [](const nlohmann::json& field) { return has_long_array(field); });
}

/// The case that a generator draws, as JSON.
nlohmann::json drawn_again(const PropertyDefinition& property, const Origin& origin) {
  Draw draw(origin.seed);
  contract::Form form;
  form.ids = static_cast<contract::AcceptedIds>(origin.ids);
  return property.draw(draw, origin.size, form)->json();
}

Origin origin_from(const nlohmann::json& json) {
  refuse_unknown_keys(json, {"seed", "size", "ids"}, "generator");
  Origin origin{json.at("seed").get<std::uint64_t>(), json.at("size").get<int>(), -1};
  require_in_range("generator size", origin.size, 0, 100);
  const std::string ids = json.at("ids");
  for (int i = 0; i < 4; ++i)
    if (ids == contract::to_string(static_cast<contract::AcceptedIds>(i))) origin.ids = i;
  if (origin.ids < 0) reject("generator ids", ids, "ids that a form can declare");
  return origin;
}

/// A key that the case has not would be a value that nobody reads.
void refuse_keys_that_are_not_in(const nlohmann::json& known, const nlohmann::json& given,
                                 const std::string& where) {
  if (given.is_array() && known.is_array())
    for (std::size_t i = 0; i < std::min(given.size(), known.size()); ++i)
      refuse_keys_that_are_not_in(known[i], given[i], where + "[" + std::to_string(i) + "]");
  if (!given.is_object() || !known.is_object()) return;
  for (const auto& [key, field] : given.items()) {
    if (!known.contains(key))
      reject(where + "." + key, "an unknown key", "the keys of docs/failure_files.md");
    refuse_keys_that_are_not_in(known[key], field, where + "." + key);
  }
}

}  // namespace

CasePtr case_from_json(std::string_view kind, const nlohmann::json& json) {
  if (kind == DispatchCase::kKind) return read<DispatchCase>(json);
  if (kind == RemapCase::kKind) return read<RemapCase>(json);
  if (kind == AlignCase::kKind) return read<AlignCase>(json);
  if (kind == RouteCase::kKind) return read<RouteCase>(json);
  if (kind == LayoutCase::kKind) return read<LayoutCase>(json);
  if (kind == SliceCase::kKind) return read<SliceCase>(json);
  if (kind == DeltaCase::kKind) return read<DeltaCase>(json);
  if (kind == LayerCase::kKind) return read<LayerCase>(json);
  reject("case kind", kind, "dispatch, remap, align, route, layout, slice, delta or layer");
}

std::string case_file_text(const PropertyDefinition& property, const Case& c, std::string_view backend,
                           std::string_view sentence, std::uint64_t seed) {
  nlohmann::ordered_json file;
  file["schema"] = kSchema;
  file["property"] = property.info.full_name();
  file["kind"] = c.kind();
  file["found"] = {{"backend", backend}, {"seed", seed}, {"sentence", sentence}};
  file["summary"] = c.show();
  nlohmann::json values = c.json();
  if (c.origin.size >= 0 && has_long_array(values)) {
    nlohmann::json shorter = shortened(values, drawn_again(property, c.origin));
    if (is_shortened(shorter)) {
      file["generator"] = {{"seed", c.origin.seed},
                           {"size", c.origin.size},
                           {"ids", contract::to_string(static_cast<contract::AcceptedIds>(c.origin.ids))}};
      values = std::move(shorter);
    }
  }
  file["case"] = std::move(values);
  return one_field_a_line(file) + "\n";
}

std::string save_case(const std::filesystem::path& dir, const PropertyDefinition& property,
                      std::string_view backend, std::string_view suffix, const std::string& text) {
  if (dir.empty()) return "";
  make_folder("folder for counterexamples", dir);
  const std::string name = std::filesystem::path(backend).filename().string();  // a library's is a path
  const std::filesystem::path path =
      dir / (property.info.full_name() + "." + name + "." + std::string(suffix) + ".json");
  write_text_file(path, text);
  return path.string();
}

CasePtr case_of_file(const PropertyDefinition& property, const nlohmann::json& file) {
  nlohmann::json values = file.at("case");
  Origin origin;
  if (file.contains("generator")) {
    origin = origin_from(file.at("generator"));
    values = written_out(values, drawn_again(property, origin));
  } else if (is_shortened(values)) {
    reject("generator", "missing", "what drew the arrays that are told by parts");
  }
  CasePtr c = case_from_json(property.kind, values);
  refuse_keys_that_are_not_in(c->json(), values, "case");
  std::const_pointer_cast<Case>(c)->origin = origin;
  return c;
}

Outcome replay_file(const std::filesystem::path& path, Backend& backend, const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  CasePtr c;
  const PropertyDefinition* property = nullptr;
  try {
    const nlohmann::json file = read_file(path);
    const std::string schema = file.at("schema"), kind = file.at("kind");
    if (schema != kSchema) reject("schema", schema, std::string(kSchema));
    property = &definition_of(file.at("property").get<std::string>());
    if (kind != property->kind)
      reject("kind", kind, "the kind of its property, " + std::string(property->kind));
    refuse_unknown_keys(file, {"schema", "property", "kind", "found", "summary", "generator", "case"},
                        "case file");
    c = case_of_file(*property, file);
  } catch (const nlohmann::json::exception& e) {
    reject("case file", path.string(), "a case of this build; it does not fit: " + std::string(e.what()));
  } catch (const InvalidArgument& e) {
    throw InvalidArgument("in " + path.string() + ": " + e.what());
  }

  Outcome outcome;
  outcome.property = property->info;
  outcome.backend = backend.name();
  if (const auto reason = reason_to_skip(*property, backend)) {
    outcome.status = Status::skipped;
    outcome.reason = *reason;
    return outcome;
  }
  const int reruns = std::max(options.reruns, 1);
  int failed = 0;
  contract::Verdict last;
  try {
    for (int i = 0; i < reruns; ++i)
      if (contract::Verdict verdict = judge(*property, *c, backend)) {
        ++failed;
        last = std::move(verdict);
      }
  } catch (const Discard& discard) {
    outcome.status = Status::skipped;
    outcome.reason = discard.reason;
    return outcome;
  }
  outcome.cases = 1;
  for (const std::string& label : c->labels()) ++outcome.distribution[label];
  if (last) {
    outcome.status = failed == reruns ? Status::violated : Status::flaky;
    Counterexample found;
    found.contract = last->property;
    found.sentence = last->sentence;
    found.expected = last->expected;
    found.found = last->found;
    found.picture = picture_of(*property, *c, &backend, reruns);
    found.failed = failed;
    found.reruns = reruns;
    found.after_cases = 1;
    found.summary = c->show();
    found.table = c->table();
    found.json = case_file_text(*property, *c, backend.name(), last->sentence, options.seed);
    found.shrunk_path = path.string();
    found.replay = "eplora check --backend " + std::string(backend.name()) + " --replay " + path.string();
    outcome.counterexample = std::move(found);
  }
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

}  // namespace eplora::suite
