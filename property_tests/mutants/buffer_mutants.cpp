// SPDX-License-Identifier: Apache-2.0
// Bugs of the adapter buffers and of how files are read: strides, padding, scales, and what an earlier load
// left behind.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "property_tests/mutants/mutants.h"

namespace eplora::suite {
namespace {

/// A fused B is read expert-slowest, as A is.
struct LoraBAxis : OtherAdapter<LoraBAxis> {
  void change(const SliceProblem&, AdapterLayer& layer) const {
    for (LoraPair* pair : pairs_of(layer)) {
      StridedTensor& B = pair->B;
      if (!B.present() || B.experts <= 1 || B.expert_stride != 1) continue;
      B.expert_stride = B.cols;  // B[o, e*r + j] for B[o, j*E + e]
      B.col_stride = 1;
    }
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
struct UpUsesGateA : OtherAdapter<UpUsesGateA> {
  void change(const SliceProblem&, AdapterLayer& layer) const {
    if (layer.gate_up[1].present() && layer.gate_up[1].rank() == layer.gate_up[0].rank())
      layer.gate_up[1].A = layer.gate_up[0].A;
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

/// Columns past the adapter's rank keep what stood there in down's B.
struct PartialRankB : Mutated<PartialRankB> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    const BufferShape& shape = *p.shape;
    const std::int64_t elements = shape.slot_elements(BufferTensor::down_B), R = shape.max_lora_rank;
    std::vector<std::vector<float>> before(shape.layers.size());
    for (std::size_t n = 0; n < before.size(); ++n)
      for (std::int64_t k = 0; rank_in(p, n) < R && k < elements; ++k)
        before[n].push_back(load_as_float(out.tensor[n][3], shape.dtype, p.slot * elements + k));
    ReferenceBackend::slice(p, out, context);
    for (std::size_t n = 0; n < before.size(); ++n)
      for (std::int64_t k = 0; k < std::ssize(before[n]); ++k)
        if (k % R >= rank_in(p, n))
          store_float(out.tensor[n][3], shape.dtype, p.slot * elements + k, before[n][k]);
  }
  /// R where nothing is loaded.
  static std::int64_t rank_in(const SliceProblem& p, std::size_t n) {
    const BufferLayer& layer = p.shape->layers[n];
    if (!layer.layer_id || !layer.has_down) return p.shape->max_lora_rank;
    const auto found = p.adapter->layers.find(*layer.layer_id);
    const bool loaded = found != p.adapter->layers.end() && found->second.down.present();
    return loaded ? found->second.down.rank() : p.shape->max_lora_rank;
  }
};

/// The delta of a square weight is taken the other way round: its factors change places, transposed.
struct InOutSwap : OtherAdapter<InOutSwap> {
  static StridedTensor transposed(StridedTensor t) {
    std::swap(t.rows, t.cols);
    std::swap(t.row_stride, t.col_stride);
    return t;
  }
  void change(const SliceProblem& p, AdapterLayer& layer) const {
    LoraPair& down = layer.down;
    if (!down.present() || p.geometry.hidden != p.geometry.intermediate || down.A.experts != down.B.experts)
      return;
    down = {transposed(down.B), transposed(down.A)};
  }
};

/// The layout of a file is guessed from sizes; where 2I <= H the guess fails and the base weight is used.
struct ShapeGuess : OtherAdapter<ShapeGuess> {
  void change(const SliceProblem& p, AdapterLayer& layer) const {
    if (2 * p.geometry.intermediate <= p.geometry.hidden) layer.gate_up = {};
  }
};

/// Packing computes alpha / r anew and forgets that rsLoRA divides by the root.
struct RsScale : OtherAdapter<RsScale> {
  void change(const SliceProblem&, AdapterLayer& layer) const {
    if (layer.gate_up[0].present())
      layer.gate_up_scale /= std::sqrt(static_cast<float>(layer.gate_up[0].rank()));
    if (layer.down.present()) layer.down_scale /= std::sqrt(static_cast<float>(layer.down.rank()));
  }
};

/// An adapter on one projection alone is loaded but never applied.
struct OneSided : OtherAdapter<OneSided> {
  void change(const SliceProblem&, AdapterLayer& layer) const {
    if (layer.gate_up[0].present() != layer.down.present()) layer = {};
  }
};

/// Buffers are sized by the outer tensor parallelism: columns past that width are not loaded.
struct OuterWidth : Mutated<OuterWidth> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    ReferenceBackend::slice(p, out, context);
    const BufferShape& shape = *p.shape;
    const std::int64_t i = shape.intermediate, width = p.geometry.intermediate / p.place.num_ranks;
    const std::int64_t elements = shape.slot_elements(BufferTensor::down_A);
    for (std::size_t n = 0; n < shape.layers.size(); ++n)
      for (std::int64_t k = 0; shape.layers[n].layer_id && shape.layers[n].has_down && k < elements; ++k)
        if (k % i >= width) store_float(out.tensor[n][2], shape.dtype, p.slot * elements + k, 0.0F);
  }
};

/// Every tensor-parallel rank adds the whole delta, which is then summed over them.
struct CountedPerRank : OtherAdapter<CountedPerRank> {
  void change(const SliceProblem& p, AdapterLayer& layer) const {
    layer.down_scale *= static_cast<float>(p.place.moe_tp);
  }
};

/// The same for the shared expert's weights alone.
struct SharedCountedPerRank : OtherAdapter<SharedCountedPerRank> {
  void change(const SliceProblem& p, AdapterLayer& layer) const {
    if (p.geometry.shared_outer) layer.down_scale *= static_cast<float>(p.place.moe_tp);
  }
};

/// The second slice's stride is taken from the first.
struct StrideOfFirst : OtherAdapter<StrideOfFirst> {
  void change(const SliceProblem&, AdapterLayer& layer) const {
    const LoraPair& gate = layer.gate_up[0];
    StridedTensor& B = layer.gate_up[1].B;
    if (gate.present() && B.present() && B.col_stride == 1 && gate.rank() < B.cols)
      B.row_stride = gate.rank();
  }
};

/// Loading prepares the cached copy in place: the second load of the same adapter prepares it again.
struct CacheMutated : OtherAdapter<CacheMutated> {
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    std::string key = std::to_string(p.slot) + " " + std::to_string(p.place.rank);
    for (const auto& [id, layer] : p.adapter->layers)
      for (const LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down})
        for (const StridedTensor* tensor : {&pair->A, &pair->B})
          key += " " + std::to_string(tensor->experts) + "," + std::to_string(tensor->rows) + "," +
                 std::to_string(tensor->cols) +
                 (tensor->present() ? std::to_string(tensor->at(0, 0, 0)) : "");
    again_ = key == cached_ && !again_;
    cached_ = key;
    OtherAdapter::slice(p, out, context);
  }
  void change(const SliceProblem&, AdapterLayer& layer) const {
    if (again_) layer.gate_up_scale *= 2.0F, layer.down_scale *= 2.0F;
  }
  std::string cached_;
  bool again_ = false;
};

}  // namespace

std::vector<Mutant> buffer_mutants() {
  return {
      mutant<LoraBAxis>("loraB-axis", "vllm-project/vllm#31534",
                        "a fused B, stored expert-fastest, is read expert-slowest",
                        {{"E", 2}, {"R", 2}, {"r", 2}}),
      mutant<PartialRankA>("partial-rank-A", "sgl-project/sglang#21864",
                           "up's A stands r rows behind gate's instead of R rows", {{"R", 2}}),
      mutant<PartialRankB>("qkv-a-partial", "sgl-project/sglang#23594",
                           "columns of B past the adapter's rank are not cleared", {{"R", 2}}),
      mutant<UpUsesGateA>("up-uses-gate-A", "sgl-project/sglang#27274",
                          "both halves of gate_up use gate's A"),
      mutant<SilentDrop>("gemma4-drop", "vllm-project/vllm#41754",
                         "adapter layers whose names do not resolve are skipped in silence"),
      mutant<EvictStale>("evict-stale", "sgl-project/sglang#8103",
                         "a reused slot keeps the modules that the new adapter lacks"),
      mutant<InOutSwap>("in-out-swap", "vllm-project/vllm#52194",
                        "the delta of a square weight is transposed"),
      mutant<ShapeGuess>("shape-guess", "unslothai/unsloth-zoo#779", "gate_up is not loaded where 2I <= H",
                         {{"H", 2}}),
      mutant<RsScale>("rs-scale", "vllm-project/vllm#55545",
                      "the scale is divided by the root of the rank again", {{"R", 2}, {"r", 2}}),
      mutant<OneSided>("one-sided", "sgl-project/sglang#32406",
                       "an adapter on one projection alone is not applied"),
      mutant<OuterWidth>("dense-shard-size", "sgl-project/sglang#39379",
                         "a rank's columns are as many as the outer tensor parallelism gives",
                         {{"ranks", 2}, {"E", 2}}),
      mutant<CountedPerRank>("expert-lora-etp", "NVIDIA-NeMo/Megatron-Bridge#5634",
                             "the delta of down counts once for each tensor-parallel rank", {{"ranks", 2}}),
      mutant<SharedCountedPerRank>("overlap-2x", "radixark/miles#3232",
                                   "the shared delta of down counts once for each tensor-parallel rank",
                                   {{"ranks", 2}}),
      mutant<StrideOfFirst>("sharded-slice-stride", "vllm-project/vllm#42718",
                            "the second slice of gate_up is read with the first one's stride",
                            {{"R", 2}, {"r", 2}, {"i", 2}}),
      mutant<CacheMutated>("lru-repack", "vllm-project/vllm#20873",
                           "a cached adapter is prepared in place, twice when loaded again"),
  };
}

}  // namespace eplora::suite
