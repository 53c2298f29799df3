// SPDX-License-Identifier: Apache-2.0
// `eplora compare --adapter DIR`: somebody's PEFT adapter under parallel layouts. For each layout: the slices
// of all ranks put together again must give the adapter (P7), every backend must cut the same bytes, and -
// where a layer with random base weights fits - the sharded layer with the adapter must equal the whole one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/backend_equality.h"
#include "cli/compare.h"
#include "cli/formats/model_config.h"
#include "cli/formats/peft_adapter.h"
#include "cli/layout_input.h"
#include "cli/layout_text.h"
#include "cli/table.h"
#include "reference/check.h"
#include "reference/contract/weights.h"
#include "reference/lora/sharded_moe_layer.h"

namespace eplora {
namespace {

constexpr double kShardedBound = 1e-13;                           // contract, section 7
constexpr std::int64_t kMostBaseWeights = std::int64_t{1} << 24;  // of one layer, for the end-to-end part
constexpr std::int64_t kTokens = 16;
constexpr const char* kLargeModelLayout = "tp=4,ep=2";

float small_random(std::uint64_t seed, std::uint64_t place, double scale) {
  return static_cast<float>((static_cast<double>(random_bits(seed, place) >> 11) * 0x1p-53 - 0.5) * scale);
}

/// A layer of the model's sizes with random base weights and a mixed batch; owns what the problem points to.
struct RandomLayer {
  std::vector<float> gate_up, down, hidden_states, weights;
  std::vector<std::int32_t> topk_ids, mapping;

  RandomLayer(const ModelConfig& model, const MoeGeometry& geometry, std::uint64_t seed) {
    const std::int64_t E = geometry.num_experts, H = geometry.hidden, I = geometry.intermediate;
    fill(gate_up, E * geometry.halves() * I * H, seed + 1, 2 / std::sqrt(static_cast<double>(H)));
    fill(down, E * H * I, seed + 2, 2 / std::sqrt(static_cast<double>(I)));
    fill(hidden_states, kTokens * H, seed + 3, 2);
    topk_ids = random_topk_ids(seed, kTokens, model.num_experts, model.top_k);
    weights.assign(topk_ids.size(), 1.0F / static_cast<float>(model.top_k));
    mapping = random_lora_mapping(seed, kTokens, 1);
  }

  reference::MoeLayerProblem problem(const ModelConfig& model, const MoeGeometry& geometry,
                                     const AdapterLayer* adapter) const {
    return {geometry, {gate_up, down}, {adapter},    IdMatrix::of(topk_ids, model.top_k),
            weights,  mapping,         hidden_states};
  }

 private:
  static void fill(std::vector<float>& values, std::int64_t count, std::uint64_t seed, double scale) {
    values.resize(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = small_random(seed, i, scale);
  }
};

struct AdapterRow {
  std::string layout, reassembly;  ///< the violation in words, empty = exact
  std::int32_t ranks = 0;
  std::string experts;
  std::int64_t columns = 0;
  std::optional<double> sharded_to_whole;  ///< over the layers tried
  std::vector<BackendVerdict> backends;

  bool agrees() const {
    return reassembly.empty() && (!sharded_to_whole || *sharded_to_whole <= kShardedBound) &&
           std::all_of(backends.begin(), backends.end(), [](const BackendVerdict& b) { return b.agrees(); });
  }
};

/// Layer by layer, so that no more than one layer's buffers exist at a time.
class AdapterRun {
 public:
  AdapterRun(const ModelConfig& model, const MoeGeometry& geometry, const PeftAdapter& adapter,
             std::uint64_t seed)
      : model_(model), geometry_(geometry), adapter_(adapter), seed_(seed) {
    const std::int64_t weights = saturating_product(saturating_product(geometry.num_experts, geometry.hidden),
                                                    geometry.intermediate * (geometry.halves() + 1));
    if (weights > kMostBaseWeights) return;
    random_.emplace(model, geometry, seed);
    for (const auto& [id, layer] : adapter.adapter().layers)
      whole_[id] = reference::moe_layer<double>(random_->problem(model, geometry, &layer));
  }

  bool end_to_end() const { return random_.has_value(); }

  AdapterRow row(const NamedLayout& named, const Backends& backends) const {
    const Layout& layout = named.layout;
    AdapterRow row;
    row.layout = named.name;
    row.ranks = layout.mesh.num_ranks();
    row.experts = describe_expert_counts(layout.placement) + (named.uneven ? " uneven" : "");
    row.columns = layout.column_range(model_.moe_intermediate, 0).size();
    for (const auto& [id, weights] : adapter_.adapter().layers) {
      Adapter one;
      one.layers[id] = weights;
      if (row.reassembly.empty()) row.reassembly = reassembly(layout, one, id);
      compare_backends(layout, one, backends, row);
      if (!random_) continue;
      const auto sharded =
          reference::sharded_moe_layer<double>(random_->problem(model_, geometry_, &weights), layout);
      const double error = (sharded - whole_.at(id)).norm() / whole_.at(id).norm();
      if (!row.sharded_to_whole || !(error <= *row.sharded_to_whole)) row.sharded_to_whole = error;
    }
    return row;
  }

 private:
  std::string reassembly(const Layout& layout, const Adapter& one, std::int32_t id) const {
    std::vector<LoraBuffers> buffers;
    for (std::int32_t rank = 0; rank < layout.mesh.num_ranks(); ++rank) {
      const std::vector<std::int32_t>& experts = layout.local_experts(rank);
      const BufferShape shape =
          buffer_shape(geometry_, layout.place(rank), static_cast<std::int64_t>(experts.size()),
                       {BufferLayer{id}}, 1, std::max<std::int64_t>(adapter_.max_rank(), 1), DType::f32);
      reference::slice({geometry_, layout.place(rank), experts, &one, &shape, 0},
                       buffers.emplace_back(shape, 0xFF).view());
    }
    const contract::Verdict verdict = contract::p7_reassembly(geometry_, layout, one, 0, buffers);
    return verdict ? verdict->sentence : "";
  }

  void compare_backends(const Layout& layout, const Adapter& one, const Backends& backends,
                        AdapterRow& row) const {
    const std::vector<std::int32_t> ids = random_topk_ids(seed_, kTokens, model_.num_experts, model_.top_k);
    const std::vector<std::int32_t> mapping = random_lora_mapping(seed_, kTokens, 1);
    const EqualityData data{IdMatrix::of(ids, model_.top_k), mapping, geometry_, {&one}, 16};
    for (std::size_t b = 0; b < backends.size(); ++b) {
      BackendVerdict verdict = compare_backend(*backends[b], layout, data);
      if (b == row.backends.size())
        row.backends.push_back(std::move(verdict));
      else if (row.backends[b].agrees())
        row.backends[b] = std::move(verdict);
    }
  }

  const ModelConfig& model_;
  MoeGeometry geometry_;
  const PeftAdapter& adapter_;
  std::uint64_t seed_;
  std::optional<RandomLayer> random_;
  std::map<std::int32_t, reference::Matrix<double>> whole_;
};

void print_rows(const std::vector<AdapterRow>& rows, const Output& output) {
  Table table;
  table.column("layout").column("ranks", Table::Align::right);
  table.column("experts", Table::Align::left, "on a rank")
      .column("columns", Table::Align::right, "on a rank");
  table.column("slices put together").column("layer, sharded to whole", Table::Align::right);
  for (const BackendVerdict& verdict : rows.front().backends)
    table.column("slice", Table::Align::left, verdict.backend);
  for (const AdapterRow& row : rows) {
    std::vector<Cell> cells = {row.layout, fmt::format("{}", row.ranks), row.experts,
                               fmt::format("{}", row.columns)};
    cells.push_back(row.reassembly.empty() ? Cell("exact", Style::good) : Cell("DIFFERENT", Style::bad));
    cells.push_back(!row.sharded_to_whole
                        ? Cell("-", Style::faint)
                        : Cell(fmt::format("{:.1e}", *row.sharded_to_whole),
                               *row.sharded_to_whole <= kShardedBound ? Style::plain : Style::bad));
    for (const BackendVerdict& verdict : row.backends) cells.push_back(verdict.of(Operation::slice).cell());
    table.row(std::move(cells));
  }
  fmt::print("{}\n", table.render(output.color));
  for (const AdapterRow& row : rows) {
    if (!row.reassembly.empty())
      fmt::print("{} {}: {}\n", styled("DIFFERENT", Style::bad, output.color), row.layout, row.reassembly);
    for (const BackendVerdict& verdict : row.backends)
      if (!verdict.agrees())
        fmt::print("{} {}: {}\n", styled("DIFFERENT", Style::bad, output.color), row.layout,
                   verdict.first_difference());
  }
}

nlohmann::ordered_json to_json(const AdapterRow& row) {
  nlohmann::ordered_json entry = {{"layout", row.layout},
                                  {"ranks", row.ranks},
                                  {"experts_a_rank", row.experts},
                                  {"columns_a_rank", row.columns},
                                  {"reassembly", row.reassembly.empty() ? "exact" : row.reassembly},
                                  {"agrees", row.agrees()},
                                  {"backends", nlohmann::ordered_json::array()}};
  entry["sharded_to_whole"] =
      row.sharded_to_whole ? nlohmann::ordered_json(*row.sharded_to_whole) : nlohmann::ordered_json();
  for (const BackendVerdict& verdict : row.backends) entry["backends"].push_back(to_json(verdict));
  return entry;
}

}  // namespace

CompareOutcome compare_adapter(const CompareOptions& options, const Backends& backends, const Output& output,
                               Progress& progress, nlohmann::ordered_json& document) {
  if (options.model.empty())
    reject("--model", "missing", "an adapter needs its model's config.json: --model FILE");
  const ModelConfig model = model_argument(options.model);
  PeftLoadOptions load;
  load.allow_other_modules = true;
  if (model.num_layers > 0) load.num_layers = model.num_layers;
  MoeGeometry geometry = model.geometry();
  geometry.shared_outer = peft_adapter_is_shared_outer(options.adapter);
  const PeftAdapter adapter = load_peft_adapter(options.adapter, geometry, load);
  const AdapterRun run(model, geometry, adapter, options.seed);
  const std::string one_layout =
      run.end_to_end() || !options.layout.empty() ? options.layout : kLargeModelLayout;

  std::vector<AdapterRow> rows;
  CompareOutcome outcome;
  const std::vector<NamedLayout> layouts = layouts_for(one_layout, model.num_experts, model.moe_intermediate);
  for (const NamedLayout& named : layouts) {
    progress.say(fmt::format("{} ({} of {})", named.name, rows.size() + 1, layouts.size()));
    rows.push_back(run.row(named, backends));
    outcome.agreed &= rows.back().agrees();
    ++outcome.rows;
  }
  progress.clear();
  const std::string how =
      run.end_to_end()
          ? fmt::format(
                "slices, and the layer with random base weights of the model's sizes ({} tokens, double)",
                kTokens)
          : "slices only: base weights of the model's sizes are too many to compute with here";
  if (output.json) {
    document["adapter"] = {{"model", model.name},
                           {"layers", adapter.adapter().layers.size()},
                           {"largest_rank", adapter.max_rank()},
                           {"key_layout", to_string(adapter.key_layout())},
                           {"consumed_tensors", adapter.consumed().size()},
                           {"not_applied", adapter.refused()},
                           {"checked", how},
                           {"rows", nlohmann::ordered_json::array()}};
    for (const AdapterRow& row : rows) document["adapter"]["rows"].push_back(to_json(row));
    return outcome;
  }
  fmt::print("{}\n", styled("Adapter for " + model.name, Style::heading, output.color));
  fmt::print("{} MoE layers, largest rank {}, {} keys; {} tensors applied, {} of other modules not applied\n",
             adapter.adapter().layers.size(), adapter.max_rank(), to_string(adapter.key_layout()),
             adapter.consumed().size(), adapter.refused().size());
  fmt::print("checked: {}\n\n", how);
  print_rows(rows, output);
  fmt::print("{}: {} of this adapter; seed {}\n",
             styled(outcome.agreed ? "All agree" : "NOT all agree", outcome.agreed ? Style::good : Style::bad,
                    output.color),
             rows.size() == 1 ? "1 layout" : fmt::format("{} layouts", rows.size()), options.seed);
  return outcome;
}

}  // namespace eplora
