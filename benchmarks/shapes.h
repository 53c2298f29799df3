// SPDX-License-Identifier: Apache-2.0
// What `eplora bench` times: the suites, the shapes of each with the goals set beforehand, and the patterns
// of routing. A shape is a handful of integers, so that a result file can carry it and anybody can make the
// same inputs again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reference/layout/presets.h"
#include "reference/lora/buffers.h"

namespace eplora::bench {

enum class Suite : std::uint8_t { route, remap, align, slice };
inline constexpr Suite kSuites[] = {Suite::route, Suite::remap, Suite::align, Suite::slice};
std::string_view to_string(Suite suite);
Suite suite_of(std::string_view name);  ///< throws `InvalidArgument`

/// How ids are spread. `one_expert`: every slot of a batch has the same expert and the same adapter, so all
/// of them fall into one bucket. `sentinels`: every id is -1.
enum class Pattern : std::uint8_t { uniform, zipf, one_expert, sentinels };
inline constexpr Pattern kPatterns[] = {Pattern::uniform, Pattern::zipf, Pattern::one_expert,
                                        Pattern::sentinels};
std::string_view to_string(Pattern pattern);  ///< "uniform", "zipf", "one-expert", "sentinels"
Pattern pattern_of(std::string_view name);    ///< throws `InvalidArgument`

/// A batch on rank 0 of `ep` ranks with linear placement; with `ep` 1 ids are local and there is no table.
/// Always `no_adapter = base_slot`, `sentinels = keep`, int32 ids.
struct RoutingShape {
  std::string name;
  std::string model, layout;  ///< the rows of `eplora compare`; empty elsewhere
  std::int64_t tokens = 0;
  std::int32_t top_k = 1, num_experts = 1, ep = 1, max_loras = 1, block_size = 1;
  std::optional<double> goal_us;           ///< of route
  std::optional<double> engines_today_us;  ///< of route, measured on another H100; none = they cannot

  std::int64_t slots() const { return tokens * top_k; }
  std::int32_t local_experts() const { return num_experts / ep + (num_experts % ep != 0 ? 1 : 0); }
  std::int64_t buckets() const { return std::int64_t{local_experts()} * max_loras; }
  bool operator==(const RoutingShape&) const = default;
};

/// The twelve shapes of the goals.
const std::vector<RoutingShape>& goal_shapes();

/// The batch that `eplora compare` times for a model: rank 0 of tp=4,ep=4, eight adapters, blocks of 64.
RoutingShape model_shape(const std::string& model, std::int32_t num_experts, std::int32_t top_k,
                         std::int64_t tokens);
inline constexpr std::int64_t kModelTokens[] = {1, 64, 4096};

/// An adapter for Qwen3-30B-A3B (E=128, H=2048, I=768) cut for the last rank into slot 1 of 2; BF16 buffers,
/// R = 16.
struct SliceShape {
  std::string name;
  SglangSizes sizes{4, 2, 1};
  PlacementKind placement = PlacementKind::linear;
  GateUpForm form = GateUpForm::stacked;
  std::int32_t r = 16;
  bool shared_outer = false;
  bool experts_fastest = false;  ///< B stored as PEFT's fused tensors store it
  DType from = DType::bf16;
  std::int32_t layers = 48;
  bool operator==(const SliceShape&) const = default;
};
inline constexpr double kSliceGoal = 0.85;  ///< of the rate of a device copy of the same bytes
inline constexpr const char* kSliceModel = "Qwen3-30B-A3B";

/// The ten layouts of the goals.
const std::vector<SliceShape>& slice_shapes();

/// Whether `name` fits `glob` (`*`, `?`, `[...]`).
bool fits(const std::string& name, const std::string& glob);

}  // namespace eplora::bench
