// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/strict_json.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "reference/check.h"

namespace eplora {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kMaxDepth = 32;
constexpr std::uintmax_t kMaxJsonFile = std::uintmax_t{16} << 20;

/// Refuses repeated keys and deep nesting while the parser runs.
class Watch {
 public:
  explicit Watch(const std::string& what) : what_(what) {}

  bool operator()(int, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (keys_.size() == kMaxDepth)
          reject(what_ + " nesting depth", "more than " + std::to_string(kMaxDepth),
                 "it must be at most that");
        keys_.emplace_back();
        break;
      case Json::parse_event_t::object_end:
      case Json::parse_event_t::array_end:
        keys_.pop_back();
        break;
      case Json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second)
          reject(what_ + " key " + in_quotes(key), "given twice", "a key may stand once in an object");
        break;
      }
      case Json::parse_event_t::value:
        break;
    }
    return true;
  }

 private:
  const std::string& what_;
  std::vector<std::unordered_set<std::string>> keys_;  ///< of each open object; empty for an array
};

}  // namespace

Json parse_json_object(std::string_view text, const std::string& what) {
  Json document;
  try {
    Watch watch(what);
    document = Json::parse(text.begin(), text.end(), std::ref(watch));
  } catch (const Json::parse_error& error) {
    reject(what, "broken at byte " + std::to_string(error.byte), "it must be valid JSON");
  } catch (const Json::exception&) {
    reject(what, "not readable", "it must be valid JSON with numbers in range");
  }
  if (!document.is_object())
    reject(what, std::string("a JSON ") + document.type_name(), "it must be a JSON object");
  return document;
}

Json read_json_object(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    reject(path.string(), "missing", "it must be a readable file");
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size > kMaxJsonFile)
    reject(path.string() + " size", error ? "unknown" : std::to_string(size) + " bytes",
           "it must be at most " + std::to_string(kMaxJsonFile) + " bytes");
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size)))
    reject(path.string(), "unreadable", "it must be a readable file");
  return parse_json_object(text, path.string());
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kMaxShown = 200;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7F)
      out += c;
    else
      out.append("\\x").append(1, kHex[byte >> 4]).append(1, kHex[byte & 15]);
  }
  return out + (text.size() > kMaxShown ? "...'" : "'");
}

}  // namespace eplora
