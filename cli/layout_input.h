// SPDX-License-Identifier: Apache-2.0
// What the commands that prove layouts read and write: the layout on the command line, a model by name or
// file, and saved layout cases.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/formats/model_config.h"
#include "property_tests/suite/layout_proofs.h"
#include "reference/price/priced_model.h"

namespace eplora {

/// A layout as the command line takes it: a .toml file of the layout language, a .json file as saved cases
/// hold it, a preset ("vllm:tp=8,dp=2,ep", "cpp:snake:ep=4"), the one-line form of `layout_line`, or SGLang
/// sizes alone ("tp=4,ep=2"). `num_experts` is used where the text names none.
DeploymentSpec read_deployment(std::string_view text, std::optional<std::int32_t> num_experts);

/// "order=moe_dp:1/moe_ep:8/moe_tp:2,attention=adp:4/atp:4,placement=redundant+16": axes from slowest to
/// fastest; moe_dp cuts tokens, moe_ep experts, moe_tp columns, adp attention's tokens, atp its heads. The
/// placement is linear, round_robin or redundant+N. attention and placement may be left out.
struct LayoutLine {
  std::vector<Axis> order, attention;
  PlacementRule rule = PlacementRule::linear;
  std::int32_t redundant = 0;
};
std::string layout_line(const LayoutLine& line);
LayoutLine parse_layout_line(std::string_view text);
DeploymentSpec deployment_of_line(const LayoutLine& line, std::int32_t num_experts);

/// A config.json by its path, or one of examples/models by its name without ".json". Throws
/// `InvalidArgument`.
ModelConfig model_argument(const std::string& name_or_file);

/// What of a model is priced.
PricedModel priced_model(const ModelConfig& model);

/// Bytes of an element of f32, bf16, f16 or fp8; `flag` is the argument that named it.
std::int64_t bytes_of_type(const std::string& flag, const std::string& type);

/// A layout case: what was tried, which proof was broken, and what was changed in the plan.
struct LayoutCase {
  suite::LayoutTrial trial;
  suite::Proof proof = suite::Proof::whole;
  std::string mutant;                                ///< id, or empty
  std::optional<std::vector<std::string>> sum_over;  ///< what --sum-over claimed
};
suite::Spoil spoil_of(const LayoutCase& one);

/// Writes `folder`/`name`.json; returns its path.
std::filesystem::path save_layout_case(const std::filesystem::path& folder, const std::string& name,
                                       const LayoutCase& one);
LayoutCase load_layout_case(const std::filesystem::path& file);

/// The plan sums expert outputs and deltas over these axes; one that the grid lacks is `InvalidArgument`, one
/// that a smaller mesh lost is left out.
suite::Spoil sums_over(const std::vector<std::string>& axes);

}  // namespace eplora
