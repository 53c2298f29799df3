// SPDX-License-Identifier: Apache-2.0
#include "reference/lora/deployed_rank.h"

#include <algorithm>
#include <deque>
#include <limits>

#include "reference/check.h"

namespace eplora::reference {
namespace {

/// The token shard that token t comes from: its part of the batch outside the experts.
std::int32_t source_of(const ClassPlan& plan, std::int64_t t) {
  for (std::int32_t d = 0; d < plan.home_parts; ++d)
    if (t < contiguous_part(plan.sizes.tokens, plan.home_parts, d).end) return d;
  return 0;
}

/// Negative ids stay, ids of no routed expert become -1: none may become an alias of a replica.
std::int32_t routed_id(std::int64_t id, std::int64_t num_experts) {
  if (id < 0)
    return static_cast<std::int32_t>(std::max<std::int64_t>(id, std::numeric_limits<std::int32_t>::min()));
  return id < num_experts ? static_cast<std::int32_t>(id) : -1;
}

/// A copy of one factor: experts of `experts`, rows and columns through `row` and `col`, `fill` where either
/// is negative, 0 for an expert that the adapter does not have.
struct Gathered {
  std::deque<std::vector<float>> memory;

  StridedTensor copy(const StridedTensor& from, const std::vector<std::int32_t>& experts,
                     const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& cols, float fill,
                     bool once = false) {
    const std::int64_t count = once ? 1 : static_cast<std::int64_t>(experts.size());
    std::vector<float>& values = memory.emplace_back();
    for (std::int64_t e = 0; e < count; ++e)
      for (const std::int64_t row : rows)
        for (const std::int64_t col : cols) {
          const std::int64_t expert = once ? 0 : experts[e];
          const bool known = once || expert < from.experts;
          values.push_back(row < 0 || col < 0 ? fill : known ? from.at(expert, row, col) : 0.0F);
        }
    const auto r = static_cast<std::int64_t>(rows.size()), c = static_cast<std::int64_t>(cols.size());
    return {values.data(), DType::f32, count, r, c, r * c, c, 1};
  }
};

std::vector<std::int64_t> all_of(std::int64_t count) {
  std::vector<std::int64_t> result(count);
  for (std::int64_t i = 0; i < count; ++i) result[i] = i;
  return result;
}

/// Model columns of the rank's `w` columns; -1 is padding.
std::vector<std::int64_t> columns_of(const PaddedRange& columns) {
  std::vector<std::int64_t> result;
  for (std::int64_t q = columns.real.begin; q < columns.real.end; ++q) result.push_back(q);
  result.resize(columns.width(), -1);
  return result;
}

/// What a loader hands to `slice`: the geometry, place and experts, and adapters that live in `keep`.
struct Loadable {
  MoeGeometry geometry;
  RankPlace place;
  std::vector<std::int32_t> experts;
  std::vector<Adapter> adapters;
  Gathered keep;
};

Loadable loadable(const DeployedProblem& problem, const ClassPlan& plan, std::int32_t rank) {
  const MoeGeometry& model = problem.routed.geometry;
  const RankPlan& at = plan.ranks[rank];
  const std::vector<std::int32_t>& experts = of_ep_rank(plan.loaded, plan, rank);
  Loadable out{model, at.place, experts, {}, {}};
  out.geometry.form = GateUpForm::stacked;
  const std::int64_t w = at.columns.real.size();
  const bool as_it_is = at.columns.padding == 0 && plan.fused_shared() == 0 && at.place.moe_tp >= 1 &&
                        w * at.place.moe_tp == model.intermediate &&
                        at.columns.real.begin == at.place.moe_tp_rank * w &&
                        std::all_of(experts.begin(), experts.end(),
                                    [&](std::int32_t e) { return 0 <= e && e < model.num_experts; });
  if (as_it_is) {
    for (const AdapterLayer* layer : problem.routed.adapters) {
      Adapter& adapter = out.adapters.emplace_back();
      if (layer != nullptr) adapter.layers[0] = *layer;
    }
    return out;
  }
  // Padding, uneven columns or ids that no adapter has: the loader gathers the rank's own adapter.
  out.geometry.num_experts = static_cast<std::int32_t>(experts.size());
  out.geometry.intermediate = at.columns.width();
  out.place = RankPlace{};
  for (std::size_t j = 0; j < experts.size(); ++j) out.experts[j] = static_cast<std::int32_t>(j);
  const std::vector<std::int64_t> columns = columns_of(at.columns), hidden = all_of(model.hidden);
  for (const AdapterLayer* layer : problem.routed.adapters) {
    Adapter& adapter = out.adapters.emplace_back();
    if (layer == nullptr) continue;
    AdapterLayer& mine = adapter.layers[0];
    mine.gate_up_scale = layer->gate_up_scale;
    mine.down_scale = layer->down_scale;
    const float fill = plan.padding_value;
    for (std::size_t h = 0; h < layer->gate_up.size(); ++h) {
      const LoraPair& pair = layer->gate_up[h];
      if (!pair.present()) continue;
      const auto r = all_of(pair.rank());
      mine.gate_up[h] = {out.keep.copy(pair.A, experts, r, hidden, fill, model.shared_outer),
                         out.keep.copy(pair.B, experts, columns, r, fill)};
    }
    if (!layer->down.present()) continue;
    const auto r = all_of(layer->down.rank());
    mine.down = {out.keep.copy(layer->down.A, experts, r, columns, fill),
                 out.keep.copy(layer->down.B, experts, hidden, r, fill, model.shared_outer)};
  }
  return out;
}

std::vector<float> floats_of(const LoraBuffers& buffers, BufferTensor tensor) {
  const std::int64_t slot = buffers.shape().slot_elements(tensor);
  std::vector<float> values;
  values.reserve(slot * buffers.shape().max_loras);
  for (std::int32_t l = 0; l < buffers.shape().max_loras; ++l)
    for (std::int64_t i = 0; i < slot; ++i) values.push_back(buffers.at(0, tensor, l, i));
  return values;
}

}  // namespace

RankBatch rank_batch(const DeployedProblem& problem, const ClassPlan& plan, std::int32_t rank) {
  const MoeLayerProblem& p = problem.routed;
  const Range tokens = plan.ranks[rank].tokens;
  const std::int64_t K = p.topk_ids.cols, extra = plan.fused_shared(), E = p.geometry.num_experts;
  require_in_range("tokens of rank " + std::to_string(rank), tokens.end, tokens.begin, p.topk_ids.rows);
  require_in_range("tokens of rank " + std::to_string(rank), tokens.begin, 0, tokens.end);
  RankBatch batch{tokens.size(), K + extra, tokens.begin, {}, {}, {}, false};
  const DispatchTable& dispatch = of_ep_rank(plan.dispatch, plan, rank);
  batch.physical = plan.spec().placement.replicas != ReplicaRule::slot && !dispatch.offsets.empty();
  for (std::int64_t t = tokens.begin; t < tokens.end; ++t) {
    batch.mapping.push_back(p.token_lora_mapping[t]);
    for (std::int64_t k = 0; k < batch.K; ++k) {
      std::int32_t id = k < K ? routed_id(p.topk_ids.at(t, k), E) : static_cast<std::int32_t>(E + k - K);
      if (batch.physical && id >= 0)
        id = dispatch.offsets.at(id) + plan.layer_class.replica_of(id, t, k, batch.K, source_of(plan, t));
      batch.ids.push_back(id);
      batch.weights.push_back(k < K ? p.topk_weights[t * K + k] : 1.0F);
    }
  }
  return batch;
}

RouteProblem rank_route(const RankBatch& batch, const ClassPlan& plan, std::int32_t rank,
                        std::span<const std::int32_t> mapping, std::int32_t max_loras, bool shared_outer,
                        const ShardedLayerOptions& options) {
  const DispatchTable& dispatch = of_ep_rank(plan.dispatch, plan, rank);
  RouteProblem route;
  route.topk_ids = IdMatrix::of(batch.ids, batch.K);
  route.topk_ids.rows = batch.T;
  route.token_lora_mapping = mapping;
  route.table = dispatch.local_ids;
  if (batch.physical) {
    route.num_experts = static_cast<std::int32_t>(dispatch.local_ids.size());
  } else {
    route.num_experts = plan.num_ids();
    route.offsets = dispatch.offsets;
  }
  route.slot_offset = batch.first_token * batch.K;
  route.num_local_experts = static_cast<std::int32_t>(of_ep_rank(plan.loaded, plan, rank).size());
  route.max_loras = max_loras;
  route.shared_outer = shared_outer;
  route.no_adapter = options.no_adapter;
  route.block_size = options.block_size;
  route.sentinels = options.sentinels;
  return route;
}

RankBase rank_base(const DeployedProblem& problem, const ClassPlan& plan, std::int32_t rank) {
  const MoeGeometry& model = problem.routed.geometry;
  const std::vector<std::int32_t>& experts = of_ep_rank(plan.loaded, plan, rank);
  const PaddedRange& mine = plan.ranks[rank].columns;
  const std::int64_t c = model.halves(), H = model.hidden, w = mine.width();
  const auto E_local = static_cast<std::int64_t>(experts.size());
  require_in_range("columns of rank " + std::to_string(rank), mine.real.begin, 0, mine.real.end);
  require_in_range("columns of rank " + std::to_string(rank), mine.real.end, 0, model.intermediate);
  RankBase base;
  base.gate_up.assign(E_local * c * w * H, plan.padding_value);
  base.down.assign(E_local * H * w, plan.padding_value);
  for (std::int64_t j = 0; j < E_local; ++j) {
    const bool shared = experts[j] >= model.num_experts;
    const std::int64_t e = shared ? experts[j] - model.num_experts : experts[j];
    require_in_range("expert at local id " + std::to_string(j) + " of rank " + std::to_string(rank),
                     experts[j], 0, std::int64_t{plan.num_ids()} - 1);
    const BaseWeights& from = shared ? problem.shared : problem.routed.base;
    const std::int64_t I = model.intermediate;
    for (std::int64_t q = 0; q < mine.real.size(); ++q) {
      for (std::int64_t h = 0; h < c; ++h) {
        const std::int64_t row = weight_row(plan.base_form, plan.spec().interleave_block, w, h, q);
        const float* whole = from.gate_up_proj.data() + e * c * I * H;
        std::copy_n(whole + gate_up_row(model.form, c, I, h, mine.real.begin + q) * H, H,
                    base.gate_up.data() + (j * c * w + row) * H);
      }
      for (std::int64_t d = 0; d < H; ++d)
        base.down[(j * H + d) * w + q] = from.down_proj[(e * H + d) * I + mine.real.begin + q];
    }
  }
  return base;
}

RankLora rank_lora(const DeployedProblem& problem, const ClassPlan& plan, std::int32_t rank, std::int64_t R,
                   DType dtype, const LayerSteps& steps) {
  constexpr std::uint8_t kPoison = 0xFF;
  const Loadable load = loadable(problem, plan, rank);
  const auto L = static_cast<std::int32_t>(problem.routed.adapters.size());
  const std::int64_t c = load.geometry.halves(), w = plan.ranks[rank].columns.width();
  RankLora out;
  out.local = static_cast<std::int64_t>(load.experts.size());
  out.outer = load.geometry.shared_outer ? 1 : out.local;
  if (out.local == 0) {  // no expert, no weights; shared-outer tensors would serve nobody
    out.outer = 0;
    out.scale.assign(std::size_t{2} * L, 0.0F);
    return out;
  }
  LoraBuffers buffers(buffer_shape(load.geometry, load.place, out.local, {BufferLayer{0}}, L, R, dtype),
                      kPoison);
  for (std::int32_t l = 0; l < L; ++l)
    steps.slice({load.geometry, load.place, load.experts, &load.adapters[l], &buffers.shape(), l},
                buffers.view());
  out.gate_up_A = floats_of(buffers, BufferTensor::gate_up_A);
  out.down_A = floats_of(buffers, BufferTensor::down_A);
  out.down_B = floats_of(buffers, BufferTensor::down_B);
  out.scale.assign(buffers.scales().begin(), buffers.scales().end());
  const std::vector<float> stacked = floats_of(buffers, BufferTensor::gate_up_B);
  out.gate_up_B.resize(stacked.size());
  for (std::int64_t tile = 0; tile < L * out.local; ++tile)
    for (std::int64_t h = 0; h < c; ++h)
      for (std::int64_t q = 0; q < w; ++q)
        std::copy_n(
            stacked.data() + ((tile * c + h) * w + q) * R, R,
            out.gate_up_B.data() +
                (tile * c * w + weight_row(plan.lora_form, plan.spec().interleave_block, w, h, q)) * R);
  return out;
}

}  // namespace eplora::reference
