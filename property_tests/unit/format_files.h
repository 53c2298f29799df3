// SPDX-License-Identifier: Apache-2.0
// What the tests of file formats share: a folder that goes away, small writers for files good and bad, and a
// generated adapter with its memory.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cli/formats/safetensors.h"
#include "reference/lora/adapter.h"

namespace eplora::testing_files {

/// A fresh folder below the system's temporary one, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("eplora_test_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::recursive_directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// 8 bytes of length, the header as given, `data_size` bytes of data.
inline std::string safetensors_bytes(const std::string& header, std::size_t data_size) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return bytes + header + std::string(data_size, '\x01');
}

/// A small deterministic value for element `i` of tensor `seed`, exact in F32, F16 and BF16.
inline float value_of(std::int64_t seed, std::int64_t i) {
  const std::int64_t mixed = (seed * 7919 + i * 104729 + i * i % 251) % 127;
  return static_cast<float>(mixed - 63) / 64.0F;
}

/// Tensors for a file, each filled from its own seed.
class TensorSet {
 public:
  TensorSet& add(const std::string& name, std::vector<std::int64_t> shape,
                 TensorType type = TensorType::f32) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : shape) elements *= extent;
    std::vector<std::byte>& bytes =
        memory_.emplace_back(static_cast<std::size_t>(elements * bytes_of(type)) + 1);
    const auto seed = static_cast<std::int64_t>(tensors_.size()) + 1;
    for (std::int64_t i = 0; is_float(type) && i < elements; ++i)
      store_float(bytes.data(), as_dtype(type), i, value_of(seed, i));
    tensors_.push_back({name, type, std::move(shape), bytes.data()});
    return *this;
  }
  void write(const std::filesystem::path& path) const { write_safetensors(path, tensors_); }
  const std::vector<TensorToWrite>& tensors() const { return tensors_; }

 private:
  std::deque<std::vector<std::byte>> memory_;
  std::vector<TensorToWrite> tensors_;
};

/// A generated adapter: contiguous tensors of a dtype, with the memory behind them.
class OwnedAdapter {
 public:
  Adapter adapter;

  StridedTensor tensor(std::int64_t experts, std::int64_t rows, std::int64_t cols, DType dtype) {
    std::vector<std::byte>& bytes =
        memory_.emplace_back(static_cast<std::size_t>(experts * rows * cols) * bytes_of(dtype));
    const auto seed = static_cast<std::int64_t>(memory_.size()) + 100;
    for (std::int64_t i = 0; i < experts * rows * cols; ++i)
      store_float(bytes.data(), dtype, i, value_of(seed, i));
    return {bytes.data(), dtype, experts, rows, cols, rows * cols, cols, 1};
  }

  /// `fused_A`: gate and up share their A.
  AdapterLayer layer(const MoeGeometry& g, std::int64_t r_gate_up, std::int64_t r_down, bool fused_A,
                     DType dtype = DType::f32) {
    const std::int64_t outer = g.shared_outer ? 1 : g.num_experts;
    AdapterLayer layer;
    for (std::int32_t h = 0; r_gate_up > 0 && h < g.halves(); ++h) {
      LoraPair& half = layer.gate_up[static_cast<std::size_t>(h)];
      half.A = h == 1 && fused_A ? layer.gate_up[0].A : tensor(outer, r_gate_up, g.hidden, dtype);
      half.B = tensor(g.num_experts, g.intermediate, r_gate_up, dtype);
      layer.gate_up_scale = 0.75F;
    }
    if (r_down > 0) {
      layer.down = {tensor(g.num_experts, r_down, g.intermediate, dtype),
                    tensor(outer, g.hidden, r_down, dtype)};
      layer.down_scale = 1.0F / 3.0F;
    }
    return layer;
  }

 private:
  std::deque<std::vector<std::byte>> memory_;
};

/// Same shape and the same value, bit for bit, in every element.
inline void expect_equal(const StridedTensor& got, const StridedTensor& want, const std::string& what) {
  ASSERT_EQ(got.experts, want.experts) << what;
  ASSERT_EQ(got.rows, want.rows) << what;
  ASSERT_EQ(got.cols, want.cols) << what;
  for (std::int64_t e = 0; e < got.experts; ++e)
    for (std::int64_t row = 0; row < got.rows; ++row)
      for (std::int64_t col = 0; col < got.cols; ++col)
        ASSERT_EQ(got.at(e, row, col), want.at(e, row, col))
            << what << " at " << e << ", " << row << ", " << col;
}

inline void expect_equal(const AdapterLayer& got, const AdapterLayer& want, const std::string& what) {
  for (std::size_t h = 0; h < 2; ++h) {
    expect_equal(got.gate_up[h].A, want.gate_up[h].A, what + " gate_up A of half " + std::to_string(h));
    expect_equal(got.gate_up[h].B, want.gate_up[h].B, what + " gate_up B of half " + std::to_string(h));
  }
  expect_equal(got.down.A, want.down.A, what + " down A");
  expect_equal(got.down.B, want.down.B, what + " down B");
  EXPECT_EQ(got.gate_up_scale, want.gate_up_scale) << what;
  EXPECT_EQ(got.down_scale, want.down_scale) << what;
}

}  // namespace eplora::testing_files
