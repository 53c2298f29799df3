// SPDX-License-Identifier: Apache-2.0
#include "reference/lora/deployed_moe_layer.h"

#include <cmath>
#include <limits>
#include <string>

#include "reference/check.h"
#include "reference/lora/block_walk.h"
#include "reference/lora/deployed_rank.h"

namespace eplora::reference {
namespace {

template <class Scalar>
using Row = Eigen::Matrix<Scalar, 1, Eigen::Dynamic>;
using FloatRow = Eigen::Map<const Row<float>>;

template <class Scalar>
Matrix<Scalar> nothing(std::int64_t rows, std::int64_t cols) {
  return Matrix<Scalar>::Constant(rows, cols, std::numeric_limits<Scalar>::quiet_NaN());
}

void require_form(const DeployedProblem& problem, const ClassPlan& plan) {
  const std::string at = "class " + plan.spec().name + ": ";
  const bool gated = problem.routed.geometry.gated;
  for (const WeightForm form : {plan.base_form, plan.lora_form})
    if (gated == (form == WeightForm::non_gated))
      reject(
          at + "weight form", to_string(form),
          gated ? "the layer is gated, it has two halves" : "the layer is not gated, it must be non_gated");
  const std::int64_t block = plan.spec().interleave_block;
  for (std::size_t rank = 0; rank < plan.ranks.size(); ++rank)
    if ((plan.base_form == WeightForm::block_interleaved ||
         plan.lora_form == WeightForm::block_interleaved) &&
        plan.ranks[rank].columns.width() % block != 0)
      reject(at + "columns of rank " + std::to_string(rank), std::to_string(plan.ranks[rank].columns.width()),
             "they must be whole blocks of interleave_block=" + std::to_string(block));
}

void require_problem(const DeployedProblem& problem, const ClassPlan& plan) {
  const MoeGeometry& geometry = problem.routed.geometry;
  const std::string at = "class " + plan.spec().name + ": ";
  const auto require_equal = [&](const char* what, std::int64_t found, std::int64_t planned) {
    require_in_range(at + what, found, planned, planned);
  };
  require_equal("num_experts (E)", geometry.num_experts, plan.spec().placement.num_experts);
  require_equal("tokens (T)", problem.routed.topk_ids.rows, plan.sizes.tokens);
  require_equal("hidden (H)", geometry.hidden, plan.sizes.hidden);
  require_equal("intermediate (I)", geometry.intermediate, plan.sizes.intermediate);
  require_in_range(at + "layer", problem.layer, 0, plan.sizes.num_layers - 1);
  if (plan.fused_shared() != 0)
    require_equal("columns of a fused shared expert", problem.shared_intermediate, geometry.intermediate);
  require_form(problem, plan);
}

/// One rank between the steps at which ranks exchange something.
template <class Scalar>
class Rank {
 public:
  Rank(const DeployedProblem& problem, const ClassPlan& plan, std::int32_t rank, std::int64_t R,
       const Matrix<Scalar>& tokens, const ShardedLayerOptions& options, const LayerSteps& steps)
      : problem_(problem),
        plan_(plan),
        mine_(plan.ranks[rank]),
        c_(problem.routed.geometry.halves()),
        w_(mine_.columns.width()),
        H_(problem.routed.geometry.hidden),
        R_(R),
        B_(options.block_size),
        batch_(rank_batch(problem, plan, rank)),
        x_(tokens.middleRows(batch_.first_token, batch_.T)),
        base_(rank_base(problem, plan, rank)),
        E_local_(static_cast<std::int64_t>(of_ep_rank(plan.loaded, plan, rank).size())) {
    const std::vector<std::int32_t> everyone(batch_.T, 0);
    base_route_ = steps.route(rank_route(batch_, plan, rank, everyone, 1, false, options));
    const auto L = static_cast<std::int32_t>(problem.routed.adapters.size());
    has_lora_ = L > 0 && E_local_ > 0;
    if (!has_lora_) return;
    lora_ = rank_lora(problem, plan, rank, R, options.buffer_dtype, steps);
    route_ = steps.route(rank_route(batch_, plan, rank, batch_.mapping, L, false, options));
    if (problem.routed.geometry.shared_outer)
      outer_route_ = steps.route(rank_route(batch_, plan, rank, batch_.mapping, L, true, options));
  }

  /// `u [n, c*R]`: the rank's rows of the shrink of gate_up; the other rows are NaN until they are gathered.
  Matrix<Scalar> shrink_gate_up() const {
    Matrix<Scalar> u = nothing<Scalar>(batch_.n(), c_ * R_);
    for_each_adapted(outer_route(), lora_.outer, [&](std::int64_t tile, std::int64_t s) {
      for (std::int64_t h = 0; h < c_; ++h)
        for (std::int64_t j = mine_.lora_rank.begin; j < mine_.lora_rank.end; ++j)
          u(s, h * R_ + j) = dot(lora_.gate_up_A, ((tile * c_ + h) * R_ + j) * H_, x_.row(s / batch_.K));
    });
    return u;
  }

  /// Gate and up with `u` gathered, the activation, the base half of down, and the partial shrink of down.
  void middle(const Matrix<Scalar>& u) {
    Matrix<Scalar> gate_up = Matrix<Scalar>::Zero(batch_.n(), c_ * w_);
    for_each_based([&](std::int64_t e, std::int64_t s) {
      for (std::int64_t row = 0; row < c_ * w_; ++row)
        gate_up(s, row) = dot(base_.gate_up, (e * c_ * w_ + row) * H_, x_.row(s / batch_.K));
    });
    for_each_adapted(route_, lora_.local, [&](std::int64_t tile, std::int64_t s) {
      const auto scale = static_cast<Scalar>(lora_.scale[tile / lora_.local]);
      for (std::int64_t h = 0; h < c_; ++h)
        for (std::int64_t q = 0; q < w_; ++q) {
          const std::int64_t lora = weight_row(plan_.lora_form, block(), w_, h, q);
          gate_up(s, lora) +=
              scale * dot(lora_.gate_up_B, (tile * c_ * w_ + lora) * R_, u.row(s).segment(h * R_, R_));
        }
    });
    activation_ = Matrix<Scalar>::Zero(batch_.n(), w_);
    for (std::int64_t s = 0; s < batch_.n(); ++s)
      for (std::int64_t q = 0; q < w_; ++q) activation_(s, q) = activated(gate_up.row(s), w_, q);
  }

  /// `[T, H]`, rows of other ranks' tokens zero.
  Matrix<Scalar> routed_output() const {
    Matrix<Scalar> y = Matrix<Scalar>::Zero(plan_.sizes.tokens, H_);
    for_each_based([&](std::int64_t e, std::int64_t s) {
      for (std::int64_t d = 0; d < H_; ++d)
        y(token(s), d) += weight(s) * dot(base_.down, (e * H_ + d) * w_, activation_.row(s));
    });
    return y;
  }

  /// `u [n, R]`: the shrink of down over the rank's columns.
  Matrix<Scalar> shrink_down() const {
    Matrix<Scalar> u = Matrix<Scalar>::Zero(batch_.n(), R_);
    for_each_adapted(route_, lora_.local, [&](std::int64_t tile, std::int64_t s) {
      for (std::int64_t j = 0; j < R_; ++j)
        u(s, j) = dot(lora_.down_A, (tile * R_ + j) * w_, activation_.row(s));
    });
    return u;
  }

  /// `[T, H]`: down B's rows of this rank at their offset, zero elsewhere.
  Matrix<Scalar> delta_output(const Matrix<Scalar>& u) const {
    Matrix<Scalar> y = Matrix<Scalar>::Zero(plan_.sizes.tokens, H_);
    const std::int64_t rows = mine_.hidden.size();
    require_in_range("hidden rows", mine_.hidden.end, mine_.hidden.begin, H_);
    require_in_range("hidden offset", mine_.hidden_offset, 0, H_ - rows);
    for_each_adapted(outer_route(), lora_.outer, [&](std::int64_t tile, std::int64_t s) {
      const auto L = static_cast<std::int64_t>(problem_.routed.adapters.size());
      const Scalar scale = weight(s) * static_cast<Scalar>(lora_.scale[L + tile / lora_.outer]);
      for (std::int64_t d = 0; d < rows; ++d)
        y(token(s), mine_.hidden_offset + d) +=
            scale * dot(lora_.down_B, (tile * H_ + mine_.hidden.begin + d) * R_, u.row(s));
    });
    return y;
  }

  /// `[T, H]`: shared experts that are not fused, over the rank's columns of them.
  Matrix<Scalar> shared_output() const {
    Matrix<Scalar> y = Matrix<Scalar>::Zero(plan_.sizes.tokens, H_);
    const SharedExpertsSpec& shared = plan_.spec().shared_experts;
    if (shared.kind != SharedExpertsKind::replicated && shared.kind != SharedExpertsKind::sharded) return y;
    const MoeGeometry& geometry = problem_.routed.geometry;
    const std::int64_t Is = problem_.shared_intermediate;
    const Range columns = mine_.shared_columns;
    require_in_range("columns of the shared experts", columns.end, columns.begin, Is);
    for (std::int64_t e = 0; e < shared.count; ++e)
      for (std::int64_t t = 0; t < batch_.T; ++t) {
        Row<Scalar> gate_up = Row<Scalar>::Zero(c_ * Is);
        for (std::int64_t row = 0; row < c_ * Is; ++row)
          gate_up[row] = FloatRow(problem_.shared.gate_up_proj.data() + (e * c_ * Is + row) * H_, H_)
                             .template cast<Scalar>()
                             .dot(x_.row(t));
        for (std::int64_t q = columns.begin; q < columns.end; ++q) {
          const Scalar gate = gate_up[gate_up_row(geometry.form, c_, Is, 0, q)];
          const Scalar a =
              act(gate, geometry.gated ? gate_up[gate_up_row(geometry.form, c_, Is, 1, q)] : gate);
          for (std::int64_t d = 0; d < H_; ++d)
            y(batch_.first_token + t, d) +=
                static_cast<Scalar>(problem_.shared.down_proj[(e * H_ + d) * Is + q]) * a;
        }
      }
    return y;
  }

  std::int64_t slots() const { return batch_.n(); }

 private:
  const RouteResult& outer_route() const {
    return problem_.routed.geometry.shared_outer ? outer_route_ : route_;
  }
  std::int64_t block() const { return plan_.spec().interleave_block; }
  std::int64_t token(std::int64_t s) const { return batch_.first_token + s / batch_.K; }
  Scalar weight(std::int64_t s) const { return static_cast<Scalar>(batch_.weights[s]); }

  Scalar act(Scalar gate, Scalar up) const {
    if (problem_.routed.geometry.gated) return gate / (Scalar{1} + std::exp(-gate)) * up;
    const Scalar positive = gate > Scalar{0} || std::isnan(gate) ? gate : Scalar{0};
    return positive * positive;
  }
  template <class Halves>
  Scalar activated(const Halves& gate_up, std::int64_t width, std::int64_t q) const {
    const Scalar gate = gate_up[weight_row(plan_.base_form, block(), width, 0, q)];
    return act(gate, c_ == 2 ? gate_up[weight_row(plan_.base_form, block(), width, 1, q)] : gate);
  }

  template <class Vector>
  static Scalar dot(const std::vector<float>& from, std::int64_t at, const Vector& vector) {
    return FloatRow(from.data() + at, vector.size()).template cast<Scalar>().dot(vector);
  }

  /// `body(local expert, slot)` for every slot that some block of the base routing holds.
  template <class Body>
  void for_each_based(Body&& body) const {
    for_each_block(base_route_.blocks, B_, E_local_,
                   [&](std::int64_t e, std::span<const std::int32_t> slots) {
                     for (const std::int64_t s : slots)
                       if (0 <= s && s < batch_.n()) body(e, s);
                   });
  }

  /// `body(l*experts + e, slot)` for every slot whose token has an adapter.
  template <class Body>
  void for_each_adapted(const RouteResult& route, std::int64_t experts, Body&& body) const {
    if (!has_lora_) return;
    const std::int64_t labels = experts * static_cast<std::int64_t>(problem_.routed.adapters.size());
    require_in_range("token_lora_mask elements", static_cast<std::int64_t>(route.token_lora_mask.size()),
                     batch_.T, batch_.T);
    for_each_block(route.blocks, B_, labels, [&](std::int64_t v, std::span<const std::int32_t> slots) {
      for (const std::int64_t s : slots)
        if (0 <= s && s < batch_.n() && route.token_lora_mask[s / batch_.K] != 0) body(v, s);
    });
  }

  const DeployedProblem& problem_;
  const ClassPlan& plan_;
  const RankPlan& mine_;
  std::int64_t c_, w_, H_, R_, B_;
  RankBatch batch_;
  Matrix<Scalar> x_;
  RankBase base_;
  std::int64_t E_local_;
  RouteResult base_route_, route_, outer_route_;
  bool has_lora_ = false;
  RankLora lora_;
  Matrix<Scalar> activation_;
};

/// Ranks that have the layer, in order, with one matrix each in between.
template <class Scalar>
class Stage {
 public:
  Stage(const DeployedProblem& problem, const ClassPlan& plan, const ShardedLayerOptions& options,
        const LayerSteps& steps)
      : problem_(problem), plan_(plan), has_layer_(plan.ranks.size(), false) {
    for (std::int32_t rank = 0; rank < plan.num_ranks(); ++rank)
      has_layer_[rank] =
          plan.ranks[rank].layers.begin <= problem.layer && problem.layer < plan.ranks[rank].layers.end;
    const Matrix<Scalar> tokens = tokens_at_home();
    const std::int64_t R = options.max_lora_rank == 0 ? plan.sizes.max_lora_rank : options.max_lora_rank;
    for (std::int32_t rank = 0; rank < plan.num_ranks(); ++rank) {
      if (!has_layer_[rank]) continue;
      members_.push_back(rank);
      ranks_.emplace_back(problem, plan, rank, R, tokens, options, steps);
    }
    R_ = R;
  }

  std::vector<Matrix<Scalar>> run() {
    const std::int64_t c = problem_.routed.geometry.halves();
    std::vector<Matrix<Scalar>> u = each([](Rank<Scalar>& rank) { return rank.shrink_gate_up(); });
    u = exchanged(
        plan_.lora_rank_gather, u,
        [&](Matrix<Scalar>& to, const Matrix<Scalar>& from, const RankPlan& m) {
          for (std::int64_t h = 0; h < c; ++h)
            to.middleCols(h * R_ + m.lora_rank.begin, m.lora_rank.size()) =
                from.middleCols(h * R_ + m.lora_rank.begin, m.lora_rank.size());
        },
        false);
    for (std::size_t i = 0; i < ranks_.size(); ++i) ranks_[i].middle(u[i]);
    const auto add = [](Matrix<Scalar>& to, const Matrix<Scalar>& from, const RankPlan&) { to += from; };
    std::vector<Matrix<Scalar>> y = each([](Rank<Scalar>& rank) { return rank.routed_output(); });
    y = exchanged(plan_.routed_sum, y, add, true);
    std::vector<Matrix<Scalar>> shrunk = each([](Rank<Scalar>& rank) { return rank.shrink_down(); });
    shrunk = exchanged(plan_.shrink_sum, shrunk, add, true);
    std::vector<Matrix<Scalar>> delta;
    for (std::size_t i = 0; i < ranks_.size(); ++i) delta.push_back(ranks_[i].delta_output(shrunk[i]));
    delta = exchanged(plan_.delta_sum, delta, add, true);
    std::vector<Matrix<Scalar>> shared = each([](Rank<Scalar>& rank) { return rank.shared_output(); });
    shared = exchanged(plan_.shared_sum, shared, add, true);
    for (std::size_t i = 0; i < ranks_.size(); ++i) y[i] += delta[i] + shared[i];

    std::vector<Matrix<Scalar>> empty(ranks_.size(),
                                      nothing<Scalar>(plan_.sizes.tokens, problem_.routed.geometry.hidden));
    std::vector<Matrix<Scalar>> gathered = exchanged(
        plan_.token_gather, y,
        [](Matrix<Scalar>& to, const Matrix<Scalar>& from, const RankPlan& m) {
          to.middleRows(m.tokens.begin, m.tokens.size()) = from.middleRows(m.tokens.begin, m.tokens.size());
        },
        false, &empty);
    std::vector<Matrix<Scalar>> result(plan_.ranks.size(),
                                       Matrix<Scalar>(0, problem_.routed.geometry.hidden));
    for (std::size_t i = 0; i < members_.size(); ++i) result[members_[i]] = std::move(gathered[i]);
    return result;
  }

 private:
  /// The batch as the stage's ranks hold it; NaN where none does.
  Matrix<Scalar> tokens_at_home() const {
    const MoeLayerProblem& p = problem_.routed;
    const std::int64_t H = p.geometry.hidden;
    Matrix<Scalar> x = nothing<Scalar>(plan_.sizes.tokens, H);
    for (std::int32_t rank = 0; rank < plan_.num_ranks(); ++rank) {
      if (!has_layer_[rank]) continue;
      const Range home = plan_.ranks[rank].home;
      require_in_range("home tokens of rank " + std::to_string(rank), home.end, home.begin,
                       plan_.sizes.tokens);
      for (std::int64_t t = home.begin; t < home.end; ++t)
        x.row(t) = FloatRow(p.hidden_states.data() + t * H, H).template cast<Scalar>();
    }
    return x;
  }

  template <class Make>
  std::vector<Matrix<Scalar>> each(Make&& make) {
    std::vector<Matrix<Scalar>> made;
    for (Rank<Scalar>& rank : ranks_) made.push_back(make(rank));
    return made;
  }

  /// For every rank: `merge(result, a member's matrix, that member's plan)` over the members of its group
  /// that have the layer, in order. The result starts as zeros, or as `start`, or as the rank's own matrix.
  template <class Merge>
  std::vector<Matrix<Scalar>> exchanged(const GroupSet& set, const std::vector<Matrix<Scalar>>& from,
                                        Merge&& merge, bool from_zero,
                                        const std::vector<Matrix<Scalar>>* start = nullptr) const {
    const std::vector<std::int32_t> group = group_of_rank(set, plan_.num_ranks());
    std::vector<std::int64_t> at(plan_.ranks.size(), -1);
    for (std::size_t i = 0; i < members_.size(); ++i) at[members_[i]] = static_cast<std::int64_t>(i);
    std::vector<Matrix<Scalar>> result;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      Matrix<Scalar> one = start != nullptr ? (*start)[i] : from[i];
      if (from_zero) one.setZero();
      const std::int32_t g = group[members_[i]];
      if (g < 0) reject("groups", "none holds rank " + std::to_string(members_[i]), "every rank is in one");
      for (const std::int32_t member : set.groups[g]) {
        if (member < 0 || member >= plan_.num_ranks() || at[member] < 0) continue;
        const Matrix<Scalar>& theirs = from[at[member]];
        if (theirs.rows() != one.rows() || theirs.cols() != one.cols())
          reject("rank " + std::to_string(member), std::to_string(theirs.rows()) + " rows",
                 "rank " + std::to_string(members_[i]) + " exchanges " + std::to_string(one.rows()) +
                     " rows with it");
        merge(one, theirs, plan_.ranks[member]);
      }
      result.push_back(std::move(one));
    }
    return result;
  }

  const DeployedProblem& problem_;
  const ClassPlan& plan_;
  std::vector<bool> has_layer_;
  std::vector<std::int32_t> members_;
  std::vector<Rank<Scalar>> ranks_;
  std::int64_t R_ = 1;
};

}  // namespace

template <class Scalar>
Matrix<Scalar> whole_layer(const DeployedProblem& problem) {
  Matrix<Scalar> y = moe_layer<Scalar>(problem.routed);
  const std::int64_t H = problem.routed.geometry.hidden, Is = problem.shared_intermediate;
  const auto count = static_cast<std::int32_t>(
      H * Is == 0 ? 0 : static_cast<std::int64_t>(problem.shared.down_proj.size()) / (H * Is));
  if (count == 0) return y;
  const std::int64_t T = problem.routed.topk_ids.rows;
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < T; ++t)
    for (std::int32_t e = 0; e < count; ++e) ids.push_back(e);
  const std::vector<std::int32_t> none(T, -1);
  const std::vector<float> ones(ids.size(), 1.0F);
  MoeLayerProblem shared;
  shared.geometry = problem.routed.geometry;
  shared.geometry.num_experts = count;
  shared.geometry.intermediate = Is;
  shared.base = problem.shared;
  shared.topk_ids = IdMatrix::of(ids, count);
  shared.topk_weights = ones;
  shared.token_lora_mapping = none;
  shared.hidden_states = problem.routed.hidden_states;
  return y + moe_layer<Scalar>(shared);
}

template <class Scalar>
std::vector<Matrix<Scalar>> deployed_moe_layer(const DeployedProblem& problem, const ClassPlan& plan,
                                               const ShardedLayerOptions& options, const LayerSteps& steps) {
  validate(problem.routed);
  require_problem(problem, plan);
  require_in_range("max_lora_rank (R)", options.max_lora_rank, 0, kMaxIndex);
  require_in_range("block_size (B)", options.block_size, 1, kMaxIndex);
  return Stage<Scalar>(problem, plan, options, steps).run();
}

#define EPLORA_INSTANTIATE(S)                                                                     \
  template Matrix<S> whole_layer<S>(const DeployedProblem&);                                      \
  template std::vector<Matrix<S>> deployed_moe_layer<S>(const DeployedProblem&, const ClassPlan&, \
                                                        const ShardedLayerOptions&, const LayerSteps&);
EPLORA_INSTANTIATE(float)
EPLORA_INSTANTIATE(double)
#undef EPLORA_INSTANTIATE

}  // namespace eplora::reference
