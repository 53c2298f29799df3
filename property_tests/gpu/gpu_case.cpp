// SPDX-License-Identifier: Apache-2.0
#include "property_tests/gpu/gpu_case.h"

#include <algorithm>
#include <array>
#include <climits>
#include <cmath>
#include <random>

#include "reference/routing/align.h"
#include "reference/routing/route.h"

namespace eplora::gpu {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : bits_(seed) {}
  std::int64_t below(std::int64_t end) {
    return static_cast<std::int64_t>(bits_() % static_cast<std::uint64_t>(end));
  }
  bool one_in(std::int64_t n) { return below(n) == 0; }
  template <std::size_t N>
  std::int64_t of(const std::array<std::int64_t, N>& values) {
    return values[static_cast<std::size_t>(below(N))];
  }
  double unit() { return static_cast<double>(bits_() >> 11) * 0x1p-53; }

 private:
  std::mt19937_64 bits_;
};

/// `count` ids over `[0, space)` in the pattern.
std::vector<std::int64_t> draw_ids(Random& random, Pattern pattern, std::int64_t count, std::int64_t space) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(count));
  if (space == 0) pattern = pattern == Pattern::wide ? pattern : Pattern::outside;
  const auto any = [&] { return space == 0 ? std::int64_t{-1} : random.below(space); };
  const std::int64_t first = any(), second = any();
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t& id = ids[static_cast<std::size_t>(i)];
    switch (pattern) {
      case Pattern::uniform:
        id = any();
        break;
      case Pattern::zipf: {  // the density of 1/x: a few buckets hold most of the slots
        const double x = std::pow(static_cast<double>(space), random.unit() * random.unit());
        id = std::clamp<std::int64_t>(static_cast<std::int64_t>(x) - 1, 0, space - 1);
        break;
      }
      case Pattern::one_bucket:
        id = first;
        break;
      case Pattern::all_sentinels:
        id = -1;
        break;
      case Pattern::mostly_sentinels:
        id = random.one_in(4) ? any() : -1 - random.below(3);
        break;
      case Pattern::ascending:
        id = i * space / count;
        break;
      case Pattern::descending:
        id = space - 1 - i * space / count;
        break;
      case Pattern::alternating:
        id = i % 2 == 0 ? first : second;
        break;
      case Pattern::outside:
        id = random.one_in(2) ? any()
                              : random.of<9>({-1, -2, -77, space, space + 1, INT_MAX, INT_MIN, 65535, 65536});
        break;
      case Pattern::wide:
        id = !random.one_in(3)
                 ? any()
                 : random.of<9>({INT64_MIN, INT64_MAX, INT64_C(-2147483649), INT64_C(2147483648),
                                 INT64_C(4294967296), INT64_C(4294967297), -INT64_C(4294967296), -1, space});
        break;
    }
  }
  return ids;
}

void set_ids(GpuCase& c, Random& random, std::int64_t space) {
  const std::int64_t count = c.T == 0 ? 0 : (c.T - 1) * c.row_stride + c.K;
  std::vector<std::int64_t> ids = draw_ids(random, c.pattern, count, space);
  if (c.wide) {
    c.ids64 = std::move(ids);
    return;
  }
  c.ids32.resize(ids.size());
  std::ranges::transform(ids, c.ids32.begin(), [](std::int64_t id) { return static_cast<std::int32_t>(id); });
}

/// `V = E_local * L` with the largest L up to 16, so that adapters matter.
void factor(GpuCase& c, std::int64_t V) {
  std::int64_t L = 16;
  while (V % L != 0) --L;
  c.max_loras = static_cast<std::int32_t>(L);
  c.num_local_experts = static_cast<std::int32_t>(V / L);
}

/// The model's experts and which of them this rank owns.
void set_dispatch(GpuCase& c, Random& random) {
  const std::int32_t local = c.num_local_experts;
  const auto owned = [&] {
    return local == 0 || random.one_in(3) ? -1 - static_cast<std::int32_t>(random.below(2))
                                          : static_cast<std::int32_t>(random.below(local));
  };
  c.num_experts = local + static_cast<std::int32_t>(random.below(local + 3));
  const bool replicas = random.one_in(2);
  if (replicas) c.offsets.push_back(0);
  for (std::int32_t e = 0; e < c.num_experts; ++e) {
    for (std::int64_t k = replicas ? 1 + random.below(3) : 1; k > 0; --k) c.table.push_back(owned());
    if (replicas) c.offsets.push_back(static_cast<std::int32_t>(c.table.size()));
  }
  if (replicas) c.slot_offset = random.of<4>({0, 17, (INT64_C(1) << 40) + 3, (INT64_C(1) << 62) - 1});
}

void set_mapping(GpuCase& c, Random& random) {
  const std::int32_t L = c.max_loras, one = static_cast<std::int32_t>(random.below(L + 2)) - 1;
  const std::int64_t kind = random.below(3);
  c.mapping.resize(static_cast<std::size_t>(c.T));
  for (std::int32_t& adapter : c.mapping)
    adapter = kind == 0   ? static_cast<std::int32_t>(random.below(std::max(L, 1)))
              : kind == 1 ? one
                          : static_cast<std::int32_t>(random.of<6>({INT_MIN, INT_MAX, -1, L, 0, L - 1}));
}

}  // namespace

std::string_view to_string(Pattern pattern) {
  constexpr std::array<std::string_view, kPatterns> kNames = {
      "uniform",   "Zipf",       "one bucket",  "all sentinels", "mostly sentinels",
      "ascending", "descending", "alternating", "outside",       "wide"};
  return kNames[static_cast<std::size_t>(pattern)];
}

RouteProblem GpuCase::route() const {
  RouteProblem problem;
  problem.topk_ids = {wide ? static_cast<const void*>(ids64.data()) : ids32.data(),
                      wide ? IdType::int64 : IdType::int32, T, K, row_stride};
  problem.token_lora_mapping = mapping;
  problem.num_experts = num_experts;
  problem.table = table;
  problem.offsets = offsets;
  problem.slot_offset = slot_offset;
  problem.num_local_experts = num_local_experts;
  problem.max_loras = max_loras;
  problem.shared_outer = shared_outer;
  problem.no_adapter = base_slot ? NoAdapter::base_slot : NoAdapter::sentinel;
  problem.block_size = block_size;
  problem.sentinels = sentinels();
  problem.num_tokens = {rows, num_tokens, &num_tokens};
  return problem;
}

AlignProblem GpuCase::align() const {
  const RouteProblem problem = route();
  return {problem.topk_ids, num_buckets, block_size, problem.sentinels, problem.num_tokens};
}

std::string GpuCase::text() const {
  std::string text(align_only ? "align" : "route");
  const auto add = [&](const char* name, std::int64_t value) {
    text += std::string(" ") + name + "=" + std::to_string(value);
  };
  text += " of " + std::string(to_string(pattern)) + " ids:";
  add("T", T), add("K", K), add("stride", row_stride), add("wide", wide), add("V", num_buckets);
  add("B", block_size), add("keep", keep), add("num_tokens", rows == NumTokens::Kind::all ? T : num_tokens);
  if (!align_only) {
    add("E", num_experts), add("E_local", num_local_experts), add("L", max_loras);
    add("shared_outer", shared_outer), add("base_slot", base_slot), add("replicas", !offsets.empty());
    add("dispatch", !table.empty());
  }
  return text;
}

RouteResult expected(const GpuCase& c) {
  if (!c.align_only) return reference::route(c.route());
  return {reference::align(c.align()), {}};
}

GpuCase make_case(std::int64_t n, std::int64_t V, std::uint64_t number) {
  Random random(number * 0x9E3779B97F4A7C15U + 1);
  GpuCase c;
  c.pattern = static_cast<Pattern>(number % kPatterns);
  c.wide = c.pattern == Pattern::wide || random.one_in(3);
  c.keep = number / kPatterns % 2 == 0;
  c.align_only = random.one_in(3);
  c.num_buckets = static_cast<std::int32_t>(V);
  c.block_size = static_cast<std::int32_t>(random.of<10>({1, 1, 2, 3, 7, 16, 30, 64, 64, 128}));
  if (n + std::min(n, V + 1) * (c.block_size - 1) > (INT64_C(1) << 23)) c.block_size = 3;
  c.K = random.of<6>({1, 2, 3, 4, 6, 8});
  while (c.K > 1 && (n == 0 ? 0 : n % c.K) != 0) --c.K;
  c.T = n / c.K;
  c.row_stride = random.one_in(2) ? c.K : c.K + 1 + random.below(5);
  if (random.one_in(3)) {
    c.rows = random.one_in(2) ? NumTokens::Kind::value : NumTokens::Kind::pointer;
    c.num_tokens = static_cast<std::int32_t>(random.below(c.T + 1));
    if (c.rows == NumTokens::Kind::pointer && random.one_in(4))
      c.num_tokens = static_cast<std::int32_t>(random.of<3>({-5, INT_MAX, INT_MIN}));
  }
  if (c.align_only) {
    set_ids(c, random, V);
    return c;
  }
  c.base_slot = !random.one_in(3);
  c.shared_outer = 0 < V && V <= 64 && random.one_in(2);
  if (c.shared_outer) {
    c.max_loras = static_cast<std::int32_t>(V);
    c.num_local_experts = static_cast<std::int32_t>(random.below(9));
  } else {
    factor(c, V);
  }
  c.num_experts = c.num_local_experts;
  if (random.one_in(2)) set_dispatch(c, random);
  set_mapping(c, random);
  set_ids(c, random, c.num_experts);
  return c;
}

GpuCase plain_case(std::int64_t n, std::int64_t V, std::int32_t block_size, Pattern pattern) {
  Random random(static_cast<std::uint64_t>(n * 31 + V));
  GpuCase c;
  c.pattern = pattern;
  c.wide = pattern == Pattern::wide;
  c.block_size = block_size;
  c.num_buckets = static_cast<std::int32_t>(V);
  for (c.K = 8; n % c.K != 0;) --c.K;
  c.T = n / c.K;
  c.row_stride = c.K;
  factor(c, V);
  c.num_experts = c.num_local_experts;
  c.mapping.resize(static_cast<std::size_t>(c.T));
  for (std::int32_t& adapter : c.mapping)
    adapter = c.max_loras == 0 ? -1 : static_cast<std::int32_t>(random.below(c.max_loras));
  set_ids(c, random, c.num_experts);
  return c;
}

GpuCase dispatched_case(std::int64_t n, std::int64_t V, std::int32_t block_size, Pattern pattern) {
  GpuCase c = plain_case(n, V, block_size, pattern);
  c.num_experts = 2 * c.num_local_experts;
  for (std::int32_t e = 0; e < c.num_experts; ++e) c.table.push_back(e % 2 == 0 ? -1 : e / 2);
  Random random(static_cast<std::uint64_t>(n * 37 + V));
  set_ids(c, random, c.num_experts);
  return c;
}

std::string first_difference(const RouteResult& got, const RouteResult& want) {
  const auto in = [](const char* name, const auto& a, const auto& b) -> std::string {
    if (a.size() != b.size())
      return std::string(name) + " has " + std::to_string(a.size()) + " entries, expected " +
             std::to_string(b.size());
    const auto at = std::ranges::mismatch(a, b);
    if (at.in1 == a.end()) return {};
    return std::string(name) + "[" + std::to_string(at.in1 - a.begin()) + "] is " + std::to_string(*at.in1) +
           ", expected " + std::to_string(*at.in2);
  };
  if (got.blocks.num_tokens_post_padded != want.blocks.num_tokens_post_padded)
    return "num_tokens_post_padded is " + std::to_string(got.blocks.num_tokens_post_padded) + ", expected " +
           std::to_string(want.blocks.num_tokens_post_padded);
  for (const std::string& text :
       {in("sorted_token_ids", got.blocks.sorted_token_ids, want.blocks.sorted_token_ids),
        in("expert_ids", got.blocks.expert_ids, want.blocks.expert_ids),
        in("token_lora_mask", got.token_lora_mask, want.token_lora_mask)})
    if (!text.empty()) return text;
  return {};
}

}  // namespace eplora::gpu
