// SPDX-License-Identifier: Apache-2.0
// The MoE layer end to end: the backend's layout, routing and slicing inside the sharded driver must give
// what the whole layer gives (contract, section 7). This is the property that every layout bug breaks.
#include <cmath>
#include <cstring>

#include "optimized/guarded_run.h"
#include "property_tests/generators/layer_cases.h"
#include "property_tests/properties/compare.h"
#include "property_tests/properties/properties.h"
#include "reference/contract/weights.h"
#include "reference/lora/delta.h"
#include "reference/routing/dispatch.h"

namespace eplora::suite {
namespace {

using contract::Verdict;
using reference::Matrix;

constexpr double kShardedAgainstWhole = 1e-13;  // contract, section 7
constexpr double kFloat = 0x1p-24;

void require_promised(const LayerCase& c, const Backend& backend) {
  require_accepted(c.batch, c.layout.placement.num_experts, backend.form());
  if (c.shared_outer && backend.form().shared_outer_sentinels == contract::SharedOuterSentinels::routed)
    throw Discard{"the backend declares that it routes the sentinels of shared-outer weights"};
}

/// A guarded load into buffers that somebody else owns.
void slice_under_guard(const GuardedRun& run, const SliceProblem& problem, const BufferView& view) {
  LoraBuffers copy(*problem.shape);
  const auto each = [&](auto move) {
    for (std::size_t n = 0; n < problem.shape->layers.size(); ++n)
      for (const BufferTensor tensor : kBufferTensors) {
        const auto bytes = copy.bytes(n, tensor);
        if (!bytes.empty())
          move(view.tensor[n][static_cast<std::size_t>(tensor)], bytes.data(), bytes.size());
      }
    const auto scale_bytes = static_cast<std::size_t>(problem.shape->scale_elements()) * sizeof(float);
    if (scale_bytes > 0) move(view.scale, copy.view().scale, scale_bytes);
  };
  each([](const void* theirs, void* ours, std::size_t bytes) { std::memcpy(ours, theirs, bytes); });
  run.slice(problem, copy);
  each([](void* theirs, const void* ours, std::size_t bytes) { std::memcpy(theirs, ours, bytes); });
}

reference::LayerSteps steps_of(const GuardedRun& run) {
  return {
      [run](const RouteProblem& problem) { return run.route(problem); },
      [run](const SliceProblem& problem, const BufferView& view) { slice_under_guard(run, problem, view); }};
}

/// Route as the backend's own dispatch, remap and align, one after another.
RouteResult route_in_steps(const GuardedRun& run, const RouteProblem& p) {
  const std::int64_t K = p.topk_ids.cols;
  const DispatchResult local =
      run.dispatch({p.topk_ids, p.num_experts, p.table, p.offsets, p.slot_offset, p.num_tokens});
  RemapResult remapped =
      run.remap({IdMatrix::of(local.local_ids, K), p.token_lora_mapping, p.num_local_experts, p.max_loras,
                 p.shared_outer, p.no_adapter, p.num_tokens});
  return {run.align({IdMatrix::of(remapped.virtual_ids, K), static_cast<std::int32_t>(p.num_buckets()),
                     p.block_size, p.sentinels, p.num_tokens}),
          std::move(remapped.token_lora_mask)};
}

Verdict sharded_in_steps_equals_whole(const LayerCase& c, Backend& backend) {
  require_promised(c, backend);
  const LayerStorage storage(c);
  const Matrix<double> want = reference::moe_layer<double>(storage.problem);
  const GuardedRun run(backend);
  reference::LayerSteps steps = steps_of(run);
  steps.route = [run](const RouteProblem& problem) { return route_in_steps(run, problem); };
  const Matrix<double> got =
      reference::sharded_moe_layer<double>(storage.problem, backend.layout(c.layout), c.options(), steps);
  return contract::p7_output(got, want, kShardedAgainstWhole);
}

Verdict sharded_equals_whole(const LayerCase& c, Backend& backend) {
  require_promised(c, backend);
  const LayerStorage storage(c);
  const Matrix<double> want = reference::moe_layer<double>(storage.problem);
  const Matrix<double> got = reference::sharded_moe_layer<double>(storage.problem, backend.layout(c.layout),
                                                                  c.options(), steps_of(GuardedRun(backend)));
  return contract::p7_output(got, want, kShardedAgainstWhole);
}

/// Rows of tokens with adapter 0 or none, with the other adapters loaded and without them.
Verdict isolation(const LayerCase& c, Backend& backend) {
  require_promised(c, backend);
  const LayerStorage storage(c);
  reference::MoeLayerProblem alone = storage.problem;
  for (std::size_t l = 1; l < alone.adapters.size(); ++l) alone.adapters[l] = nullptr;
  std::vector<std::int64_t> unchanged;
  for (std::size_t t = 0; t < c.mapping.size(); ++t)
    if (c.mapping[t] <= 0 || c.mapping[t] >= static_cast<std::int32_t>(c.adapters.size()))
      unchanged.push_back(static_cast<std::int64_t>(t));
  const Layout layout = backend.layout(c.layout);
  return contract::p12_isolation(
      [&](bool without_others) {
        return reference::sharded_moe_layer<double>(without_others ? alone : storage.problem, layout,
                                                    c.options(), steps_of(GuardedRun(backend)));
      },
      unchanged);
}

/// The deltas of one rank in float against a direct double sum over the unsharded adapter.
class DeltaOnRank {
 public:
  DeltaOnRank(const LayerCase& c, Backend& backend, const Layout& layout, std::int32_t rank)
      : c_(c),
        storage_(c),
        place_(layout.place(rank)),
        experts_(layout.local_experts(rank)),
        buffers_(buffer_shape(storage_.geometry, place_, static_cast<std::int64_t>(experts_.size()),
                              {BufferLayer{0}}, static_cast<std::int32_t>(c.adapters.size()), c.max_lora_rank,
                              DType::f32),
                 0xFF) {
    const GuardedRun run(backend);
    for (std::size_t l = 0; l < c.adapters.size(); ++l) {
      Adapter adapter;
      if (storage_.problem.adapters[l] != nullptr) adapter.layers[0] = *storage_.problem.adapters[l];
      run.slice(
          {storage_.geometry, place_, experts_, &adapter, &buffers_.shape(), static_cast<std::int32_t>(l)},
          buffers_);
    }
    const DispatchTable table = layout.placement.dispatch_table(place_.ep_rank);
    RouteProblem route;
    route.topk_ids = storage_.problem.topk_ids;
    route.token_lora_mapping = c.mapping;
    route.num_experts = storage_.geometry.num_experts;
    route.table = table.local_ids;
    route.offsets = table.offsets;
    route.num_local_experts = static_cast<std::int32_t>(experts_.size());
    route.max_loras = static_cast<std::int32_t>(c.adapters.size());
    route.no_adapter = c.no_adapter;
    route.block_size = c.block_size;
    route.sentinels = c.sentinels;
    per_expert_ = run.route(route);
    route.shared_outer = true;
    if (c.shared_outer) shared_outer_ = run.route(route);
    local_ids_ =
        reference::dispatch({route.topk_ids, route.num_experts, route.table, route.offsets, 0, {}}).local_ids;
  }

  Verdict judge_gate_up() const {
    const std::int64_t n = c_.batch.n(), H = c_.hidden, i = c_.columns_per_rank,
                       halves = storage_.geometry.halves();
    const Matrix<float> x = inputs(c_.batch.T, H, 10);
    Matrix<float> out = Matrix<float>::Zero(n, halves * i);
    reference::add_gate_up_delta<float>(buffers_, 0, routing(), x, out);
    Matrix<double> want = Matrix<double>::Zero(n, halves * i), sums = want;
    for_each_slot([&](std::int64_t s, std::int64_t e, const AdapterLayer& lora) {
      for (std::int64_t h = 0; h < halves && lora.gate_up[h].present(); ++h)
        for (std::int64_t q = 0; q < i; ++q) {
          const std::int64_t column = c_.form == GateUpForm::interleaved ? halves * q + h : h * i + q;
          direct(lora.gate_up[h], e, place_.moe_tp_rank * i + q, &x(s / c_.batch.K, 0), 0, H,
                 lora.gate_up_scale, want(s, column), sums(s, column));
        }
    });
    return contract::p11_delta(out.cast<double>(), want, sums, {kFloat, kFloat, 0, H, c_.max_lora_rank});
  }

  Verdict judge_down() const {
    const std::int64_t n = c_.batch.n(), H = c_.hidden, i = c_.columns_per_rank;
    const Matrix<float> a = inputs(n, i, 20);
    Matrix<float> out = Matrix<float>::Zero(n, H);
    reference::add_down_delta<float>(buffers_, 0, routing(), storage_.problem.topk_weights, a, out);
    Matrix<double> want = Matrix<double>::Zero(n, H), sums = want;
    for_each_slot([&](std::int64_t s, std::int64_t e, const AdapterLayer& lora) {
      const double scale = double{storage_.problem.topk_weights[s]} * double{lora.down_scale};
      for (std::int64_t d = 0; d < H && lora.down.present(); ++d)
        direct(lora.down, e, d, &a(s, 0), place_.moe_tp_rank * i, i, scale, want(s, d), sums(s, d));
    });
    return contract::p11_delta(out.cast<double>(), want, sums, {kFloat, kFloat, 0, i, c_.max_lora_rank});
  }

 private:
  reference::DeltaRouting routing() const {
    return {&per_expert_, &shared_outer_, c_.block_size, c_.batch.K};
  }

  Matrix<float> inputs(std::int64_t rows, std::int64_t cols, std::uint64_t array) const {
    Matrix<float> values(rows, cols);
    for (std::int64_t k = 0; k < values.size(); ++k)
      values.data()[k] = weight_at(hash_at(c_.seed, array), static_cast<std::uint64_t>(k), true);
    return values;
  }

  /// Slots that this rank serves and whose token has a loaded adapter: slot, global expert, adapter.
  template <class Body>
  void for_each_slot(Body&& body) const {
    for (std::int64_t s = 0; s < c_.batch.n(); ++s) {
      const std::int32_t l = c_.mapping[s / c_.batch.K];
      if (local_ids_[s] < 0 || l < 0 || l >= static_cast<std::int32_t>(c_.adapters.size())) continue;
      if (const AdapterLayer* lora = storage_.problem.adapters[l]) body(s, experts_[local_ids_[s]], *lora);
    }
  }

  /// `scale * sum_j B[e,row,j] sum_d A[e,j,first+d] x[d]`, and the same with absolute values.
  static void direct(const LoraPair& pair, std::int64_t e, std::int64_t row, const float* x,
                     std::int64_t first, std::int64_t count, double scale, double& value,
                     double& sum_of_absolutes) {
    for (std::int64_t j = 0; j < pair.rank(); ++j) {
      double dot = 0, absolute = 0;
      for (std::int64_t d = 0; d < count; ++d) {
        const double term = double{pair.A.at(e, j, first + d)} * double{x[d]};
        dot += term;
        absolute += std::abs(term);
      }
      const double b = double{pair.B.at(e, row, j)};
      value += scale * b * dot;
      sum_of_absolutes += std::abs(scale * b) * absolute;
    }
  }

  const LayerCase& c_;
  const LayerStorage storage_;
  const RankPlace place_;
  const std::vector<std::int32_t> experts_;
  LoraBuffers buffers_;
  RouteResult per_expert_, shared_outer_;
  std::vector<std::int32_t> local_ids_;
};

Verdict delta_within_bound(const LayerCase& c, Backend& backend) {
  require_promised(c, backend);
  const Layout layout = backend.layout(c.layout);
  const std::int32_t ranks = layout.mesh.num_ranks();
  for (const std::int32_t rank : {static_cast<std::int32_t>(below(hash_at(c.seed, 5), ranks)), ranks - 1}) {
    const DeltaOnRank delta(c, backend, layout, rank);
    if (auto verdict = delta.judge_gate_up()) return verdict;
    if (auto verdict = delta.judge_down()) return verdict;
  }
  return std::nullopt;
}

}  // namespace

std::vector<PropertyDefinition> layer_properties() {
  const std::vector<Operation> needs = {Operation::route, Operation::slice};
  std::vector<PropertyDefinition> properties = {
      property({"layer", "ShardedEqualsWhole",
                "all ranks' shares, recombined, equal the unsharded layer in double to 1e-13", "P7", 300},
               needs, draw_layer, sharded_equals_whole),
      property({"layer", "ShardedInSeparateStepsEqualsWhole",
                "the same when each rank runs dispatch, remap and align one after another", "P7", 300},
               {Operation::dispatch, Operation::remap, Operation::align, Operation::slice}, draw_layer,
               sharded_in_steps_equals_whole),
      property({"layer", "DeltaOnARankIsWithinItsBound",
                "a rank's LoRA deltas in float equal the unsharded adapter's within the numeric bound", "P11",
                300},
               needs, draw_layer, delta_within_bound),
      property({"layer", "OtherAdaptersChangeNoBit",
                "tokens of one adapter, or of none, get the same bits whichever other adapters are loaded",
                "P12", 300},
               needs, draw_layer, isolation),
  };
  for (PropertyDefinition& p : properties) p.scale_apart = true;
  return properties;
}

}  // namespace eplora::suite
