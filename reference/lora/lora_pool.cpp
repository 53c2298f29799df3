// SPDX-License-Identifier: Apache-2.0
#include "reference/lora/lora_pool.h"

#include <algorithm>
#include <utility>

#include "reference/check.h"

namespace eplora::reference {

LoraPool::LoraPool(MoeGeometry geometry, RankPlace place, std::vector<std::int32_t> local_experts,
                   std::vector<BufferLayer> layers, std::int32_t max_loras, std::int64_t max_lora_rank,
                   DType dtype, Slice slice)
    : geometry_(geometry),
      place_(place),
      local_experts_(std::move(local_experts)),
      buffers_(buffer_shape(geometry, place, static_cast<std::int64_t>(local_experts_.size()),
                            std::move(layers), max_loras, max_lora_rank, dtype)),
      slice_(std::move(slice)) {}

std::int32_t LoraPool::load(std::uint64_t uid, const Adapter& adapter) {
  require_in_range("max_loras (L) of the pool", buffers_.shape().max_loras, 1, kMaxIndex);
  const auto known = slot_of_.find(uid);
  const std::int32_t slot = known != slot_of_.end() ? known->second : free_slot();
  const SliceProblem problem{geometry_, place_, local_experts_, &adapter, &buffers_.shape(), slot};
  validate(problem);
  slice_(problem, buffers_.view());
  // The slot now holds the new adapter: whoever stood in it is gone, from the map and from the order.
  const auto previous = std::find_if(slot_of_.begin(), slot_of_.end(), [&](const auto& entry) {
    return entry.second == slot && entry.first != uid;
  });
  if (previous != slot_of_.end()) {
    order_.remove(previous->first);
    slot_of_.erase(previous);
  }
  slot_of_[uid] = slot;
  touch(uid);
  return slot;
}

std::optional<std::int32_t> LoraPool::find(std::uint64_t uid) {
  const auto known = slot_of_.find(uid);
  if (known == slot_of_.end()) return std::nullopt;
  touch(uid);
  return known->second;
}

bool LoraPool::evict(std::uint64_t uid) {
  const auto known = slot_of_.find(uid);
  if (known == slot_of_.end()) return false;
  for (std::size_t layer = 0; layer < buffers_.shape().layers.size(); ++layer)
    for (int module : {0, 1}) buffers_.scale(layer, module, known->second) = 0.0F;
  slot_of_.erase(known);
  order_.remove(uid);
  return true;
}

/// The lowest slot nobody holds; when all are taken, the slot of the least recently used adapter.
std::int32_t LoraPool::free_slot() {
  for (std::int32_t slot = 0; slot < buffers_.shape().max_loras; ++slot) {
    const auto holds = [slot](const auto& entry) { return entry.second == slot; };
    if (std::none_of(slot_of_.begin(), slot_of_.end(), holds)) return slot;
  }
  return slot_of_.at(order_.front());
}

void LoraPool::touch(std::uint64_t uid) {
  order_.remove(uid);
  order_.push_back(uid);
}

}  // namespace eplora::reference
