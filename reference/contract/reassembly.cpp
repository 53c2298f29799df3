// SPDX-License-Identifier: Apache-2.0
// P7 for tensors: every rank's part is put where the layout says it belongs in the unsharded adapter; then
// nothing may be missing, disagree between ranks, or differ from the adapter.
#include <algorithm>
#include <cstring>
#include <optional>

#include "reference/contract/sentence.h"
#include "reference/contract/weights.h"

namespace eplora::contract {
namespace {

/// One unsharded tensor `[experts, rows, cols]` on its way back together, in the buffers' dtype.
class Assembly {
 public:
  Assembly(std::string name, const StridedTensor& whole, std::int64_t experts, DType dtype)
      : name_(std::move(name)), whole_(whole), dtype_(dtype) {
    cells_.resize(static_cast<std::size_t>(experts * whole.rows * whole.cols));
  }

  /// Element (e, row, col) as `rank` holds it at `found`.
  Verdict put(std::int64_t e, std::int64_t row, std::int64_t col, const std::byte* found, std::int64_t rank) {
    Cell& cell = cells_[(e * whole_.rows + row) * whole_.cols + col];
    std::uint32_t bits = 0;
    std::memcpy(&bits, found, bytes_of(dtype_));
    if (cell.rank < 0) cell = {rank, bits};
    if (cell.bits == bits) return std::nullopt;
    return violation("P7", rank, words(e, row, col) + " on rank " + std::to_string(rank),
                     value(cell.bits) + ", as on rank " + std::to_string(cell.rank), value(bits));
  }

  Verdict compare() const {
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      const std::int64_t at = static_cast<std::int64_t>(i), col = at % whole_.cols,
                         row = at / whole_.cols % whole_.rows;
      const std::int64_t e = at / whole_.cols / whole_.rows;
      std::uint32_t bits = 0;
      convert_element(whole_.data, whole_.dtype, whole_.index(e, row, col), &bits, dtype_, 0);
      const Cell& cell = cells_[i];
      if (cell.rank < 0) return violation("P7", -1, words(e, row, col), value(bits), "no rank holds it");
      if (cell.bits != bits)
        return violation("P7", cell.rank, words(e, row, col) + " on rank " + std::to_string(cell.rank),
                         value(bits), value(cell.bits));
    }
    return std::nullopt;
  }

 private:
  struct Cell {
    std::int64_t rank = -1;
    std::uint32_t bits = 0;
  };
  std::string value(std::uint32_t bits) const { return number_words(load_as_float(&bits, dtype_, 0)); }
  std::string words(std::int64_t e, std::int64_t row, std::int64_t col) const {
    return name_ + ", expert " + std::to_string(e) + ", row " + std::to_string(row) + ", column " +
           std::to_string(col);
  }
  std::string name_;
  const StridedTensor& whole_;
  DType dtype_;
  std::vector<Cell> cells_;
};

/// One rank's buffers and what the layout says about them.
struct Part {
  std::int64_t rank;
  const LoraBuffers& buffers;
  const std::vector<std::int32_t>& owned;
  std::int64_t first_column;  ///< of the intermediate size
  std::size_t layer = 0;      ///< index of the buffer layer
  std::int32_t slot = 0;

  const std::byte* at(BufferTensor which, std::int64_t offset) const {
    const BufferShape& shape = buffers.shape();
    const std::int64_t element = slot * shape.slot_elements(which) + offset;
    return buffers.bytes(layer, which).data() + element * static_cast<std::int64_t>(bytes_of(shape.dtype));
  }
};

/// The part fits the geometry and stands inside it.
Verdict misfit(const MoeGeometry& geometry, const Adapter& adapter, const BufferShape& shape,
               const RankPlace& place, std::size_t owned, std::int32_t slot, std::int64_t rank) {
  const std::string on = " on rank " + std::to_string(rank);
  const auto differs = [&](const char* what, std::int64_t expected, std::int64_t found) {
    return violation("P7", rank, what + on, std::to_string(expected), std::to_string(found));
  };
  if (shape.hidden != geometry.hidden) return differs("hidden size", geometry.hidden, shape.hidden);
  if (shape.halves() != geometry.halves())
    return differs("halves of gate_up", geometry.halves(), shape.halves());
  if (shape.shared_outer != geometry.shared_outer)
    return differs("shared_outer", geometry.shared_outer, shape.shared_outer);
  if (geometry.gated && shape.form != geometry.form)
    return violation("P7", rank, "form of gate_up B" + on, std::string(to_string(geometry.form)),
                     std::string(to_string(shape.form)));
  if (shape.local_experts != static_cast<std::int64_t>(owned))
    return differs("number of local experts", static_cast<std::int64_t>(owned), shape.local_experts);
  if (slot < 0 || slot >= shape.max_loras)
    return violation("P7", rank, "slot" + on, "in [0, " + std::to_string(shape.max_loras) + ")",
                     std::to_string(slot));
  const std::int64_t first = place.moe_tp_rank * shape.intermediate;
  if (first < 0 || first + shape.intermediate > geometry.intermediate || shape.intermediate < 1)
    return violation("P7", rank, "columns" + on,
                     "inside [0, " + std::to_string(geometry.intermediate) + "), not empty",
                     "[" + std::to_string(first) + ", " + std::to_string(first + shape.intermediate) + ")");
  for (const auto& [id, layer] : adapter.layers)
    for (const LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down})
      if (pair->present() && pair->rank() > shape.max_lora_rank)
        return differs("max_lora_rank", pair->rank(), shape.max_lora_rank);
  return std::nullopt;
}

/// Both factors of one half of gate_up, from one rank.
Verdict put_gate_up(const Part& part, std::int64_t half, std::int64_t r, Assembly& A, Assembly& B) {
  const BufferShape& shape = part.buffers.shape();
  const std::int64_t c = shape.halves(), R = shape.max_lora_rank, H = shape.hidden, i = shape.intermediate;
  for (std::int64_t a = 0; a < shape.outer_experts(); ++a)
    for (std::int64_t j = 0; j < r; ++j)
      for (std::int64_t d = 0; d < H; ++d)
        if (auto bad = A.put(shape.shared_outer ? 0 : part.owned[a], j, d,
                             part.at(BufferTensor::gate_up_A, ((a * c + half) * R + j) * H + d), part.rank))
          return bad;
  for (std::int64_t b = 0; b < shape.local_experts; ++b)
    for (std::int64_t q = 0; q < i; ++q) {
      const std::int64_t row = c == 2 && shape.form == GateUpForm::interleaved ? 2 * q + half : half * i + q;
      for (std::int64_t j = 0; j < r; ++j)
        if (auto bad = B.put(part.owned[b], part.first_column + q, j,
                             part.at(BufferTensor::gate_up_B, (b * c * i + row) * R + j), part.rank))
          return bad;
    }
  return std::nullopt;
}

Verdict put_down(const Part& part, std::int64_t r, Assembly& A, Assembly& B) {
  const BufferShape& shape = part.buffers.shape();
  const std::int64_t R = shape.max_lora_rank, H = shape.hidden, i = shape.intermediate;
  for (std::int64_t b = 0; b < shape.local_experts; ++b)
    for (std::int64_t j = 0; j < r; ++j)
      for (std::int64_t q = 0; q < i; ++q)
        if (auto bad = A.put(part.owned[b], j, part.first_column + q,
                             part.at(BufferTensor::down_A, (b * R + j) * i + q), part.rank))
          return bad;
  for (std::int64_t a = 0; a < shape.outer_experts(); ++a)
    for (std::int64_t d = 0; d < H; ++d)
      for (std::int64_t j = 0; j < r; ++j)
        if (auto bad = B.put(shape.shared_outer ? 0 : part.owned[a], d, j,
                             part.at(BufferTensor::down_B, (a * H + d) * R + j), part.rank))
          return bad;
  return std::nullopt;
}

/// One pair of one layer from all ranks. `half` is -1 for down.
Verdict reassemble(const MoeGeometry& geometry, const LoraPair& pair, float scale, std::int32_t id, int half,
                   std::vector<Part>& parts) {
  if (!pair.present() || parts.empty()) return std::nullopt;
  const std::string name = "layer id " + std::to_string(id) + ", " +
                           (half < 0                       ? "down"
                            : !geometry.gated || half == 0 ? "gate"
                                                           : "up");
  const DType dtype = parts.front().buffers.shape().dtype;
  const std::int64_t E = geometry.num_experts, outer = geometry.shared_outer ? 1 : E;
  Assembly A(name + " A", pair.A, half < 0 ? E : outer, dtype),
      B(name + " B", pair.B, half < 0 ? outer : E, dtype);
  for (Part& part : parts) {
    const BufferShape& shape = part.buffers.shape();
    const auto found = std::find_if(shape.layers.begin(), shape.layers.end(),
                                    [&](const BufferLayer& layer) { return layer.layer_id == id; });
    if (found == shape.layers.end() || !(half < 0 ? found->has_down : found->has_gate_up)) continue;
    part.layer = static_cast<std::size_t>(found - shape.layers.begin());
    if (auto bad = half < 0 ? put_down(part, pair.rank(), A, B) : put_gate_up(part, half, pair.rank(), A, B))
      return bad;
    const float got = part.buffers.scale(part.layer, half < 0 ? 1 : 0, part.slot);
    if (std::memcmp(&got, &scale, sizeof(float)) != 0)
      return violation("P7", part.rank, name + ", scale on rank " + std::to_string(part.rank),
                       number_words(scale), number_words(got));
  }
  if (auto bad = A.compare()) return bad;
  return B.compare();
}

}  // namespace

Verdict p7_reassembly(const MoeGeometry& geometry, const Layout& layout, const Adapter& adapter,
                      std::int32_t slot, std::span<const LoraBuffers> buffers) {
  if (buffers.size() != layout.places.size())
    return violation("P7", -1, "number of ranks with buffers", std::to_string(layout.places.size()),
                     std::to_string(buffers.size()));
  const auto& owners = layout.placement.experts_of_rank();
  std::vector<Part> parts;
  for (std::size_t rank = 0; rank < buffers.size(); ++rank) {
    const RankPlace& place = layout.places[rank];
    const std::int64_t at = static_cast<std::int64_t>(rank);
    if (place.ep_rank < 0 || place.ep_rank >= static_cast<std::int64_t>(owners.size()))
      return violation(
          "P7", at, "ep_rank of rank " + std::to_string(rank),
          "one of the placement's " + count_words(static_cast<std::int64_t>(owners.size()), "row"),
          std::to_string(place.ep_rank));
    const auto& owned = owners[place.ep_rank];
    const BufferShape& shape = buffers[rank].shape();
    if (auto bad = misfit(geometry, adapter, shape, place, owned.size(), slot, at)) return bad;
    if (shape.dtype != buffers[0].shape().dtype)
      return violation("P7", at, "dtype on rank " + std::to_string(rank),
                       std::string(to_string(buffers[0].shape().dtype)), std::string(to_string(shape.dtype)));
    for (const std::int32_t e : owned)
      if (e < 0 || e >= geometry.num_experts)
        return violation("P7", at, "expert owned by rank " + std::to_string(rank),
                         "in [0, " + std::to_string(geometry.num_experts) + ")", std::to_string(e));
    parts.push_back({at, buffers[rank], owned, place.moe_tp_rank * shape.intermediate, 0, slot});
  }
  for (const auto& [id, layer] : adapter.layers) {
    for (int half = 0; half < geometry.halves(); ++half)
      if (auto bad = reassemble(geometry, layer.gate_up[half], layer.gate_up_scale, id, half, parts))
        return bad;
    if (auto bad = reassemble(geometry, layer.down, layer.down_scale, id, -1, parts)) return bad;
  }
  return std::nullopt;
}

}  // namespace eplora::contract
