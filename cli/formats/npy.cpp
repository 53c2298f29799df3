// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/npy.h"

#include <array>
#include <cctype>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <string_view>

#include "reference/check.h"

namespace eplora {
namespace {

/// The header's dictionary: {'descr': '<i8', 'fortran_order': False, 'shape': (3, 4), }
class HeaderReader {
 public:
  HeaderReader(std::string_view text, std::string file) : text_(text), file_(std::move(file)) {}

  struct Header {
    std::string descr, fortran_order;
    std::vector<std::int64_t> shape;
  };

  Header read() {
    Header out;
    std::map<std::string, bool> seen;
    expect('{');
    while (!take('}')) {
      const std::string key = quoted();
      if (seen[key]) fail("key '" + key + "' is given twice");
      seen[key] = true;
      expect(':');
      if (key == "descr")
        out.descr = quoted();
      else if (key == "fortran_order")
        out.fortran_order = word();
      else if (key == "shape")
        out.shape = tuple();
      else
        fail("key '" + key + "' is unknown; the keys are descr, fortran_order, shape");
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (at_ != text_.size()) fail("there is text behind the dictionary");
    for (const char* key : {"descr", "fortran_order", "shape"})
      if (!seen[key]) fail(std::string("key '") + key + "' is missing");
    return out;
  }

  [[noreturn]] void fail(const std::string& sentence) const {
    throw InvalidArgument(file_ + ": .npy header, character " + std::to_string(at_) + ": " + sentence);
  }

 private:
  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool take(char c) {
    skip_blanks();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("'") + c + "' is expected");
  }
  std::string quoted() {
    skip_blanks();
    if (at_ == text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) fail("a quoted word is expected");
    const std::size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) fail("the quote is not closed");
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out;
  }
  std::string word() {
    skip_blanks();
    const std::size_t begin = at_;
    while (at_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[at_]))) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> out;
    expect('(');
    while (!take(')')) {
      skip_blanks();
      std::int64_t value = 0;
      const std::size_t begin = at_;
      for (; at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])); ++at_) {
        value = value * 10 + (text_[at_] - '0');
        if (value > (std::int64_t{1} << 40)) fail("the size is too large");
      }
      if (at_ == begin) fail("a size is expected");
      out.push_back(value);
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return out;
  }

  std::string_view text_;
  std::string file_;
  std::size_t at_ = 0;
};

std::uint64_t little_endian(const unsigned char* bytes, int count) {
  std::uint64_t value = 0;
  for (int i = 0; i < count; ++i) value |= std::uint64_t{bytes[i]} << (8 * i);
  return value;
}

}  // namespace

IntegerArray read_npy(const std::filesystem::path& path) {
  const std::string file = path.string();
  const auto bad = [&](const std::string& what, const std::string& value, const std::string& allowed) {
    reject(file + ": " + what, value, allowed);
  };
  std::error_code fault;
  if (!std::filesystem::is_regular_file(path, fault))
    bad("file", "missing or not a file", "give a .npy file");
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path));
  std::ifstream stream(path, std::ios::binary);
  std::array<unsigned char, 12> head{};
  const auto get = [&](void* to, std::int64_t count) {
    if (!stream.read(static_cast<char*>(to), count))
      bad("file", "too short or unreadable", "a whole .npy file");
  };
  get(head.data(), 8);
  if (std::memcmp(head.data(), "\x93NUMPY", 6) != 0) bad("first bytes", "not NumPy's", "a .npy file");
  const int major = head[6], minor = head[7];
  if ((major != 1 && major != 2) || minor != 0)
    bad("version", std::to_string(major) + "." + std::to_string(minor), "it must be 1.0 or 2.0");
  const int width = major == 1 ? 2 : 4;
  get(head.data() + 8, width);
  const auto header_size = static_cast<std::int64_t>(little_endian(head.data() + 8, width));
  const std::int64_t data_at = 8 + width + header_size;
  if (header_size > (1 << 20) || data_at > size)
    bad("header length", std::to_string(header_size),
        "at most 1 MiB, inside a file of " + std::to_string(size));
  std::string text(header_size, '\0');
  get(text.data(), header_size);
  HeaderReader reader(text, file);
  const HeaderReader::Header header = reader.read();
  if (header.descr != "<i4" && header.descr != "<i8")
    bad("element type", "'" + header.descr + "'", "it must be '<i4' or '<i8': little-endian int32 or int64");
  if (header.fortran_order != "False")
    bad("fortran_order", "'" + header.fortran_order + "'", "it must be False: C order");
  const std::int64_t element = header.descr == "<i4" ? 4 : 8;
  std::int64_t elements = 1;
  for (const std::int64_t extent : header.shape) elements = saturating_product(elements, extent);
  if (saturating_product(elements, element) != size - data_at)
    bad("bytes of data", std::to_string(size - data_at),
        std::to_string(elements) + " elements take " + std::to_string(saturating_product(elements, element)));
  IntegerArray out{header.shape, std::vector<std::int64_t>(elements)};
  std::vector<unsigned char> bytes(elements * element);
  get(bytes.data(), elements * element);
  for (std::int64_t i = 0; i < elements; ++i) {
    const std::uint64_t raw = little_endian(bytes.data() + i * element, static_cast<int>(element));
    out.values[i] = element == 4 ? static_cast<std::int32_t>(static_cast<std::uint32_t>(raw))
                                 : static_cast<std::int64_t>(raw);
  }
  return out;
}

}  // namespace eplora
