// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files of whole numbers: versions 1.0 and 2.0, little-endian int32 or int64, C order. Read
// strictly: the header must be the dictionary that NumPy writes, the file neither shorter nor longer than its
// shape says (numpy.lib.format).
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace eplora {

struct IntegerArray {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> values;  ///< row-major
};

/// Throws `InvalidArgument` naming file, place and what is allowed, before memory for the values is taken.
IntegerArray read_npy(const std::filesystem::path& path);

}  // namespace eplora
