// SPDX-License-Identifier: Apache-2.0
#include "reference/lora/sharded_moe_layer.h"

#include <algorithm>
#include <optional>
#include <string>

#include "reference/check.h"
#include "reference/lora/activation.h"
#include "reference/lora/block_walk.h"
#include "reference/lora/delta.h"

namespace eplora::reference {
namespace {

/// The part of a problem that one rank sees: its rows of the batch, its experts, its columns.
struct RankPart {
  const MoeLayerProblem& problem;
  const RankPlace& place;
  const std::vector<std::int32_t>& experts;  // global ids, in local order
  Range tokens, columns;
  DispatchTable dispatch;

  std::int64_t T() const { return tokens.size(); }
  std::int64_t K() const { return problem.topk_ids.cols; }
  std::int64_t n() const { return T() * K(); }

  IdMatrix topk_ids() const {
    IdMatrix ids = problem.topk_ids;
    const std::int64_t bytes = ids.type == IdType::int32 ? 4 : 8;
    if (ids.data != nullptr)
      ids.data = static_cast<const char*>(ids.data) + tokens.begin * ids.row_stride * bytes;
    ids.rows = T();
    return ids;
  }
  std::span<const std::int32_t> mapping() const {
    return problem.token_lora_mapping.subspan(tokens.begin, T());
  }
  std::span<const float> weights() const { return problem.topk_weights.subspan(tokens.begin * K(), n()); }

  /// Blocks over (local expert, adapter), or with `shared_outer` over adapters alone.
  RouteProblem routing(std::span<const std::int32_t> token_lora_mapping, std::int32_t max_loras,
                       bool shared_outer, const ShardedLayerOptions& options) const {
    RouteProblem route;
    route.topk_ids = topk_ids();
    route.token_lora_mapping = token_lora_mapping;
    route.num_experts = problem.geometry.num_experts;
    route.table = dispatch.local_ids;
    route.offsets = dispatch.offsets;
    route.slot_offset = tokens.begin * K();
    route.num_local_experts = static_cast<std::int32_t>(experts.size());
    route.max_loras = max_loras;
    route.shared_outer = shared_outer;
    route.no_adapter = options.no_adapter;
    route.block_size = options.block_size;
    route.sentinels = options.sentinels;
    return route;
  }
};

RankPart part_of_rank(const MoeLayerProblem& problem, const Layout& layout, std::int32_t rank) {
  const MoeGeometry& geometry = problem.geometry;
  require_in_range("num_experts of the layout's placement", layout.placement.num_experts(),
                   geometry.num_experts, geometry.num_experts);
  const RankPlace& place = layout.place(rank);
  require_in_range("moe_tp_rank", place.moe_tp_rank, 0, std::int64_t{place.moe_tp} - 1);
  require_in_range("token_shard", place.token_shard, 0, std::int64_t{place.token_shards} - 1);
  return {problem,
          place,
          layout.local_experts(rank),
          layout.token_range(problem.topk_ids.rows, rank),
          layout.column_range(geometry.intermediate, rank),
          layout.placement.dispatch_table(place.ep_rank)};
}

std::int64_t largest_rank(const std::vector<const AdapterLayer*>& adapters) {
  std::int64_t largest = 1;
  for (const AdapterLayer* adapter : adapters)
    if (adapter != nullptr)
      for (const LoraPair* pair : {&adapter->gate_up[0], &adapter->gate_up[1], &adapter->down})
        if (pair->present()) largest = std::max(largest, pair->rank());
  return largest;
}

/// The rank's buffers with every adapter loaded. They start as NaN, so that a read of what no load wrote
/// shows.
LoraBuffers load_adapters(const RankPart& part, const ShardedLayerOptions& options, const LayerSteps& steps) {
  constexpr std::uint8_t kPoison = 0xFF;
  const MoeLayerProblem& problem = part.problem;
  const std::int64_t R = options.max_lora_rank == 0 ? largest_rank(problem.adapters) : options.max_lora_rank;
  LoraBuffers buffers(
      buffer_shape(problem.geometry, part.place, static_cast<std::int64_t>(part.experts.size()),
                   {BufferLayer{0}}, static_cast<std::int32_t>(problem.adapters.size()), R,
                   options.buffer_dtype),
      kPoison);
  const BufferView view = buffers.view();
  for (std::size_t l = 0; l < problem.adapters.size(); ++l) {
    Adapter adapter;  // an empty slot loads an adapter without layers: zeros
    if (problem.adapters[l] != nullptr) adapter.layers[0] = *problem.adapters[l];
    steps.slice({problem.geometry, part.place, part.experts, &adapter, &buffers.shape(),
                 static_cast<std::int32_t>(l)},
                view);
  }
  return buffers;
}

/// What the deltas of one batch read: loaded buffers and the routings that their tensors follow.
struct Deltas {
  LoraBuffers buffers;
  RouteResult per_expert, shared_outer;
  DeltaRouting routing;

  Deltas(const RankPart& part, const ShardedLayerOptions& options, const LayerSteps& steps)
      : buffers(load_adapters(part, options, steps)) {
    const auto L = static_cast<std::int32_t>(part.problem.adapters.size());
    per_expert = steps.route(part.routing(part.mapping(), L, false, options));
    if (part.problem.geometry.shared_outer)
      shared_outer = steps.route(part.routing(part.mapping(), L, true, options));
    routing = {&per_expert, &shared_outer, options.block_size, part.K()};
  }
  Deltas(const Deltas&) = delete;  // `routing` points into this object
  Deltas& operator=(const Deltas&) = delete;
};

/// The base weights' half of the two projections, from blocks over the rank's experts.
template <class Scalar>
class BaseProjections {
 public:
  BaseProjections(const RankPart& part, const RouteResult& route, std::int64_t block_size)
      : part_(part), route_(route), block_size_(block_size) {}

  /// `out [n, c*i]`: `G_e x_t` and `U_e x_t`, the rank's columns of each half in the model's form.
  void gate_up(const Matrix<Scalar>& x, Matrix<Scalar>& out) const {
    const MoeGeometry& geometry = part_.problem.geometry;
    const std::int64_t c = geometry.halves(), I = geometry.intermediate, H = geometry.hidden,
                       i = part_.columns.size();
    Matrix<Scalar> W(c * i, H);
    for_each_slot(
        [&](std::int64_t e) {
          const float* expert = part_.problem.base.gate_up_proj.data() + e * c * I * H;
          for (std::int64_t h = 0; h < c; ++h)
            for (std::int64_t q = 0; q < i; ++q)
              W.row(gate_up_row(geometry.form, c, i, h, q)) =
                  Eigen::Map<const Eigen::RowVectorXf>(
                      expert + gate_up_row(geometry.form, c, I, h, part_.columns.begin + q) * H, H)
                      .template cast<Scalar>();
        },
        [&](std::int64_t s) {
          for (std::int64_t o = 0; o < c * i; ++o) out(s, o) = W.row(o).dot(x.row(s / part_.K()));
        });
  }

  /// `out [n, H]`: `w_s * D_e a_s` over the rank's columns.
  void down(const Matrix<Scalar>& a, Matrix<Scalar>& out) const {
    const MoeGeometry& geometry = part_.problem.geometry;
    const std::int64_t I = geometry.intermediate, H = geometry.hidden, i = part_.columns.size();
    const std::span<const float> weights = part_.weights();
    Matrix<Scalar> W(H, i);
    for_each_slot(
        [&](std::int64_t e) {
          const float* expert = part_.problem.base.down_proj.data() + e * H * I + part_.columns.begin;
          for (std::int64_t d = 0; d < H; ++d)
            W.row(d) = Eigen::Map<const Eigen::RowVectorXf>(expert + d * I, i).template cast<Scalar>();
        },
        [&](std::int64_t s) {
          for (std::int64_t d = 0; d < H; ++d)
            out(s, d) = static_cast<Scalar>(weights[s]) * W.row(d).dot(a.row(s));
        });
  }

 private:
  /// `load(global expert)` once a block, then `compute(slot)` for each of its slots.
  template <class Load, class Compute>
  void for_each_slot(Load&& load, Compute&& compute) const {
    for_each_block(route_.blocks, block_size_, static_cast<std::int64_t>(part_.experts.size()),
                   [&](std::int64_t e, std::span<const std::int32_t> slots) {
                     load(std::int64_t{part_.experts[e]});
                     for (std::int64_t s : slots)
                       if (0 <= s && s < part_.n()) compute(s);
                   });
  }

  const RankPart& part_;
  const RouteResult& route_;
  std::int64_t block_size_;
};

}  // namespace

template <class Scalar>
Matrix<Scalar> moe_layer_on_rank(const MoeLayerProblem& problem, const Layout& layout, std::int32_t rank,
                                 const ShardedLayerOptions& options, const LayerSteps& steps) {
  validate(problem);
  require_in_range("max_lora_rank (R)", options.max_lora_rank, 0, kMaxIndex);
  require_in_range("block_size (B)", options.block_size, 1, kMaxIndex);
  const RankPart part = part_of_rank(problem, layout, rank);
  const MoeGeometry& geometry = problem.geometry;
  const std::int64_t T = part.T(), K = part.K(), n = part.n(), H = geometry.hidden, i = part.columns.size();
  const Matrix<Scalar> x =
      Eigen::Map<const Matrix<float>>(problem.hidden_states.data() + part.tokens.begin * H, T, H)
          .template cast<Scalar>();

  // The base weights know one "adapter", which every token has: their blocks are over local experts alone.
  const std::vector<std::int32_t> everyone(T, 0);
  const RouteResult base_route = steps.route(part.routing(everyone, 1, false, options));
  const BaseProjections<Scalar> base(part, base_route, options.block_size);

  std::optional<Deltas> deltas;
  if (!problem.adapters.empty()) deltas.emplace(part, options, steps);

  Matrix<Scalar> gate_up = Matrix<Scalar>::Zero(n, geometry.halves() * i);
  Matrix<Scalar> activation = Matrix<Scalar>::Zero(n, i);
  Matrix<Scalar> down = Matrix<Scalar>::Zero(n, H);
  base.gate_up(x, gate_up);
  if (deltas) add_gate_up_delta(deltas->buffers, 0, deltas->routing, x, gate_up);
  for (std::int64_t s = 0; s < n; ++s)
    activate(geometry, i, gate_up.data() + s * gate_up.cols(), activation.data() + s * i);
  base.down(activation, down);
  if (deltas) add_down_delta(deltas->buffers, 0, deltas->routing, part.weights(), activation, down);

  Matrix<Scalar> y = Matrix<Scalar>::Zero(T, H);
  for (std::int64_t s = 0; s < n; ++s) y.row(s / K) += down.row(s);
  return y;
}

template <class Scalar>
Matrix<Scalar> recombine(const Layout& layout, std::int64_t num_tokens,
                         const std::vector<Matrix<Scalar>>& partials) {
  const std::int32_t num_ranks = layout.mesh.num_ranks();
  require_in_range("number of partial outputs", static_cast<std::int64_t>(partials.size()), num_ranks,
                   num_ranks);
  std::vector<std::string> replicated;
  for (const Axis& axis : layout.mesh.axes()) {
    const auto shards = [&](const std::vector<std::string>& names) {
      return std::find(names.begin(), names.end(), axis.name) != names.end();
    };
    const Sharding& sharding = layout.sharding;
    if (!shards(sharding.tokens) && !shards(sharding.experts) && !shards(sharding.intermediate))
      replicated.push_back(axis.name);
  }
  Matrix<Scalar> y = Matrix<Scalar>::Zero(num_tokens, partials.front().cols());
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    if (layout.mesh.index_along(replicated, rank) != 0) continue;
    const Range rows = layout.token_range(num_tokens, rank);
    const std::string name = "partial output of rank " + std::to_string(rank);
    require_in_range(name + " rows", partials[rank].rows(), rows.size(), rows.size());
    require_in_range(name + " columns", partials[rank].cols(), y.cols(), y.cols());
    require_in_range(name + " last row", rows.end, rows.begin, num_tokens);
    y.middleRows(rows.begin, rows.size()) += partials[rank];
  }
  return y;
}

template <class Scalar>
Matrix<Scalar> sharded_moe_layer(const MoeLayerProblem& problem, const Layout& layout,
                                 const ShardedLayerOptions& options, const LayerSteps& steps) {
  std::vector<Matrix<Scalar>> partials;
  for (std::int32_t rank = 0; rank < layout.mesh.num_ranks(); ++rank)
    partials.push_back(moe_layer_on_rank<Scalar>(problem, layout, rank, options, steps));
  return recombine(layout, problem.topk_ids.rows, partials);
}

#define EPLORA_INSTANTIATE(S)                                                                                \
  template Matrix<S> moe_layer_on_rank<S>(const MoeLayerProblem&, const Layout&, std::int32_t,               \
                                          const ShardedLayerOptions&, const LayerSteps&);                    \
  template Matrix<S> recombine<S>(const Layout&, std::int64_t, const std::vector<Matrix<S>>&);               \
  template Matrix<S> sharded_moe_layer<S>(const MoeLayerProblem&, const Layout&, const ShardedLayerOptions&, \
                                          const LayerSteps&);
EPLORA_INSTANTIATE(float)
EPLORA_INSTANTIATE(double)
#undef EPLORA_INSTANTIATE

}  // namespace eplora::reference
