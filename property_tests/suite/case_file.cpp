// SPDX-License-Identifier: Apache-2.0
// Counterexamples as files: a case with all its values, the property it belongs to, and what was seen.
// Reading one back and running it is a replay.
#include <chrono>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "property_tests/generators/layer_cases.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/generators/slice_cases.h"
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
template nlohmann::json CaseOf<LayerCase>::json() const;

namespace {

constexpr const char* kSchema = "eplora.case/1";

template <class C>
CasePtr read(const nlohmann::json& json) {
  return std::make_shared<const CaseOf<C>>(C::from_json(json));
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

nlohmann::json read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) reject("case file", path.string(), "a readable file");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded()) reject("case file", path.string(), "JSON; this file cannot be parsed");
  return json;
}

}  // namespace

CasePtr case_from_json(std::string_view kind, const nlohmann::json& json) {
  if (kind == DispatchCase::kKind) return read<DispatchCase>(json);
  if (kind == RemapCase::kKind) return read<RemapCase>(json);
  if (kind == AlignCase::kKind) return read<AlignCase>(json);
  if (kind == RouteCase::kKind) return read<RouteCase>(json);
  if (kind == LayoutCase::kKind) return read<LayoutCase>(json);
  if (kind == SliceCase::kKind) return read<SliceCase>(json);
  if (kind == LayerCase::kKind) return read<LayerCase>(json);
  reject("case kind", kind, "dispatch, remap, align, route, layout, slice or layer");
}

std::string case_file_text(const PropertyDefinition& property, const Case& c, std::string_view backend,
                           std::string_view sentence, std::uint64_t seed) {
  nlohmann::ordered_json file;
  file["schema"] = kSchema;
  file["property"] = property.info.full_name();
  file["kind"] = c.kind();
  file["found"] = {{"backend", backend}, {"seed", seed}, {"sentence", sentence}};
  file["summary"] = c.show();
  file["case"] = c.json();
  return one_field_a_line(file) + "\n";
}

std::string save_case(const std::filesystem::path& dir, const PropertyDefinition& property,
                      std::string_view backend, std::string_view suffix, const std::string& text) {
  if (dir.empty()) return "";
  std::filesystem::create_directories(dir);
  const std::string name = std::filesystem::path(backend).filename().string();  // a library's is a path
  const std::filesystem::path path =
      dir / (property.info.full_name() + "." + name + "." + std::string(suffix) + ".json");
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text << std::flush;
  if (!file) reject("save directory", dir.string(), "a directory that can be written");
  return path.string();
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
    c = case_from_json(kind, file.at("case"));
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
