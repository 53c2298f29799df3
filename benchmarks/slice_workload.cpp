// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/slice_workload.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "benchmarks/parallel.h"
#include "benchmarks/synthetic.h"
#include "reference/check.h"
#include "reference/lora/slice.h"

namespace eplora::bench {
namespace {

constexpr std::int64_t kExperts = 128, kHidden = 2048, kIntermediate = 768, kBufferRank = 16;
constexpr std::int32_t kSlots = 2, kSlot = 1;
constexpr std::uint8_t kPoison = 0xCD;

/// Everything about a shape except the weights.
struct Cut {
  SliceShape shape;
  MoeGeometry geometry;
  Layout layout;
  BufferShape buffers;
  SliceProblem problem;  // adapter and buffers are not set

  explicit Cut(const SliceShape& which, std::vector<BufferLayer> layers) : shape(which) {
    geometry = {
        static_cast<std::int32_t>(kExperts), kHidden, kIntermediate, true, which.form, which.shared_outer};
    layout = make_layout(sglang_layout(which.sizes, geometry.num_experts, which.placement));
    const std::int32_t rank = which.sizes.tp - 1;
    problem.geometry = geometry;
    problem.place = layout.place(rank);
    problem.local_experts = layout.local_experts(rank);
    problem.slot = kSlot;
    buffers = buffer_shape(geometry, problem.place, static_cast<std::int64_t>(problem.local_experts.size()),
                           std::move(layers), kSlots, kBufferRank, DType::bf16);
  }
  Cut(const Cut&) = delete;
  Cut& operator=(const Cut&) = delete;

  std::int64_t outer() const { return shape.shared_outer ? 1 : kExperts; }
  std::int64_t source_bytes() const {  // of a layer
    return 3 * shape.r * (outer() * kHidden + kExperts * kIntermediate) *
           static_cast<std::int64_t>(bytes_of(shape.from));
  }
  std::size_t slot_bytes(BufferTensor tensor) const {
    return static_cast<std::size_t>(buffers.slot_elements(tensor)) * bytes_of(buffers.dtype);
  }
};

std::vector<BufferLayer> first_layers(std::int32_t count) {
  std::vector<BufferLayer> layers;
  for (std::int32_t n = 0; n < count; ++n) layers.push_back({n, true, true});
  return layers;
}

/// Views of one layer whose weights stand at `base`.
AdapterLayer layer_at(const SliceShape& shape, std::int32_t n, const std::byte* base) {
  const std::int64_t E = kExperts, H = kHidden, I = kIntermediate, r = shape.r;
  const std::int64_t outer = shape.shared_outer ? 1 : E,
                     size = static_cast<std::int64_t>(bytes_of(shape.from));
  const auto take = [&](std::int64_t elements) { return std::exchange(base, base + elements * size); };
  const auto plain = [&](std::int64_t experts, std::int64_t rows, std::int64_t cols) {
    return StridedTensor{take(experts * rows * cols), shape.from, experts, rows, cols, rows * cols, cols, 1};
  };
  const auto B = [&](std::int64_t experts, std::int64_t rows) {
    if (!shape.experts_fastest) return plain(experts, rows, r);
    return StridedTensor{take(experts * rows * r), shape.from, experts, rows, r, 1, r * experts, experts};
  };
  AdapterLayer layer;
  layer.gate_up[0].A = plain(outer, r, H);
  layer.gate_up[1].A = plain(outer, r, H);
  if (shape.form == GateUpForm::interleaved) {
    StridedTensor gate{take(2 * E * I * r), shape.from, E, I, r, 2 * I * r, 2 * r, 1};
    layer.gate_up[0].B = gate;
    gate.data = static_cast<const std::byte*>(gate.data) + r * size;
    layer.gate_up[1].B = gate;
  } else {
    layer.gate_up[0].B = B(E, I);
    layer.gate_up[1].B = B(E, I);
  }
  layer.down.A = plain(E, r, I);
  layer.down.B = B(outer, H);
  layer.gate_up_scale = 0.5F + static_cast<float>(n);
  layer.down_scale = 0.25F * static_cast<float>(n);
  return layer;
}

std::vector<std::uint64_t> random_source(const Cut& cut, int n) {
  std::vector<std::uint64_t> words(static_cast<std::size_t>(cut.source_bytes()) / sizeof(std::uint64_t));
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = random_bits(static_cast<std::uint64_t>(n) + 1, i);
  return words;
}

Sha256::Digest digest_of_outputs(std::span<const std::span<const std::byte>> tensors,
                                 std::array<float, 2> scales) {
  Sha256 hash;
  for (const std::span<const std::byte> tensor : tensors) hash.add(tensor);
  return hash.add_values(std::span<const float>(scales)).finish();
}

/// By the reference, from the layer's weights in host memory.
PartDigests digests_of_layer(const SliceShape& shape, int n, const std::vector<std::uint64_t>& source) {
  const Cut cut(shape, {{n, true, true}});
  const AdapterLayer layer = layer_at(shape, n, reinterpret_cast<const std::byte*>(source.data()));
  const Adapter adapter{{{n, layer}}};
  SliceProblem problem = cut.problem;
  problem.adapter = &adapter;
  problem.shape = &cut.buffers;
  LoraBuffers buffers(cut.buffers, kPoison);
  reference::slice(problem, buffers.view());
  std::vector<std::span<const std::byte>> slots;
  for (const BufferTensor tensor : kBufferTensors)
    slots.push_back(std::as_const(buffers).bytes(0, tensor).subspan(cut.slot_bytes(tensor)));
  const std::array<float, 2> in = {layer.gate_up_scale, layer.down_scale};
  const std::array<float, 2> out = {buffers.scale(0, 0, kSlot), buffers.scale(0, 1, kSlot)};
  return {Sha256().add_values(std::span(source)).add_values(std::span<const float>(in)).finish(),
          digest_of_outputs(slots, out)};
}

/// The adapter and the rank's buffers in a backend's memory.
class LoadedSlice final : public Loaded {
 public:
  LoadedSlice(const SliceShape& shape, Backend& backend, MemoryAccess& memory,
              const std::vector<PartDigests>& parts)
      : cut_(shape, first_layers(shape.layers)), backend_(backend), memory_(memory), parts_(parts) {
    for (std::int32_t n = 0; n < shape.layers; ++n) {
      sources_.emplace_back(memory, static_cast<std::size_t>(cut_.source_bytes()));
      adapter_.layers[n] = layer_at(shape, n, sources_.back().data());
      std::array<void*, 4>& pointers = view_.tensor.emplace_back();
      for (const BufferTensor tensor : kBufferTensors) {
        tensors_.emplace_back(memory, kSlots * cut_.slot_bytes(tensor));
        pointers[static_cast<std::size_t>(tensor)] = tensors_.back().data();
      }
    }
    parallel_for(shape.layers, [&](std::int64_t n) {
      sources_[static_cast<std::size_t>(n)].write(random_source(cut_, static_cast<int>(n)).data());
    });
    scales_ = std::make_unique<Buffer>(
        memory, static_cast<std::size_t>(cut_.buffers.scale_elements()) * sizeof(float));
    view_.scale = reinterpret_cast<float*>(scales_->data());
    cut_.problem.adapter = &adapter_;
    cut_.problem.shape = &cut_.buffers;
    workspace_ =
        std::make_unique<Buffer>(memory, std::max<std::size_t>(backend.workspace_bytes(cut_.problem), 1));
  }

  void poison(const Fill& fill) override {
    for (const Buffer& tensor : tensors_) fill(tensor.data(), tensor.size(), kPoison);
    fill(scales_->data(), scales_->size(), kPoison);
    fill(workspace_->data(), workspace_->size(), 0x5A);
  }

  void enqueue(int, void* stream) override {
    backend_.slice(cut_.problem, view_, {workspace_->data(), workspace_->size(), stream});
  }

  void refresh(const Fill& fill, int) override { poison(fill); }

  std::string difference() override {
    std::vector<float> scales(static_cast<std::size_t>(cut_.buffers.scale_elements()));
    scales_->read(scales.data());
    std::vector<std::string> found(parts_.size());
    parallel_for(static_cast<std::int64_t>(parts_.size()),
                 [&](std::int64_t n) { found[n] = layer_difference(static_cast<std::size_t>(n), scales); });
    const auto first = std::ranges::find_if(found, [](const std::string& text) { return !text.empty(); });
    return first == found.end() ? "" : *first;
  }

 private:
  std::string layer_difference(std::size_t n, const std::vector<float>& scales) const {
    std::array<std::vector<std::byte>, 4> contents;
    std::vector<std::span<const std::byte>> slots;
    for (const BufferTensor tensor : kBufferTensors) {
      const auto which = static_cast<std::size_t>(tensor);
      const Buffer& buffer = tensors_[n * kBufferTensors.size() + which];
      contents[which].resize(buffer.size());
      buffer.read(contents[which].data());
      const std::span<const std::byte> bytes(contents[which]);
      slots.push_back(bytes.subspan(cut_.slot_bytes(tensor)));
      if (std::ranges::any_of(bytes.first(cut_.slot_bytes(tensor)),
                              [](std::byte b) { return b != std::byte{kPoison}; }))
        return "layer " + std::to_string(n) + ", " + std::string(to_string(tensor)) + ": slot 0 was changed";
    }
    const float* const pair = scales.data() + n * 2 * kSlots;
    if (digest_of_outputs(slots, {pair[kSlot], pair[kSlots + kSlot]}) != parts_[n].outputs)
      return "layer " + std::to_string(n) + ": slot 1 differs from the reference";
    return {};
  }

  Cut cut_;
  Backend& backend_;
  MemoryAccess& memory_;
  const std::vector<PartDigests>& parts_;
  std::vector<Buffer> sources_, tensors_;
  std::unique_ptr<Buffer> scales_, workspace_;
  Adapter adapter_;
  BufferView view_;
};

class SliceWorkload final : public Workload {
 public:
  explicit SliceWorkload(const SliceShape& shape)
      : shape_(shape), parts_(static_cast<std::size_t>(shape.layers)) {
    const Cut cut(shape, {});
    parallel_for(shape.layers, [&](std::int64_t n) {
      parts_[n] = digests_of_layer(shape, static_cast<int>(n), random_source(cut, static_cast<int>(n)));
    });
  }
  int sets() const override { return 1; }
  std::int64_t bytes() const override { return slice_bytes(shape_); }
  const std::vector<PartDigests>& parts() const override { return parts_; }
  std::unique_ptr<Loaded> load(Backend& backend, MemoryAccess& memory) const override {
    return std::make_unique<LoadedSlice>(shape_, backend, memory, parts_);
  }

 private:
  SliceShape shape_;
  std::vector<PartDigests> parts_;
};

}  // namespace

void validate(const SliceShape& shape) {
  require_in_range("rank", shape.r, 1, kBufferRank);
  require_in_range("layers", shape.layers, 1, 4096);
  const Cut cut(shape, {});  // refuses layouts that do not divide
}

std::unique_ptr<Workload> make_slice_workload(const SliceShape& shape) {
  validate(shape);
  return std::make_unique<SliceWorkload>(shape);
}

PartDigests slice_digests(const SliceShape& shape, int layer) {
  validate(shape);
  return digests_of_layer(shape, layer, random_source(Cut(shape, {}), layer));
}

std::int64_t slice_bytes(const SliceShape& shape) {
  const Cut cut(shape, {});
  const BufferShape& to = cut.buffers;
  std::int64_t bytes = 3 * shape.r * (to.local_experts * to.intermediate + to.outer_experts() * to.hidden) *
                       static_cast<std::int64_t>(bytes_of(shape.from));
  for (const BufferTensor tensor : kBufferTensors) bytes += static_cast<std::int64_t>(cut.slot_bytes(tensor));
  return bytes * shape.layers;
}

}  // namespace eplora::bench
