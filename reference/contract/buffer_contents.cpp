// SPDX-License-Identifier: Apache-2.0
// P10: section 6's buffer formulas, read backwards - from an element of a buffer to the element of the
// adapter that must stand there.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "reference/check.h"
#include "reference/contract/sentence.h"
#include "reference/contract/weights.h"

namespace eplora::contract {
namespace {

/// Where an element of a buffer comes from: `tensor(expert, row, col)`, or nothing (zero).
struct Source {
  const StridedTensor* tensor = nullptr;
  std::int64_t expert = 0, row = 0, col = 0;
  float scale = 1;         ///< folded into the element, scale_in_B only
  std::string place = {};  ///< "local expert 1 (expert 5), half 0, row 3, rank index 2"; only on demand
};

Source source_of(const SliceProblem& problem, const AdapterLayer& layer, BufferTensor which,
                 std::int64_t offset, bool with_words) {
  const BufferShape& shape = *problem.shape;
  const std::int64_t R = shape.max_lora_rank, H = shape.hidden, i = shape.intermediate;
  const std::int64_t c = shape.gated ? 2 : 1, p = problem.place.moe_tp_rank;
  const auto take = [&offset](std::int64_t size) {
    const std::int64_t index = offset % size;
    offset /= size;
    return index;
  };
  std::int64_t j = 0, half = 0, row = 0;
  const StridedTensor *A = nullptr, *B = nullptr;
  Source source;
  switch (which) {
    case BufferTensor::gate_up_A:  // [E_a, c, R, H]
      row = take(H), j = take(R), half = take(c);
      A = &layer.gate_up[half].A;
      source.col = row;
      break;
    case BufferTensor::gate_up_B: {  // [E_b, c*i, R]: rank p has rows [p*i, (p+1)*i) of each half
      j = take(R), row = take(c * i);
      const bool alternating = c == 2 && shape.form == GateUpForm::interleaved;
      half = alternating ? row % 2 : row / i;
      B = &layer.gate_up[half].B;
      source.row = p * i + (alternating ? row / 2 : row % i);
      break;
    }
    case BufferTensor::down_A:  // [E_b, R, i]: columns [p*i, (p+1)*i)
      row = take(i), j = take(R);
      A = &layer.down.A;
      source.col = p * i + row;
      break;
    case BufferTensor::down_B:  // [E_a, H, R]
      j = take(R), row = take(H);
      B = &layer.down.B;
      source.row = row;
      break;
  }
  const bool shared =
      shape.shared_outer && (which == BufferTensor::gate_up_A || which == BufferTensor::down_B);
  source.expert = shared ? 0 : problem.local_experts[offset];
  (A != nullptr ? source.row : source.col) = j;
  const StridedTensor* tensor = A != nullptr ? A : B;
  const std::int64_t r = !tensor->present() ? 0 : A != nullptr ? A->rows : B->cols;
  if (j < r) source.tensor = tensor;
  if (with_words) {
    source.place =
        shared ? "shared by all experts"
               : "local expert " + std::to_string(offset) + " (expert " + std::to_string(source.expert) + ")";
    if (which == BufferTensor::gate_up_A || which == BufferTensor::gate_up_B)
      source.place += ", half " + std::to_string(half);
    source.place += (A != nullptr ? ", rank index " + std::to_string(j) + ", column " + std::to_string(row)
                                  : ", row " + std::to_string(row) + ", rank index " + std::to_string(j));
    source.place += !tensor->present() ? ", which the adapter lacks"
                    : j >= r
                        ? ", past its rank r=" + std::to_string(r)
                        : ", the adapter's (expert " + std::to_string(source.expert) + ", row " +
                              std::to_string(source.row) + ", column " + std::to_string(source.col) + ")";
  }
  return source;
}

bool is_gate_up(BufferTensor which) {
  return which == BufferTensor::gate_up_A || which == BufferTensor::gate_up_B;
}
bool is_B(BufferTensor which) { return which == BufferTensor::gate_up_B || which == BufferTensor::down_B; }

/// Within two units in the last place of `dtype`, which allows for a product rounded to float32 on its way.
bool close(float got, float want, DType dtype) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got);
  if (got == want) return true;
  const double tiny = dtype == DType::f16 ? 0x1p-23 : dtype == DType::bf16 ? 0x1p-132 : 0x1p-148;
  const double allowed = std::max(4 * unit_roundoff(dtype) * std::abs(static_cast<double>(want)), tiny);
  return std::abs(static_cast<double>(got) - want) <= allowed;
}

std::string tensor_words(const BufferShape& shape, std::size_t layer, BufferTensor which) {
  const auto& id = shape.layers[layer].layer_id;
  return "layer " + std::to_string(layer) + (id ? " (id " + std::to_string(*id) + ")" : " (no id)") + ", " +
         std::string(to_string(which));
}

/// The loaded slot of one tensor. `bytes` is the whole tensor `[L, ...]`.
Verdict wrong_slot(const SliceProblem& problem, const AdapterLayer& adapter, std::size_t layer,
                   BufferTensor which, std::span<const std::byte> bytes, const Form& form) {
  const BufferShape& shape = *problem.shape;
  const std::int64_t elements = shape.slot_elements(which), begin = problem.slot * elements;
  const std::size_t size = bytes_of(shape.dtype);
  for (std::int64_t offset = 0; offset < elements; ++offset) {
    const Source source = source_of(problem, adapter, which, offset, false);
    alignas(4) std::byte expected[4] = {};
    const bool scaled = form.scale_in_B && is_B(which) && source.tensor != nullptr;
    if (scaled)
      store_float(expected, shape.dtype, 0,
                  source.tensor->at(source.expert, source.row, source.col) *
                      (is_gate_up(which) ? adapter.gate_up_scale : adapter.down_scale));
    else if (source.tensor != nullptr)
      convert_element(source.tensor->data, source.tensor->dtype,
                      source.tensor->index(source.expert, source.row, source.col), expected, shape.dtype, 0);
    const std::byte* const found = bytes.data() + (begin + offset) * static_cast<std::int64_t>(size);
    if (std::memcmp(found, expected, size) == 0) continue;
    const float got = load_as_float(found, shape.dtype, 0), want = load_as_float(expected, shape.dtype, 0);
    if (scaled && close(got, want, shape.dtype)) continue;
    return violation("P10", begin + offset,
                     tensor_words(shape, layer, which) + ", slot " + std::to_string(problem.slot) + ", " +
                         source_of(problem, adapter, which, offset, true).place,
                     number_words(want), number_words(got) + (got == want ? " with other bits" : ""));
  }
  return std::nullopt;
}

/// Bytes that a load has no business with: everything but the slot `[skip_begin, skip_end)`, in elements.
Verdict touched(const SliceProblem& problem, std::size_t layer, BufferTensor which,
                std::span<const std::byte> before, std::span<const std::byte> after, std::int64_t skip_begin,
                std::int64_t skip_end) {
  const BufferShape& shape = *problem.shape;
  if (before.size() != after.size())
    return violation("P10", -1, "bytes of " + tensor_words(shape, layer, which),
                     std::to_string(before.size()), std::to_string(after.size()));
  const std::size_t size = bytes_of(shape.dtype);
  const std::int64_t elements = static_cast<std::int64_t>(before.size() / size);
  for (std::int64_t at = 0; at < elements; ++at) {
    if (at == skip_begin) at = skip_end;
    if (at >= elements) break;
    const std::int64_t byte = at * static_cast<std::int64_t>(size);
    if (std::memcmp(before.data() + byte, after.data() + byte, size) == 0) continue;
    const float want = load_as_float(before.data(), shape.dtype, at),
                got = load_as_float(after.data(), shape.dtype, at);
    const std::int64_t in_slot = std::max<std::int64_t>(shape.slot_elements(which), 1);
    return violation("P10", at,
                     tensor_words(shape, layer, which) + ", element " + std::to_string(at % in_slot) +
                         " of slot " + std::to_string(at / in_slot) + ", which a load into slot " +
                         std::to_string(problem.slot) + " must not touch",
                     number_words(want), number_words(got) + (got == want ? " with other bits" : ""));
  }
  return std::nullopt;
}

Verdict wrong_scales(const SliceProblem& problem, const LoraBuffers& before, const LoraBuffers& after,
                     const Form& form) {
  const BufferShape& shape = *problem.shape;
  for (std::size_t layer = 0; layer < shape.layers.size(); ++layer)
    for (int module = 0; module < 2; ++module)
      for (std::int32_t l = 0; l < shape.max_loras; ++l) {
        const auto& target = shape.layers[layer];
        const bool loaded =
            l == problem.slot && target.layer_id && (module == 0 ? target.has_gate_up : target.has_down);
        float want = before.scale(layer, module, l);
        if (loaded) {
          const auto found = problem.adapter->layers.find(*target.layer_id);
          const AdapterLayer* source = found == problem.adapter->layers.end() ? nullptr : &found->second;
          const bool present =
              source != nullptr && (module == 0 ? source->gate_up[0] : source->down).present();
          want = !present          ? 0.0F
                 : form.scale_in_B ? 1.0F
                 : module == 0     ? source->gate_up_scale
                                   : source->down_scale;
        }
        const float got = after.scale(layer, module, l);
        if (std::memcmp(&got, &want, sizeof(float)) == 0) continue;
        return violation(
            "P10", (static_cast<std::int64_t>(layer) * 2 + module) * shape.max_loras + l,
            "layer " + std::to_string(layer) + ", scale of " + (module == 0 ? "gate_up" : "down") +
                ", slot " + std::to_string(l) +
                (loaded ? ""
                        : ", which a load into slot " + std::to_string(problem.slot) + " must not touch"),
            number_words(want), number_words(got) + (got == want ? " with other bits" : ""));
      }
  return std::nullopt;
}

}  // namespace

Verdict p10_buffers(const SliceProblem& problem, const LoraBuffers& before, const LoraBuffers& after,
                    const Form& form) {
  validate(problem);
  const BufferShape& shape = *problem.shape;
  if (!(before.shape() == shape)) reject("before", "buffers of another shape", "the problem's shape");
  if (!(after.shape() == shape))
    return violation("P10", -1, "shape of the buffers", "the problem's", "another");
  const AdapterLayer nothing;
  for (std::size_t layer = 0; layer < shape.layers.size(); ++layer) {
    const auto& id = shape.layers[layer].layer_id;
    const auto found = id ? problem.adapter->layers.find(*id) : problem.adapter->layers.end();
    const AdapterLayer& adapter = found == problem.adapter->layers.end() ? nothing : found->second;
    for (const BufferTensor which : kBufferTensors) {
      const auto old_bytes = before.bytes(layer, which), new_bytes = after.bytes(layer, which);
      const bool loaded = id && shape.active(layer, which);
      const std::int64_t elements = shape.slot_elements(which), begin = loaded ? problem.slot * elements : -1;
      if (auto bad = touched(problem, layer, which, old_bytes, new_bytes, begin, begin + elements))
        return bad;
      if (!loaded) continue;
      if (auto bad = wrong_slot(problem, adapter, layer, which, new_bytes, form)) return bad;
    }
  }
  return wrong_scales(problem, before, after, form);
}

}  // namespace eplora::contract
