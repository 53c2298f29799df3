// SPDX-License-Identifier: Apache-2.0
// Bugs of slicing: which experts and which columns of an adapter a rank gets.
#include <stdexcept>
#include <string>
#include <vector>

#include "property_tests/mutants/mutants.h"

namespace eplora::suite {
namespace {

/// The problem with other experts in the rank's places.
template <class Choose>
void slice_experts(ReferenceBackend& backend, const SliceProblem& p, const BufferView& out,
                   const ExecutionContext& context, Choose choose) {
  std::vector<std::int32_t> experts(p.local_experts.size());
  for (std::size_t j = 0; j < experts.size(); ++j)
    experts[j] = static_cast<std::int32_t>(choose(static_cast<std::int64_t>(j))) % p.geometry.num_experts;
  SliceProblem wrong = p;
  wrong.local_experts = experts;
  backend.ReferenceBackend::slice(wrong, out, context);
}

/// Columns `[first, first + i)` of the intermediate size for a rank; those past I are cut off, and read as
/// zero.
template <class Self>
class OtherColumns : public Mutated<Self> {
 public:
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    SliceProblem wrong = p;
    wrong.place.moe_tp_rank = static_cast<const Self*>(this)->part(p.place);
    Adapter cut = *p.adapter;
    if (wrong.place.moe_tp_rank >= p.place.moe_tp) {
      wrong.place.moe_tp_rank = 0;
      for (auto& [id, layer] : cut.layers)
        for (LoraPair* pair : pairs_of(layer)) {
          StridedTensor& sharded = pair == &layer.down ? pair->A : pair->B;
          if (!sharded.present()) continue;
          sharded.data = &kZero;
          sharded.dtype = DType::f32;
          sharded.expert_stride = sharded.row_stride = sharded.col_stride = 0;
        }
    }
    wrong.adapter = &cut;
    this->ReferenceBackend::slice(wrong, out, context);
  }

 private:
  static constexpr float kZero = 0.0F;
};

/// The rank in the whole tensor-parallel group picks the columns; past the end there is nothing to cut.
struct OuterRankSlice : OtherColumns<OuterRankSlice> {
  std::int32_t part(const RankPlace& place) const { return place.moe_tp == 1 ? 0 : place.rank; }
};

/// What is cut already is cut again.
struct DoubleShard : OtherColumns<DoubleShard> {
  std::int32_t part(const RankPlace& place) const { return 2 * place.moe_tp_rank; }
};

/// The rank in the world, modulo the width: right only where tensor parallelism is the fastest axis.
struct WorldRankModulo : OtherColumns<WorldRankModulo> {
  std::int32_t part(const RankPlace& place) const { return place.rank % place.moe_tp; }
};

/// The pool is filled by global expert id, kernels index it by local id.
struct GlobalSizedPool : Mutated<GlobalSizedPool> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    slice_experts(*this, p, out, context, [](std::int64_t j) { return j; });
  }
};

/// A rank's experts are taken to be contiguous, from its first one on.
struct ContiguousExperts : Mutated<ContiguousExperts> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    slice_experts(*this, p, out, context, [&](std::int64_t j) { return p.local_experts[0] + j; });
  }
};

/// The number in a down projection's name is local, and is used as it is in the model's tensor.
struct LocalIntoGlobal : Mutated<LocalIntoGlobal> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    ReferenceBackend::slice(p, out, context);
    BufferShape down = *p.shape;
    for (BufferLayer& layer : down.layers) layer.has_gate_up = false;
    Adapter only_down = *p.adapter;
    for (auto& [id, layer] : only_down.layers) layer.gate_up = {};
    SliceProblem wrong = p;
    wrong.shape = &down;
    wrong.adapter = &only_down;
    slice_experts(*this, wrong, out, context, [](std::int64_t j) { return j; });
  }
};

/// The loader of fused expert tensors lacks the cut by expert: shapes disagree.
struct NoExpertCut : Mutated<NoExpertCut> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    if (std::ssize(p.local_experts) != p.geometry.num_experts)
      throw std::runtime_error("the buffer has " + std::to_string(p.local_experts.size()) +
                               " experts, the tensor " + std::to_string(p.geometry.num_experts));
    ReferenceBackend::slice(p, out, context);
  }
};

/// Expert parallelism takes for granted that gate, up and down all exist.
struct ThreeTensors : Mutated<ThreeTensors> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    if (!p.geometry.gated && p.place.ep > 1) throw std::runtime_error("3 tensors expected, 2 found");
    ReferenceBackend::slice(p, out, context);
  }
};

/// Shared-outer adapters: the side that is per expert is taken for shared as well.
struct BothSidesShared : OtherAdapter<BothSidesShared> {
  void change(const SliceProblem& p, AdapterLayer& layer) const {
    if (!p.geometry.shared_outer) return;
    for (LoraPair* pair : pairs_of(layer)) pair->A.expert_stride = pair->B.expert_stride = 0;
  }
};

/// gate and up stacked as [all gate; all up] are cut as one tensor: a rank gets rows of one half only.
struct GateUpTpOrder : Mutated<GateUpTpOrder> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    ReferenceBackend::slice(p, out, context);
    const BufferShape& shape = *p.shape;
    if (!shape.gated || shape.form != GateUpForm::stacked || p.place.moe_tp == 1) return;
    const std::int64_t i = shape.intermediate, I = p.geometry.intermediate;
    for (std::size_t n = 0; n < shape.layers.size(); ++n) {
      if (!shape.layers[n].layer_id || !shape.layers[n].has_gate_up) continue;
      const auto found = p.adapter->layers.find(*shape.layers[n].layer_id);
      if (found == p.adapter->layers.end() || !found->second.gate_up[0].present()) continue;
      std::int64_t to = p.slot * shape.slot_elements(BufferTensor::gate_up_B);
      for (const std::int32_t expert : p.local_experts)
        for (std::int64_t row = 2 * i * p.place.moe_tp_rank; row < 2 * i * (p.place.moe_tp_rank + 1); ++row) {
          const StridedTensor& B = found->second.gate_up[row / I].B;
          for (std::int64_t j = 0; j < shape.max_lora_rank; ++j, ++to) {
            const float value = j < B.cols ? B.at(expert, row % I, j) : 0.0F;
            store_float(out.tensor[n][1], shape.dtype, to, value);
          }
        }
    }
  }
};

/// The padded A is cut by the adapter's own rank: shard k holds r/P of its rows, then padding.
struct CutByOwnRank : Mutated<CutByOwnRank> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    ReferenceBackend::slice(p, out, context);
    const BufferShape& shape = *p.shape;
    const std::int64_t P = p.place.moe_tp, R = shape.max_lora_rank;
    for (std::size_t n = 0; n < shape.layers.size(); ++n) {
      if (!shape.layers[n].layer_id || !shape.layers[n].has_down) continue;
      const auto found = p.adapter->layers.find(*shape.layers[n].layer_id);
      if (found == p.adapter->layers.end() || !found->second.down.present()) continue;
      const StridedTensor& A = found->second.down.A;
      if (P == 1 || A.rows % P != 0 || R % P != 0) continue;
      const std::int64_t own = A.rows / P, i = shape.intermediate;
      std::int64_t to = p.slot * shape.slot_elements(BufferTensor::down_A);
      for (const std::int32_t e : p.local_experts)
        for (std::int64_t j = 0; j < R; ++j)
          for (std::int64_t q = 0; q < i; ++q, ++to) {
            const std::int64_t in_shard = j % (R / P), row = j / (R / P) * own + in_shard;
            store_float(out.tensor[n][2], shape.dtype, to,
                        in_shard < own ? A.at(e, row, p.place.moe_tp_rank * i + q) : 0.0F);
          }
    }
  }
};

}  // namespace

std::vector<Mutant> slice_mutants() {
  return {
      mutant<OuterRankSlice>("outer-rank-slice", "sgl-project/sglang#24171",
                             "slicing uses the outer tp rank where the MoE-TP rank is meant",
                             {{"ranks", 4}, {"E", 2}}),
      mutant<DoubleShard>("double-shard", "vllm-project/vllm#34291", "slicing cuts what is cut already",
                          {{"ranks", 2}}),
      mutant<WorldRankModulo>("attn-tp-rank", "sgl-project/sglang#32708",
                              "slicing uses the rank in the world modulo the width",
                              {{"ranks", 4}, {"E", 2}}),
      mutant<GlobalSizedPool>("global-sized-pool", "sgl-project/sglang#23178",
                              "the adapter pool holds the first experts on every rank",
                              {{"ranks", 2}, {"E", 2}}),
      mutant<ContiguousExperts>("ep-no-scatter", "vllm-project/vllm#38021",
                                "slicing takes a rank's experts to be contiguous", {{"ranks", 2}, {"E", 3}}),
      mutant<LocalIntoGlobal>("local-id-into-global", "THUDM/slime#1799",
                              "down projections are looked up by local expert number",
                              {{"ranks", 2}, {"E", 2}}),
      mutant<NoExpertCut>("fused-loader-no-ep", "sgl-project/sglang#22787",
                          "slicing expects every expert of the model on every rank",
                          {{"ranks", 2}, {"E", 2}}),
      mutant<ThreeTensors>("nongated-ep", "vllm-project/vllm#40867",
                           "slicing under expert parallelism expects gate, up and down", {{"ranks", 2}}),
      mutant<BothSidesShared>("shared-outer-init", "sgl-project/sglang#28564",
                              "the per-expert side of a shared-outer adapter is read as shared", {{"E", 2}}),
      mutant<GateUpTpOrder>("gate-up-tp-order", "NVIDIA-NeMo/Megatron-Bridge#1817",
                            "stacked gate_up B is cut as one tensor instead of per half", {{"ranks", 2}}),
      mutant<CutByOwnRank>("fully-sharded-rank", "vllm-project/vllm#31994",
                           "A is cut by the adapter's own rank instead of the padded one",
                           {{"ranks", 2}, {"R", 4}, {"r", 2}}),
  };
}

}  // namespace eplora::suite
