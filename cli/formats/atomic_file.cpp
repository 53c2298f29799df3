// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/atomic_file.h"

#include <unistd.h>

#include "reference/check.h"

namespace eplora {

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + ".partial-" + std::to_string(::getpid())) {
  std::error_code error;
  if (std::filesystem::is_directory(path_, error))
    reject(path_.string(), "a folder", "it must be a file to write");
  stream_.open(temporary_, std::ios::binary | std::ios::trunc);
  if (!stream_) reject(path_.string(), "not writable", "its folder must exist and be writable");
}

AtomicFile::~AtomicFile() {
  if (committed_) return;
  stream_.close();
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  stream_.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void AtomicFile::commit() {
  stream_.close();
  std::error_code error;
  if (stream_) std::filesystem::rename(temporary_, path_, error);
  if (!stream_ || error)
    reject(path_.string(), "not written", "the disk must have room and the folder be writable");
  committed_ = true;
}

void write_text_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

void make_folder(const std::string& argument, const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) reject(argument, folder.string(), "it must be a folder that can be created: " + error.message());
}

}  // namespace eplora
