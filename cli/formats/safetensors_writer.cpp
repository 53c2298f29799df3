// SPDX-License-Identifier: Apache-2.0
// The writing half of safetensors.h.
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "cli/formats/atomic_file.h"
#include "cli/formats/safetensors.h"
#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

std::int64_t checked_bytes(const TensorToWrite& tensor) {
  std::int64_t bytes = bytes_of(tensor.type);
  for (const std::int64_t extent : tensor.shape) {
    if (extent < 0)
      reject("tensor " + in_quotes(tensor.name) + " shape", shape_to_string(tensor.shape),
             "sizes must be >= 0");
    bytes = saturating_product(bytes, extent);
  }
  if (bytes >= std::int64_t{1} << 62)
    reject("tensor " + in_quotes(tensor.name) + " shape", shape_to_string(tensor.shape),
           "it must hold less than 2^62 bytes");
  require_pointer("tensor " + in_quotes(tensor.name) + " data", tensor.data, bytes);
  return bytes;
}

}  // namespace

SafetensorsHeader safetensors_header(std::span<const TensorToWrite> tensors,
                                     const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header;
  header.order.resize(tensors.size());
  std::iota(header.order.begin(), header.order.end(), std::size_t{0});
  std::stable_sort(header.order.begin(), header.order.end(), [&](std::size_t a, std::size_t b) {
    return bytes_of(tensors[a].type) > bytes_of(tensors[b].type);
  });
  nlohmann::ordered_json document = nlohmann::ordered_json::object();
  if (!metadata.empty()) document["__metadata__"] = metadata;
  std::set<std::string_view> names;
  std::int64_t begin = 0;
  for (const std::size_t i : header.order) {
    const TensorToWrite& tensor = tensors[i];
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second)
      reject("tensor name", in_quotes(tensor.name), "it must be given once and not be __metadata__");
    const std::int64_t end = begin + checked_bytes(tensor);
    document[tensor.name] = {
        {"dtype", to_string(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", std::array{begin, end}}};
    begin = end;
  }
  std::string text;
  try {
    text = document.dump();
  } catch (const nlohmann::json::exception&) {
    reject("tensor names or metadata", "not UTF-8", "they must be UTF-8 text");
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  for (int i = 0; i < 8; ++i) header.bytes.push_back(static_cast<std::byte>(text.size() >> (8 * i) & 0xFF));
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  header.bytes.insert(header.bytes.end(), first, first + text.size());
  return header;
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const SafetensorsHeader header = safetensors_header(tensors, metadata);
  AtomicFile file(path);
  file.write(header.bytes);
  for (const std::size_t i : header.order)
    file.write({static_cast<const std::byte*>(tensors[i].data),
                static_cast<std::size_t>(checked_bytes(tensors[i]))});
  file.commit();
}

}  // namespace eplora
