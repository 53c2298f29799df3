// SPDX-License-Identifier: Apache-2.0
// The descriptors of a slicing, tensor by tensor. All of it is arithmetic on sizes and addresses.
#include <algorithm>
#include <cstdlib>
#include <limits>

#include "optimized/cuda/cuda_slice.h"
#include "reference/check.h"

namespace eplora::cuda {
namespace {

using kernels::SliceTensor;
using kernels::SliceUnit;

constexpr std::int64_t kMaxCount = std::numeric_limits<std::uint32_t>::max();

kernels::ElementType element_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return kernels::ElementType::f32;
    case DType::f16:
      return kernels::ElementType::f16;
    case DType::bf16:
      return kernels::ElementType::bf16;
  }
  reject("dtype", std::to_string(static_cast<int>(dtype)), "it must be F32, F16 or BF16");
}

/// One half's lines: `columns` of `lines` are real, strides in elements.
struct Half {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t size = 4;  ///< bytes an element
  std::int64_t expert_stride = 0, line_stride = 0, column_stride = 1;
  std::int64_t lines = 0, columns = 0;

  bool empty() const { return lines == 0 || columns == 0; }
  bool contiguous() const { return column_stride == 1 || columns <= 1; }
};

/// `[lines, columns]` of `tensor` from (`first_row`, `first_column`) on.
Half half_of(const StridedTensor& tensor, std::int64_t first_row, std::int64_t first_column,
             std::int64_t lines, std::int64_t columns) {
  if (!tensor.present()) return {};
  const auto size = static_cast<std::int64_t>(bytes_of(tensor.dtype));
  const std::int64_t first = first_row * tensor.row_stride + first_column * tensor.col_stride;
  return {static_cast<const std::byte*>(tensor.data) + first * size,
          tensor.dtype,
          size,
          tensor.experts == 1 ? 0 : tensor.expert_stride,
          tensor.row_stride,
          tensor.col_stride,
          lines,
          columns};
}

/// A slot `[places, halves * half_lines, width]` in elements, before units are chosen.
struct Cut {
  std::byte* slot = nullptr;
  DType dtype = DType::f32;
  std::int64_t size = 4;
  std::int64_t places = 0, half_lines = 0, width = 0;
  int halves = 1;
  bool interleaved = false;
  Half half[2];

  template <class Condition>
  bool all(const Condition& condition) const {
    return std::all_of(half, half + halves, [&](const Half& h) { return h.empty() || condition(h); });
  }

  /// Halves that alternate in the source as they do in the slot are one.
  void join_interlocked() {
    const Half &gate = half[0], &up = half[1];
    if (!interleaved || gate.empty() || up.empty() || gate.dtype != up.dtype || gate.lines != up.lines ||
        gate.columns != up.columns || gate.expert_stride != up.expert_stride ||
        gate.line_stride != up.line_stride || gate.column_stride != up.column_stride ||
        gate.line_stride % 2 != 0)
      return;
    const auto distance = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(up.data) -
                                                    reinterpret_cast<std::uintptr_t>(gate.data));
    if (distance != gate.line_stride / 2 * gate.size) return;
    interleaved = false;
    halves = 1;
    half_lines *= 2;
    half[0].lines *= 2;
    half[0].line_stride /= 2;
    half[1] = {};
  }

  /// Lines that follow each other without a gap are one.
  void join_lines() {
    if (interleaved || half_lines == 1 || half_lines > kMaxCount / width) return;
    if (!all([&](const Half& h) {
          return h.contiguous() && h.columns == width && (h.line_stride == width || h.lines <= 1);
        }))
      return;
    for (Half& h : half) {
      h.column_stride = 1;  // of a single column it could be anything
      h.columns *= h.lines;
      h.lines = std::min<std::int64_t>(h.lines, 1);
    }
    width *= half_lines;
    half_lines = 1;
  }

  /// The largest power of two, up to 16, that divides all addresses and distances in bytes.
  std::int64_t common_alignment() const {
    auto bits = static_cast<std::uint64_t>(16) | reinterpret_cast<std::uintptr_t>(slot) |
                static_cast<std::uint64_t>(width * size);
    for (const Half& h : half) {
      if (h.empty()) continue;
      bits |= reinterpret_cast<std::uintptr_t>(h.data) |
              static_cast<std::uint64_t>(h.expert_stride * h.size) |
              static_cast<std::uint64_t>(h.columns * h.size);
      if (h.lines > 1) bits |= static_cast<std::uint64_t>(h.line_stride * h.size);
    }
    return static_cast<std::int64_t>(bits & (~bits + 1));
  }

  bool fours() const {
    const auto aligned = [](const void* address, std::int64_t bytes) {
      return reinterpret_cast<std::uintptr_t>(address) % static_cast<std::uintptr_t>(bytes) == 0;
    };
    return width % 4 == 0 && aligned(slot, 4 * size) && all([&](const Half& h) {
             return h.contiguous() && h.columns % 4 == 0 && h.expert_stride % 4 == 0 &&
                    (h.line_stride % 4 == 0 || h.lines <= 1) && aligned(h.data, 4 * h.size);
           });
  }

  /// Reads in slot order would touch a new sector for every element, and reads along experts would not.
  bool experts_are_neighbours() const {
    return places >= 8 && all([&](const Half& h) {
             const std::int64_t step = h.columns > 1 ? h.column_stride : h.line_stride;
             return h.expert_stride != 0 && std::abs(h.expert_stride) <= 8 &&
                    std::abs(step) > std::abs(h.expert_stride);
           });
  }

  /// The elements of every two places are one aligned word of the source, and stay as they are.
  bool experts_come_in_pairs(const std::vector<std::int32_t>& experts) const {
    if (size != 2 || places % 2 != 0) return false;
    for (std::int64_t p = 0; p < places; p += 2)
      if (experts[p + 1] != experts[p] + 1 || (experts[p] ^ experts[0]) % 2 != 0) return false;
    return all([&](const Half& h) {
      return h.dtype == dtype && h.expert_stride == 1 && (h.line_stride % 2 == 0 || h.lines <= 1) &&
             (h.column_stride % 2 == 0 || h.columns <= 1) &&
             (reinterpret_cast<std::uintptr_t>(h.data) + 2 * static_cast<std::uintptr_t>(experts[0])) % 4 ==
                 0;
    });
  }

  SliceUnit unit(const std::vector<std::int32_t>& experts) const {
    if (all([&](const Half& h) { return h.dtype == dtype && h.contiguous(); })) switch (common_alignment()) {
        case 16:
          return SliceUnit::word16;
        case 8:
          return SliceUnit::word8;
        case 4:
          return SliceUnit::word4;
        case 2:
          return SliceUnit::word2;
        default:
          break;
      }
    if (fours()) return SliceUnit::four;
    if (!experts_are_neighbours()) return SliceUnit::element;
    return experts_come_in_pairs(experts) ? SliceUnit::transpose_pairs : SliceUnit::transpose;
  }
};

/// Elements of type size `size` in one unit.
std::int64_t elements_of(SliceUnit unit, std::int64_t size) {
  switch (unit) {
    case SliceUnit::word16:
      return 16 / size;
    case SliceUnit::word8:
      return 8 / size;
    case SliceUnit::word4:
      return 4 / size;
    case SliceUnit::word2:
      return 2 / size;
    case SliceUnit::four:
      return 4;
    case SliceUnit::element:
    case SliceUnit::transpose:
    case SliceUnit::transpose_pairs:
      return 1;
  }
  return 1;
}

/// A divisor whose quotients are only taken of numbers below a tile's size: past the range of `Divisor` they
/// are 0.
kernels::Divisor divisor_of(std::int64_t value) {
  kernels::Divisor divisor = kernels::Divisor::of(std::min(value, kMaxIndex));
  divisor.value = static_cast<std::uint32_t>(value);
  return divisor;
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The descriptor, and how many tiles it takes.
std::pair<SliceTensor, std::int64_t> describe(Cut cut, const std::vector<std::int32_t>& experts) {
  cut.join_interlocked();
  cut.join_lines();
  SliceTensor tensor;
  tensor.unit = cut.unit(experts);
  const std::int64_t elements = elements_of(tensor.unit, cut.size);
  const std::int64_t width = cut.width / elements, lines = cut.halves * cut.half_lines;
  tensor.slot = cut.slot;
  tensor.to = element_type(cut.dtype);
  tensor.interleaved = cut.interleaved;
  tensor.places = static_cast<std::uint32_t>(cut.places);
  tensor.half_lines = static_cast<std::uint32_t>(cut.half_lines);
  tensor.width = divisor_of(width);
  tensor.lines = divisor_of(lines);
  for (int h = 0; h < cut.halves; ++h) {
    const Half& half = cut.half[h];
    if (half.empty()) continue;
    tensor.source[h] = {half.data, half.expert_stride * half.size, half.line_stride * half.size,
                        elements * half.size * (elements > 1 ? 1 : half.column_stride)};
    tensor.from[h] = element_type(half.dtype);
    tensor.valid_lines[h] = static_cast<std::uint32_t>(half.lines);
    tensor.valid_columns[h] = static_cast<std::uint32_t>(half.columns / elements);
  }
  if (tensor.unit == SliceUnit::transpose || tensor.unit == SliceUnit::transpose_pairs)
    return {tensor, ceil_div(cut.places, kernels::kTransposePlaces) *
                        ceil_div(saturating_product(lines, width), kernels::kTransposeElements)};
  return {tensor, ceil_div(saturating_product(saturating_product(cut.places, lines), width),
                           kernels::kSliceTileUnits)};
}

}  // namespace

std::size_t SlicePlan::table_bytes() const {
  return tensors.size() * sizeof(SliceTensor) + experts.size() * sizeof(std::int32_t);
}

SlicePlan plan_slice(const SliceProblem& problem, const BufferView& buffers) {
  const BufferShape& shape = *problem.shape;
  const std::int64_t R = shape.max_lora_rank, H = shape.hidden, i = shape.intermediate;
  const std::int64_t first = problem.place.moe_tp_rank * i;
  const int halves = static_cast<int>(shape.halves());
  const auto size = static_cast<std::int64_t>(bytes_of(shape.dtype));
  const AdapterLayer nothing;

  SlicePlan plan;
  plan.experts.assign(problem.local_experts.begin(), problem.local_experts.end());
  if (plan.experts.empty()) plan.experts.push_back(0);
  std::int64_t tiles = 0;
  const auto add = [&](Cut cut, float* scale, float scale_value) {
    auto [tensor, own_tiles] = describe(cut, plan.experts);
    tensor.scale = scale;
    tensor.scale_value = scale_value;
    if (scale != nullptr) own_tiles = std::max<std::int64_t>(own_tiles, 1);  // somebody must write the scale
    if (own_tiles == 0) return;
    tensor.first_tile = static_cast<std::uint32_t>(tiles);
    tiles += own_tiles;
    if (tiles > kMaxIndex)
      reject("slice tiles", std::to_string(tiles), "one launch has at most " + std::to_string(kMaxIndex));
    plan.tensors.push_back(tensor);
  };

  for (std::size_t n = 0; n < shape.layers.size(); ++n) {
    const BufferLayer& target = shape.layers[n];
    if (!target.layer_id.has_value()) continue;
    const auto found = problem.adapter->layers.find(*target.layer_id);
    const AdapterLayer& layer = found == problem.adapter->layers.end() ? nothing : found->second;
    const auto cut = [&](BufferTensor which, std::int64_t places, std::int64_t half_lines,
                         std::int64_t width) {
      Cut blank;
      blank.slot = static_cast<std::byte*>(buffers.tensor[n][static_cast<std::size_t>(which)]) +
                   problem.slot * shape.slot_elements(which) * size;
      blank.dtype = shape.dtype;
      blank.size = size;
      blank.places = places;
      blank.half_lines = half_lines;
      blank.width = width;
      return blank;
    };
    float* const scale = buffers.scale + (static_cast<std::int64_t>(n) * 2) * shape.max_loras + problem.slot;
    if (target.has_gate_up) {
      Cut A = cut(BufferTensor::gate_up_A, shape.outer_experts(), R, H);
      Cut B = cut(BufferTensor::gate_up_B, shape.local_experts, i, R);
      A.halves = B.halves = halves;
      B.interleaved = halves == 2 && shape.form == GateUpForm::interleaved;
      for (int h = 0; h < halves; ++h) {
        const LoraPair& pair = layer.gate_up[static_cast<std::size_t>(h)];
        A.half[h] = half_of(pair.A, 0, 0, pair.rank(), H);
        B.half[h] = half_of(pair.B, first, 0, i, pair.rank());
      }
      add(A, scale, layer.gate_up[0].present() ? layer.gate_up_scale : 0.0F);
      add(B, nullptr, 0.0F);
    }
    if (target.has_down) {
      Cut A = cut(BufferTensor::down_A, shape.local_experts, R, i);
      Cut B = cut(BufferTensor::down_B, shape.outer_experts(), H, R);
      A.half[0] = half_of(layer.down.A, 0, first, layer.down.rank(), i);
      B.half[0] = half_of(layer.down.B, 0, 0, H, layer.down.rank());
      add(A, scale + shape.max_loras, layer.down.present() ? layer.down_scale : 0.0F);
      add(B, nullptr, 0.0F);
    }
  }
  plan.tiles = static_cast<std::uint32_t>(tiles);
  return plan;
}

}  // namespace eplora::cuda
