// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/shapes.h"

#include <fnmatch.h>

#include "reference/check.h"

namespace eplora::bench {
namespace {

template <class T, std::size_t N>
T named(const T (&all)[N], std::string_view argument, std::string_view name) {
  std::string names;
  for (const T value : all) {
    if (to_string(value) == name) return value;
    names += (names.empty() ? "" : ", ") + std::string(to_string(value));
  }
  reject(argument, name, "it must be one of " + names);
}

}  // namespace

std::string_view to_string(Suite suite) {
  switch (suite) {
    case Suite::route:
      return "route";
    case Suite::remap:
      return "remap";
    case Suite::align:
      return "align";
    case Suite::slice:
      return "slice";
  }
  return "?";
}

std::string_view to_string(Pattern pattern) {
  switch (pattern) {
    case Pattern::uniform:
      return "uniform";
    case Pattern::zipf:
      return "zipf";
    case Pattern::one_expert:
      return "one-expert";
    case Pattern::sentinels:
      return "sentinels";
  }
  return "?";
}

Suite suite_of(std::string_view name) { return named(kSuites, "suite", name); }
Pattern pattern_of(std::string_view name) { return named(kPatterns, "pattern", name); }

const std::vector<RoutingShape>& goal_shapes() {
  // name, model, layout, tokens, K, E, ep, L, B, goal, engines today; V = E / ep * L
  static const std::vector<RoutingShape> shapes = {
      {"1x8-v1024-b16", "", "", 1, 8, 128, 1, 8, 16, 1.8, 6.2},
      {"64x8-v512-b16", "", "", 64, 8, 128, 1, 4, 16, 2.5, 7.1},
      {"64x8-v128-b16-ep4", "", "", 64, 8, 128, 4, 4, 16, 2.3, 6.9},
      {"256x8-v4096-b16", "", "", 256, 8, 256, 1, 16, 16, 4.0, 11.6},
      {"2048x8-v512-b64", "", "", 2048, 8, 128, 1, 4, 64, 4.5, 12.2},
      {"8192x8-v512-b64", "", "", 8192, 8, 128, 1, 4, 64, 6, 28},
      {"8192x8-v1024-b64-ep4", "", "", 8192, 8, 256, 4, 16, 64, 6, 94},
      {"32768x8-v1024-b64-ep4", "", "", 32768, 8, 256, 4, 16, 64, 9, 354},
      {"32768x8-v2048-b64", "", "", 32768, 8, 256, 1, 8, 64, 10, 84},
      {"131072x8-v4096-b128", "", "", 131072, 8, 256, 1, 16, 128, 18, 280},
      {"524288x8-v4096-b128", "", "", 524288, 8, 256, 1, 16, 128, 50, 1505},
      {"8192x16-v14336-b64", "", "", 8192, 16, 896, 1, 16, 64, 12, {}},
  };
  return shapes;
}

RoutingShape model_shape(const std::string& model, std::int32_t num_experts, std::int32_t top_k,
                         std::int64_t tokens) {
  RoutingShape shape;
  shape.name = model + "-t" + std::to_string(tokens);
  shape.model = model;
  shape.layout = "tp=4,ep=4";
  shape.tokens = tokens;
  shape.top_k = top_k;
  shape.num_experts = num_experts;
  shape.ep = 4;
  shape.max_loras = 8;
  shape.block_size = 64;
  return shape;
}

const std::vector<SliceShape>& slice_shapes() {
  static const std::vector<SliceShape> shapes = {
      {.name = "tp4-ep2"},
      {.name = "tp1-ep1", .sizes = {1, 1, 1}},
      {.name = "tp8-ep1", .sizes = {8, 1, 1}},
      {.name = "tp8-ep8", .sizes = {8, 8, 1}},
      {.name = "tp4-ep2-round-robin-interleaved",
       .placement = PlacementKind::round_robin,
       .form = GateUpForm::interleaved},
      {.name = "tp4-ep2-r8", .r = 8},
      {.name = "tp4-ep2-shared-outer", .shared_outer = true},
      {.name = "tp4-ep2-from-f32", .from = DType::f32},
      {.name = "tp4-ep2-experts-fastest", .experts_fastest = true},
      {.name = "tp4-ep2-92-layers", .layers = 92},
  };
  return shapes;
}

bool fits(const std::string& name, const std::string& glob) {
  return fnmatch(glob.c_str(), name.c_str(), 0) == 0;
}

}  // namespace eplora::bench
