// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/routing_trace_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include "cli/formats/npy.h"
#include "cli/formats/safetensors.h"
#include "reference/check.h"

namespace eplora {
namespace {

std::vector<std::int32_t> narrowed(const std::vector<std::int64_t>& values) {
  using Limits = std::numeric_limits<std::int32_t>;
  std::vector<std::int32_t> out;
  out.reserve(values.size());
  for (const std::int64_t value : values)
    out.push_back(static_cast<std::int32_t>(
        std::clamp<std::int64_t>(value, std::int64_t{Limits::min()}, std::int64_t{Limits::max()})));
  return out;
}

IntegerArray integers(const SafetensorsFile& file, const std::string& name) {
  const TensorView& tensor = file.tensor(name);
  if (tensor.type != TensorType::i32 && tensor.type != TensorType::i64)
    reject(file.path() + ": element type of " + name, to_string(tensor.type), "it must be I32 or I64");
  IntegerArray out{tensor.shape, {}};
  const std::int64_t element = bytes_of(tensor.type);
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    std::int32_t narrow = 0;
    std::int64_t wide = 0;
    if (element == 4) {
      std::memcpy(&narrow, tensor.data + i * element, sizeof narrow);
      wide = narrow;
    } else {
      std::memcpy(&wide, tensor.data + i * element, sizeof wide);
    }
    out.values.push_back(wide);
  }
  return out;
}

RoutingTrace trace_of(const IntegerArray& ids, const std::string& what) {
  if (ids.shape.size() != 2 || ids.shape[1] < 1)
    reject(what + ": shape of topk_ids", shape_to_string(ids.shape), "it must be [T, K] with K >= 1");
  require_in_range(what + ": rows of topk_ids", ids.shape[0], 0, kMaxIndex);
  require_in_range(what + ": columns of topk_ids", ids.shape[1], 1, kMaxIndex);
  RoutingTrace trace{ids.shape[0], static_cast<std::int32_t>(ids.shape[1]), narrowed(ids.values), {}};
  return trace;
}

}  // namespace

RoutingTrace read_routing_trace(const std::filesystem::path& path) {
  const std::string what = path.string();
  RoutingTrace trace;
  if (path.extension() == ".npy") {
    trace = trace_of(read_npy(path), what);
  } else if (path.extension() == ".safetensors") {
    const SafetensorsFile file = SafetensorsFile::open(path);
    for (const std::string& name : file.names())
      if (name != "topk_ids" && name != "token_lora_mapping")
        reject(what + ": tensor", "'" + name + "'", "a trace holds topk_ids and token_lora_mapping alone");
    trace = trace_of(integers(file, "topk_ids"), what);
    if (file.contains("token_lora_mapping")) {
      const IntegerArray mapping = integers(file, "token_lora_mapping");
      if (mapping.shape != std::vector<std::int64_t>{trace.num_tokens})
        reject(what + ": shape of token_lora_mapping", shape_to_string(mapping.shape),
               "it must be [T], T=" + std::to_string(trace.num_tokens));
      trace.token_lora_mapping = narrowed(mapping.values);
    }
  } else {
    reject("trace", "'" + what + "'", "it must be a .npy or .safetensors file, uniform, zipf:S or adapter:S");
  }
  validate(trace);
  return trace;
}

std::vector<std::vector<std::int64_t>> read_expert_load(const std::filesystem::path& path) {
  const std::string what = path.string();
  const IntegerArray load = read_npy(path);
  if (load.shape.empty() || load.shape.size() > 2 || load.values.empty())
    reject(what + ": shape of the load", shape_to_string(load.shape),
           "it must be [E] or [layers, E], not empty");
  const std::int64_t experts = load.shape.back();
  for (const std::int64_t count : load.values)
    require_in_range(what + ": load of an expert", count, 0, std::int64_t{1} << 40);
  std::vector<std::vector<std::int64_t>> rows;
  for (std::size_t i = 0; i < load.values.size(); i += experts)
    rows.emplace_back(load.values.begin() + static_cast<std::ptrdiff_t>(i),
                      load.values.begin() + static_cast<std::ptrdiff_t>(i) + experts);
  return rows;
}

}  // namespace eplora
