// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/sha256.h"

#include <openssl/evp.h>

#include <stdexcept>

namespace eplora::bench {
namespace {

void must(int status, const char* call) {
  if (status != 1) throw std::runtime_error(std::string("OpenSSL: ") + call + " failed");
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() {
    if (context == nullptr) throw std::bad_alloc();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  must(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr), "EVP_DigestInit_ex");
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

Sha256& Sha256::add(std::span<const std::byte> bytes) {
  must(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()), "EVP_DigestUpdate");
  return *this;
}

Sha256::Digest Sha256::finish() {
  Digest digest;
  must(EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(digest.data()), nullptr),
       "EVP_DigestFinal_ex");
  return digest;
}

Sha256::Digest sha256_of(std::span<const std::byte> bytes) { return Sha256().add(bytes).finish(); }

std::string hex(const Sha256::Digest& digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : digest) {
    text += kDigits[std::to_integer<unsigned>(b) >> 4];
    text += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

Sha256::Digest sha256_of_parts(std::span<const Sha256::Digest> parts) {
  return sha256_of(std::as_bytes(parts));
}

}  // namespace eplora::bench
