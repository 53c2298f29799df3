// SPDX-License-Identifier: Apache-2.0
#include "property_tests/suite/picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "optimized/guarded_run.h"
#include "property_tests/generators/layer_cases.h"
#include "property_tests/generators/routing_cases.h"
#include "property_tests/generators/slice_cases.h"
#include "reference/contract/blocks.h"
#include "reference/lora/slice.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"
#include "reference/routing/route.h"

namespace eplora::suite {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMostSlots = 1 << 16;  // of a call that is looked at
constexpr std::int64_t kMostRows = 24, kMostColumns = 16;
constexpr std::int64_t kMostEntries = 256, kMostBlocks = 24;

struct Figure {
  std::string operation;
  bool differs = false;
  Json json;
};

/// The first of `most` consecutive items out of `count` that show item `wanted` with some before it.
std::int64_t window(std::int64_t wanted, std::int64_t count, std::int64_t most) {
  return std::clamp<std::int64_t>(wanted - most / 4, 0, std::max<std::int64_t>(count - most, 0));
}

std::string adapter_note(std::span<const std::int32_t> mapping, std::int64_t t) {
  if (mapping.empty()) return "";
  return mapping[t] < 0 ? "none (" + std::to_string(mapping[t]) + ")" : std::to_string(mapping[t]);
}

/// Cells of a grid, expected beside found; rows around the first that differs.
Figure grid(const std::string& operation, const std::string& name, const IdMatrix& ids, std::int64_t real,
            std::span<const std::int32_t> mapping, const std::vector<std::int32_t>& want,
            const std::vector<std::int32_t>& got, bool canonical) {
  const std::int64_t T = ids.rows, K = ids.cols;
  const auto wrong = [&](std::int64_t s) {
    return got[s] != want[s] && (canonical || got[s] >= 0 || want[s] >= 0);
  };
  std::int64_t first = 0;
  while (first < T * K && !wrong(first)) ++first;
  Figure figure{operation, first < T * K, {}};
  const std::int64_t from = window(figure.differs ? first / K : 0, T, kMostRows);
  const std::int64_t shown = std::min(K, kMostColumns);
  Json rows = Json::array();
  for (std::int64_t t = from; t < std::min(T, from + kMostRows); ++t) {
    Json row = {{"label", t}, {"padding", t >= real}, {"adapter", adapter_note(mapping, t)}};
    Json input = Json::array(), expected = Json::array(), found = Json::array(), marks = Json::array();
    for (std::int64_t k = 0; k < shown; ++k) {
      const std::int64_t s = t * K + k;
      input.push_back(t >= real ? Json("not read") : Json(ids.at(t, k)));
      expected.push_back(want[s]);
      found.push_back(got[s]);
      marks.push_back(wrong(s));
    }
    row["input"] = input;
    row["expected"] = expected;
    row["found"] = found;
    row["wrong"] = marks;
    rows.push_back(row);
  }
  figure.json = {{"type", "grid"}, {"name", name}, {"tokens", T}, {"top_k", K}, {"rows", rows}};
  return figure;
}

Figure blocks(const std::string& operation, const std::vector<std::int64_t>& bucket_of, std::int64_t K,
              std::int64_t B, const AlignResult& want, const AlignResult& got, bool canonical, bool differs) {
  const auto n = static_cast<std::int64_t>(bucket_of.size());
  const auto side = [&](const AlignResult& result, std::int64_t first, std::int64_t count) {
    const auto capacity = static_cast<std::int64_t>(result.sorted_token_ids.size());
    const auto labels = static_cast<std::int64_t>(result.expert_ids.size());
    Json label_list = Json::array(), entries = Json::array();
    for (std::int64_t b = first; b < std::min(labels, first + count); ++b)
      label_list.push_back(result.expert_ids[b]);
    for (std::int64_t i = first * B; i < std::min(capacity, (first + count) * B); ++i)
      entries.push_back(result.sorted_token_ids[i]);
    return Json{{"labels", label_list},
                {"entries", entries},
                {"length", result.num_tokens_post_padded},
                {"capacity", capacity}};
  };
  std::int64_t first_wrong = 0;
  const auto same_block = [&](std::int64_t b) {
    if (b >= static_cast<std::int64_t>(std::min(want.expert_ids.size(), got.expert_ids.size()))) return false;
    if (want.expert_ids[b] != got.expert_ids[b]) return false;
    for (std::int64_t i = b * B; i < (b + 1) * B; ++i)
      if (i >= static_cast<std::int64_t>(
                   std::min(want.sorted_token_ids.size(), got.sorted_token_ids.size())) ||
          want.sorted_token_ids[i] != got.sorted_token_ids[i])
        return false;
    return true;
  };
  const auto all = static_cast<std::int64_t>(std::max(want.expert_ids.size(), got.expert_ids.size()));
  if (differs)
    while (first_wrong < all && same_block(first_wrong)) ++first_wrong;
  const std::int64_t count = std::clamp<std::int64_t>(kMostEntries / B, 4, kMostBlocks);
  const std::int64_t first = window(first_wrong == all ? 0 : first_wrong, all, count);
  Json buckets = Json::object();  // of the slots that are shown
  for (const AlignResult* result : {&want, &got})
    for (std::int64_t i = first * B;
         i < std::min<std::int64_t>(static_cast<std::int64_t>(result->sorted_token_ids.size()),
                                    (first + count) * B);
         ++i)
      if (const std::int64_t s = result->sorted_token_ids[i]; 0 <= s && s < n)
        buckets[std::to_string(s)] = bucket_of[s];
  Figure figure{operation, differs, {}};
  figure.json = {{"type", "blocks"},
                 {"block_size", B},
                 {"slots", n},
                 {"top_k", K},
                 {"canonical", canonical},
                 {"first_block", first},
                 {"num_blocks", all},
                 {"buckets", buckets},
                 {"expected", side(want, first, count)},
                 {"found", side(got, first, count)}};
  return figure;
}

/// The bucket of every slot, `V` and everything outside `[0, V)` as -1.
std::vector<std::int64_t> buckets_of(const AlignProblem& problem) {
  const std::int64_t real = problem.num_tokens.resolve(problem.ids.rows);
  std::vector<std::int64_t> buckets;
  for (std::int64_t t = 0; t < problem.ids.rows; ++t)
    for (std::int64_t k = 0; k < problem.ids.cols; ++k) {
      const std::int64_t id = t < real ? problem.ids.at(t, k) : -1;
      buckets.push_back(0 <= id && id < problem.num_buckets ? id : -1);
    }
  return buckets;
}

std::string number(float value) { return fmt::format("{}", value); }

/// Rows and columns around one element of a matrix `[rows, cols]` whose elements the two functions give.
template <class At>
Json region(const std::string& name, std::int64_t rows, std::int64_t cols, std::int64_t row, std::int64_t col,
            const At& want, const At& got) {
  const std::int64_t r0 = window(row, rows, 12), c0 = window(col, cols, 10);
  Json expected = Json::array(), found = Json::array();
  for (std::int64_t r = r0; r < std::min(rows, r0 + 12); ++r) {
    Json w = Json::array(), g = Json::array();
    for (std::int64_t c = c0; c < std::min(cols, c0 + 10); ++c) {
      w.push_back(number(want(r, c)));
      g.push_back(number(got(r, c)));
    }
    expected.push_back(w);
    found.push_back(g);
  }
  return {{"type", "tensor"}, {"name", name},    {"rows", rows},         {"cols", cols},
          {"first_row", r0},  {"first_col", c0}, {"expected", expected}, {"found", found}};
}

/// The last two extents of one adapter slot of a buffer.
std::pair<std::int64_t, std::int64_t> matrix_of(const BufferShape& shape, BufferTensor tensor) {
  switch (tensor) {
    case BufferTensor::gate_up_A:
      return {shape.max_lora_rank, shape.hidden};
    case BufferTensor::gate_up_B:
      return {shape.halves() * shape.intermediate, shape.max_lora_rank};
    case BufferTensor::down_A:
      return {shape.max_lora_rank, shape.intermediate};
    case BufferTensor::down_B:
      return {shape.hidden, shape.max_lora_rank};
  }
  return {1, 1};
}

Json tensor_figure(const LoraBuffers& want, const LoraBuffers& got, std::size_t layer, BufferTensor tensor,
                   std::int64_t element) {
  const BufferShape& shape = want.shape();
  const std::int64_t per_slot = shape.slot_elements(tensor);
  const auto slot = static_cast<std::int32_t>(element / per_slot);
  const auto [rows, cols] = matrix_of(shape, tensor);
  const std::int64_t in_slot = element % per_slot, matrix = in_slot / (rows * cols);
  const std::int64_t in_matrix = in_slot % (rows * cols);
  std::string name = "layer " + std::to_string(layer) + ", " + std::string(to_string(tensor)) + ", slot " +
                     std::to_string(slot);
  if (tensor == BufferTensor::gate_up_A)
    name += ", local expert " + std::to_string(matrix / shape.halves()) + ", half " +
            std::to_string(matrix % shape.halves());
  else
    name += ", local expert " + std::to_string(matrix);
  const auto at = [&](const LoraBuffers& of) {
    return std::function<float(std::int64_t, std::int64_t)>(
        [&of, layer, tensor, slot, base = matrix * rows * cols, width = cols](
            std::int64_t r, std::int64_t c) { return of.at(layer, tensor, slot, base + r * width + c); });
  };
  return region(name, rows, cols, in_matrix / cols, in_matrix % cols, at(want), at(got));
}

Figure slice_figure(const SliceProblem& problem, const LoraBuffers& want, const LoraBuffers& got) {
  const BufferShape& shape = want.shape();
  Figure figure{"slice", false, {}};
  for (std::size_t n = 0; n < shape.layers.size(); ++n)
    for (const BufferTensor tensor : kBufferTensors) {
      const auto a = got.bytes(n, tensor), b = want.bytes(n, tensor);
      const auto place = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
      if (place == a.end()) continue;
      figure.differs = true;
      figure.json = tensor_figure(want, got, n, tensor,
                                  (place - a.begin()) / static_cast<std::int64_t>(bytes_of(shape.dtype)));
      return figure;
    }
  const std::int64_t L = shape.max_loras;
  const auto a = got.scales(), b = want.scales();
  std::int64_t wrong = 0;
  while (wrong < static_cast<std::int64_t>(a.size()) && a[wrong] == b[wrong]) ++wrong;
  figure.differs = wrong < static_cast<std::int64_t>(a.size());
  if (figure.differs || a.empty()) {
    const auto at = [L](std::span<const float> scales) {
      return std::function<float(std::int64_t, std::int64_t)>(
          [scales, L](std::int64_t r, std::int64_t c) { return scales[r * L + c]; });
    };
    const std::int64_t width = std::max<std::int64_t>(L, 1);
    figure.json =
        region("scale: a row for gate_up and one for down of every layer, a column a slot",
               static_cast<std::int64_t>(a.size()) / width, L, wrong / width, wrong % width, at(b), at(a));
    return figure;
  }
  for (std::size_t n = 0; n < shape.layers.size(); ++n)
    for (const BufferTensor tensor : kBufferTensors)
      if (shape.active(n, tensor) && shape.slot_elements(tensor) > 0) {
        figure.json = tensor_figure(want, got, n, tensor, problem.slot * shape.slot_elements(tensor));
        return figure;
      }
  return figure;
}

/// Keeps a figure of the first call that differs from the reference, else of the last.
class Watch final : public GuardedRunObserver {
 public:
  explicit Watch(const contract::Form& form) : form_(form) { observe_guarded_runs(this); }
  ~Watch() override { observe_guarded_runs(nullptr); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void saw(const DispatchProblem& p, const DispatchResult& got) override {
    if (skips(p.topk_ids)) return;
    keep(grid("dispatch", "local ids", p.topk_ids, p.num_tokens.resolve(p.topk_ids.rows), {},
              reference::dispatch(p).local_ids, got.local_ids, form_.canonical_values));
  }
  void saw(const RemapProblem& p, const RemapResult& got) override {
    if (skips(p.topk_ids)) return;
    keep(grid("remap", "virtual ids", p.topk_ids, p.num_tokens.resolve(p.topk_ids.rows), p.token_lora_mapping,
              reference::remap(p).virtual_ids, got.virtual_ids, form_.canonical_values));
  }
  void saw(const AlignProblem& p, const AlignResult& got) override {
    if (skips(p.ids)) return;
    const AlignResult want = reference::align(p);
    keep(blocks("align", buckets_of(p), p.ids.cols, p.block_size, want, got, canonical(),
                canonical() ? got != want : is_wrong(p, got)));
  }
  void saw(const RouteProblem& p, const RouteResult& got) override {
    if (skips(p.topk_ids)) return;
    const RouteResult want = reference::route(p);
    const DispatchResult local = p.table.empty() && p.offsets.empty()
                                     ? DispatchResult{}
                                     : reference::dispatch({p.topk_ids, p.num_experts, p.table, p.offsets,
                                                            p.slot_offset, p.num_tokens});
    const std::int64_t K = p.topk_ids.cols;
    const RemapResult ids = reference::remap(
        {local.local_ids.empty() ? p.topk_ids : IdMatrix::of(local.local_ids, K), p.token_lora_mapping,
         p.num_local_experts, p.max_loras, p.shared_outer, p.no_adapter, p.num_tokens});
    const AlignProblem align{IdMatrix::of(ids.virtual_ids, K), static_cast<std::int32_t>(p.num_buckets()),
                             p.block_size, p.sentinels, p.num_tokens};
    keep(blocks("route", buckets_of(align), K, p.block_size, want.blocks, got.blocks, canonical(),
                canonical() ? got.blocks != want.blocks : is_wrong(align, got.blocks)));
  }
  void saw(const SliceProblem& p, const LoraBuffers& before, const LoraBuffers& after) override {
    LoraBuffers want = before;
    reference::slice(p, want.view());
    if (form_.scale_in_B) return;
    keep(slice_figure(p, want, after));
  }

  Figure figure;
  bool seen = false;

 private:
  bool canonical() const { return form_ == contract::Form{}; }
  static bool skips(const IdMatrix& ids) { return ids.size() > kMostSlots; }
  bool is_wrong(const AlignProblem& p, const AlignResult& got) const {
    return contract::p3_partition(p, got, form_) || contract::p4_filler(p, got, form_) ||
           contract::p6_labels(p, got, form_);
  }
  void keep(Figure next) {
    if (figure.differs || next.json.is_null()) return;
    figure = std::move(next);
    seen = true;
  }
  contract::Form form_;
};

std::string list_of(const std::vector<std::int32_t>& values) {
  std::string text;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i == 8) return text + " ... " + std::to_string(values.size()) + " in all";
    text += (i > 0 ? " " : "") + std::to_string(values[i]);
  }
  return text.empty() ? "none" : text;
}

std::string range_of(const Range& range) {
  return range.size() <= 0 ? "none"
                           : "[" + std::to_string(range.begin) + ", " + std::to_string(range.end) + ")";
}

Json rank_rows(const Layout& layout, std::int64_t intermediate, std::int64_t tokens) {
  Json rows = Json::array();
  for (std::int32_t rank = 0; rank < std::min<std::int32_t>(layout.mesh.num_ranks(), 32); ++rank) {
    const RankPlace& place = layout.place(rank);
    Json row = {std::to_string(rank), std::to_string(place.ep_rank) + " of " + std::to_string(place.ep),
                std::to_string(place.moe_tp_rank) + " of " + std::to_string(place.moe_tp),
                list_of(layout.local_experts(rank)), range_of(layout.column_range(intermediate, rank))};
    if (tokens >= 0) row.push_back(range_of(layout.token_range(tokens, rank)));
    rows.push_back(row);
  }
  return rows;
}

/// What every rank owns; null where the case has no layout with more than one rank.
Json ranks_figure(const Case& c, const Backend* backend) {
  const LayoutSpec* spec = nullptr;
  std::int64_t columns = 1, tokens = -1;
  if (const auto* layout = dynamic_cast<const CaseOf<LayoutCase>*>(&c)) {
    spec = &layout->value.layout, columns = layout->value.columns_per_rank, tokens = layout->value.num_tokens;
  } else if (const auto* route = dynamic_cast<const CaseOf<RouteCase>*>(&c)) {
    spec = &route->value.layout;
  } else if (const auto* slice = dynamic_cast<const CaseOf<SliceCase>*>(&c)) {
    spec = &slice->value.layout, columns = slice->value.columns_per_rank;
  } else if (const auto* layer = dynamic_cast<const CaseOf<LayerCase>*>(&c)) {
    spec = &layer->value.layout, columns = layer->value.columns_per_rank, tokens = layer->value.batch.T;
  }
  if (spec == nullptr || num_ranks_of(*spec) < 2) return nullptr;
  const std::int64_t intermediate = columns * moe_tp_of(*spec);
  Json names = {"rank", "EP rank", "MoE-TP rank", "experts", "columns of I"};
  if (tokens >= 0) names.push_back("tokens");
  Json figure = {{"type", "ranks"},
                 {"columns", names},
                 {"expected", rank_rows(make_layout(*spec), intermediate, tokens)},
                 {"found", nullptr}};
  try {
    if (backend != nullptr) figure["found"] = rank_rows(backend->layout(*spec), intermediate, tokens);
  } catch (const std::exception&) {  // a layout so wrong that it answers nothing
  }
  return figure;
}

}  // namespace

std::string picture_of(const PropertyDefinition& property, const Case& c, Backend* backend, int tries) {
  Json picture = {{"operation", property.info.operation}, {"differs", false}, {"figures", Json::array()}};
  const auto run = [&](Backend& on, bool until_it_fails) {
    Figure figure;
    for (int i = 0; i < std::max(tries, 1); ++i) {
      Watch watch(on.form());
      bool failed = false;
      try {
        failed = judge(property, c, on).has_value();
      } catch (const Discard&) {
        return figure;
      }
      figure = watch.figure;
      if (failed || !until_it_fails) break;
    }
    return figure;
  };
  if (!property.host_only) {  // those run on arrays too large to look at
    Figure figure;
    if (backend != nullptr) figure = run(*backend, true);
    if (figure.json.is_null()) {
      ReferenceBackend reference;
      figure = run(reference, false);
      if (!figure.json.is_null()) {
        figure.json["found"] = nullptr;
        if (figure.json["type"] == "grid")
          for (Json& row : figure.json["rows"]) row["found"] = nullptr;
      }
    }
    if (!figure.json.is_null()) {
      picture["operation"] = figure.operation;
      picture["differs"] = figure.differs;
      picture["figures"].push_back(std::move(figure.json));
    }
  }
  if (Json ranks = ranks_figure(c, backend); !ranks.is_null()) {
    if (ranks["found"] != ranks["expected"]) picture["differs"] = true;
    picture["figures"].push_back(std::move(ranks));
  }
  return picture["figures"].empty() ? "" : picture.dump();
}

}  // namespace eplora::suite
