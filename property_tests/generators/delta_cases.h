// SPDX-License-Identifier: Apache-2.0
// Cases of the delta of one projection: local ids and adapters of a batch, the buffers' sizes, each adapter's
// own rank, and a seed from which weights, activations and what stands in the output are expanded.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "property_tests/generators/id_batch.h"
#include "reference/lora/delta_problem.h"
#include "reference/routing/problem.h"

namespace eplora::suite {

struct DeltaCase {
  static constexpr std::string_view kKind = "delta";
  bool operator==(const DeltaCase&) const = default;
  IdBatch batch;                      ///< ids local to the rank
  std::vector<std::int32_t> mapping;  ///< `[T]`
  DeltaProjection projection = DeltaProjection::gate_up;
  std::int32_t num_local_experts = 1;
  std::int64_t max_lora_rank = 1, hidden = 1, intermediate = 1;
  std::vector<std::int64_t> ranks;  ///< `[L]`, in [0, R]; 0 = an empty slot
  bool gated = true, shared_outer = false;
  GateUpForm form = GateUpForm::stacked;
  DType dtype = DType::f32, input_dtype = DType::f32;
  std::int64_t input_gap = 0;  ///< elements between rows of the input
  std::int32_t block_size = 1;
  NoAdapter no_adapter = NoAdapter::base_slot;
  Sentinels sentinels = Sentinels::keep;
  std::uint64_t seed = 0;

  std::int32_t max_loras() const { return static_cast<std::int32_t>(ranks.size()); }
  /// The adapter that slot `s` gets something of, or -1, by ids and mapping alone.
  std::int32_t adapter_of(std::int64_t s) const;
  void fit();
  std::string show() const;
  std::string table_text() const;
  Labels labels() const;
  Shrinks<DeltaCase> shrinks() const;
  nlohmann::json json() const;
  static DeltaCase from_json(const nlohmann::json& json);
};

DeltaCase draw_delta(Draw& draw, int size, const contract::Form& form);

/// All arrays of a case in memory, and its problem.
class DeltaStorage {
  RouteResult per_expert_, shared_;
  std::vector<std::byte> A_, B_, input_;
  std::vector<float> scale_, topk_weights_;

 public:
  /// `other_than` >= -1: the weights of every adapter but this one are expanded from another seed.
  /// `filler_seed` other than 0: fillers are various values >= n, not n alone.
  explicit DeltaStorage(const DeltaCase& c, std::int32_t other_than = -2, std::uint64_t filler_seed = 0);
  DeltaStorage(const DeltaStorage&) = delete;
  DeltaStorage& operator=(const DeltaStorage&) = delete;
  /// As after a slice that multiplied B by the scale: every scale is 1.
  void put_scale_into_B() { std::fill(scale_.begin(), scale_.end(), 1.0F); }
  DeltaProblem problem;
  /// `[n, output_columns]`; of rows that get nothing, any bits: NaNs and negative zeros among them.
  std::vector<float> before;
};

}  // namespace eplora::suite
