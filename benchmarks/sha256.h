// SPDX-License-Identifier: Apache-2.0
// SHA-256 (OpenSSL's) of arrays, as they stand in the memory of a little-endian machine.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace eplora::bench {

static_assert(std::endian::native == std::endian::little, "recorded hashes are of little-endian bytes");

class Sha256 {
 public:
  using Digest = std::array<std::byte, 32>;

  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  Sha256& add(std::span<const std::byte> bytes);
  template <class T>
  Sha256& add_values(std::span<const T> values) {
    return add(std::as_bytes(values));
  }
  /// Once; nothing can be added afterwards.
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256::Digest sha256_of(std::span<const std::byte> bytes);

/// 64 lower-case digits.
std::string hex(const Sha256::Digest& digest);

/// SHA-256 of the digests one after another: the hash of something that was hashed in parts.
Sha256::Digest sha256_of_parts(std::span<const Sha256::Digest> parts);

}  // namespace eplora::bench
