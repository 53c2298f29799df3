// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/formats/atomic_file.h"
#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::int64_t kPrefix = 8;
constexpr std::int64_t kMaxHeader = 100'000'000;
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::array kTypes = {TensorType::f32, TensorType::f16, TensorType::bf16,
                               TensorType::i32, TensorType::i64, TensorType::u8};

std::shared_ptr<const std::byte> map_file(const std::string& path, std::int64_t& size) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status = {};
  if (descriptor < 0 || ::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    if (descriptor >= 0) ::close(descriptor);
    reject(path, "missing or unreadable", "it must be a readable safetensors file");
  }
  size = status.st_size;
  if (size < kPrefix) {
    ::close(descriptor);
    reject(path + ": file size", std::to_string(size),
           "it must hold at least the 8 bytes of the header length");
  }
  const auto length = static_cast<std::size_t>(size);
  void* address = ::mmap(nullptr, length, PROT_READ, MAP_PRIVATE, descriptor, 0);
  ::close(descriptor);
  if (address == MAP_FAILED) reject(path, "not mappable", "it must be a file that mmap can read");
  return {static_cast<const std::byte*>(address),
          [length](const std::byte* data) { ::munmap(const_cast<std::byte*>(data), length); }};
}

std::uint64_t read_prefix(const std::byte* data) {
  std::uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | std::to_integer<std::uint64_t>(data[i]);
  return value;
}

/// Reads the fields of one header entry; every complaint names file and tensor.
class Entry {
 public:
  Entry(const std::string& path, const std::string& name, const Json& fields)
      : subject_(path + ": tensor " + in_quotes(name)), fields_(fields) {
    if (!fields.is_object()) reject(subject_, fields.type_name(), "it must be {dtype, shape, data_offsets}");
    for (const auto& [key, value] : fields.items())
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        reject(subject_ + " field " + in_quotes(key), "unknown",
               "the fields are dtype, shape and data_offsets");
  }

  TensorView read(const std::string& name, const std::byte* data, std::int64_t data_size) const {
    TensorView view;
    view.name = name;
    view.type = dtype();
    view.shape = whole_numbers("shape");
    const std::vector<std::int64_t> offsets = whole_numbers("data_offsets");
    if (offsets.size() != 2)
      reject(subject_ + " data_offsets", shape_to_string(offsets), "it must be [begin, end]");
    const std::int64_t begin = offsets[0], end = offsets[1];
    if (begin > end || end > data_size)
      reject(subject_ + " data_offsets", shape_to_string(offsets),
             "it must hold begin <= end <= " + std::to_string(data_size) + " (bytes of data in the file)");
    std::int64_t bytes = bytes_of(view.type);
    for (const std::int64_t extent : view.shape) bytes = saturating_product(bytes, extent);
    if (bytes != end - begin)
      reject(subject_ + " data_offsets", shape_to_string(offsets),
             "shape " + shape_to_string(view.shape) + " of " + std::string(to_string(view.type)) +
                 " needs end - begin = " + std::to_string(bytes));
    view.data = data + begin;
    view.bytes = bytes;
    return view;
  }

 private:
  const Json& field(const char* key) const {
    const auto found = fields_.find(key);
    if (found == fields_.end())
      reject(subject_ + " " + key, "missing", "every tensor has dtype, shape and data_offsets");
    return *found;
  }

  TensorType dtype() const {
    const Json& value = field("dtype");
    if (value.is_string())
      for (const TensorType type : kTypes)
        if (value.get_ref<const std::string&>() == to_string(type)) return type;
    reject(subject_ + " dtype",
           value.is_string() ? in_quotes(value.get_ref<const std::string&>()) : value.type_name(),
           "it must be F32, F16, BF16, I32, I64 or U8");
  }

  std::vector<std::int64_t> whole_numbers(const char* key) const {
    const Json& values = field(key);
    const std::string subject = subject_ + " " + key;
    if (!values.is_array()) reject(subject, values.type_name(), "it must be an array of whole numbers >= 0");
    std::vector<std::int64_t> numbers;
    for (const Json& value : values) {
      if (!value.is_number_unsigned() ||
          value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
        reject(subject, values.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 200),
               "it must hold whole numbers in [0, 2^63-1]");
      numbers.push_back(value.get<std::int64_t>());
    }
    return numbers;
  }

  std::string subject_;
  const Json& fields_;
};

/// Tensors in data order must tile `[0, data_size)`.
void require_tiling(const std::string& path, const std::map<std::string, TensorView, std::less<>>& tensors,
                    const std::byte* data, std::int64_t data_size) {
  std::vector<const TensorView*> by_place;
  for (const auto& [name, view] : tensors) by_place.push_back(&view);
  std::sort(by_place.begin(), by_place.end(), [](const TensorView* a, const TensorView* b) {
    return a->data != b->data ? a->data < b->data : a->bytes < b->bytes;
  });
  std::int64_t end = 0;
  for (const TensorView* view : by_place) {
    const std::int64_t begin = view->data - data;
    if (begin != end)
      reject(path + ": tensor " + in_quotes(view->name) + " data_offsets begin", std::to_string(begin),
             std::string(begin < end ? "it overlaps another tensor" : "there is a hole before it") +
                 "; it must be " + std::to_string(end) + ", where the tensor before it ends");
    end += view->bytes;
  }
  if (end != data_size)
    reject(path + ": bytes of data", std::to_string(data_size),
           "the header describes " + std::to_string(end) + "; the file must end with its last tensor");
}

}  // namespace

std::string_view to_string(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return "F32";
    case TensorType::f16:
      return "F16";
    case TensorType::bf16:
      return "BF16";
    case TensorType::i32:
      return "I32";
    case TensorType::i64:
      return "I64";
    case TensorType::u8:
      return "U8";
  }
  return "?";
}

std::int64_t bytes_of(TensorType type) {
  switch (type) {
    case TensorType::f32:
    case TensorType::i32:
      return 4;
    case TensorType::f16:
    case TensorType::bf16:
      return 2;
    case TensorType::i64:
      return 8;
    case TensorType::u8:
      return 1;
  }
  reject("tensor type", std::to_string(static_cast<int>(type)), "it must be F32, F16, BF16, I32, I64 or U8");
}

bool is_float(TensorType type) {
  return type == TensorType::f32 || type == TensorType::f16 || type == TensorType::bf16;
}

DType as_dtype(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return DType::f32;
    case TensorType::f16:
      return DType::f16;
    case TensorType::bf16:
      return DType::bf16;
    default:
      reject("dtype", to_string(type), "it must be F32, F16 or BF16");
  }
}

TensorType as_tensor_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return TensorType::f32;
    case DType::f16:
      return TensorType::f16;
    case DType::bf16:
      return TensorType::bf16;
  }
  reject("dtype", std::to_string(static_cast<int>(dtype)), "it must be F32, F16 or BF16");
}

std::string shape_to_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text.append(i == 0 ? "" : ", ").append(std::to_string(shape[i]));
  return text + "]";
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.path_ = path.string();
  std::int64_t size = 0;
  file.mapping_ = map_file(file.path_, size);
  const std::uint64_t header_size = read_prefix(file.mapping_.get());
  if (header_size > kMaxHeader)
    reject(file.path_ + ": header length", std::to_string(header_size),
           "it must be at most " + std::to_string(kMaxHeader) + " bytes");
  const auto header_length = static_cast<std::int64_t>(header_size);
  if (header_length > size - kPrefix)
    reject(file.path_ + ": header length", std::to_string(header_length),
           "the file has " + std::to_string(size - kPrefix) + " bytes after the length");
  const std::string_view header(reinterpret_cast<const char*>(file.mapping_.get()) + kPrefix, header_size);
  if (!header.starts_with('{'))
    reject(file.path_ + ": header", "not JSON", "its first byte must be '{' (is this a safetensors file?)");
  const Json document = parse_json_object(header, file.path_ + ": header");

  const std::byte* data = file.mapping_.get() + kPrefix + header_length;
  const std::int64_t data_size = size - kPrefix - header_length;
  for (const auto& [name, fields] : document.items()) {
    if (name == kMetadata) {
      if (!fields.is_object())
        reject(file.path_ + ": __metadata__", fields.type_name(), "it must be an object");
      for (const auto& [key, value] : fields.items()) {
        if (!value.is_string())
          reject(file.path_ + ": __metadata__ " + in_quotes(key), value.type_name(), "it must be a string");
        file.metadata_[key] = value.get<std::string>();
      }
    } else {
      file.tensors_.emplace(name, Entry(file.path_, name, fields).read(name, data, data_size));
    }
  }
  require_tiling(file.path_, file.tensors_, data, data_size);
  return file;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, view] : tensors_) names.push_back(name);
  return names;
}

const TensorView& SafetensorsFile::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end())
    reject(path_ + ": tensor " + in_quotes(name), "missing",
           "the file has " + std::to_string(tensors_.size()) + " others");
  return found->second;
}

}  // namespace eplora
