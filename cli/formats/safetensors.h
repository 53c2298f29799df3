// SPDX-License-Identifier: Apache-2.0
// The safetensors file format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape,
// data_offsets}}, then the tensors' bytes without gap or overlap. Read by mmap, so opening a large file costs
// its header; every number in the header is checked against the file before any tensor is handed out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reference/lora/dtype.h"

namespace eplora {

/// Element types this program reads and writes: weights, and ids or masks.
enum class TensorType : std::uint8_t { f32, f16, bf16, i32, i64, u8 };

std::string_view to_string(TensorType type);  ///< "F32", "F16", "BF16", "I32", "I64", "U8"
std::int64_t bytes_of(TensorType type);
bool is_float(TensorType type);
DType as_dtype(TensorType type);  ///< throws `InvalidArgument` unless `is_float`
TensorType as_tensor_type(DType dtype);

/// "[6, 72, 40]".
std::string shape_to_string(std::span<const std::int64_t> shape);

/// A tensor of an open file, row-major. `data` has no promised alignment: the format allows any offset.
struct TensorView {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;
  std::int64_t bytes = 0;

  std::int64_t elements() const { return bytes / bytes_of(type); }
};

class SafetensorsFile {
 public:
  /// Maps the file and checks the whole header: length against the file and against 100 MB, JSON, dtypes,
  /// shapes, offsets (begin <= end <= data size; product of the shape times the element size; no overlap, no
  /// hole, no tail), names given once. Throws `InvalidArgument` naming file, tensor, value and what is
  /// allowed.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// All tensors, by name.
  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return tensors_.contains(name); }
  /// Throws `InvalidArgument` when there is no such tensor. Valid as long as this object lives (moving keeps
  /// it).
  const TensorView& tensor(std::string_view name) const;

 private:
  std::string path_;
  std::shared_ptr<const std::byte> mapping_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to write: contiguous row-major host memory of `product(shape)` elements.
struct TensorToWrite {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;
};

/// The bytes of a header (length prefix included) for `tensors`, whose data follow in the order of the
/// returned indices: wider element types first, so that every tensor is aligned to its element.
struct SafetensorsHeader {
  std::vector<std::byte> bytes;
  std::vector<std::size_t> order;
};
SafetensorsHeader safetensors_header(std::span<const TensorToWrite> tensors,
                                     const std::map<std::string, std::string>& metadata = {});

/// Writes the file under a temporary name and renames it: no reader ever sees half of it. Equal inputs give
/// equal bytes. Throws `InvalidArgument` for a repeated or reserved name, a negative size or a null pointer,
/// with nothing written.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace eplora
