// SPDX-License-Identifier: Apache-2.0
// Which adapter stands in which slot: load, evict, reload. Keyed by a unique id, never by a name that may be
// reused; an eviction forgets the slot and its place in the order together (bug_catalog: ghost-uid,
// name-reuse, evict-stale).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>

#include "reference/lora/slice.h"

namespace eplora::reference {

class LoraPool {
 public:
  using Slice = std::function<void(const SliceProblem&, const BufferView&)>;

  /// Buffers for one rank; `slice` does the cutting (the reference's by default, a backend's in tests).
  LoraPool(MoeGeometry geometry, RankPlace place, std::vector<std::int32_t> local_experts,
           std::vector<BufferLayer> layers, std::int32_t max_loras, std::int64_t max_lora_rank, DType dtype,
           Slice slice = reference::slice);

  /// Loads the adapter, evicting the least recently used one when all slots are taken; loading a uid again
  /// rewrites its slot. Returns the slot. Throws `InvalidArgument` with nothing changed.
  std::int32_t load(std::uint64_t uid, const Adapter& adapter);
  /// Marks as used; returns the slot, or nothing when the adapter is not loaded.
  std::optional<std::int32_t> find(std::uint64_t uid);
  /// Forgets the adapter and zeroes its scales, so that a stale slot index adds exactly nothing. False when
  /// not loaded.
  bool evict(std::uint64_t uid);

  std::int32_t size() const { return static_cast<std::int32_t>(slot_of_.size()); }
  const LoraBuffers& buffers() const { return buffers_; }
  LoraBuffers& buffers() { return buffers_; }

 private:
  std::int32_t free_slot();
  void touch(std::uint64_t uid);

  MoeGeometry geometry_;
  RankPlace place_;
  std::vector<std::int32_t> local_experts_;
  LoraBuffers buffers_;
  Slice slice_;
  std::map<std::uint64_t, std::int32_t> slot_of_;
  std::list<std::uint64_t> order_;  ///< least recently used first
};

}  // namespace eplora::reference
