// SPDX-License-Identifier: Apache-2.0
// Files read as they were written: safetensors, config.json, PEFT adapters in every key layout, golden
// fixtures.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "cli/formats/golden_fixture.h"
#include "cli/formats/peft_writer.h"
#include "cli/formats/strict_json.h"
#include "property_tests/unit/format_files.h"
#include "reference/check.h"
#include "reference/contract/weights.h"

namespace eplora {
namespace {

using namespace testing_files;
const std::filesystem::path kRoot = EPLORA_SOURCE_DIR;
const std::filesystem::path kGolden = kRoot / "property_tests" / "golden";
const char* const kConfigStart = R"({"peft_type": "LORA", "bias": "none", )";

// ---- safetensors ----

TEST(Safetensors, EveryTypeShapeAndMetadataReadsBackByteForByte) {
  TempFolder folder;
  TensorSet set;
  set.add("u", {3}, TensorType::u8)
      .add("f", {2, 5})
      .add("h", {7}, TensorType::f16)
      .add("b", {1, 3}, TensorType::bf16);
  set.add("i", {4, 2}, TensorType::i32).add("l", {2}, TensorType::i64).add("empty", {0, 9}).add("scalar", {});
  write_safetensors(folder / "a.safetensors", set.tensors(), {{"format", "pt"}, {"who", "gr\u00fc\u00df"}});
  const SafetensorsFile file = SafetensorsFile::open(folder / "a.safetensors");
  EXPECT_EQ(file.names().size(), 8U);
  EXPECT_EQ(file.metadata().at("who"), "gr\u00fc\u00df");
  for (const TensorToWrite& tensor : set.tensors()) {
    const TensorView& view = file.tensor(tensor.name);
    EXPECT_EQ(view.type, tensor.type);
    EXPECT_EQ(view.shape, tensor.shape);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data) % static_cast<std::uintptr_t>(bytes_of(view.type)),
              0U);
    EXPECT_EQ(std::memcmp(view.data, tensor.data, static_cast<std::size_t>(view.bytes)), 0) << tensor.name;
  }
  write_safetensors(folder / "b.safetensors", set.tensors(), {{"format", "pt"}, {"who", "gr\u00fc\u00df"}});
  EXPECT_EQ(read_bytes(folder / "a.safetensors"), read_bytes(folder / "b.safetensors"));
  EXPECT_EQ(folder.files(), 2U);  // no temporary file stays
}

TEST(Safetensors, ViewsSurviveAMoveAndTheFileMayHaveNoTensors) {
  TempFolder folder;
  write_bytes(folder / "none", safetensors_bytes("{}   ", 0));
  EXPECT_TRUE(SafetensorsFile::open(folder / "none").names().empty());
  TensorSet().add("x", {2}).write(folder / "x");
  SafetensorsFile file = SafetensorsFile::open(folder / "x");
  const std::byte* data = file.tensor("x").data;
  const SafetensorsFile moved = std::move(file);
  EXPECT_EQ(moved.tensor("x").data, data);
}

TEST(Safetensors, MutatedHeadersGiveAnErrorOrTensorsInsideTheFile) {
  TempFolder folder;
  TensorSet set;
  set.add("a.weight", {3, 4}).add("b.weight", {6}, TensorType::f16).add("c", {2, 2}, TensorType::i64);
  set.write(folder / "good");
  const std::string good = read_bytes(folder / "good");
  const std::size_t header_end = good.find("}}") + 2;
  const std::string alphabet = "0123456789\"{}[],:.-eE \\abdtypes_FBUI\x00\xff";
  int refused = 0, accepted = 0;
  for (unsigned seed = 0; seed < 4000; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    std::string bytes = good;
    for (std::size_t edits = 1 + below(3); edits > 0; --edits) {
      const std::size_t at = below(header_end);
      switch (below(5)) {
        case 0:
          bytes[at] = alphabet[below(alphabet.size())];
          break;
        case 1:
          bytes[at] = static_cast<char>(random());
          break;
        case 2:
          bytes.erase(at, 1 + below(4));
          break;
        case 3:
          bytes.insert(at, bytes.substr(below(header_end), 1 + below(24)));
          break;
        default:
          bytes.resize(bytes.size() - below(std::min<std::size_t>(bytes.size(), 12)));
          break;
      }
      if (bytes.size() < header_end) bytes.resize(header_end, ' ');
    }
    write_bytes(folder / "bad", bytes);
    try {
      const SafetensorsFile file = SafetensorsFile::open(folder / "bad");
      const std::byte* first = nullptr;
      std::int64_t total = 0, sum = 0;
      for (const auto& [name, view] : file.tensors()) {
        if (first == nullptr || view.data < first) first = view.data;
        total += view.bytes;
        for (std::int64_t i = 0; i < view.bytes; ++i)
          sum += std::to_integer<int>(view.data[i]);  // in bounds, or ASan says so
        ASSERT_EQ(view.elements() * bytes_of(view.type), view.bytes);
      }
      ASSERT_GE(sum, 0);
      ASSERT_LE(total, static_cast<std::int64_t>(bytes.size()) - 8) << "seed " << seed;
      ++accepted;
    } catch (const InvalidArgument& error) {
      ASSERT_NE(std::string(error.what()).find("bad"), std::string::npos)
          << "seed " << seed << ": " << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 2000);
  EXPECT_GT(accepted, 20);  // a renamed tensor is a good file
}

// ---- config.json ----

TEST(ModelConfig, EveryExampleModelHasItsPublishedGeometry) {
  struct Row {
    const char *file, *name;
    std::int32_t experts, top_k;
    std::int64_t hidden, intermediate;  // hidden as the experts see it: Nemotron-3 Super's latent size
    std::size_t moe_layers;
    std::int32_t first_moe_layer;
    GateUpForm form;
    bool gated;
  };
  const Row rows[] = {
      {"qwen3-30b-a3b", "Qwen3-30B-A3B", 128, 8, 2048, 768, 48, 0, GateUpForm::stacked, true},
      {"qwen3-235b-a22b", "Qwen3-235B-A22B", 128, 8, 4096, 1536, 94, 0, GateUpForm::stacked, true},
      {"qwen3-next-80b-a3b", "Qwen3-Next-80B-A3B", 512, 10, 2048, 512, 48, 0, GateUpForm::stacked, true},
      {"qwen3.5-35b-a3b", "Qwen3.5-35B-A3B", 256, 8, 2048, 512, 40, 0, GateUpForm::stacked, true},
      {"deepseek-v3", "DeepSeek-V3", 256, 8, 7168, 2048, 58, 3, GateUpForm::stacked, true},
      {"kimi-k2", "Kimi-K2", 384, 8, 7168, 2048, 60, 1, GateUpForm::stacked, true},
      {"gpt-oss-20b", "GPT-OSS-20B", 32, 4, 2880, 2880, 24, 0, GateUpForm::interleaved, true},
      {"gpt-oss-120b", "GPT-OSS-120B", 128, 4, 2880, 2880, 36, 0, GateUpForm::interleaved, true},
      {"mixtral-8x7b", "Mixtral-8x7B", 8, 2, 4096, 14336, 32, 0, GateUpForm::stacked, true},
      {"mixtral-8x22b", "Mixtral-8x22B", 8, 2, 6144, 16384, 56, 0, GateUpForm::stacked, true},
      {"llama-4-scout", "Llama-4-Scout", 16, 1, 5120, 8192, 48, 0, GateUpForm::stacked, true},
      {"llama-4-maverick", "Llama-4-Maverick", 128, 1, 5120, 8192, 24, 1, GateUpForm::stacked, true},
      {"glm-4.5", "GLM-4.5", 160, 8, 5120, 1536, 89, 3, GateUpForm::stacked, true},
      {"glm-4.5-air", "GLM-4.5-Air", 128, 8, 4096, 1408, 45, 1, GateUpForm::stacked, true},
      {"glm-5", "GLM-5", 256, 8, 6144, 2048, 75, 3, GateUpForm::stacked, true},
      {"minimax-m2", "MiniMax-M2", 256, 8, 3072, 1536, 62, 0, GateUpForm::stacked, true},
      {"nemotron-3-nano-30b", "Nemotron-3-Nano-30B", 128, 6, 2688, 1856, 23, 1, GateUpForm::stacked, false},
      {"nemotron-3-super-120b", "Nemotron-3-Super-120B", 512, 22, 1024, 2688, 40, 1, GateUpForm::stacked,
       false}};
  std::size_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator(kRoot / "examples" / "models"))
    files += file.path().extension() == ".json" ? 1 : 0;
  EXPECT_EQ(files, std::size(rows));
  for (const Row& row : rows) {
    const ModelConfig model =
        read_model_config(kRoot / "examples" / "models" / (std::string(row.file) + ".json"));
    EXPECT_EQ(model.name, row.name);
    EXPECT_EQ(model.num_experts, row.experts) << row.name;
    EXPECT_EQ(model.top_k, row.top_k) << row.name;
    EXPECT_EQ(model.hidden, row.hidden) << row.name;
    EXPECT_EQ(model.moe_intermediate, row.intermediate) << row.name;
    EXPECT_EQ(model.moe_layers.size(), row.moe_layers) << row.name;
    EXPECT_EQ(model.moe_layers.front(), row.first_moe_layer) << row.name;
    EXPECT_EQ(model.form, row.form) << row.name;
    EXPECT_EQ(model.gated, row.gated) << row.name;
    EXPECT_EQ(model.geometry().intermediate, row.intermediate);
  }
}

std::vector<std::int32_t> moe_layers(const std::string& fields) {
  return parse_model_config(R"({"num_experts": 4, "num_experts_per_tok": 2, "hidden_size": 8,
                                "moe_intermediate_size": 6, )" +
                                fields + "}",
                            "config")
      .moe_layers;
}

TEST(ModelConfig, LayersWithExpertsFollowEachFamilysRule) {
  using Layers = std::vector<std::int32_t>;
  EXPECT_EQ(moe_layers(R"("num_hidden_layers": 3)"), (Layers{0, 1, 2}));
  EXPECT_EQ(moe_layers(R"("num_hidden_layers": 5, "first_k_dense_replace": 2)"), (Layers{2, 3, 4}));
  EXPECT_EQ(moe_layers(R"("num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [3])"),
            (Layers{1, 5}));
  EXPECT_EQ(moe_layers(R"("num_hidden_layers": 4, "interleave_moe_layer_step": 2)"), (Layers{1, 3}));
  EXPECT_EQ(moe_layers(R"("num_hidden_layers": 5, "moe_layers": [3, 1])"), (Layers{1, 3}));
  EXPECT_EQ(moe_layers(R"("num_hidden_layers": 3, "moe_layer_freq": [0, 1, 1])"), (Layers{1, 2}));
  EXPECT_EQ(moe_layers(R"("num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"])"), (Layers{1}));
  EXPECT_EQ(moe_layers(R"("num_hidden_layers": 5, "hybrid_override_pattern": "MEM*E")"), (Layers{1, 4}));
  EXPECT_EQ(moe_layers(R"("tie_word_embeddings": false)"), Layers{});
}

TEST(ModelConfig, NestedTextConfigNullFieldsAndSquaredReluAreRead) {
  const ModelConfig model = parse_model_config(R"({"model_type": "outer", "vision_config": {"hidden_size": 1},
      "text_config": {"model_type": "qwen3_5_moe_text", "num_experts": null, "num_local_experts": 16, "hidden_size": 32,
                      "num_experts_per_tok": 4, "moe_intermediate_size": 12, "num_hidden_layers": 2}})",
                                               "config");
  EXPECT_EQ(model.model_type, "qwen3_5_moe_text");
  EXPECT_EQ(model.num_experts, 16);
  EXPECT_EQ(model.hidden, 32);
  const ModelConfig relu2 =
      parse_model_config(R"({"model_type": "nemotron_h", "n_routed_experts": 8, "hidden_size": 64,
      "num_experts_per_tok": 2, "moe_intermediate_size": 24, "moe_latent_size": 16, "mlp_hidden_act": "relu2"})",
                         "config");
  EXPECT_FALSE(relu2.gated);
  EXPECT_EQ(relu2.hidden, 16);  // what the routed experts see
}

// ---- PEFT: patterns ----

TEST(PeftPattern, MatchesTheWholeNameOrItsEndAfterADot) {
  const std::string name = "model.layers.1.mlp.experts.down_proj";
  const auto matches = [&](const std::string& key) { return PeftPattern(key, "key").matches(name); };
  EXPECT_TRUE(matches("down_proj"));
  EXPECT_TRUE(matches("mlp.experts.down_proj"));
  EXPECT_TRUE(matches(name));
  EXPECT_TRUE(matches("mlp?experts.down_proj") == false);
  EXPECT_TRUE(matches("mlp.experts.downXproj") == false);
  EXPECT_TRUE(matches("mlpXexperts.down_proj") == false);
  EXPECT_TRUE(matches("layers.1.mlp.experts.down.proj"));  // '.' is any character
  EXPECT_TRUE(matches(".*\\.down_proj"));
  EXPECT_TRUE(matches("layers\\.[0-9]+\\.mlp\\.experts\\.(gate_up|down)_proj"));
  EXPECT_TRUE(matches("layers.(?:0|1).*"));
  EXPECT_TRUE(matches("(?!model\\.layers\\.0).*down_proj"));
  EXPECT_FALSE(matches("own_proj"));
  EXPECT_FALSE(matches("experts"));
  EXPECT_FALSE(matches("down_proj.extra"));
  EXPECT_FALSE(matches("layers.2.mlp.experts.down_proj"));
  EXPECT_FALSE(matches("layers\\.[02]\\.mlp\\.experts\\.down_proj"));
  EXPECT_FALSE(matches(""));
}

TEST(PeftPattern, LongSearchesEnd) {
  const PeftPattern pattern("(a*)*(a|aa)*x", "key");
  EXPECT_FALSE(pattern.matches(std::string(200, 'a')));
}

// ---- PEFT: the golden adapters ----

/// Element of the contract's reading, from the raw tensors alone: A[e*r + j, i], B[o, j*E + e].
void expect_fused_reading(const GoldenFixture& fixture, const PeftAdapter& adapter,
                          const SafetensorsFile& raw, const std::string& module, const LoraPair& got,
                          std::int64_t first_row) {
  const TensorView& A = raw.tensor(module + "lora_A.weight");
  const TensorView& B = raw.tensor(module + "lora_B.weight");
  const std::int64_t E = fixture.geometry.num_experts, r = A.shape[0] / E;
  ASSERT_EQ(got.rank(), r);
  ASSERT_LE(r, adapter.max_rank());
  for (std::int64_t e = 0; e < E; ++e)
    for (std::int64_t j = 0; j < r; ++j) {
      for (std::int64_t i = 0; i < A.shape[1]; ++i)
        ASSERT_EQ(got.A.at(e, j, i), load_as_float(A.data, DType::f32, (e * r + j) * A.shape[1] + i));
      for (std::int64_t o = 0; o < got.B.rows; ++o)
        ASSERT_EQ(got.B.at(e, o, j),
                  load_as_float(B.data, DType::f32, (first_row + o) * B.shape[1] + j * E + e));
    }
}

TEST(PeftAdapter, FusedTensorsAreReadExpertSlowestInAAndExpertFastestInB) {
  const GoldenFixture fixture = load_golden_fixture(kGolden / "qwen3-moe-tiny-fused");
  const SafetensorsFile raw =
      SafetensorsFile::open(kGolden / "qwen3-moe-tiny-fused/adapters/0/adapter_model.safetensors");
  const PeftAdapter& adapter = fixture.adapters[0];
  ASSERT_EQ(adapter.key_layout(), PeftKeyLayout::fused);
  for (const std::int32_t id : {0, 1}) {
    const std::string experts = "base_model.model.model.layers." + std::to_string(id) + ".mlp.experts.";
    const AdapterLayer& layer = *adapter.layer(id);
    expect_fused_reading(fixture, adapter, raw, experts + "base_layer.", layer.gate_up[0], 0);
    expect_fused_reading(fixture, adapter, raw, experts + "base_layer.", layer.gate_up[1], 48);
    expect_fused_reading(fixture, adapter, raw, experts, layer.down, 0);
    EXPECT_EQ(layer.gate_up[0].A, layer.gate_up[1].A);  // one A in both halves, no copy
  }
  EXPECT_EQ(adapter.layer(7), nullptr);
}

TEST(PeftAdapter, PerExpertTensorsAreGatheredInExpertOrder) {
  const std::filesystem::path folder = kGolden / "qwen3-moe-tiny-per-expert";
  const GoldenFixture fixture = load_golden_fixture(folder);
  const SafetensorsFile raw = SafetensorsFile::open(folder / "adapters/1/adapter_model.safetensors");
  const AdapterLayer& layer = *fixture.adapters[1].layer(1);
  EXPECT_EQ(fixture.adapters[1].key_layout(), PeftKeyLayout::per_expert);
  for (std::int64_t e = 0; e < 8; ++e) {
    const std::string expert = "base_model.model.model.layers.1.mlp.experts." + std::to_string(e) + ".";
    const auto expect_tensor = [&](const std::string& name, const StridedTensor& got) {
      const TensorView& view = raw.tensor(expert + name + ".weight");
      ASSERT_EQ(view.shape, (std::vector<std::int64_t>{got.rows, got.cols}));
      for (std::int64_t i = 0; i < view.elements(); ++i)
        ASSERT_EQ(got.at(e, i / got.cols, i % got.cols), load_as_float(view.data, DType::f32, i)) << name;
    };
    expect_tensor("gate_proj.lora_A", layer.gate_up[0].A);
    expect_tensor("gate_proj.lora_B", layer.gate_up[0].B);
    expect_tensor("up_proj.lora_A", layer.gate_up[1].A);
    expect_tensor("up_proj.lora_B", layer.gate_up[1].B);
    expect_tensor("down_proj.lora_A", layer.down.A);
    expect_tensor("down_proj.lora_B", layer.down.B);
  }
}

TEST(PeftAdapter, RankAndAlphaPatternsGiveTheScalesThatPeftUsed) {
  const GoldenFixture fixture = load_golden_fixture(kGolden / "moe-mid-fused-patterns");
  const auto expect_module = [&](std::size_t adapter, std::int32_t id, bool down, std::int64_t r,
                                 double scale) {
    const AdapterLayer& layer = *fixture.adapters[adapter].layer(id);
    const LoraPair& pair = down ? layer.down : layer.gate_up[0];
    EXPECT_EQ(pair.rank(), r) << adapter << " " << id << " " << down;
    EXPECT_EQ(down ? layer.down_scale : layer.gate_up_scale, static_cast<float>(scale))
        << adapter << " " << id;
  };
  for (const std::int32_t id : {0, 1}) {
    expect_module(0, id, false, 4, 2.0);
    expect_module(0, id, true, 3, 5.0 / 3.0);
    expect_module(2, id, false, 6, 10.0 / 6.0);
    EXPECT_FALSE(fixture.adapters[2].layer(id)->down.present());
  }
  expect_module(1, 0, false, 8, 6.0 / std::sqrt(8.0));
  expect_module(1, 0, true, 2, 4.0 / std::sqrt(2.0));
  expect_module(1, 1, false, 3, 6.0 / std::sqrt(3.0));
  expect_module(1, 1, true, 5, 4.0 / std::sqrt(5.0));
}

TEST(PeftAdapter, EveryTensorOfEveryGoldenAdapterIsConsumed) {
  for (const std::filesystem::path& folder : list_golden_fixtures(kGolden))
    for (const PeftAdapter& adapter : load_golden_fixture(folder).adapters) {
      EXPECT_TRUE(adapter.refused().empty());
      EXPECT_EQ(adapter.consumed(), adapter.tensors_in_file());
      EXPECT_FALSE(
          contract::p16_strict_load(adapter.tensors_in_file(), adapter.consumed(), adapter.refused()));
    }
}

TEST(GoldenFixture, TheWholeLayerReproducesEveryRecordedOutput) {
  for (const std::filesystem::path& folder : list_golden_fixtures(kGolden)) {
    const GoldenFixture fixture = load_golden_fixture(folder);
    ASSERT_EQ(fixture.cases.size(), fixture.adapters.size() + 2);
    for (const GoldenCase& golden_case : fixture.cases) {
      const auto relative_error = [&](const auto& got) {
        double difference = 0, norm = 0;
        for (std::int64_t i = 0; i < got.size(); ++i) {
          const double want = golden_case.output[static_cast<std::size_t>(i)];
          const double error = static_cast<double>(got.data()[i]) - want;
          difference += error * error;
          norm += want * want;
        }
        return std::sqrt(difference / norm);
      };
      const reference::MoeLayerProblem problem = fixture.problem(golden_case);
      EXPECT_LE(relative_error(reference::moe_layer<double>(problem)), 3.5e-7)
          << fixture.name << " " << golden_case.name;
      EXPECT_LE(relative_error(reference::moe_layer<float>(problem)), 1e-6)
          << fixture.name << " " << golden_case.name;
    }
  }
}

// ---- PEFT: other readings ----

const MoeGeometry kSmall{3, 10, 6, true, GateUpForm::stacked, false};  // E, H, I

void write_config(const std::filesystem::path& folder, const std::string& rest) {
  write_bytes(folder / "adapter_config.json", kConfigStart + rest + "}");
}

/// delta[e][o][i] = sum_j B[e][o][j] A[e][j][i], of one half.
double delta(const LoraPair& pair, std::int64_t e, std::int64_t o, std::int64_t i) {
  double sum = 0;
  for (std::int64_t j = 0; j < pair.rank(); ++j)
    sum += double{pair.B.at(e, o, j)} * double{pair.A.at(e, j, i)};
  return sum;
}

/// The delta of PEFT's fused tensors before any transposition: sum_j B[row, j*E + e] A[e*r + j, col].
double file_delta(const SafetensorsFile& file, const std::string& module, std::int64_t E, std::int64_t e,
                  std::int64_t row, std::int64_t col) {
  const TensorView &A = file.tensor(module + "lora_A.weight"), &B = file.tensor(module + "lora_B.weight");
  const std::int64_t r = A.shape[0] / E;
  double sum = 0;
  for (std::int64_t j = 0; j < r; ++j)
    sum += double{load_as_float(B.data, as_dtype(B.type), row * B.shape[1] + j * E + e)} *
           double{load_as_float(A.data, as_dtype(A.type), (e * r + j) * A.shape[1] + col)};
  return sum;
}

TEST(PeftAdapter, TensorsFromBeforePeft019AreTransposed) {
  for (const GateUpForm form : {GateUpForm::stacked, GateUpForm::interleaved}) {
    TempFolder folder;
    MoeGeometry g = kSmall;
    g.form = form;
    const std::string experts = "base_model.model.model.layers.0.mlp.experts.";
    TensorSet()
        .add(experts + "base_layer.lora_A.weight", {6, 12})  // (A.in, B.out) = (2I, H)
        .add(experts + "base_layer.lora_B.weight", {10, 6})
        .add(experts + "lora_A.weight", {6, 10})  // (H, I)
        .add(experts + "lora_B.weight", {6, 6})
        .write(folder / "adapter_model.safetensors");
    write_config(folder.path(), R"("r": 2, "lora_alpha": 4)");
    const PeftAdapter adapter = load_peft_adapter(folder.path(), g);
    const SafetensorsFile file = SafetensorsFile::open(folder / "adapter_model.safetensors");
    for (const PeftReading& reading : adapter.readings())
      EXPECT_TRUE(reading.transposed && !reading.by_version);
    const AdapterLayer& layer = *adapter.layer(0);
    for (std::int64_t e = 0; e < 3; ++e)
      for (std::int64_t o = 0; o < 6; ++o)
        for (std::int64_t i = 0; i < 10; ++i) {
          for (std::int64_t h = 0; h < 2; ++h) {
            const std::int64_t row = form == GateUpForm::stacked ? h * 6 + o : 2 * o + h;
            ASSERT_EQ(delta(layer.gate_up[static_cast<std::size_t>(h)], e, o, i),
                      file_delta(file, experts + "base_layer.", 3, e, i, row));
          }
          ASSERT_EQ(delta(layer.down, e, i, o), file_delta(file, experts, 3, e, o, i));
        }
  }
}

TEST(PeftAdapter, WhereTwoReadingsFitThePeftVersionDecides) {
  MoeGeometry g = kSmall;
  g.hidden = 12;  // H = 2I: gate_up reads both ways
  const auto transposed = [&](const std::string& version, GateUpForm form) {
    TempFolder folder;
    TensorSet()
        .add("base_model.model.model.layers.0.mlp.experts.lora_A.weight", {6, 12})
        .add("base_model.model.model.layers.0.mlp.experts.lora_B.weight", {12, 6})
        .write(folder / "adapter_model.safetensors");
    write_config(folder.path(), R"("r": 2, "lora_alpha": 4, "peft_version": ")" + version + "\"");
    g.form = form;
    const PeftAdapter adapter = load_peft_adapter(folder.path(), g);
    EXPECT_EQ(adapter.readings().size(), 1U);
    EXPECT_EQ(adapter.readings()[0].projection, Projection::gate_up);
    EXPECT_TRUE(adapter.readings()[0].by_version);
    return adapter.readings()[0].transposed;
  };
  EXPECT_TRUE(transposed("0.17.1", GateUpForm::stacked));
  EXPECT_TRUE(transposed("0.18.0", GateUpForm::stacked));
  EXPECT_FALSE(transposed("0.19.0", GateUpForm::stacked));
  EXPECT_FALSE(transposed("0.21.0", GateUpForm::stacked));
  EXPECT_FALSE(transposed("1.0.0", GateUpForm::stacked));
  EXPECT_FALSE(transposed("0.18.0", GateUpForm::interleaved));  // gpt_oss stores [E, in, out]
}

TEST(PeftAdapter, OtherModulesAreRefusedByNameOrListed) {
  TempFolder folder;
  OwnedAdapter owned;
  owned.adapter.layers[0] = owned.layer(kSmall, 2, 2, true);
  write_peft_adapter(folder.path(), owned.adapter, kSmall, PeftKeyLayout::fused);
  const SafetensorsFile file = SafetensorsFile::open(folder / "adapter_model.safetensors");
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, view] : file.tensors()) tensors.push_back({name, view.type, view.shape, view.data});
  const std::vector<float> zeros(20);
  const std::string attention = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  tensors.push_back({attention, TensorType::f32, {2, 10}, zeros.data()});
  write_safetensors(folder / "adapter_model.safetensors", tensors);
  EXPECT_THROW(load_peft_adapter(folder.path(), kSmall), InvalidArgument);
  PeftLoadOptions options;
  options.allow_other_modules = true;
  const PeftAdapter adapter = load_peft_adapter(folder.path(), kSmall, options);
  EXPECT_EQ(adapter.refused(), std::vector<std::string>{attention});
  EXPECT_EQ(adapter.consumed().size(), 4U);
  EXPECT_FALSE(contract::p16_strict_load(adapter.tensors_in_file(), adapter.consumed(), adapter.refused()));
}

TEST(PeftAdapter, MixtralNamesAndTensorsAtOddOffsetsAreRead) {
  TempFolder folder;
  const MoeGeometry g{2, 4, 3, true, GateUpForm::stacked, false};
  std::string header = "{", data;
  const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    header += (header.size() > 1 ? ",\"" : "\"") + name + "\":{\"dtype\":\"F32\",\"shape\":[" +
              std::to_string(rows) + "," + std::to_string(cols) + "],\"data_offsets\":[" +
              std::to_string(data.size()) + ",";
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const float value = static_cast<float>(data.size());
      data.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    header += std::to_string(data.size()) + "]}";
  };
  const std::string layer = "base_model.model.model.layers.4.block_sparse_moe.experts.";
  for (const std::string expert : {"1.", "0."}) {
    add(layer + expert + "w1.lora_A.weight", 1, 4);
    add(layer + expert + "w1.lora_B.weight", 3, 1);
    add(layer + expert + "w2.lora_A.weight", 1, 3);
    add(layer + expert + "w2.lora_B.weight", 4, 1);
    add(layer + expert + "w3.lora_A.weight", 1, 4);
    add(layer + expert + "w3.lora_B.weight", 3, 1);
  }
  header += "}";
  while (header.size() % 4 != 3) header += ' ';
  write_bytes(folder / "adapter_model.safetensors", safetensors_bytes(header, 0) + data);
  write_config(folder.path(), R"("r": 1, "lora_alpha": 1)");
  const PeftAdapter adapter = load_peft_adapter(folder.path(), g);
  const AdapterLayer& weights = *adapter.layer(4);
  EXPECT_EQ(weights.gate_up[0].A.at(1, 0, 0), 0.0F);  // w1 of expert 1 stands first in the file
  EXPECT_EQ(weights.gate_up[0].B.at(1, 0, 0), 16.0F);
  EXPECT_EQ(weights.down.A.at(1, 0, 0), 28.0F);
  EXPECT_EQ(weights.gate_up[1].A.at(1, 0, 0), 56.0F);
  EXPECT_EQ(weights.gate_up[0].A.at(0, 0, 1), 88.0F);
}

TEST(PeftAdapter, MutatedFoldersLoadOrAreRefusedAndNothingElse) {
  TempFolder folder;
  OwnedAdapter owned;
  owned.adapter.layers[0] = owned.layer(kSmall, 2, 3, true);
  owned.adapter.layers[1] = owned.layer(kSmall, 3, 2, true);
  int refused = 0, loaded = 0;
  for (const PeftKeyLayout layout :
       {PeftKeyLayout::per_expert, PeftKeyLayout::fused, PeftKeyLayout::stacked}) {
    write_peft_adapter(folder.path(), owned.adapter, kSmall, layout);
    const std::string names[] = {"adapter_config.json", "adapter_model.safetensors"};
    const std::string good[] = {read_bytes(folder / names[0]), read_bytes(folder / names[1])};
    for (unsigned seed = 0; seed < 700; ++seed) {
      std::mt19937 random(seed);
      const std::size_t which = random() % 2;
      std::string bytes = good[which];
      const std::size_t end = which == 0 ? bytes.size() : bytes.find("}}") + 2;
      const std::string alphabet = "0123456789\"{}[],:.-+*?()\\abABnul_";
      for (std::size_t edits = 1 + random() % 2; edits > 0; --edits) {
        const std::size_t at = random() % end;
        if (random() % 2 == 0)
          bytes[at] = alphabet[random() % alphabet.size()];
        else
          bytes[at] = bytes[random() % end];
      }
      write_bytes(folder / names[which], bytes);
      try {
        const PeftAdapter adapter = load_peft_adapter(folder.path(), kSmall);
        for (const auto& [id, layer] : adapter.adapter().layers)
          for (const LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down})
            for (std::int64_t e = 0; pair->present() && e < kSmall.num_experts; ++e)
              delta(*pair, e, pair->B.rows - 1, pair->A.cols - 1);
        ++loaded;
      } catch (const InvalidArgument& error) {
        ASSERT_NE(std::string(error.what()).find("adapter_"), std::string::npos) << error.what();
        ++refused;
      }
      write_bytes(folder / names[which], good[which]);
    }
  }
  EXPECT_GT(refused, 500);
  EXPECT_GT(loaded, 20);  // another alpha, another peft_version
}

// ---- PEFT: round trips ----

TEST(PeftWriter, WhatIsWrittenReadsBackInEveryKeyLayoutFormAndDtype) {
  int cases = 0;
  for (const PeftKeyLayout layout : {PeftKeyLayout::per_expert, PeftKeyLayout::fused, PeftKeyLayout::stacked})
    for (const bool gated : {true, false})
      for (const bool shared_outer : {false, true})
        for (const GateUpForm form : {GateUpForm::stacked, GateUpForm::interleaved})
          for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
            if (!gated && form == GateUpForm::interleaved) continue;
            const MoeGeometry g{3, 10, 6, gated, form, shared_outer};
            OwnedAdapter owned;
            owned.adapter.layers[0] = owned.layer(g, 2, 3, layout == PeftKeyLayout::fused, dtype);
            owned.adapter.layers[5] = owned.layer(g, 4, 1, layout == PeftKeyLayout::fused, dtype);
            owned.adapter.layers[6] = owned.layer(g, 0, 2, false, dtype);
            owned.adapter.layers[7] = owned.layer(g, 3, 0, layout == PeftKeyLayout::fused, dtype);
            PeftWriteOptions options;
            options.dtype = dtype;
            options.use_rslora = gated;
            TempFolder folder;
            write_peft_adapter(folder / "x", owned.adapter, g, layout, options);
            const std::string what = std::string(to_string(layout)) + (gated ? " gated" : "") +
                                     (shared_outer ? " shared outer " : " ") + std::string(to_string(form)) +
                                     " " + std::string(to_string(dtype));
            SCOPED_TRACE(what);
            const PeftAdapter read = load_peft_adapter(folder / "x", g);
            EXPECT_EQ(peft_adapter_is_shared_outer(folder / "x"), shared_outer);
            ASSERT_EQ(read.adapter().layers.size(), 4U);
            for (const auto& [id, want] : owned.adapter.layers)
              expect_equal(*read.layer(id), want, what + " layer " + std::to_string(id));
            EXPECT_EQ(read.max_rank(), 4);
            EXPECT_EQ(read.consumed(), read.tensors_in_file());
            const std::string bytes = read_bytes(folder / "x/adapter_model.safetensors");
            write_peft_adapter(folder / "y", read.adapter(), g, layout, options);
            EXPECT_EQ(read_bytes(folder / "y/adapter_model.safetensors"), bytes);
            EXPECT_EQ(read_bytes(folder / "y/adapter_config.json"),
                      read_bytes(folder / "x/adapter_config.json"));
            EXPECT_EQ(folder.files(), 6U);
            ++cases;
          }
  EXPECT_EQ(cases, 3 * 3 * 2 * 3);
}

TEST(PeftWriter, GoldenAdaptersSurviveAChangeOfKeyLayout) {
  for (const std::filesystem::path& path : list_golden_fixtures(kGolden)) {
    const GoldenFixture fixture = load_golden_fixture(path);
    for (const PeftAdapter& adapter : fixture.adapters) {
      TempFolder folder;
      PeftWriteOptions options;
      options.use_rslora = adapter.config().use_rslora;
      write_peft_adapter(folder.path(), adapter.adapter(), fixture.geometry, PeftKeyLayout::per_expert,
                         options);
      const PeftAdapter read = load_peft_adapter(folder.path(), fixture.geometry);
      for (const auto& [id, want] : adapter.adapter().layers)
        expect_equal(*read.layer(id), want, fixture.name);
    }
  }
}

}  // namespace
}  // namespace eplora
