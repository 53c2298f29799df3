// SPDX-License-Identifier: Apache-2.0
#include "cli/check_corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cli/formats/atomic_file.h"
#include "cli/project_files.h"
#include "reference/check.h"

namespace eplora {
namespace {

namespace fs = std::filesystem;

/// FNV-1a of what makes the case: who found it, and in what words, does not count.
std::string content_hash(const nlohmann::json& file) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  const std::string text = file.at("property").dump() +
                           (file.contains("generator") ? file.at("generator").dump() : "") +
                           file.at("case").dump();
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return fmt::format("{:016x}", hash);
}

}  // namespace

Corpus::Corpus(fs::path folder, const std::vector<suite::PropertyInfo>& properties)
    : folder_(std::move(folder)) {
  if (!fs::exists(folder_)) return;
  if (!fs::is_directory(folder_)) reject("--corpus", folder_.string(), "a folder");
  const auto& every = suite::list_properties();
  for (const fs::path& path : files_in(folder_, ".json")) {
    std::ifstream stream(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(stream)), {});
    const nlohmann::json file = nlohmann::json::parse(text, nullptr, false);
    const bool readable = file.is_object() && file.contains("property") && file["property"].is_string();
    // What cannot be read, or is of no property at all, is replayed too: the replay says what is wrong with
    // it.
    const auto is_this_files = [&](const suite::PropertyInfo& p) {
      return p.full_name() == file["property"].get<std::string>();
    };
    if (!readable || std::any_of(properties.begin(), properties.end(), is_this_files) ||
        std::none_of(every.begin(), every.end(), is_this_files))
      files_.push_back(path);
  }
}

bool Corpus::add(const suite::Counterexample& found) {
  const nlohmann::json file = nlohmann::json::parse(found.json);
  const fs::path path =
      folder_ / (file.at("property").get<std::string>() + "." + content_hash(file) + ".json");
  if (fs::exists(path)) return false;
  make_folder("--corpus", folder_);
  write_text_file(path, found.json);
  ++added_;
  return true;
}

std::string Corpus::summary() const {
  std::string text = fmt::format("corpus {}: {} {} replayed, {} added", folder_.string(), replayed_,
                                 replayed_ == 1 ? "case" : "cases", added_);
  if (!refused_.empty())
    text += fmt::format(", {} {} refused", refused_.size(), refused_.size() == 1 ? "file" : "files");
  return text;
}

}  // namespace eplora
