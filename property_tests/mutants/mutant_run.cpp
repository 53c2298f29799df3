// SPDX-License-Identifier: Apache-2.0
// A mutant's run through the suite, and whether the case that killed it is as small as the bug allows.
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "property_tests/suite/suite.h"

namespace eplora::suite {
namespace {

/// "E=5 for 2, L=3 for 1"; empty when no size exceeds what is needed.
std::string larger_than_needed(const Sizes& sizes, const Sizes& needed) {
  std::string text;
  for (const auto& [name, value] : sizes) {
    std::int64_t least = name == "slot_offset" ? 0 : 1;
    for (const auto& [needed_name, needed_value] : needed)
      if (needed_name == name) least = needed_value;
    if (value > least)
      text +=
          (text.empty() ? "" : ", ") + name + "=" + std::to_string(value) + " for " + std::to_string(least);
  }
  return text;
}

std::int64_t largest_rank(const nlohmann::json& recipe) {
  if (recipe.is_null()) return 0;
  return std::max({recipe.at("gate_rank").get<std::int64_t>(), recipe.at("up_rank").get<std::int64_t>(),
                   recipe.at("down_rank").get<std::int64_t>()});
}

}  // namespace

Sizes sizes_of_case(const std::string& case_file) {
  const nlohmann::json c = nlohmann::json::parse(case_file).at("case");
  Sizes sizes;
  const auto take = [&](const char* name, const nlohmann::json& from, const char* field) {
    if (from.contains(field)) sizes.emplace_back(name, from.at(field).get<std::int64_t>());
  };
  if (c.contains("batch")) {
    take("T", c.at("batch"), "T");
    take("K", c.at("batch"), "K");
  }
  take("T", c, "num_tokens");
  take("E", c, "num_experts");
  take("E", c, "num_local_experts");
  take("V", c, "num_buckets");
  take("L", c, "max_loras");
  take("B", c, "block_size");
  take("H", c, "hidden");
  take("i", c, "columns_per_rank");
  take("i", c, "intermediate");
  take("R", c, "max_lora_rank");
  take("slot_offset", c, "slot_offset");
  if (c.contains("layout")) {
    take("E", c.at("layout").at("placement"), "num_experts");
    std::int64_t ranks = 1;
    for (const auto& axis : c.at("layout").at("axes")) ranks *= axis.at("size").get<std::int64_t>();
    sizes.emplace_back("ranks", ranks);
  }
  if (c.contains("layers")) sizes.emplace_back("layers", std::ssize(c.at("layers")));
  if (c.contains("ranks")) sizes.emplace_back("L", std::ssize(c.at("ranks")));
  if (c.contains("adapters")) sizes.emplace_back("L", std::ssize(c.at("adapters")));
  for (const char* const field : {"adapter", "adapters"})
    if (c.contains(field)) {
      std::int64_t r = 0;
      for (const auto& recipe : c.at(field)) r = std::max(r, largest_rank(recipe));
      sizes.emplace_back("r", r);
    }
  return sizes;
}

MutantOutcome run_mutant(const Mutant& mutant, const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  MutantOutcome result;
  result.id = mutant.id;
  const std::unique_ptr<Backend> backend = mutant.make();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const int budget : {100, 1000, 0}) {
    for (const PropertyInfo& property : list_properties()) {
      RunOptions one = options;
      const int most = options.cases > 0 ? options.cases : property.default_cases;
      one.cases = budget == 0 || budget > most ? most : budget;
      const Outcome outcome = run_property(property, *backend, one);
      if (outcome.status == Status::interrupted) {
        result.seconds = seconds();
        return result;
      }
      if (!outcome.failed()) continue;
      result.killed = true;
      result.killed_by = property.full_name();
      result.contract = outcome.counterexample->contract;
      result.after_cases = outcome.counterexample->after_cases;
      result.sentence = outcome.counterexample->sentence;
      result.summary = outcome.counterexample->summary;
      result.json = outcome.counterexample->json;
      result.not_minimal = larger_than_needed(sizes_of_case(result.json), mutant.smallest);
      result.seconds = seconds();
      return result;
    }
  }
  result.seconds = seconds();
  return result;
}

}  // namespace eplora::suite
