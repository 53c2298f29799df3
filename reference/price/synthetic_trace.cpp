// SPDX-License-Identifier: Apache-2.0
// Synthetic routing traces. A random number is a function of (seed, place) alone, and a ticket falls on an
// expert by integer weights.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string>

#include "reference/check.h"
#include "reference/price/routing_trace.h"

namespace eplora {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014), counter-based.
std::uint64_t bits_at(std::uint64_t seed, std::uint64_t place) {
  std::uint64_t z = seed * 0xD1342543DE82EF95U + (place + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

/// Scales 64 random bits to [0, bound), bound < 2^32.
std::int64_t below(std::uint64_t bits, std::uint64_t bound) {
  return static_cast<std::int64_t>(((bits >> 32) * bound) >> 32);
}

std::vector<std::int32_t> shuffled(std::uint64_t seed, std::int32_t count) {
  std::vector<std::int32_t> deck(count);
  std::iota(deck.begin(), deck.end(), 0);
  for (std::int32_t i = count - 1; i > 0; --i)
    std::swap(deck[i], deck[below(bits_at(seed, i), static_cast<std::uint64_t>(i) + 1)]);
  return deck;
}

/// Sums of the weights of ranks 1..q: q^-s, rounded, the largest 2^24 or 2^31/E; each at least 1, below 2^32.
std::vector<std::uint64_t> cumulative_weights(double exponent, std::int32_t num_experts) {
  const double unit = std::min(0x1p24, 0x1p31 / num_experts);
  std::vector<std::uint64_t> sums(num_experts);
  std::uint64_t total = 0;
  for (std::int32_t q = 0; q < num_experts; ++q)
    sums[q] = total += std::max<std::uint64_t>(
        1, static_cast<std::uint64_t>(std::llround(unit * std::pow(q + 1.0, -exponent))));
  return sums;
}

/// A bucketed inverse of the cumulative weights: where the search for a ticket starts.
class Draw {
 public:
  explicit Draw(std::vector<std::uint64_t> sums) : sums_(std::move(sums)), start_(kBuckets) {
    std::int32_t q = 0;
    for (std::uint64_t b = 0; b < kBuckets; ++b) {
      while (sums_[q] <= b * sums_.back() / kBuckets) ++q;
      start_[b] = q;
    }
  }
  std::int32_t rank(std::uint64_t bits) const {
    const auto ticket = static_cast<std::uint64_t>(below(bits, sums_.back()));
    std::int32_t q = start_[ticket * kBuckets / sums_.back()];
    while (q > 0 && sums_[q - 1] > ticket) --q;
    while (sums_[q] <= ticket) ++q;
    return q;
  }

 private:
  static constexpr std::uint64_t kBuckets = 4096;
  std::vector<std::uint64_t> sums_;
  std::vector<std::int32_t> start_;
};

}  // namespace

std::string_view to_string(TraceKind kind) {
  switch (kind) {
    case TraceKind::uniform:
      return "uniform";
    case TraceKind::zipf:
      return "zipf";
    case TraceKind::adapter:
      return "adapter";
  }
  return "?";
}

bool names_synthetic_trace(std::string_view text) {
  const std::string_view word = text.substr(0, text.find(':'));
  for (const TraceKind kind : {TraceKind::uniform, TraceKind::zipf, TraceKind::adapter})
    if (word == to_string(kind)) return true;
  return false;
}

SyntheticTrace parse_synthetic_trace(std::string_view text) {
  const std::string allowed = "it must be uniform, zipf[:S] or adapter[:S], S in [0, 8]";
  SyntheticTrace out;
  const std::size_t colon = text.find(':');
  bool known = false;
  for (const TraceKind kind : {TraceKind::uniform, TraceKind::zipf, TraceKind::adapter}) {
    if (text.substr(0, colon) != to_string(kind)) continue;
    out.kind = kind;
    known = true;
  }
  if (!known || (out.kind == TraceKind::uniform && colon != std::string_view::npos))
    reject("trace", "'" + std::string(text) + "'", allowed);
  if (colon == std::string_view::npos) return out;
  const std::string_view number = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), out.exponent);
  if (error != std::errc() || end != number.data() + number.size() || !(out.exponent >= 0) ||
      out.exponent > 8)
    reject("trace", "'" + std::string(text) + "'", allowed);
  return out;
}

RoutingTrace make_trace(const SyntheticTrace& how, std::int64_t num_tokens, std::int32_t top_k,
                        std::int32_t num_experts, std::int32_t max_loras) {
  require_in_range("experts", num_experts, 1, 1 << 20);
  require_in_range("experts per token", top_k, 1, num_experts);
  require_in_range("tokens", num_tokens, 0, kMaxIndex);
  require_in_range("adapters", max_loras, 0, 1 << 20);
  if (!(how.exponent >= 0 && how.exponent <= 8))
    reject("exponent", std::to_string(how.exponent), "it must be in [0, 8]");
  const std::int64_t slots = num_tokens * top_k;
  require_index_range("slots", slots,
                      "tokens=" + std::to_string(num_tokens) + " * K=" + std::to_string(top_k));
  RoutingTrace trace{num_tokens, top_k, std::vector<std::int32_t>(slots), {}};
  if (max_loras > 0) trace.token_lora_mapping.resize(num_tokens);
  const Draw draw(cumulative_weights(how.kind == TraceKind::uniform ? 0.0 : how.exponent, num_experts));
  // Shuffles of adapters: expert of rank q under adapter l is a rotation of one shuffle by an offset of l's
  // own.
  const std::vector<std::int32_t> deck = shuffled(how.seed ^ 0x5A495046U, num_experts);
  const std::uint64_t lora_seed = how.seed ^ 0x4C4F5241U;
  std::vector<std::int64_t> taken(num_experts, -1);
  constexpr std::uint64_t kDraws = 32;  // an expert that the token has already is drawn again, so often
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    std::int32_t lora = -1;
    if (max_loras > 0)
      lora = trace.token_lora_mapping[t] = static_cast<std::int32_t>(below(bits_at(lora_seed, t), max_loras));
    const std::int64_t turn =
        how.kind == TraceKind::adapter && lora >= 0
            ? below(bits_at(lora_seed + 1, static_cast<std::uint64_t>(lora)), num_experts)
            : 0;
    for (std::int32_t k = 0; k < top_k; ++k) {
      const std::uint64_t slot = static_cast<std::uint64_t>(t) * top_k + k;
      std::int32_t expert = 0;
      for (std::uint64_t i = 0; i < kDraws; ++i) {
        std::int64_t at = draw.rank(bits_at(how.seed, slot * kDraws + i)) + turn;
        if (at >= num_experts) at -= num_experts;
        expert = deck[at];
        if (taken[expert] != t) break;
      }
      while (taken[expert] == t) expert = expert + 1 == num_experts ? 0 : expert + 1;
      taken[expert] = t;
      trace.topk_ids[slot] = expert;
    }
  }
  return trace;
}

}  // namespace eplora
