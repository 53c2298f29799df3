// SPDX-License-Identifier: Apache-2.0
#include "property_tests/generators/delta_cases.h"

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "property_tests/generators/adapter_recipe.h"
#include "reference/check.h"
#include "reference/routing/route.h"

namespace eplora::suite {
namespace {

template <class Enum>
Enum one_of_two(const char* field, const std::string& name, Enum first, Enum second) {
  if (name != to_string(first) && name != to_string(second))
    reject(field, name, std::string(to_string(first)) + " or " + std::string(to_string(second)));
  return name == to_string(first) ? first : second;
}

/// Tiles of `rows x cols`; `at_rank(row, col)` is the rank index that an element belongs to.
template <class RankOf>
std::vector<std::byte> expand_tiles(const DeltaCase& c, std::int64_t tiles, std::int64_t elements,
                                    std::uint64_t array, std::int32_t other_than, const RankOf& rank_of) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tiles * elements) * bytes_of(c.dtype));
  const std::int64_t experts = c.max_loras() == 0 ? 1 : tiles / c.max_loras();
  for (std::int64_t v = 0; v < tiles; ++v) {
    const auto l = static_cast<std::int32_t>(v / experts);
    const std::uint64_t seed = hash_at(c.seed + (other_than >= -1 && l != other_than ? 977 : 0), array);
    for (std::int64_t k = 0; k < elements; ++k)
      store_float(bytes.data(), c.dtype, v * elements + k,
                  rank_of(k) < c.ranks[l]
                      ? weight_at(seed, static_cast<std::uint64_t>(v * elements + k), true)
                      : 0.0F);
  }
  return bytes;
}

void vary_fillers(AlignResult& blocks, std::int64_t n, std::uint64_t seed) {
  for (std::size_t i = 0; i < blocks.sorted_token_ids.size(); ++i)
    if (blocks.sorted_token_ids[i] >= n)
      blocks.sorted_token_ids[i] = static_cast<std::int32_t>(
          hash_at(seed, i) % 3 == 0 ? kMaxIndex : n + static_cast<std::int64_t>(hash_at(seed, i) % 7));
}

/// Most slots valid and most tokens with an adapter: hostile ids alone leave little to sum.
void enliven(DeltaCase& c, std::uint64_t seed) {
  if (c.num_local_experts == 0 || c.max_loras() == 0) return;
  for (std::int64_t s = 0; s < c.batch.n(); ++s)
    if (const std::uint64_t bits = hash_at(seed, s); bits % 8 != 0)
      c.batch.ids[s] = below(hash_at(bits, 1), c.num_local_experts);
  for (std::int64_t t = 0; t < c.batch.T; ++t)
    if (const std::uint64_t bits = hash_at(seed + 1, t); bits % 6 != 0)
      c.mapping[t] = static_cast<std::int32_t>(below(hash_at(bits, 1), c.max_loras()));
}

/// 0 for an empty slot, exactly 1 for a quarter of the others.
float scale_of(const DeltaCase& c, std::size_t l, std::uint64_t seed) {
  if (c.ranks[l] == 0) return 0.0F;
  return hash_at(hash_at(seed, 9), l) % 4 == 0 ? 1.0F : 2 * weight_at(hash_at(seed, 3), l, true);
}

DeltaBlocks view(const AlignResult& blocks) {
  return {blocks.sorted_token_ids.data(), static_cast<std::int64_t>(blocks.sorted_token_ids.size()),
          blocks.expert_ids.data(), &blocks.num_tokens_post_padded};
}

}  // namespace

std::int32_t DeltaCase::adapter_of(std::int64_t s) const {
  const std::int64_t t = s / batch.K;
  if (t >= batch.real_rows()) return -1;
  const std::int64_t e = batch.ids[s], l = mapping[t];
  return 0 <= e && e < num_local_experts && 0 <= l && l < max_loras() ? static_cast<std::int32_t>(l) : -1;
}

void DeltaCase::fit() {
  for (const std::int64_t rank : ranks) max_lora_rank = std::max(max_lora_rank, rank);
}

DeltaCase draw_delta(Draw& draw, int size, const contract::Form&) {
  DeltaCase c;
  c.projection = draw.percent(50) ? DeltaProjection::gate_up : DeltaProjection::down;
  c.num_local_experts = static_cast<std::int32_t>(draw.percent(3) ? 0 : draw.in(1, 6));
  c.hidden = draw.log_uniform(1, 40);
  c.intermediate = draw.log_uniform(1, 20);
  c.max_lora_rank = draw.in(1, 9);
  const std::int64_t L = draw.percent(3) ? 0 : draw.in(1, 4);
  for (std::int64_t l = 0; l < L; ++l)
    c.ranks.push_back(draw.percent(10)   ? 0
                      : draw.percent(30) ? c.max_lora_rank
                                         : draw.in(1, c.max_lora_rank));
  c.gated = draw.percent(75);
  c.shared_outer = draw.percent(30);
  c.form = draw.percent(40) ? GateUpForm::interleaved : GateUpForm::stacked;
  c.dtype = draw.one_of({DType::f32, DType::f16, DType::bf16});
  c.input_dtype = draw.one_of({DType::f32, DType::f16, DType::bf16});
  c.input_gap = draw.percent(60) ? 0 : draw.in(1, 5);
  c.block_size = static_cast<std::int32_t>(draw.percent(50) ? draw.one_of({1, 4, 16}) : draw.in(1, 20));
  c.no_adapter = draw.percent(40) ? NoAdapter::sentinel : NoAdapter::base_slot;
  c.sentinels = draw.percent(40) ? Sentinels::drop : Sentinels::keep;
  c.seed = draw.bits() >> 32;
  c.batch = draw_ids(draw, size, c.num_local_experts, contract::AcceptedIds::any, 120);
  if (c.batch.T > 40) erase_tokens(c.batch, 40, c.batch.T);
  c.mapping = draw_mapping(draw, c.batch.T, static_cast<std::int32_t>(L));
  if (draw.percent(60)) enliven(c, draw.bits());
  c.fit();
  return c;
}

Shrinks<DeltaCase> DeltaCase::shrinks() const {
  Shrinks<DeltaCase> result;
  const auto original = std::make_shared<const DeltaCase>(*this);
  const auto edit = [&](auto change) {
    result.push_back([original, change] {
      DeltaCase copy = *original;
      change(copy);
      copy.fit();
      return copy;
    });
  };
  const auto lower = [&](auto DeltaCase::*field, std::int64_t low) {
    for (const std::int64_t value : towards(low, static_cast<std::int64_t>(this->*field)))
      edit([field, value](DeltaCase& c) { c.*field = static_cast<std::decay_t<decltype(c.*field)>>(value); });
  };
  for (const auto& [begin, end] : token_ranges(batch.T))
    edit([begin = begin, end = end](DeltaCase& c) {
      erase_tokens(c.batch, begin, end);
      erase_tokens(c.mapping, begin, end);
    });
  for (std::size_t l = ranks.size(); l-- > 0;) {
    edit([l](DeltaCase& c) {
      narrow_mapping(c.mapping, c.max_loras(), c.max_loras() - 1);
      c.ranks.erase(c.ranks.begin() + static_cast<std::ptrdiff_t>(l));
    });
    for (const std::int64_t rank : towards(0, ranks[l])) edit([l, rank](DeltaCase& c) { c.ranks[l] = rank; });
  }
  for (const std::int64_t experts : towards(0, num_local_experts))
    edit([experts](DeltaCase& c) {
      narrow_ids(c.batch, c.num_local_experts, experts);
      c.num_local_experts = static_cast<std::int32_t>(experts);
    });
  lower(&DeltaCase::hidden, 1);
  lower(&DeltaCase::intermediate, 1);
  lower(&DeltaCase::max_lora_rank, 1);
  lower(&DeltaCase::block_size, 1);
  lower(&DeltaCase::input_gap, 0);
  if (projection != DeltaProjection::gate_up)
    edit([](DeltaCase& c) { c.projection = DeltaProjection::gate_up; });
  if (gated) edit([](DeltaCase& c) { c.gated = false; });
  if (shared_outer) edit([](DeltaCase& c) { c.shared_outer = false; });
  if (form != GateUpForm::stacked) edit([](DeltaCase& c) { c.form = GateUpForm::stacked; });
  if (dtype != DType::f32) edit([](DeltaCase& c) { c.dtype = DType::f32; });
  if (input_dtype != DType::f32) edit([](DeltaCase& c) { c.input_dtype = DType::f32; });
  if (no_adapter != NoAdapter::base_slot) edit([](DeltaCase& c) { c.no_adapter = NoAdapter::base_slot; });
  if (sentinels != Sentinels::keep) edit([](DeltaCase& c) { c.sentinels = Sentinels::keep; });
  for (auto& make : simpler_ids(batch, num_local_experts))
    edit([make = std::move(make)](DeltaCase& c) { c.batch = make(); });
  for (auto& make : simpler_mapping(mapping, max_loras()))
    edit([make = std::move(make)](DeltaCase& c) { c.mapping = make(); });
  if (seed != 1) edit([](DeltaCase& c) { c.seed = 1; });
  return result;
}

std::string DeltaCase::show() const {
  return "delta " + std::string(to_string(projection)) + " " + show_ids(batch) +
         " adapters of tokens=" + show_list(mapping) + " E=" + std::to_string(num_local_experts) +
         " ranks=" + show_list(ranks) + " R=" + std::to_string(max_lora_rank) +
         " H=" + std::to_string(hidden) + " i=" + std::to_string(intermediate) + (gated ? "" : " not gated") +
         (form == GateUpForm::interleaved ? " interleaved" : "") + (shared_outer ? " shared_outer" : "") +
         " B=" + std::to_string(block_size) + " " + std::string(to_string(dtype)) + ", input " +
         std::string(to_string(input_dtype)) + " sentinels=" + std::string(to_string(sentinels)) +
         " no_adapter=" + std::string(to_string(no_adapter));
}

std::string DeltaCase::table_text() const {
  std::string text = "  token | adapter | ids\n";
  for (std::int64_t t = 0; t < batch.T; ++t) {
    text += "  " + std::to_string(t) + (t >= batch.real_rows() ? " (padding)" : "") + " | " +
            std::to_string(mapping[t]) + " | ";
    for (std::int64_t k = 0; k < batch.K; ++k) text += std::to_string(batch.ids[t * batch.K + k]) + " ";
    text.back() = '\n';
  }
  return text;
}

Labels DeltaCase::labels() const {
  Labels labels;
  add_labels(batch, num_local_experts, labels);
  add_mapping_labels(mapping, max_loras(), labels);
  labels.emplace_back(to_string(projection));
  labels.emplace_back(gated ? "gated " + std::string(to_string(form)) : "not gated");
  if (shared_outer) labels.emplace_back("shared_outer");
  labels.emplace_back("buffers " + std::string(to_string(dtype)));
  labels.emplace_back("input " + std::string(to_string(input_dtype)));
  if (input_gap > 0) labels.emplace_back("input row stride > width");
  if (batch.K == 1) labels.emplace_back("one expert a token");
  if (num_local_experts == 0) labels.emplace_back("no local expert");
  labels.emplace_back("B " + std::string(block_size == 1 ? "1" : block_size <= 4 ? "2..4" : "5..20"));
  std::vector<bool> active(ranks.size()), visited(static_cast<std::size_t>(num_local_experts));
  for (std::int64_t s = 0; s < batch.n(); ++s)
    if (adapter_of(s) >= 0) {
      active[static_cast<std::size_t>(adapter_of(s))] = true;
      visited[static_cast<std::size_t>(batch.ids[s])] = true;
    }
  const auto count = std::count(active.begin(), active.end(), true);
  labels.emplace_back(count == 0   ? "no slot with an adapter"
                      : count == 1 ? "one adapter active"
                                   : "adapters active 2..4");
  if (count > 0 && std::find(visited.begin(), visited.end(), false) != visited.end())
    labels.emplace_back("an expert without slots");
  for (std::size_t l = 0; l < ranks.size(); ++l) {
    const std::int64_t rank = ranks[l];
    labels.emplace_back(rank == 0 ? "an empty slot" : rank < max_lora_rank ? "r < R" : "r = R");
    if (rank == 1) labels.emplace_back("r = 1");
    if (rank > 0) labels.emplace_back(scale_of(*this, l, seed) == 1 ? "scale 1" : "scale other than 1");
    if (rank == 0 && active[l]) labels.emplace_back("an empty slot with tokens");
  }
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

nlohmann::json DeltaCase::json() const {
  return {{"batch", batch_json(batch)},
          {"token_lora_mapping", mapping},
          {"projection", to_string(projection)},
          {"num_local_experts", num_local_experts},
          {"max_lora_rank", max_lora_rank},
          {"hidden", hidden},
          {"intermediate", intermediate},
          {"ranks", ranks},
          {"gated", gated},
          {"shared_outer", shared_outer},
          {"form", to_string(form)},
          {"dtype", to_string(dtype)},
          {"input_dtype", to_string(input_dtype)},
          {"input_gap", input_gap},
          {"block_size", block_size},
          {"no_adapter", to_string(no_adapter)},
          {"sentinels", to_string(sentinels)},
          {"seed", seed}};
}

DeltaCase DeltaCase::from_json(const nlohmann::json& json) {
  DeltaCase c;
  c.batch = batch_from_json(json.at("batch"));
  c.mapping = json.at("token_lora_mapping").get<std::vector<std::int32_t>>();
  c.projection =
      one_of_two("projection", json.at("projection"), DeltaProjection::gate_up, DeltaProjection::down);
  c.num_local_experts = json.at("num_local_experts");
  c.max_lora_rank = json.at("max_lora_rank");
  c.hidden = json.at("hidden");
  c.intermediate = json.at("intermediate");
  c.ranks = json.at("ranks").get<std::vector<std::int64_t>>();
  c.gated = json.at("gated");
  c.shared_outer = json.at("shared_outer");
  c.form = one_of_two("form", json.at("form"), GateUpForm::stacked, GateUpForm::interleaved);
  c.dtype = dtype_from(json.at("dtype"));
  c.input_dtype = dtype_from(json.at("input_dtype"));
  c.input_gap = json.at("input_gap");
  c.block_size = json.at("block_size");
  c.no_adapter = one_of_two("no_adapter", json.at("no_adapter"), NoAdapter::base_slot, NoAdapter::sentinel);
  c.sentinels = one_of_two("sentinels", json.at("sentinels"), Sentinels::keep, Sentinels::drop);
  c.seed = json.at("seed");
  require_in_range("num_local_experts", c.num_local_experts, 0, 1 << 12);
  require_in_range("max_lora_rank", c.max_lora_rank, 1, 1 << 12);
  require_in_range("hidden", c.hidden, 1, 1 << 12);
  require_in_range("intermediate", c.intermediate, 1, 1 << 12);
  require_in_range("input_gap", c.input_gap, 0, 1 << 12);
  require_in_range("ranks elements", static_cast<std::int64_t>(c.ranks.size()), 0, 1 << 12);
  for (const std::int64_t rank : c.ranks) require_in_range("ranks", rank, 0, c.max_lora_rank);
  validate(DeltaStorage(c).problem);
  return c;
}

DeltaStorage::DeltaStorage(const DeltaCase& c, std::int32_t other_than, std::uint64_t filler_seed) {
  const IdStorage ids(c.batch);
  RouteProblem route;
  route.topk_ids = ids.matrix();
  route.token_lora_mapping = c.mapping;
  route.num_local_experts = c.num_local_experts;
  route.max_loras = c.max_loras();
  route.no_adapter = c.no_adapter;
  route.block_size = c.block_size;
  route.sentinels = c.sentinels;
  route.num_tokens = ids.num_tokens();
  per_expert_ = reference::route(route);
  route.shared_outer = true;
  shared_ = reference::route(route);
  const std::int64_t n = c.batch.n(), R = c.max_lora_rank;
  if (filler_seed != 0) {
    vary_fillers(per_expert_.blocks, n, filler_seed);
    vary_fillers(shared_.blocks, n, filler_seed + 1);
  }

  problem.projection = c.projection;
  problem.dtype = c.dtype;
  problem.max_loras = c.max_loras();
  problem.max_lora_rank = R;
  problem.hidden = c.hidden;
  problem.intermediate = c.intermediate;
  problem.num_local_experts = c.num_local_experts;
  problem.gated = c.gated;
  problem.shared_outer = c.shared_outer;
  problem.form = c.form;
  problem.num_tokens = c.batch.T;
  problem.top_k = c.batch.K;
  problem.block_size = c.block_size;
  const std::int64_t width = problem.input_columns(), columns = problem.output_columns();
  A_ = expand_tiles(c, problem.A_tiles(), problem.A_tile_elements(), 1, other_than,
                    [&](std::int64_t k) { return k / width % R; });
  B_ = expand_tiles(c, problem.B_tiles(), problem.B_tile_elements(), 2, other_than,
                    [&](std::int64_t k) { return k % R; });
  for (std::size_t l = 0; l < c.ranks.size(); ++l) {
    const bool other = other_than >= -1 && static_cast<std::int32_t>(l) != other_than;
    scale_.push_back(scale_of(c, l, c.seed + (other ? 977 : 0)));
  }
  if (c.projection == DeltaProjection::down)
    for (std::int64_t s = 0; s < n; ++s) topk_weights_.push_back(weight_at(hash_at(c.seed, 4), s, false));
  const std::int64_t rows = problem.input_rows(), stride = width + c.input_gap;
  input_.resize(static_cast<std::size_t>(rows * stride) * bytes_of(c.input_dtype), std::byte{0xFF});
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t col = 0; col < width; ++col)
      store_float(input_.data(), c.input_dtype, row * stride + col,
                  weight_at(hash_at(c.seed, 5), row * width + col, true));
  problem.A = A_.data();
  problem.B = B_.data();
  problem.scale = scale_.data();
  problem.per_expert = view(per_expert_.blocks);
  problem.shared = view(shared_.blocks);
  problem.token_lora_mask = per_expert_.token_lora_mask;
  problem.topk_weights = topk_weights_;
  problem.input = {input_.data(), c.input_dtype, rows, width, stride};
  for (std::int64_t s = 0; s < n; ++s)
    for (std::int64_t d = 0; d < columns; ++d) {
      const std::uint64_t place = s * columns + d, bits = hash_at(hash_at(c.seed, 6), place);
      if (c.adapter_of(s) >= 0)
        before.push_back(weight_at(hash_at(c.seed, 7), place, true));
      else
        before.push_back(std::bit_cast<float>(bits % 4 == 0   ? 0x8000'0000U
                                              : bits % 4 == 1 ? 0x7FC0'1234U
                                                              : static_cast<std::uint32_t>(bits >> 32)));
    }
}

}  // namespace eplora::suite
