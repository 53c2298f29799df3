// SPDX-License-Identifier: Apache-2.0
// Bugs of layouts, slicing and buffers that engines shipped and fixed. Each overrides one operation of the
// reference and is wrong in one way.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "property_tests/mutants/mutants.h"

namespace eplora::suite {
namespace {

/// The rank in the whole tensor-parallel group picks the columns; past the end there is nothing to cut.
struct OuterRankSlice : Mutated<OuterRankSlice> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    SliceProblem wrong = p;
    const Adapter nothing;
    if (p.place.rank < p.place.moe_tp)
      wrong.place.moe_tp_rank = p.place.rank;
    else
      wrong.adapter = &nothing;
    ReferenceBackend::slice(wrong, out, context);
  }
};

/// The pool is filled by global expert id, kernels index it by local id.
struct GlobalSizedPool : Mutated<GlobalSizedPool> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    std::vector<std::int32_t> first_ones(p.local_experts.size());
    std::iota(first_ones.begin(), first_ones.end(), 0);
    for (std::int32_t& e : first_ones) e %= p.geometry.num_experts;
    SliceProblem wrong = p;
    wrong.local_experts = first_ones;
    ReferenceBackend::slice(wrong, out, context);
  }
};

/// A fused B is read expert-slowest, as A is.
struct LoraBAxis : Mutated<LoraBAxis> {
  static void reread(StridedTensor& B) {
    if (!B.present() || B.experts <= 1 || B.expert_stride != 1) return;
    B.expert_stride = B.cols;  // B[o, e*r + j] for B[o, j*E + e]
    B.col_stride = 1;
  }
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    Adapter wrong = *p.adapter;
    for (auto& [id, layer] : wrong.layers)
      for (LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down}) reread(pair->B);
    SliceProblem changed = p;
    changed.adapter = &wrong;
    ReferenceBackend::slice(changed, out, context);
  }
};

/// up's A is placed right behind gate's r rows, while kernels look for it R rows on.
struct PartialRankA : Mutated<PartialRankA> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    ReferenceBackend::slice(p, out, context);
    const BufferShape& shape = *p.shape;
    for (std::size_t n = 0; shape.gated && n < shape.layers.size(); ++n) {
      if (!shape.layers[n].layer_id || !shape.layers[n].has_gate_up) continue;
      const auto found = p.adapter->layers.find(*shape.layers[n].layer_id);
      if (found == p.adapter->layers.end() || !found->second.gate_up[0].present()) continue;
      const std::size_t row = static_cast<std::size_t>(shape.hidden) * bytes_of(shape.dtype);
      const auto R = static_cast<std::size_t>(shape.max_lora_rank);
      const auto r = static_cast<std::size_t>(found->second.gate_up[0].rank());
      auto* slot = static_cast<std::byte*>(out.tensor[n][0]) +
                   static_cast<std::size_t>(p.slot * shape.slot_elements(BufferTensor::gate_up_A)) *
                       bytes_of(shape.dtype);
      for (std::int64_t e = 0; e < shape.outer_experts(); ++e, slot += 2 * R * row) {
        std::memmove(slot + r * row, slot + R * row, R * row);
        std::memset(slot + (r + R) * row, 0, (R - r) * row);
      }
    }
  }
};

/// A reused slot keeps the modules that the new adapter lacks.
struct EvictStale : Mutated<EvictStale> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    BufferShape present = *p.shape;
    for (BufferLayer& layer : present.layers) {
      const auto found = layer.layer_id ? p.adapter->layers.find(*layer.layer_id) : p.adapter->layers.end();
      const bool known = found != p.adapter->layers.end();
      layer.has_gate_up = layer.has_gate_up && known && found->second.gate_up[0].present();
      layer.has_down = layer.has_down && known && found->second.down.present();
    }
    SliceProblem changed = p;
    changed.shape = &present;
    ReferenceBackend::slice(changed, out, context);
  }
};

/// Both halves contract gate's A; up's is never read.
struct UpUsesGateA : Mutated<UpUsesGateA> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    Adapter wrong = *p.adapter;
    for (auto& [id, layer] : wrong.layers)
      if (layer.gate_up[1].present() && layer.gate_up[1].rank() == layer.gate_up[0].rank())
        layer.gate_up[1].A = layer.gate_up[0].A;
    SliceProblem changed = p;
    changed.adapter = &wrong;
    ReferenceBackend::slice(changed, out, context);
  }
};

/// Layers whose names do not resolve are skipped in silence.
struct SilentDrop : Mutated<SilentDrop> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    Adapter known = *p.adapter;
    std::erase_if(known.layers, [&](const auto& entry) {
      return std::none_of(p.shape->layers.begin(), p.shape->layers.end(),
                          [&](const BufferLayer& layer) { return layer.layer_id == entry.first; });
    });
    SliceProblem changed = p;
    changed.adapter = &known;
    ReferenceBackend::slice(changed, out, context);
  }
};

/// The rank in the world stands for the rank in the expert group.
struct WorldRankAsEp : Mutated<WorldRankAsEp> {
  Layout layout(const LayoutSpec& spec) const override {
    Layout layout = make_layout(spec);
    for (RankPlace& place : layout.places) place.ep_rank = std::min(place.rank, place.ep - 1);
    return layout;
  }
};

/// Experts that do not divide evenly all go to the last rank.
struct UnevenExperts : Mutated<UnevenExperts> {
  Layout layout(const LayoutSpec& spec) const override {
    Layout layout = make_layout(spec);
    const std::int32_t E = spec.placement.num_experts, ep = layout.placement.ep();
    if (spec.placement.kind != PlacementKind::linear || E % ep == 0) return layout;
    std::vector<std::vector<std::int32_t>> table(ep);
    for (std::int32_t e = 0; e < E; ++e)
      table[std::min(E / ep == 0 ? ep - 1 : e / (E / ep), ep - 1)].push_back(e);
    layout.placement = Placement::table(E, std::move(table));
    return layout;
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

}  // namespace

std::vector<Mutant> weight_mutants() {
  return {
      mutant<OuterRankSlice>("outer-rank-slice", "sgl-project/sglang#24171",
                             "slicing uses the outer tp rank where the MoE-TP rank is meant"),
      mutant<LoraBAxis>("loraB-axis", "vllm-project/vllm#31534",
                        "a fused B, stored expert-fastest, is read expert-slowest"),
      mutant<PartialRankA>("partial-rank-A", "sgl-project/sglang#21864",
                           "up's A stands r rows behind gate's instead of R rows"),
      mutant<UpUsesGateA>("up-uses-gate-A", "sgl-project/sglang#27274",
                          "both halves of gate_up use gate's A"),
      mutant<SilentDrop>("gemma4-drop", "vllm-project/vllm#41754",
                         "adapter layers whose names do not resolve are skipped in silence"),
      mutant<WorldRankAsEp>("world-rank-as-ep", "vllm-project/vllm#46441",
                            "the rank in the world is taken for the rank in the expert group"),
      mutant<UnevenExperts>("uneven-experts", "vllm-project/vllm#21497",
                            "experts that do not divide evenly all go to the last rank"),
      mutant<GlobalSizedPool>("global-sized-pool", "sgl-project/sglang#23178",
                              "the adapter pool holds the first experts on every rank"),
      mutant<EvictStale>("evict-stale", "sgl-project/sglang#8103",
                         "a reused slot keeps the modules that the new adapter lacks"),
      mutant<GateUpTpOrder>("gate-up-tp-order", "NVIDIA-NeMo/Megatron-Bridge#1817",
                            "stacked gate_up B is cut as one tensor instead of per half"),
  };
}

const std::vector<Mutant>& list_mutants() {
  static const std::vector<Mutant> kAll = [] {
    std::vector<Mutant> all = routing_mutants();
    for (Mutant& m : weight_mutants()) all.push_back(std::move(m));
    return all;
  }();
  return kAll;
}

}  // namespace eplora::suite
