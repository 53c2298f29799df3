// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <nlohmann/json.hpp>

#include "benchmarks/record.h"
#include "benchmarks/statistics.h"
#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora::bench {
namespace {

using Json = nlohmann::ordered_json;

double rounded(double microseconds) { return std::round(microseconds * 1e4) / 1e4; }

// ---- writing

Json samples_json(const std::vector<double>& samples) {
  Json values = Json::array();
  for (const double sample : samples) values.push_back(rounded(sample));
  return values;
}

Json timing_json(const TimingRecord& timing) {
  return {{"backend", timing.backend},
          {"timed_as", timing.timed_as},
          {"note", timing.note},
          {"calls", timing.calls},
          {"launches", timing.launches},
          {"other_nodes", timing.other_nodes},
          {"median_us", rounded(timing.median_us())},
          {"p5_us", rounded(percentile(timing.samples_us, 0.05))},
          {"p95_us", rounded(percentile(timing.samples_us, 0.95))},
          {"samples_us", samples_json(timing.samples_us)}};
}

void put_routing(Json& json, const RoutingShape& shape) {
  if (!shape.model.empty()) {
    json["model"] = shape.model;
    json["layout"] = shape.layout;
  }
  json["tokens"] = shape.tokens;
  json["top_k"] = shape.top_k;
  json["num_experts"] = shape.num_experts;
  json["ep"] = shape.ep;
  json["adapters"] = shape.max_loras;
  json["block_size"] = shape.block_size;
  json["buckets"] = shape.buckets();
  if (shape.goal_us) json["goal_us"] = *shape.goal_us;
  if (shape.engines_today_us) json["engines_today_us"] = *shape.engines_today_us;
}

void put_slice(Json& json, const SliceShape& shape) {
  json["model"] = kSliceModel;
  json["tp"] = shape.sizes.tp;
  json["ep"] = shape.sizes.ep;
  json["placement"] = to_string(shape.placement);
  json["form"] = to_string(shape.form);
  json["rank"] = shape.r;
  json["shared_outer"] = shape.shared_outer;
  json["experts_fastest"] = shape.experts_fastest;
  json["from"] = to_string(shape.from);
  json["layers"] = shape.layers;
}

Json shape_json(const ShapeRecord& shape) {
  Json json = {
      {"suite", to_string(shape.suite)}, {"shape", shape.name()}, {"pattern", to_string(shape.pattern)}};
  shape.suite == Suite::slice ? put_slice(json, shape.slice) : put_routing(json, shape.routing);
  json["bytes"] = shape.bytes;
  json["sets"] = shape.sets;
  json["inputs_sha256"] = shape.inputs_sha256();
  json["outputs_sha256"] = shape.outputs_sha256();
  json["parts"] = Json::array();
  for (const PartDigests& part : shape.parts) json["parts"].push_back({hex(part.inputs), hex(part.outputs)});
  if (shape.copy) json["copy"] = timing_json(*shape.copy);
  json["timings"] = Json::array();
  for (const TimingRecord& timing : shape.timings) json["timings"].push_back(timing_json(timing));
  return json;
}

// ---- reading

/// A JSON value and the sentence's opening for what is wrong with it.
struct Field {
  const Json& json;
  std::string what;

  Field at(const std::string& key) const {
    if (!json.is_object() || !json.contains(key))
      reject(what + ", '" + key + "'", "missing", "a " + std::string(kResultsSchema) + " document has it");
    return {json.at(key), what + ", '" + key + "'"};
  }
  bool has(const std::string& key) const { return json.is_object() && json.contains(key); }
  std::string text() const {
    if (!json.is_string()) reject(what, json.dump().substr(0, 40), "it must be a string");
    return json.get<std::string>();
  }
  double number(double low, double high) const {
    if (!json.is_number() || json.get<double>() < low || json.get<double>() > high)
      reject(what, json.dump().substr(0, 40),
             "it must be a number from " + std::to_string(low) + " to " + std::to_string(high));
    return json.get<double>();
  }
  std::int64_t integer(std::int64_t low, std::int64_t high) const {
    if (!json.is_number_integer() || json.get<std::int64_t>() < low || json.get<std::int64_t>() > high)
      reject(what, json.dump().substr(0, 40),
             "it must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
    return json.get<std::int64_t>();
  }
  std::int32_t small(std::int32_t low, std::int32_t high) const {
    return static_cast<std::int32_t>(integer(low, high));
  }
  bool boolean() const {
    if (!json.is_boolean()) reject(what, json.dump().substr(0, 40), "it must be true or false");
    return json.get<bool>();
  }
  std::vector<Field> list() const {
    if (!json.is_array()) reject(what, json.dump().substr(0, 40), "it must be an array");
    std::vector<Field> fields;
    for (std::size_t i = 0; i < json.size(); ++i)
      fields.push_back({json[i], what + "[" + std::to_string(i) + "]"});
    return fields;
  }
};

constexpr double kLongest = 1e12;  // microseconds

std::vector<double> samples_of(const Field& field) {
  std::vector<double> samples;
  for (const Field& value : field.list()) samples.push_back(value.number(0, kLongest));
  if (samples.empty()) reject(field.what, "empty", "a time has samples");
  return samples;
}

/// What the file says of its samples must follow from them.
void must_agree(const Field& field, const char* key, double computed) {
  const double said = field.at(key).number(0, kLongest);
  if (std::abs(said - computed) > 1e-3 * computed + 2e-4)
    reject(field.what + ", '" + key + "'", std::to_string(said),
           "the samples say " + std::to_string(computed));
}

TimingRecord timing_of(const Field& field) {
  TimingRecord timing;
  timing.backend = field.at("backend").text();
  timing.timed_as = field.at("timed_as").text();
  timing.note = field.at("note").text();
  timing.calls = field.at("calls").small(1, 1 << 20);
  timing.launches = field.at("launches").number(0, 1e6);
  timing.other_nodes = field.at("other_nodes").number(0, 1e6);
  timing.samples_us = samples_of(field.at("samples_us"));
  must_agree(field, "median_us", timing.median_us());
  must_agree(field, "p5_us", percentile(timing.samples_us, 0.05));
  must_agree(field, "p95_us", percentile(timing.samples_us, 0.95));
  return timing;
}

RoutingShape routing_of(const Field& field) {
  RoutingShape shape;
  shape.name = field.at("shape").text();
  if (field.has("model")) {
    shape.model = field.at("model").text();
    shape.layout = field.at("layout").text();
  }
  shape.tokens = field.at("tokens").integer(1, 1 << 24);
  shape.top_k = field.at("top_k").small(1, 1 << 16);
  shape.num_experts = field.at("num_experts").small(1, 1 << 16);
  shape.ep = field.at("ep").small(1, 1 << 16);
  shape.max_loras = field.at("adapters").small(1, 1 << 16);
  shape.block_size = field.at("block_size").small(1, 1 << 16);
  if (field.has("goal_us")) shape.goal_us = field.at("goal_us").number(0, kLongest);
  if (field.has("engines_today_us"))
    shape.engines_today_us = field.at("engines_today_us").number(0, kLongest);
  return shape;
}

template <class T, std::size_t N>
T one_of(const Field& field, const T (&all)[N]) {
  std::string names;
  for (const T value : all) {
    if (to_string(value) == field.text()) return value;
    names += (names.empty() ? "" : ", ") + std::string(to_string(value));
  }
  reject(field.what, in_quotes(field.text()), "it must be one of " + names);
}

SliceShape slice_of(const Field& field) {
  SliceShape shape;
  shape.name = field.at("shape").text();
  shape.sizes = {field.at("tp").small(1, 1024), field.at("ep").small(1, 1024), 1};
  shape.placement = one_of(field.at("placement"), {PlacementKind::linear, PlacementKind::round_robin});
  shape.form = one_of(field.at("form"), {GateUpForm::stacked, GateUpForm::interleaved});
  shape.r = field.at("rank").small(1, 16);
  shape.shared_outer = field.at("shared_outer").boolean();
  shape.experts_fastest = field.at("experts_fastest").boolean();
  shape.from = one_of(field.at("from"), {DType::f32, DType::f16, DType::bf16});
  shape.layers = field.at("layers").small(1, 4096);
  return shape;
}

Sha256::Digest digest_of(const Field& field) {
  const std::string text = field.text();
  Sha256::Digest digest;
  const auto value_of = [&](char c) {
    const std::size_t value = std::string_view("0123456789abcdef").find(c);
    if (value == std::string_view::npos)
      reject(field.what, in_quotes(text), "a hash is 64 lower-case hexadecimal digits");
    return value;
  };
  if (text.size() != 2 * digest.size())
    reject(field.what, in_quotes(text), "a hash is 64 lower-case hexadecimal digits");
  for (std::size_t i = 0; i < digest.size(); ++i)
    digest[i] = static_cast<std::byte>(value_of(text[2 * i]) * 16 + value_of(text[2 * i + 1]));
  return digest;
}

ShapeRecord shape_of(const Field& field) {
  ShapeRecord shape;
  shape.suite = one_of(field.at("suite"), kSuites);
  shape.pattern = one_of(field.at("pattern"), kPatterns);
  if (shape.suite == Suite::slice)
    shape.slice = slice_of(field);
  else
    shape.routing = routing_of(field);
  shape.bytes = field.at("bytes").integer(1, std::int64_t{1} << 50);
  shape.sets = field.at("sets").small(1, 1024);
  for (const Field& part : field.at("parts").list()) {
    const std::vector<Field> pair = part.list();
    if (pair.size() != 2)
      reject(part.what, std::to_string(pair.size()) + " values",
             "a part has two hashes, of inputs and outputs");
    shape.parts.push_back({digest_of(pair[0]), digest_of(pair[1])});
  }
  const auto expected =
      static_cast<std::size_t>(shape.suite == Suite::slice ? shape.slice.layers : shape.sets);
  if (shape.parts.size() != expected)
    reject(field.what + ", 'parts'", std::to_string(shape.parts.size()) + " long",
           "the shape has " + std::to_string(expected));
  for (const auto& [key, computed] :
       {std::pair{"inputs_sha256", shape.inputs_sha256()}, {"outputs_sha256", shape.outputs_sha256()}})
    if (field.at(key).text() != computed)
      reject(field.what + ", '" + key + "'", in_quotes(field.at(key).text()),
             "its parts' hashes give " + computed);
  if (field.has("copy")) shape.copy = timing_of(field.at("copy"));
  for (const Field& timing : field.at("timings").list()) shape.timings.push_back(timing_of(timing));
  return shape;
}

FloorRecord floor_of(const Field& field) {
  FloorRecord floor;
  floor.name = field.at("name").text();
  const std::string kind = field.at("kind").text();
  if (kind != "empty" && kind != "copy")
    reject(field.what + ", 'kind'", in_quotes(kind), "it must be one of empty, copy");
  floor.is_copy = kind == "copy";
  floor.bytes = field.at("bytes").integer(0, std::int64_t{1} << 50);
  floor.samples_us = samples_of(field.at("samples_us"));
  must_agree(field, "median_us", floor.median_us());
  return floor;
}

bool is_plain(const Json& value) { return !value.is_structured(); }

void write(std::string& text, const Json& value, std::size_t indent) {
  if (is_plain(value) || value.empty()) {
    text += value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return;
  }
  const bool inline_array = value.is_array() && std::all_of(value.begin(), value.end(), is_plain);
  const std::string line = inline_array ? " " : "\n" + std::string(indent + 1, ' ');
  text += value.is_array() ? "[" : "{";
  bool first = true;
  for (const auto& [key, member] : value.items()) {
    if (!first) text += inline_array ? ", " : ",";
    if (!inline_array) text += line;
    first = false;
    if (value.is_object()) text += Json(key).dump() + ": ";
    write(text, member, indent + 1);
  }
  if (!inline_array) text += "\n" + std::string(indent, ' ');
  text += value.is_array() ? "]" : "}";
}

}  // namespace

nlohmann::ordered_json to_json(const Record& record) {
  Json json = {{"schema", kResultsSchema},  {"device", record.device},   {"memory", record.memory},
               {"driver", record.driver},   {"cuda", record.cuda},       {"date", record.date},
               {"commit", record.commit},   {"command", record.command}, {"method", record.method},
               {"checked", record.checked}, {"floors", Json::array()},   {"shapes", Json::array()},
               {"skipped", Json::array()}};
  for (const FloorRecord& floor : record.floors)
    json["floors"].push_back({{"name", floor.name},
                              {"kind", floor.is_copy ? "copy" : "empty"},
                              {"bytes", floor.bytes},
                              {"median_us", rounded(floor.median_us())},
                              {"samples_us", samples_json(floor.samples_us)}});
  for (const ShapeRecord& shape : record.shapes) json["shapes"].push_back(shape_json(shape));
  for (const Skipped& skipped : record.skipped)
    json["skipped"].push_back({{"what", skipped.what}, {"why", skipped.why}});
  return json;
}

Record record_of(const nlohmann::ordered_json& document, const std::string& what) {
  const Field root{document, what};
  if (const std::string schema = root.at("schema").text(); schema != kResultsSchema)
    reject(what + ", 'schema'", in_quotes(schema), "it must be " + std::string(kResultsSchema));
  Record record;
  for (const auto& [key, member] : {std::pair{"device", &Record::device},
                                    {"memory", &Record::memory},
                                    {"driver", &Record::driver},
                                    {"cuda", &Record::cuda},
                                    {"date", &Record::date},
                                    {"commit", &Record::commit},
                                    {"command", &Record::command},
                                    {"method", &Record::method},
                                    {"checked", &Record::checked}})
    record.*member = root.at(key).text();
  bool empty = false, copy = false;
  for (const Field& floor : root.at("floors").list()) {
    record.floors.push_back(floor_of(floor));
    (record.floors.back().is_copy ? copy : empty) = true;
  }
  if (!empty || !copy)
    reject(what + ", 'floors'", "incomplete", "there is at least one of each kind, empty and copy");
  for (const Field& shape : root.at("shapes").list()) record.shapes.push_back(shape_of(shape));
  for (const Field& skipped : root.at("skipped").list())
    record.skipped.push_back({skipped.at("what").text(), skipped.at("why").text()});
  return record;
}

Record read_record(const std::filesystem::path& path) {
  return record_of(read_json_object(path), path.string());
}

std::string to_text(const nlohmann::ordered_json& document) {
  std::string text;
  write(text, document, 0);
  return text + "\n";
}

}  // namespace eplora::bench
