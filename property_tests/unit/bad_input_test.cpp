// SPDX-License-Identifier: Apache-2.0
// Bad layouts, problems, slices and layers: each is refused with a sentence, by every backend, with nothing
// written. Bad files are in bad_files_test.cpp.
#include "property_tests/unit/bad_input.h"

#include "cli/formats/layout_file.h"
#include "reference/layout/presets.h"
#include "reference/lora/lora_pool.h"
#include "reference/lora/moe_layer.h"
#include "reference/routing/route.h"

namespace eplora {
namespace {

using namespace bad_input;
using Rows = std::vector<Row>;

class BadInput : public testing::TestWithParam<Row> {};
TEST_P(BadInput, IsRefusedWithASentenceAndNothingIsWritten) { expect_refused(GetParam()); }

// ---- layouts ----

LayoutSpec two_by_two() { return sglang_layout({4, 2, 1}, 8); }

template <class Change>
Row layout_row(const std::string& name, Change change, std::vector<std::string> says) {
  return {name,
          [change](Scene&) {
            LayoutSpec spec = two_by_two();
            change(spec);
            make_layout(spec);
          },
          std::move(says)};
}

Row sizes_row(const std::string& name, const std::string& text, std::vector<std::string> says) {
  return {name, [text](Scene&) { parse_sglang_sizes(text); }, std::move(says)};
}

Rows layout_rows() {
  return {
      sizes_row("SizesEpDoesNotDivideTp", "tp=4,ep=3", {"tp", "4", "divisible", "3 * 1"}),
      sizes_row("SizesEpTimesMoeDpExceedsTp", "tp=4,ep=2,moe_dp=4", {"tp", "4", "divisible", "2 * 4"}),
      sizes_row("SizesUnknownKey", "tp=4,pp=2", {"layout key", "'pp'", "tp, ep and moe_dp"}),
      sizes_row("SizesKeyTwice", "tp=2,tp=4", {"layout key tp", "twice", "once"}),
      sizes_row("SizesWordForANumber", "tp=four", {"tp", "'four'", "whole number"}),
      sizes_row("SizesNumberWithATail", "tp=4x", {"tp", "'4x'", "whole number"}),
      sizes_row("SizesNoValue", "tp", {"tp", "''", "whole number"}),
      sizes_row("SizesZero", "tp=0", {"tp", "0", "[1, 2147483647]"}),
      sizes_row("SizesNegative", "ep=-2", {"ep", "-2", "[1, 2147483647]"}),
      sizes_row("SizesPastInt32", "tp=99999999999", {"tp", "'99999999999'", "whole number"}),
      {"SglangZeroEp",
       [](Scene&) {
         sglang_layout({4, 0, 1}, 8);
       },
       {"ep", "0", "[1, 2147483647]"}},
      layout_row("MeshAxisOfSizeZero", [](LayoutSpec& s) { s.axes[1].size = 0; },
                 {"moe_ep", "0", "[1, 2147483647]"}),
      layout_row("MeshAxisNamedTwice", [](LayoutSpec& s) { s.axes[1].name = "moe_tp"; },
                 {"moe_tp", "named twice", "differ"}),
      layout_row("MeshAxisNameless", [](LayoutSpec& s) { s.axes[0].name = ""; },
                 {"mesh axis 0", "nameless", "name"}),
      layout_row("MeshTooManyRanks",
                 [](LayoutSpec& s) {
                   s.axes = {{"moe_dp", 1}, {"moe_ep", 65536}, {"moe_tp", 65536}};
                 },
                 {"number of ranks", "4294967296", "2147483647", "65536"}),
      layout_row("ShardingOverAnUnknownAxis", [](LayoutSpec& s) { s.sharding.experts = {"ep"}; },
                 {"axis name", "ep", "moe_dp", "moe_ep", "moe_tp"}),
      layout_row("ShardingUsesAnAxisTwice", [](LayoutSpec& s) { s.sharding.intermediate = {"moe_ep"}; },
                 {"sharding axis moe_ep", "used twice", "once"}),
      layout_row("TableWithoutARowForEachRank",
                 [](LayoutSpec& s) {
                   s.placement = {PlacementKind::table, 8, {{0, 1, 2, 3, 4, 5, 6, 7}}};
                 },
                 {"placement table rows", "1", "2 ranks"}),
      layout_row("TableWithAnExpertPastE",
                 [](LayoutSpec& s) {
                   s.placement = {PlacementKind::table, 3, {{0, 1}, {2, 3}}};
                 },
                 {"placement table entry [1][1]", "3", "[0, 3)"}),
      layout_row("TableWithoutAnExpert",
                 [](LayoutSpec& s) {
                   s.placement = {PlacementKind::table, 4, {{0, 1}, {3}}};
                 },
                 {"placement of expert 2", "empty"}),
      {"RedundantSlotsThatDoNotDivide", [](Scene&) { Placement::redundant(8, 1, 2); }, {"8 + 1", "ep"}},
      {"IntermediateNotDivisible",
       [](Scene&) {
         make_layout(sglang_layout({4, 1, 1}, 8)).column_range(30, 2);
       },
       {"intermediate size", "30", "moe_tp=4", "divisible"}},
      {"IntermediateNotDivisibleNamesTheLayer",
       [](Scene&) { intermediate_per_rank(2880, 7, "layer 3"); },
       {"layer 3", "2880", "moe_tp=7"}},
      {"RankPastTheMesh", [](Scene&) { make_layout(two_by_two()).place(4); }, {"rank", "4", "[0, 3]"}},
      {"LayoutFileMissing",
       [](Scene& s) { read_layout_file(s.in / "none.toml", 8); },
       {"none.toml", "no such file"}},
      {"LayoutFileUnknownKey",
       [](Scene& s) {
         testing_files::write_bytes(s.in / "a.toml", "axes = [{name = \"x\", size = 1}]\nshard = 1\n");
         read_layout_file(s.in / "a.toml", 8);
       },
       {"a.toml:2:1", "'shard'", "axes, sharding, placement"}},
  };
}

// ---- dispatch, remap, align, route ----

template <class Change>
Row align_row(const std::string& name, Change change, std::vector<std::string> says) {
  return {
      name,
      [change](Scene& scene) {
        AlignProblem problem{scene.id_matrix(), 4, 2, Sentinels::keep, {}};
        AlignOutput output{scene.output(0), scene.output(1), scene.output(2)};
        change(problem, output);
        scene.on_every_backend([&](Backend& b, const ExecutionContext& c) { b.align(problem, output, c); });
      },
      std::move(says)};
}

template <class Change>
Row remap_row(const std::string& name, Change change, std::vector<std::string> says) {
  return {name,
          [change](Scene& scene) {
            RemapProblem problem{scene.id_matrix(), scene.mapping(), 4, 2, false, NoAdapter::base_slot, {}};
            change(problem);
            scene.on_every_backend([&](Backend& b, const ExecutionContext& c) {
              b.remap(problem, {scene.output(), scene.mask()}, c);
            });
          },
          std::move(says)};
}

template <class Change>
Row dispatch_row(const std::string& name, Change change, std::vector<std::string> says) {
  return {name,
          [change](Scene& scene) {
            static const std::vector<std::int32_t> kTable = {0, -1, 1, -1, 2};
            static const std::vector<std::int32_t> kOffsets = {0, 1, 2, 3, 5};
            DispatchProblem problem{scene.id_matrix(), 4, std::span(kTable).first(4), {}, 0, {}};
            change(problem, std::span<const std::int32_t>(kTable), std::span<const std::int32_t>(kOffsets));
            scene.on_every_backend(
                [&](Backend& b, const ExecutionContext& c) { b.dispatch(problem, {scene.output()}, c); });
          },
          std::move(says)};
}

template <class Change>
Row route_row(const std::string& name, Change change, std::vector<std::string> says) {
  return {name,
          [change](Scene& scene) {
            RouteProblem problem;
            problem.topk_ids = scene.id_matrix();
            problem.token_lora_mapping = scene.mapping();
            problem.num_local_experts = 4;
            problem.max_loras = 2;
            problem.block_size = 2;
            change(problem);
            scene.on_every_backend([&](Backend& b, const ExecutionContext& c) {
              b.route(problem, {{scene.output(0), scene.output(1), scene.output(2)}, scene.mask()}, c);
            });
          },
          std::move(says)};
}

using Ints = std::span<const std::int32_t>;
const std::vector<std::int32_t> kOffsetsFromOne = {1, 2, 3, 4, 5};
const std::vector<std::int32_t> kOffsetsStanding = {0, 1, 1, 3, 5};
const std::vector<std::int32_t> kOffsetsPastTable = {0, 1, 2, 3, 6};

Rows routing_rows() {
  return {
      align_row("AlignBlockSizeZero", [](auto& p, auto&) { p.block_size = 0; },
                {"block_size", "0", "[1, 2147483647]"}),
      align_row("AlignBlockSizeNegative", [](auto& p, auto&) { p.block_size = -16; }, {"block_size", "-16"}),
      align_row("AlignBucketsNegative", [](auto& p, auto&) { p.num_buckets = -1; },
                {"num_buckets", "-1", "[0, 2147483647]"}),
      align_row("AlignBucketsPlusOneOverflows", [](auto& p, auto&) { p.num_buckets = INT32_MAX; },
                {"num_buckets + 1", "2147483648", "2^31-1", "V=2147483647"}),
      align_row("AlignCapacityOverflows",
                [](auto& p, auto&) {
                  p.ids.rows = 1 << 20;
                  p.num_buckets = 1 << 20;
                  p.block_size = 1 << 12;
                },
                {"capacity", "2147483647", "n=2097152", "V=1048576", "B=4096"}),
      align_row("AlignSlotsOverflow", [](auto& p, auto&) { p.ids.rows = INT32_MAX; },
                {"slots", "4294967294", "2^31-1", "T=2147483647 * K=2"}),
      align_row("AlignRowsNegative", [](auto& p, auto&) { p.ids.rows = -1; },
                {"rows (T)", "-1", "[0, 2147483647]"}),
      align_row("AlignNoColumns", [](auto& p, auto&) { p.ids.cols = 0; },
                {"columns (K)", "0", "[1, 2147483647]"}),
      align_row("AlignRowStrideBelowK", [](auto& p, auto&) { p.ids.row_stride = 1; },
                {"row stride", "1", "K=2"}),
      align_row("AlignRowStrideNegative", [](auto& p, auto&) { p.ids.row_stride = -2; },
                {"row stride", "-2", "K=2"}),
      align_row("AlignIdsNull", [](auto& p, auto&) { p.ids.data = nullptr; }, {"ids", "null", "8 elements"}),
      align_row("AlignIdsOfAnotherDtype", [](auto& p, auto&) { p.ids.type = static_cast<IdType>(7); },
                {"dtype", "7", "int32 or int64"}),
      align_row("AlignNumTokensPastT", [](auto& p, auto&) { p.num_tokens = NumTokens::of(5); },
                {"num_tokens", "5", "[0, 4]"}),
      align_row("AlignNumTokensNegative", [](auto& p, auto&) { p.num_tokens = NumTokens::of(-1); },
                {"num_tokens", "-1", "[0, 4]"}),
      align_row("AlignNumTokensNullPointer", [](auto& p, auto&) { p.num_tokens = NumTokens::at(nullptr); },
                {"num_tokens", "null"}),
      align_row("AlignOutputNull", [](auto&, auto& out) { out.expert_ids = nullptr; },
                {"expert_ids", "null", "elements"}),

      remap_row("RemapMappingTooShort", [](auto& p) { p.token_lora_mapping = p.token_lora_mapping.first(3); },
                {"token_lora_mapping length", "3", "T=4"}),
      remap_row("RemapMappingTooLong",
                [](auto& p) { p.token_lora_mapping = Ints(p.token_lora_mapping.data(), 5); },
                {"token_lora_mapping length", "5", "T=4"}),
      remap_row("RemapExpertsNegative", [](auto& p) { p.num_experts = -4; },
                {"num_experts", "-4", "[0, 2147483647]"}),
      remap_row("RemapLorasNegative", [](auto& p) { p.max_loras = -1; },
                {"max_loras", "-1", "[0, 2147483647]"}),
      remap_row("RemapVirtualExpertsOverflow",
                [](auto& p) {
                  p.num_experts = 512;
                  p.max_loras = 8388608;
                },
                {"virtual experts", "4294967296", "2^31-1", "E=512 * L=8388608"}),

      dispatch_row("DispatchTableTooShort", [](auto& p, Ints table, Ints) { p.table = table.first(3); },
                   {"dispatch table length", "3", "E=4"}),
      dispatch_row("DispatchTableTooLong", [](auto& p, Ints table, Ints) { p.table = table; },
                   {"dispatch table length", "5", "E=4"}),
      dispatch_row("DispatchExpertsNegative", [](auto& p, Ints, Ints) { p.num_experts = -1; },
                   {"num_experts", "-1"}),
      dispatch_row("DispatchOffsetsTooShort",
                   [](auto& p, Ints table, Ints offsets) {
                     p.table = table;
                     p.offsets = offsets.first(4);
                   },
                   {"dispatch offsets length", "4", "E + 1 = 5"}),
      dispatch_row("DispatchTableTooShortForReplicas",
                   [](auto& p, Ints table, Ints offsets) {
                     p.table = table.first(2);
                     p.offsets = offsets;
                   },
                   {"dispatch table length", "2", "E=4"}),
      dispatch_row("DispatchSlotOffsetNegative", [](auto& p, Ints, Ints) { p.slot_offset = -1; },
                   {"slot_offset", "-1", "[0,"}),
      dispatch_row("DispatchOffsetsDoNotStartAtZero",
                   [](auto& p, Ints table, Ints) {
                     p.table = table;
                     p.offsets = kOffsetsFromOne;
                   },
                   {"dispatch offsets[0]", "1", "[0, 0]"}),
      dispatch_row("DispatchExpertWithoutReplica",
                   [](auto& p, Ints table, Ints) {
                     p.table = table;
                     p.offsets = kOffsetsStanding;
                   },
                   {"dispatch offsets[2]", "1", "[2, 5]"}),
      dispatch_row("DispatchOffsetsPastTheTable",
                   [](auto& p, Ints table, Ints) {
                     p.table = table;
                     p.offsets = kOffsetsPastTable;
                   },
                   {"dispatch offsets[4]", "6", "[4, 5]"}),

      route_row("RouteBlockSizeZero", [](auto& p) { p.block_size = 0; }, {"block_size", "0"}),
      route_row("RouteLocalExpertsNegative", [](auto& p) { p.num_local_experts = -1; }, {"experts", "-1"}),
      route_row("RouteBucketsOverflow",
                [](auto& p) {
                  p.num_local_experts = 1 << 16;
                  p.max_loras = 1 << 16;
                },
                {"virtual experts", "4294967296", "65536"}),
      route_row("RouteMappingTooShort", [](auto& p) { p.token_lora_mapping = {}; },
                {"token_lora_mapping length", "0", "T=4"}),
      route_row("RouteTableTooShort",
                [](auto& p) {
                  p.num_experts = 8;
                  p.table = p.token_lora_mapping;
                },
                {"dispatch table length", "4", "E=8"}),
  };
}

// ---- slice, pool, layer ----

/// A small rank with one adapter; what a row breaks is one field of it.
struct SliceScene {
  MoeGeometry geometry{4, 8, 6, true, GateUpForm::stacked, false};
  RankPlace place{1, 4, 0, 2, 1, 2, 0, 1};
  std::vector<std::int32_t> local_experts = {0, 1};
  OwnedAdapter owned;
  BufferShape good, shape;
  LoraBuffers buffers;
  const Adapter* adapter = &owned.adapter;
  std::int32_t slot = 1;
  BufferView view;

  SliceScene()
      : good(buffer_shape(geometry, place, 2, {{0, true, true}}, 2, 4, DType::f32)),
        shape(good),
        buffers(good, 0xA5),
        view(buffers.view()) {
    owned.adapter.layers[0] = owned.layer(geometry, 3, 2, true);
  }
};

template <class Change>
Row slice_row(const std::string& name, Change change, std::vector<std::string> says) {
  return {
      name,
      [change](Scene& scene) {
        SliceScene s;
        change(s);
        const LoraBuffers before = s.buffers;
        const SliceProblem problem{s.geometry, s.place, s.local_experts, s.adapter, &s.shape, s.slot};
        scene.on_every_backend([&](Backend& b, const ExecutionContext& c) { b.slice(problem, s.view, c); });
        EXPECT_EQ(s.buffers, before) << "a buffer was written";
      },
      std::move(says)};
}

Rows slice_rows() {
  return {
      slice_row("SliceSlotPastTheBuffers", [](auto& s) { s.slot = 2; }, {"slot", "2", "[0, 1]"}),
      slice_row("SliceSlotNegative", [](auto& s) { s.slot = -1; }, {"slot", "-1", "[0, 1]"}),
      slice_row("SliceIntermediateNotDivisible", [](auto& s) { s.place.moe_tp = 4; },
                {"intermediate size", "6", "moe_tp=4", "divisible"}),
      slice_row("SliceMoeTpRankPastMoeTp", [](auto& s) { s.place.moe_tp_rank = 2; },
                {"moe_tp_rank", "2", "[0, 1]"}),
      slice_row("SliceMoeTpZero", [](auto& s) { s.place.moe_tp = 0; }, {"moe_tp", "0", "[1, 2147483647]"}),
      slice_row("SliceLocalExpertPastE", [](auto& s) { s.local_experts[1] = 4; },
                {"local expert", "4", "[0, 3]"}),
      slice_row("SliceLocalExpertsOfAnotherCount",
                [](auto& s) {
                  s.local_experts = {0, 1, 2};
                },
                {"local_experts", "2", "3"}),
      slice_row("SliceRankAboveR",
                [](auto& s) { s.owned.adapter.layers[0] = s.owned.layer(s.geometry, 5, 2, true); },
                {"layer 0", "rank", "5", "[1, 4]"}),
      slice_row("SliceAdapterOfAnotherHidden",
                [](auto& s) {
                  s.owned.adapter.layers[0] =
                      s.owned.layer({4, 10, 6, true, GateUpForm::stacked, false}, 2, 2, true);
                },
                {"layer 0", "lora_A shape", "[4, 2, 10]", "H=8"}),
      slice_row("SliceAdapterOfAnotherIntermediate",
                [](auto& s) {
                  s.owned.adapter.layers[0] =
                      s.owned.layer({4, 8, 12, true, GateUpForm::stacked, false}, 0, 2, true);
                },
                {"layer 0 down", "lora_A shape", "[4, 2, 12]", "I=6"}),
      slice_row("SliceAdapterOfAnotherExpertCount",
                [](auto& s) {
                  s.owned.adapter.layers[0] =
                      s.owned.layer({3, 8, 6, true, GateUpForm::stacked, false}, 2, 2, true);
                },
                {"layer 0", "[3, 2, 8]", "E=4"}),
      slice_row(
          "SliceAdapterSharedOuterForPerExpertBuffers",
          [](auto& s) {
            s.owned.adapter.layers[0] = s.owned.layer({4, 8, 6, true, GateUpForm::stacked, true}, 2, 2, true);
          },
          {"layer 0", "[1, 2, 8]", "E=4"}),
      slice_row("SliceAWithoutB", [](auto& s) { s.owned.adapter.layers[0].down.B = {}; },
                {"layer 0 down lora_B", "absent"}),
      slice_row("SliceGateWithoutUp", [](auto& s) { s.owned.adapter.layers[0].gate_up[1] = {}; },
                {"layer 0 up", "absent"}),
      slice_row("SliceLayerThatNoBufferTakes",
                [](auto& s) { s.owned.adapter.layers[9] = s.owned.adapter.layers[0]; },
                {"layer 9", "gate_up", "no active layer"}),
      slice_row("SliceModuleThatNoBufferTakes", [](auto& s) { s.shape.layers[0].has_down = false; },
                {"layer 0", "down", "no active layer"}),
      slice_row("SliceAdapterNull", [](auto& s) { s.adapter = nullptr; }, {"adapter", "null"}),
      slice_row("SliceShapeOfAnotherHidden", [](auto& s) { s.shape.hidden = 16; }, {"hidden", "16", "8"}),
      slice_row("SliceShapeOfTheUnslicedIntermediate", [](auto& s) { s.shape.intermediate = 6; },
                {"intermediate", "6", "3", "I / moe_tp"}),
      slice_row("SliceShapeOfAnotherForm", [](auto& s) { s.shape.form = GateUpForm::interleaved; },
                {"form", "interleaved", "stacked"}),
      slice_row("SliceShapeRankZero", [](auto& s) { s.shape.max_lora_rank = 0; },
                {"max_lora_rank", "0", "[1,"}),
      slice_row("SliceShapeUnknownDtype", [](auto& s) { s.shape.dtype = static_cast<DType>(9); },
                {"dtype", "9", "F32, F16 or BF16"}),
      slice_row("SliceAdapterUnknownDtype",
                [](auto& s) { s.owned.adapter.layers[0].down.A.dtype = static_cast<DType>(3); },
                {"dtype", "3", "F32, F16 or BF16"}),
      slice_row("SliceBufferNull", [](auto& s) { s.view.tensor[0][3] = nullptr; },
                {"down_B", "null", "elements"}),
      slice_row("SliceScaleNull", [](auto& s) { s.view.scale = nullptr; }, {"scale", "null", "elements"}),
      slice_row("SliceViewWithoutLayers", [](auto& s) { s.view.tensor.clear(); }, {"layers", "0", "1"}),
      {"BufferShapeVirtualExpertsOverflow",
       [](Scene&) {
         buffer_shape({1 << 20, 8, 6, true, GateUpForm::stacked, false}, {}, 1 << 20, {}, 1 << 12, 4,
                      DType::f32);
       },
       {"virtual experts", "4294967296", "E_local=1048576 * L=4096"}},
      {"PoolWithoutSlots",
       [](Scene&) {
         SliceScene s;
         reference::LoraPool pool(s.geometry, s.place, s.local_experts, {{0, true, true}}, 0, 4, DType::f32);
         pool.load(1, s.owned.adapter);
       },
       {"max_loras", "0", "[1, 2147483647]"}},
      {"PoolRefusesABadAdapterAndKeepsItsSlots",
       [](Scene&) {
         SliceScene s;
         reference::LoraPool pool(s.geometry, s.place, s.local_experts, {{0, true, true}}, 1, 4, DType::f32);
         pool.load(1, s.owned.adapter);
         const LoraBuffers before = pool.buffers();
         Adapter bad = s.owned.adapter;
         bad.layers[0].down.A.cols = 7;
         try {
           pool.load(2, bad);
         } catch (const InvalidArgument&) {
           EXPECT_EQ(pool.buffers(), before);
           EXPECT_TRUE(pool.find(1).has_value());
           EXPECT_FALSE(pool.find(2).has_value());
           throw;
         }
       },
       {"layer 0 down", "lora_A shape", "[4, 2, 7]", "I=6"}},
  };
}

template <class Change>
Row layer_row(const std::string& name, Change change, std::vector<std::string> says) {
  return {name,
          [change](Scene& scene) {
            static const std::vector<float> kZeros(1024);
            const std::span<const float> zeros(kZeros);
            OwnedAdapter owned;
            reference::MoeLayerProblem problem;
            problem.geometry = {4, 8, 6, true, GateUpForm::stacked, false};
            owned.adapter.layers[0] = owned.layer(problem.geometry, 2, 2, true);
            problem.base = {zeros.first(4 * 12 * 8), zeros.first(4 * 8 * 6)};
            problem.adapters = {&owned.adapter.layers[0], nullptr};
            problem.topk_ids = scene.id_matrix();
            problem.topk_weights = zeros.first(8);
            problem.token_lora_mapping = scene.mapping();
            problem.hidden_states = zeros.first(4 * 8);
            change(problem, owned);
            reference::moe_layer<double>(problem);
          },
          std::move(says)};
}

Rows layer_rows() {
  return {
      layer_row("LayerHiddenStatesOfAnotherSize",
                [](auto& p, auto&) { p.hidden_states = p.hidden_states.first(31); },
                {"hidden_states", "31", "32"}),
      layer_row("LayerRouterWeightsOfAnotherSize",
                [](auto& p, auto&) { p.topk_weights = p.topk_weights.first(7); }, {"topk_weights", "7", "8"}),
      layer_row("LayerBaseWeightOfAnotherSize",
                [](auto& p, auto&) { p.base.down_proj = p.base.down_proj.first(5); },
                {"down_proj", "5", "192"}),
      layer_row("LayerMappingOfAnotherSize", [](auto& p, auto&) { p.token_lora_mapping = {}; },
                {"token_lora_mapping", "0", "T=4"}),
      layer_row("LayerHiddenSizeZero", [](auto& p, auto&) { p.geometry.hidden = 0; },
                {"hidden size", "0", "[1,"}),
      layer_row("LayerAdapterOfAnotherModel",
                [](auto& p, auto& owned) {
                  p.adapters[1] = &(owned.adapter.layers[1] =
                                        owned.layer({4, 8, 7, true, GateUpForm::stacked, false}, 2, 0, true));
                },
                {"lora_B shape", "[4, 7, 2]", "I=6"}),
  };
}

INSTANTIATE_TEST_SUITE_P(Layout, BadInput, testing::ValuesIn(layout_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(Routing, BadInput, testing::ValuesIn(routing_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(Slice, BadInput, testing::ValuesIn(slice_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(Layer, BadInput, testing::ValuesIn(layer_rows()), RowName());

}  // namespace
}  // namespace eplora
