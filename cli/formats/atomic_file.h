// SPDX-License-Identifier: Apache-2.0
// A file that appears whole or not at all: bytes go to a temporary name in the same folder, `commit` renames
// it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

namespace eplora {

class AtomicFile {
 public:
  /// Opens the temporary file. Throws `InvalidArgument` when the folder is missing or not writable, or when
  /// `path` is a folder.
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  /// Removes what was not committed.
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  /// Throws `InvalidArgument` when the disk did not take every byte; then the old file, if any, is untouched.
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  std::ofstream stream_;
  bool committed_ = false;
};

/// The whole of a file, or an exception as above and no change.
void write_text_file(const std::filesystem::path& path, std::string_view text);

/// Makes `folder`, and those it stands in, unless they are there. Throws `InvalidArgument`, which names it as
/// `argument`, where that cannot be.
void make_folder(const std::string& argument, const std::filesystem::path& folder);

}  // namespace eplora
