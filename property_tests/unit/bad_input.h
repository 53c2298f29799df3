// SPDX-License-Identifier: Apache-2.0
// The table of bad inputs: a row is a name, a call that must be refused, and what the sentence must say - the
// argument, its value, what is allowed (contract, section 8). Around every call stand poisoned outputs and an
// empty output folder, which must be as before afterwards.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "optimized/backend.h"
#include "property_tests/unit/format_files.h"
#include "reference/check.h"

namespace eplora::bad_input {

using testing_files::OwnedAdapter;
using testing_files::TempFolder;
using testing_files::TensorSet;

/// What a row's call may use, and what must not change.
class Scene {
 public:
  TempFolder in;   ///< files that the row prepares
  TempFolder out;  ///< must stay empty
  std::vector<std::string> sentences;

  Scene() : memory_(kBytes, kPoison), ids_(64, 1), backends_(available_backends()) {}

  /// Poisoned output memory; too small for the sizes that some rows claim, since nothing may be touched.
  std::int32_t* output(std::size_t which = 0) {
    return reinterpret_cast<std::int32_t*>(memory_.data() + which * kBytes / 4);
  }
  std::uint8_t* mask() { return reinterpret_cast<std::uint8_t*>(output(3)); }
  const std::int32_t* ids() const { return ids_.data(); }
  IdMatrix id_matrix(std::int64_t rows = 4, std::int64_t cols = 2) const {
    return {ids_.data(), IdType::int32, rows, cols, cols};
  }
  std::span<const std::int32_t> mapping(std::size_t length = 4) const {
    return std::span(ids_).first(length);
  }

  /// Every backend that runs here must refuse the call.
  void on_every_backend(const std::function<void(Backend&, const ExecutionContext&)>& call) {
    std::vector<std::byte> workspace(kBytes, kPoison);
    for (const auto& backend : backends_) {
      if (backend->memory_space() != MemorySpace::host) continue;
      try {
        call(*backend, {workspace.data(), workspace.size(), nullptr});
        ADD_FAILURE() << backend->name() << " accepted it";
      } catch (const InvalidArgument& error) {
        sentences.push_back(error.what());
      }
    }
  }

  bool memory_untouched() const {
    return std::all_of(memory_.begin(), memory_.end(), [](std::byte b) { return b == kPoison; });
  }

 private:
  static constexpr std::size_t kBytes = 4096;
  static constexpr std::byte kPoison{0xA5};
  std::vector<std::byte> memory_;
  std::vector<std::int32_t> ids_;
  std::vector<std::unique_ptr<Backend>> backends_;
};

struct Row {
  std::string name;
  std::function<void(Scene&)> call;
  std::vector<std::string> says;
};
inline void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

inline void expect_refused(const Row& row) {
  Scene scene;
  try {
    row.call(scene);
  } catch (const InvalidArgument& error) {
    scene.sentences.push_back(error.what());
  }
  ASSERT_FALSE(scene.sentences.empty()) << "accepted";
  for (const std::string& sentence : scene.sentences) {
    for (const std::string& word : row.says)
      EXPECT_NE(sentence.find(word), std::string::npos) << "'" << word << "' is not in: " << sentence;
    EXPECT_LE(sentence.size(), 1500U) << sentence;
  }
  EXPECT_TRUE(scene.memory_untouched()) << "an output was written";
  EXPECT_EQ(scene.out.files(), 0U) << "a file was written";
}

/// gtest's name of a row.
struct RowName {
  std::string operator()(const testing::TestParamInfo<Row>& info) const { return info.param.name; }
};

}  // namespace eplora::bad_input
