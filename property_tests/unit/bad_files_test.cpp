// SPDX-License-Identifier: Apache-2.0
// Bad files: safetensors that lie, model configurations that contradict themselves, adapters for another
// model, fixtures with a tensor too many. The other half of bad_input_test.cpp's table.
#include "cli/formats/golden_fixture.h"
#include "cli/formats/model_config.h"
#include "cli/formats/peft_writer.h"
#include "property_tests/unit/bad_input.h"

namespace eplora {
namespace {

using namespace bad_input;
using testing_files::read_bytes;
using testing_files::safetensors_bytes;
using testing_files::write_bytes;
using Rows = std::vector<Row>;

class BadFile : public testing::TestWithParam<Row> {};
TEST_P(BadFile, IsRefusedWithASentenceAndNothingIsWritten) { expect_refused(GetParam()); }

// ---- safetensors: reading ----

Row bytes_row(const std::string& name, const std::string& bytes, std::vector<std::string> says) {
  says.push_back("x.safetensors");
  return {name,
          [bytes](Scene& s) {
            write_bytes(s.in / "x.safetensors", bytes);
            SafetensorsFile::open(s.in / "x.safetensors");
          },
          std::move(says)};
}

Row header_row(const std::string& name, const std::string& header, std::size_t data,
               std::vector<std::string> says) {
  return bytes_row(name, safetensors_bytes(header, data), std::move(says));
}

/// One tensor 'w' with the given fields.
Row tensor_row(const std::string& name, const std::string& fields, std::size_t data,
               std::vector<std::string> says) {
  says.push_back("tensor 'w'");
  return header_row(name, "{\"w\":{" + fields + "}}", data, std::move(says));
}

std::string with_prefix(std::uint64_t length, const std::string& rest) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xFF);
  return bytes + rest;
}

const char* const kTwo = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";

Rows safetensors_rows() {
  const std::string two = kTwo;
  const std::string entry = "{" + two + "}";
  return {
      {"FileMissing",
       [](Scene& s) { SafetensorsFile::open(s.in / "none"); },
       {"none", "missing", "readable"}},
      {"FileIsAFolder",
       [](Scene& s) { SafetensorsFile::open(s.in.path()); },
       {"missing or unreadable", "safetensors"}},
      bytes_row("FileEmpty", "", {"file size", "0", "8 bytes"}),
      bytes_row("FileShorterThanThePrefix", "abc", {"file size", "3", "8 bytes"}),
      bytes_row("HeaderPastTheFile", with_prefix(100, "{}"), {"header length", "100", "2 bytes"}),
      bytes_row("HeaderOver100Megabytes", with_prefix(100'000'001, "{}"),
                {"header length", "100000001", "100000000"}),
      bytes_row("HeaderLengthOfAllBits", with_prefix(~std::uint64_t{0}, "{}"),
                {"header length", "18446744073709551615"}),
      bytes_row("HeaderEmpty", with_prefix(0, ""), {"header", "'{'"}),
      header_row("HeaderTruncated", R"({"w":{"dtype":"F32","sha)", 8, {"header", "broken at byte", "JSON"}),
      header_row("HeaderWithATail", "{} {}", 0, {"header", "broken at byte", "JSON"}),
      header_row("HeaderIsAnArray", "[]", 0, {"header", "'{'"}),
      header_row("HeaderStartsWithASpace", " {}", 0, {"header", "'{'"}),
      header_row("HeaderNotUtf8", "{\"\xff\":{" + two + "}}", 8, {"header", "broken at byte"}),
      header_row("HeaderNestedTooDeep", "{\"w\":" + std::string(1000, '[') + std::string(1000, ']') + "}", 0,
                 {"nesting depth", "32"}),
      header_row("NameTwice", "{\"w\":" + entry + ",\"w\":" + entry + "}", 8, {"key 'w'", "twice", "once"}),
      header_row("NameTwiceByEscape", "{\"w\":" + entry + ",\"\\u0077\":" + entry + "}", 8,
                 {"key 'w'", "twice"}),
      header_row("EntryFieldTwice", "{\"w\":{" + two + ",\"shape\":[2]}}", 8, {"key 'shape'", "twice"}),
      header_row("EntryIsANumber", R"({"w":3})", 0, {"tensor 'w'", "number", "dtype, shape, data_offsets"}),
      tensor_row("EntryUnknownField", two + R"(,"stride":[1])", 8,
                 {"field 'stride'", "unknown", "dtype, shape"}),
      tensor_row("DtypeMissing", R"("shape":[2],"data_offsets":[0,8])", 8, {"dtype", "missing"}),
      tensor_row("ShapeMissing", R"("dtype":"F32","data_offsets":[0,8])", 8, {"shape", "missing"}),
      tensor_row("OffsetsMissing", R"("dtype":"F32","shape":[2])", 8, {"data_offsets", "missing"}),
      tensor_row("DtypeNotRead", R"("dtype":"F64","shape":[1],"data_offsets":[0,8])", 8,
                 {"dtype", "'F64'", "F32, F16, BF16"}),
      tensor_row("DtypeIsANumber", R"("dtype":32,"shape":[2],"data_offsets":[0,8])", 8,
                 {"dtype", "number", "F32"}),
      tensor_row("DtypeInSmallLetters", R"("dtype":"f32","shape":[2],"data_offsets":[0,8])", 8,
                 {"dtype", "'f32'", "F32"}),
      tensor_row("ShapeNegative", R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])", 8,
                 {"shape", "-2", "[0, 2^63-1]"}),
      tensor_row("ShapeFraction", R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])", 8,
                 {"shape", "2.0", "whole numbers"}),
      tensor_row("ShapePastInt64", R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])", 8,
                 {"shape", "18446744073709551615", "2^63-1"}),
      tensor_row("ShapePastUint64", R"("dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8])", 8,
                 {"shape"}),
      tensor_row("ShapeProductWraps64Bits",
                 R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])", 0,
                 {"[4294967296, 4294967296]", "F32", "4611686018427387904"}),
      tensor_row("ShapeIsAnObject", R"("dtype":"F32","shape":{},"data_offsets":[0,8])", 8,
                 {"shape", "object", "array"}),
      tensor_row("OffsetsReversed", R"("dtype":"F32","shape":[2],"data_offsets":[8,0])", 8,
                 {"data_offsets", "[8, 0]", "begin <= end <= 8"}),
      tensor_row("OffsetsPastTheFile", R"("dtype":"F32","shape":[4],"data_offsets":[0,16])", 8,
                 {"data_offsets", "[0, 16]", "begin <= end <= 8"}),
      tensor_row("OffsetsHuge",
                 R"("dtype":"F32","shape":[2],"data_offsets":[9223372036854775800,9223372036854775807])", 8,
                 {"data_offsets", "9223372036854775807", "<= 8"}),
      tensor_row("OffsetsNegative", R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])", 8,
                 {"data_offsets", "-8", "[0, 2^63-1]"}),
      tensor_row("OffsetsOfThree", R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])", 8,
                 {"data_offsets", "[0, 8, 8]", "[begin, end]"}),
      tensor_row("OffsetsShorterThanTheShape", R"("dtype":"F32","shape":[3],"data_offsets":[0,8])", 8,
                 {"data_offsets", "[0, 8]", "shape [3] of F32", "12"}),
      tensor_row("OffsetsLongerThanTheDtype", R"("dtype":"F16","shape":[2],"data_offsets":[0,8])", 8,
                 {"data_offsets", "[0, 8]", "shape [2] of F16", "4"}),
      header_row(
          "TensorsOverlap",
          R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
          8, {"tensor 'b'", "begin", "4", "overlaps", "6"}),
      header_row("TensorsAtOnePlace", "{\"a\":" + entry + ",\"b\":" + entry + "}", 8,
                 {"data_offsets begin", "0", "overlaps", "8"}),
      header_row(
          "HoleBetweenTensors",
          R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
          8, {"tensor 'b'", "4", "hole", "2"}),
      tensor_row("HoleAtTheStart", R"("dtype":"U8","shape":[4],"data_offsets":[4,8])", 8, {"4", "hole", "0"}),
      header_row("BytesBehindTheLastTensor", "{\"w\":" + entry + "}", 12,
                 {"bytes of data", "12", "8", "last tensor"}),
      header_row("BytesWithoutTensors", "{}", 4, {"bytes of data", "4", "0"}),
      header_row("MetadataIsAList", R"({"__metadata__":[]})", 0, {"__metadata__", "array", "object"}),
      header_row("MetadataHoldsANumber", R"({"__metadata__":{"v":1}})", 0,
                 {"__metadata__", "'v'", "number", "string"}),
      {"TensorOfAnotherName",
       [](Scene& s) {
         TensorSet().add("a", {2}).write(s.in / "x.safetensors");
         SafetensorsFile::open(s.in / "x.safetensors").tensor("b");
       },
       {"x.safetensors", "tensor 'b'", "missing"}},
      {"NameWithControlCharactersIsShownEscaped",
       [](Scene& s) {
         write_bytes(s.in / "x", safetensors_bytes(R"({"a\u0000\u001b[31m":1})", 0));
         SafetensorsFile::open(s.in / "x");
       },
       {"'a\\x00\\x1b[31m'"}},
  };
}

// ---- safetensors: writing ----

Row write_row(const std::string& name, std::vector<TensorToWrite> tensors, std::vector<std::string> says) {
  return {name, [tensors](Scene& s) { write_safetensors(s.out / "w.safetensors", tensors); },
          std::move(says)};
}

const float kOne[4] = {1, 1, 1, 1};

Rows writer_rows() {
  return {
      write_row("WriteANameTwice", {{"a", TensorType::f32, {2}, kOne}, {"a", TensorType::f32, {2}, kOne}},
                {"tensor name", "'a'", "once"}),
      write_row("WriteTheReservedName", {{"__metadata__", TensorType::f32, {2}, kOne}},
                {"tensor name", "__metadata__"}),
      write_row("WriteANegativeSize", {{"a", TensorType::f32, {2, -1}, kOne}},
                {"tensor 'a' shape", "[2, -1]", ">= 0"}),
      write_row("WriteFromNull", {{"a", TensorType::f32, {2}, nullptr}}, {"tensor 'a' data", "null", "8"}),
      write_row("WriteAWrappingProduct", {{"a", TensorType::i64, {INT64_MAX, 16}, kOne}},
                {"tensor 'a' shape", "2^62"}),
      write_row("WriteANameThatIsNotUtf8", {{"\xff", TensorType::f32, {2}, kOne}}, {"names", "UTF-8"}),
      write_row("WriteAnUnknownType", {{"a", static_cast<TensorType>(77), {2}, kOne}},
                {"tensor type", "77", "F32"}),
      {"WriteIntoAMissingFolder",
       [](Scene& s) { TensorSet().add("a", {2}).write(s.out / "no/such/a.safetensors"); },
       {"a.safetensors", "not writable", "folder"}},
      {"WriteOverAFolder",
       [](Scene& s) { TensorSet().add("a", {2}).write(s.in.path()); },
       {"a folder", "file to write"}},
      {"AFailedWriteLeavesTheOldFile",
       [](Scene& s) {
         TensorSet().add("a", {2}).write(s.in / "w");
         const std::string before = read_bytes(s.in / "w");
         try {
           write_safetensors(s.in / "w", std::vector<TensorToWrite>{{"b", TensorType::f32, {-1}, kOne}});
         } catch (const InvalidArgument&) {
           EXPECT_EQ(read_bytes(s.in / "w"), before);
           EXPECT_EQ(s.in.files(), 1U);
           throw;
         }
       },
       {"tensor 'b' shape", "[-1]"}},
  };
}

// ---- config.json ----

Row config_row(const std::string& name, const std::string& json, std::vector<std::string> says) {
  says.push_back("config.json");
  return {name,
          [json](Scene& s) {
            write_bytes(s.in / "config.json", json);
            read_model_config(s.in / "config.json");
          },
          std::move(says)};
}

/// A good config but for `fields`, which come last.
Row fields_row(const std::string& name, const std::string& fields, std::vector<std::string> says) {
  return config_row(
      name, R"({"model_type": "qwen3_moe", "hidden_size": 64, "num_experts_per_tok": 2, )" + fields + "}",
      std::move(says));
}

Rows config_rows() {
  const std::string good = R"("num_experts": 8, "moe_intermediate_size": 48, "num_hidden_layers": 4, )";
  return {
      {"ConfigMissing",
       [](Scene& s) { read_model_config(s.in / "config.json"); },
       {"config.json", "missing"}},
      config_row("ConfigIsAList", "[1]", {"array", "object"}),
      config_row("ConfigEmpty", "", {"broken at byte", "JSON"}),
      fields_row("ConfigKeyTwice", R"("num_experts": 8, "num_experts": 16)", {"key 'num_experts'", "twice"}),
      fields_row("ConfigWithoutExperts", R"("moe_intermediate_size": 48)",
                 {"number of experts", "missing", "num_experts, n_routed_experts, num_local_experts"}),
      fields_row("ConfigExpertsNull", R"("num_experts": null, "moe_intermediate_size": 48)",
                 {"number of experts", "missing"}),
      fields_row("ConfigTwoExpertCountsDisagree",
                 R"("num_experts": 8, "num_local_experts": 16, "moe_intermediate_size": 48)",
                 {"num_local_experts", "16", "num_experts=8"}),
      config_row(
          "ConfigNestedExpertCountDisagrees",
          R"({"num_experts": 8, "text_config": {"hidden_size": 4, "num_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 2}})",
          {"num_experts", "8", "num_experts=4"}),
      fields_row("ConfigExpertsAsText", R"("num_experts": "8", "moe_intermediate_size": 48)",
                 {"num_experts", "\"8\"", "whole number"}),
      fields_row("ConfigExpertsZero", R"("num_experts": 0, "moe_intermediate_size": 48)",
                 {"num_experts", "0", "[1, 2147483647]"}),
      fields_row("ConfigExpertsAsAList", R"("num_experts": [8, 8], "moe_intermediate_size": 48)",
                 {"num_experts", "[8,8]", "whole number"}),
      fields_row("ConfigExpertsPastInt64",
                 R"("num_experts": 18446744073709551615, "moe_intermediate_size": 48)",
                 {"num_experts", "whole number"}),
      fields_row("ConfigTopKAboveE", R"("num_experts": 1, "moe_intermediate_size": 48)",
                 {"num_experts_per_tok", "2", "[1, 1]"}),
      config_row("ConfigWithoutTopK", R"({"num_experts": 8, "hidden_size": 4, "moe_intermediate_size": 2})",
                 {"num_experts_per_tok", "missing"}),
      config_row("ConfigWithoutHidden",
                 R"({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 2})",
                 {"hidden_size", "missing"}),
      fields_row("ConfigHiddenFraction",
                 R"("num_experts": 8, "moe_latent_size": 4.5, "moe_intermediate_size": 2)",
                 {"moe_latent_size", "4.5", "whole number"}),
      fields_row("ConfigDenseIntermediateForAnotherModel", R"("num_experts": 8, "intermediate_size": 6144)",
                 {"moe_intermediate_size", "missing", "mixtral and gpt_oss", "'qwen3_moe'"}),
      config_row(
          "ConfigMixtralWithoutIntermediate",
          R"({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "hidden_size": 4})",
          {"intermediate_size", "missing", "mixtral"}),
      fields_row("ConfigMlpOnlyLayerPastTheModel", good + R"("mlp_only_layers": [4])",
                 {"mlp_only_layers", "4", "[0, 3]"}),
      fields_row("ConfigDenseLayersPastTheModel", good + R"("first_k_dense_replace": 5)",
                 {"first_k_dense_replace", "5", "[0, 4]"}),
      fields_row("ConfigSparseStepZero", good + R"("decoder_sparse_step": 0)",
                 {"decoder_sparse_step", "0", "[1,"}),
      fields_row("ConfigFlagsForOtherLayers", good + R"("moe_layer_freq": [0, 1])",
                 {"moe_layer_freq length", "2", "num_hidden_layers=4"}),
      fields_row("ConfigLayerTypesForOtherLayers", good + R"("mlp_layer_types": ["sparse"])",
                 {"mlp_layer_types length", "1", "4"}),
      fields_row("ConfigLayerTypeUnknown", good + R"("mlp_layer_types": ["sparse", "moe", "dense", "dense"])",
                 {"mlp_layer_types", "\"moe\"", "dense"}),
      fields_row("ConfigMoeLayerTwice", good + R"("moe_layers": [1, 1])", {"moe_layers", "repeated"}),
      fields_row("ConfigModelTypeIsANumber", good + R"("text_config": {"model_type": 3})",
                 {"text_config", "model_type", "number", "string"}),
      fields_row("ConfigOwnLayerCountDisagrees", good + R"("eplora": {"name": "x", "moe_layers": 3})",
                 {"eplora", "moe_layers", "3", "4"}),
      fields_row("ConfigOwnKeyUnknown", good + R"("eplora": {"layers": 3})",
                 {"eplora key 'layers'", "unknown", "name and moe_layers"}),
  };
}

// ---- PEFT: a good adapter with one thing wrong ----

const MoeGeometry kModel{4, 10, 6, true, GateUpForm::stacked, false};  // E, H, I
const std::string kExperts = "base_model.model.model.layers.0.mlp.experts.";

/// A written adapter whose files a row may change before loading it.
struct AdapterFiles {
  std::filesystem::path folder;
  MoeGeometry geometry = kModel;
  PeftLoadOptions options;

  AdapterFiles(Scene& scene, PeftKeyLayout layout, const MoeGeometry& written = kModel)
      : folder(scene.in / "adapter") {
    geometry = written;
    OwnedAdapter owned;
    owned.adapter.layers[0] = owned.layer(written, 2, 3, true);
    write_peft_adapter(folder, owned.adapter, written, layout);
  }

  void replace_in_config(const std::string& from, const std::string& to) const {
    std::string text = read_bytes(folder / "adapter_config.json");
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    write_bytes(folder / "adapter_config.json", text.replace(at, from.size(), to));
  }
  void add_to_config(const std::string& fields) const { replace_in_config("{", "{" + fields + ","); }

  /// Rewrites the weights after `change` had its way with the list.
  template <class Change>
  void tensors(Change change) const {
    const SafetensorsFile file = SafetensorsFile::open(folder / "adapter_model.safetensors");
    std::vector<TensorToWrite> list;
    for (const auto& [name, view] : file.tensors()) list.push_back({name, view.type, view.shape, view.data});
    change(list);
    write_safetensors(folder / "adapter_model.safetensors", list);
  }
  void remove(const std::string& part) const {
    tensors([&](auto& list) {
      ASSERT_GT(
          std::erase_if(list, [&](const TensorToWrite& t) { return t.name.find(part) != std::string::npos; }),
          0U);
    });
  }
  void rename(const std::string& from, const std::string& to) const {
    tensors([&](auto& list) {
      for (TensorToWrite& t : list)
        if (const std::size_t at = t.name.find(from); at != std::string::npos)
          t.name.replace(at, from.size(), to);
    });
  }
  void add(const std::string& name, std::vector<std::int64_t> shape) const {
    static const std::vector<float> kZeros(10'000);
    tensors([&](auto& list) { list.push_back({name, TensorType::f32, shape, kZeros.data()}); });
  }
  void reshape(const std::string& name, std::vector<std::int64_t> shape) const {
    remove(name);
    add(name, std::move(shape));
  }
};

template <class Change>
Row peft_row(const std::string& name, PeftKeyLayout layout, Change change, std::vector<std::string> says) {
  return {name,
          [layout, change](Scene& s) {
            AdapterFiles files(s, layout);
            load_peft_adapter(files.folder, files.geometry, files.options);  // good as written
            change(files);
            load_peft_adapter(files.folder, files.geometry, files.options);
          },
          std::move(says)};
}

constexpr PeftKeyLayout kFused = PeftKeyLayout::fused, kEach = PeftKeyLayout::per_expert,
                        kStacked = PeftKeyLayout::stacked;

Row setting_row(const std::string& name, const std::string& fields, std::vector<std::string> says) {
  says.push_back("adapter_config.json");
  return peft_row(
      name, kFused, [fields](auto& f) { f.add_to_config(fields); }, std::move(says));
}

Row replaced_row(const std::string& name, const std::string& from, const std::string& to,
                 std::vector<std::string> says) {
  says.push_back("adapter_config.json");
  return peft_row(
      name, kFused, [from, to](auto& f) { f.replace_in_config(from, to); }, std::move(says));
}

Row pattern_row(const std::string& name, const std::string& key, std::vector<std::string> says) {
  return replaced_row(name, R"("alpha_pattern": {)", R"("alpha_pattern": {")" + key + R"(": 4, )",
                      std::move(says));
}

Rows peft_config_rows() {
  return {
      peft_row("PeftConfigMissing", kFused,
               [](auto& f) { std::filesystem::remove(f.folder / "adapter_config.json"); },
               {"adapter_config.json", "missing"}),
      replaced_row("PeftTypeOther", "\"LORA\"", "\"IA3\"", {"peft_type", "\"IA3\"", "\"LORA\""}),
      replaced_row("PeftTypeMissing", "\"peft_type\"", "\"task_type\"", {"peft_type", "missing"}),
      replaced_row("PeftBias", "\"none\"", "\"lora_only\"", {"bias", "\"lora_only\"", "\"none\""}),
      replaced_row("PeftRankZero", "\"r\": 2", "\"r\": 0", {"r is 0", "[1, 2147483647]"}),
      replaced_row("PeftRankMissing", "\"r\": 2", "\"revision\": null", {"r is missing"}),
      replaced_row("PeftRankAsText", "\"r\": 2", "\"r\": \"2\"", {"r is \"2\"", "whole number"}),
      replaced_row("PeftRankFraction", "\"r\": 2", "\"r\": 2.5", {"r is 2.5", "whole number"}),
      replaced_row("PeftRankKeyTwice", "\"r\": 2", "\"r\": 2, \"r\": 4", {"key 'r'", "twice"}),
      replaced_row("PeftAlphaAsText", "\"lora_alpha\": 1.5", "\"lora_alpha\": \"8\"",
                   {"lora_alpha", "\"8\"", "number"}),
      replaced_row("PeftRsloraAsText", "\"use_rslora\": false", "\"use_rslora\": \"yes\"",
                   {"use_rslora", "\"yes\"", "true or false"}),
      setting_row("PeftDora", "\"use_dora\": true", {"use_dora", "true", "not supported"}),
      setting_row("PeftLoraBias", "\"lora_bias\": true", {"lora_bias", "true", "not supported"}),
      setting_row("PeftModulesToSave", "\"modules_to_save\": [\"lm_head\"]",
                  {"modules_to_save", "lm_head", "not supported"}),
      setting_row("PeftLayerReplication", "\"layer_replication\": [[0, 2]]",
                  {"layer_replication", "[[0,2]]"}),
      setting_row("PeftFanInFanOut", "\"fan_in_fan_out\": true", {"fan_in_fan_out", "true"}),
      setting_row("PeftAlora", "\"alora_invocation_tokens\": [5]", {"alora_invocation_tokens", "[5]"}),
      setting_row("PeftPissa", "\"init_lora_weights\": \"pissa_niter_4\"",
                  {"init_lora_weights", "pissa_niter_4", "base weights"}),
      setting_row("PeftSettingUnknown", "\"use_new_thing\": {\"x\": 1}", {"use_new_thing", "not supported"}),
      replaced_row("PeftPatternIsAList", "\"rank_pattern\": {", "\"rank_pattern\": [], \"eva_config\": {",
                   {"rank_pattern", "[]", "{pattern: number}"}),
      replaced_row("PeftPatternRankZero", "\"rank_pattern\": {", "\"rank_pattern\": {\"down_proj\": 0, ",
                   {"rank_pattern 'down_proj'", "0", "[1,"}),
      pattern_row("PeftPatternMalformed", "(down_proj",
                  {"alpha_pattern key", "'(down_proj'", "regular expression"}),
      pattern_row("PeftPatternInlineFlag", "(?i)down_proj", {"alpha_pattern key", "'(?i'", "not supported"}),
      pattern_row("PeftPatternLookBehind", "(?<=x)down_proj", {"'(?<'", "not supported"}),
      pattern_row("PeftPatternNamedGroup", "(?P<a>down)_proj", {"'(?P'", "not supported"}),
      pattern_row("PeftPatternBackReference", "(d)own\\\\1", {"'\\1'", "not supported"}),
      pattern_row("PeftPatternPythonEscape", "down_proj\\\\Z", {"'\\Z'", "not supported"}),
      pattern_row("PeftPatternPossessive", ".*+down_proj", {"'*+'", "not supported"}),
      pattern_row("PeftPatternClassOfClasses", "[[:alpha:]]+", {"'[:'", "not supported"}),
      replaced_row("PeftVersionIsANumber", "\"0.21.0\"", "0.21", {"peft_version", "0.21", "string"}),
      replaced_row("PeftTargetsAreText", "\"target_parameters\": [",
                   "\"target_parameters\": \"x\", \"exclude_modules\": [",
                   {"target_parameters", "\"x\"", "array"}),
      replaced_row("PeftTargetWithoutTensors", "\"target_parameters\": [",
                   "\"target_parameters\": [\"layers.1.mlp.experts.down_proj\",",
                   {"target_parameters entry", "'layers.1.mlp.experts.down_proj'", "no tensors"}),
      replaced_row("PeftTensorsThatNoTargetNames", "\"experts.gate_up_proj\"", "\"mlp.router.weight\"",
                   {"target_parameters", "without 'model.layers.0.mlp.experts.gate_up_proj'"}),
  };
}

Rows peft_tensor_rows() {
  return {
      peft_row("WeightsMissing", kFused,
               [](auto& f) { std::filesystem::remove(f.folder / "adapter_model.safetensors"); },
               {"adapter_model.safetensors", "missing"}),
      peft_row("WeightsAsPickle", kFused,
               [](auto& f) {
                 std::filesystem::rename(f.folder / "adapter_model.safetensors",
                                         f.folder / "adapter_model.bin");
               },
               {"adapter_model.bin", "pickle", "adapter_model.safetensors"}),
      // another model
      peft_row("FusedForAnotherHidden", kFused, [](auto& f) { f.geometry.hidden = 14; },
               {"(A.in, B.out)", "(6, 10)", "(14, 12) gate_up_proj", "(6, 14) down_proj"}),
      peft_row("FusedForAnotherIntermediate", kFused, [](auto& f) { f.geometry.intermediate = 8; },
               {"(A.in, B.out)", "(6, 10)", "(10, 16) gate_up_proj", "(8, 10) down_proj"}),
      peft_row("FusedForMoreExperts", kFused, [](auto& f) { f.geometry.num_experts = 5; },
               {"shape", "[12, 6]", "[15, 6]", "r=3", "E=5"}),
      peft_row("FusedForFewerExperts", kFused, [](auto& f) { f.geometry.num_experts = 2; },
               {"shape", "[12, 6]", "[6, 6]", "E=2"}),
      peft_row("EachForAnotherHidden", kEach, [](auto& f) { f.geometry.hidden = 14; },
               {"lora_A", "shape", "[2, 10]", "[2, 14]", "H=14"}),
      peft_row("EachForAnotherIntermediate", kEach, [](auto& f) { f.geometry.intermediate = 8; },
               {"lora_B", "shape", "[6, 2]", "[8, 2]", "I=8"}),
      peft_row("EachForMoreExperts", kEach, [](auto& f) { f.geometry.num_experts = 5; },
               {"of expert 4", "missing", "all 5 experts"}),
      peft_row("EachForFewerExperts", kEach, [](auto& f) { f.geometry.num_experts = 3; },
               {"expert", "3", "[0, 3)"}),
      peft_row("StackedForMoreExperts", kStacked, [](auto& f) { f.geometry.num_experts = 5; },
               {"shape", "[4, 2, 10]", "[5, 2, 10]"}),
      peft_row("SharedOuterModelPerExpertAdapter", kFused, [](auto& f) { f.geometry.shared_outer = true; },
               {"lora_B", "shape", "[10, 12]", "[10, 3]", "shared by all experts"}),
      peft_row("SharedOuterModelEachAdapter", kEach, [](auto& f) { f.geometry.shared_outer = true; },
               {"shared-outer", "once"}),
      {"PerExpertModelSharedOuterAdapter",
       [](Scene& s) {
         MoeGeometry g = kModel;
         g.shared_outer = true;
         AdapterFiles files(s, kStacked, g);
         load_peft_adapter(files.folder, g);
         load_peft_adapter(files.folder, kModel);
       },
       {"shape", "[1, 2, 10]", "[4, 2, 10]"}},
      peft_row("NotGatedModelGatedAdapter", kEach, [](auto& f) { f.geometry.gated = false; },
               {"gate_proj", "not gated"}),
      peft_row("LayerPastTheModel", kFused,
               [](auto& f) {
                 f.options.num_layers = 2;
                 f.rename("layers.0.", "layers.2.");
               },
               {"layer", "2", "[0, 2)"}),
      peft_row("RankAboveTheLimit", kFused, [](auto& f) { f.options.max_lora_rank = 2; },
               {"layer 0 down", "rank", "3", "[1, 2]"}),
      // ranks, scales, dtypes
      peft_row("RankNotTheConfigs", kFused, [](auto& f) { f.replace_in_config("\"r\": 2", "\"r\": 4"); },
               {"shape", "[8, 10]", "[16, 10]", "r=4"}),
      peft_row("RankNotThePatterns", kEach, [](auto& f) { f.replace_in_config(": 3", ": 5"); },
               {"shape", "[3, 6]", "[5, 6]"}),
      peft_row("ExpertsOfUnequalRank", kEach,
               [](auto& f) {
                 f.replace_in_config("\"rank_pattern\": {", "\"rank_pattern\": {\"experts.2.up_proj\": 4, ");
                 f.reshape(kExperts + "2.up_proj.lora_A.weight", {4, 10});
                 f.reshape(kExperts + "2.up_proj.lora_B.weight", {6, 4});
               },
               {"experts.2.up_proj", "rank", "4", "one rank", "2"}),
      peft_row("ExpertsOfUnequalScale", kEach,
               [](auto& f) {
                 f.replace_in_config("\"alpha_pattern\": {",
                                     "\"alpha_pattern\": {\"experts.1.down_proj\": 30, ");
               },
               {"experts.1.down_proj", "scale", "10.0", "one scale"}),
      peft_row("GateAndUpOfUnequalScale", kEach,
               [](auto& f) {
                 f.replace_in_config("\"alpha_pattern\": {",
                                     "\"alpha_pattern\": {\"[0-9]+\\\\.gate_proj\": 8, ");
               },
               {"scale of up_proj", "0.75", "one scale for both halves", "4.0"}),
      peft_row("ExpertsOfUnequalDtype", kEach,
               [](auto& f) {
                 f.tensors([](auto& list) {
                   for (TensorToWrite& t : list)
                     if (t.name == kExperts + "3.down_proj.lora_A.weight") t.type = TensorType::bf16;
                 });
               },
               {"3.down_proj.lora_A", "dtype", "BF16", "F32"}),
      peft_row("WholeNumbersAsWeights", kFused,
               [](auto& f) {
                 f.tensors([](auto& list) {
                   for (TensorToWrite& t : list) t.type = TensorType::i32;
                 });
               },
               {"adapter_model.safetensors: tensor", "lora_A.weight", "dtype", "I32", "F32, F16 or BF16"}),
      // pairs, halves, names
      peft_row("FusedAWithoutB", kFused, [](auto& f) { f.remove("base_layer.lora_B"); },
               {"base_layer.lora_A", "counterpart lora_B", "missing"}),
      peft_row("EachBWithoutA", kEach, [](auto& f) { f.remove("2.down_proj.lora_A"); },
               {"2.down_proj.lora_B", "counterpart lora_A", "missing"}),
      peft_row("ExpertMissing", kEach, [](auto& f) { f.remove("experts.2."); },
               {"layer 0", "expert 2", "missing", "all 4 experts"}),
      peft_row("UpMissing", kEach, [](auto& f) { f.remove("up_proj"); },
               {"layer 0 up_proj", "missing", "gate and up"}),
      peft_row("GateMissing", kStacked, [](auto& f) { f.remove("gate_proj"); },
               {"layer 0 gate_proj", "missing"}),
      peft_row("UnknownExpertTensor", kEach,
               [](auto& f) { f.add(kExperts + "0.up_proj.lora_magnitude_vector", {6}); },
               {"0.up_proj.lora_magnitude_vector", "unknown", "lora_{A,B}.weight"}),
      peft_row("UnknownProjection", kEach,
               [](auto& f) {
                 f.add(kExperts + "0.side_proj.lora_A.weight", {2, 10});
               },
               {"side_proj", "unknown"}),
      peft_row("ExpertTensorWithoutALayer", kFused, [](auto& f) { f.rename("layers.0.", "mtp."); },
               {"mtp.mlp.experts", "unknown", "layers.{L}"}),
      peft_row("ExpertNumberWithALeadingZero", kEach, [](auto& f) { f.rename("experts.1.", "experts.01."); },
               {"experts.01.", "unknown"}),
      peft_row("ExpertNumberPastInt32", kEach,
               [](auto& f) { f.rename("experts.1.", "experts.99999999999."); },
               {"experts.99999999999.", "unknown"}),
      peft_row("TensorTwiceUnderTwoPrefixes", kFused,
               [](auto& f) {
                 f.add("model.layers.0.mlp.experts.lora_A.weight", {12, 6});
               },
               {"experts.lora_A.weight", "second tensor of its kind"}),
      peft_row("TwoBlocksInOneLayer", kEach,
               [](auto& f) { f.rename("mlp.experts.3.", "block_sparse_moe.experts.3."); },
               {"layer 0", "block_sparse_moe", "mlp.experts"}),
      peft_row("TwoKeyLayoutsInOneLayer", kFused,
               [](auto& f) {
                 f.add(kExperts + "down_proj.lora_A.weight", {4, 3, 6});
                 f.add(kExperts + "down_proj.lora_B.weight", {4, 10, 3});
               },
               {"layer 0", "two key layouts"}),
      peft_row("FactorStackedAndEach", kEach,
               [](auto& f) {
                 f.add(kExperts + "down_proj.lora_A.weight", {4, 3, 6});
               },
               {"experts.down_proj.lora_A", "beside", "once for each"}),
      peft_row("GateUpFusedAndApart", kStacked,
               [](auto& f) {
                 f.add(kExperts + "gate_up_proj.lora_A.weight", {4, 2, 10});
                 f.add(kExperts + "gate_up_proj.lora_B.weight", {4, 12, 2});
               },
               {"gate_up_proj", "beside gate_proj or up_proj"}),
      peft_row("FusedFactorOfThreeDimensions", kFused,
               [](auto& f) {
                 f.reshape(kExperts + "lora_A.weight", {4, 3, 6});
               },
               {"lora_A", "shape", "[4, 3, 6]", "two dimensions"}),
      peft_row("OneProjectionTwice", kFused,
               [](auto& f) {
                 f.reshape(kExperts + "base_layer.lora_A.weight", {12, 6});
                 f.reshape(kExperts + "base_layer.lora_B.weight", {10, 12});
               },
               {"second down_proj"}),
      peft_row("AttentionTensors", kFused,
               [](auto& f) {
                 f.add("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", {2, 10});
               },
               {"outside the routed experts", "layers.0.self_attn.q_proj.lora_A.weight"}),
      peft_row("SharedExpertTensors", kFused,
               [](auto& f) {
                 f.add("base_model.model.model.layers.0.mlp.shared_experts.up_proj.lora_A.weight", {2, 10});
               },
               {"outside the routed experts", "shared_experts.up_proj"}),
      peft_row("NoExpertTensorsAtAll", kFused,
               [](auto& f) {
                 f.options.allow_other_modules = true;
                 f.remove("experts");
                 f.add("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", {2, 10});
               },
               {"routed experts", "none"}),
  };
}

// ---- PEFT: readings that the shapes leave open ----

Row reading_row(const std::string& name, const MoeGeometry& g, const std::string& config,
                std::vector<std::string> says,
                std::vector<std::pair<std::string, std::vector<std::int64_t>>> tensors) {
  return {name,
          [=](Scene& s) {
            TensorSet set;
            for (const auto& [tensor, shape] : tensors) set.add(kExperts + tensor, shape);
            set.write(s.in / "adapter_model.safetensors");
            write_bytes(s.in / "adapter_config.json",
                        R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2)" + config + "}");
            load_peft_adapter(s.in.path(), g);
          },
          std::move(says)};
}

Rows reading_rows() {
  const MoeGeometry square{3, 12, 6, true, GateUpForm::stacked, false};  // H = 2I
  const MoeGeometry plain{3,    10, 6, false, GateUpForm::stacked,
                          false};  // not gated: gate_up (H, I), down (I, H)
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> gate_up = {{"lora_A.weight", {6, 12}},
                                                                                  {"lora_B.weight", {12, 6}}};
  auto with_down = gate_up;
  with_down[0].first = "base_layer.lora_A.weight";
  with_down[1].first = "base_layer.lora_B.weight";
  with_down.push_back({"lora_A.weight", {6, 6}});
  with_down.push_back({"lora_B.weight", {12, 6}});
  const std::vector<std::string> open = {"(A.in, B.out)", "(12, 12)", "more than one reading",
                                         "peft_version"};
  return {
      reading_row("TwoReadingsWithoutAVersion", square, "", open, gate_up),
      reading_row("TwoReadingsAndAVersionThatIsNone", square, R"(, "peft_version": "main")", open, gate_up),
      reading_row("TwoReadingsAndADevelopmentVersion", square, R"(, "peft_version": "0.18.1.dev0")", open,
                  gate_up),
      reading_row("VersionAgainstTheShapesBesideIt", square, R"(, "peft_version": "0.18.0")",
                  {"peft_version", "'0.18.0'", "gate_up_proj of layer 0 transposed", "down_proj", "opposite"},
                  with_down),
      reading_row("NotGatedWithoutAVersion", plain, "", {"(A.in, B.out)", "(10, 6)", "more than one reading"},
                  {{"lora_A.weight", {6, 10}}, {"lora_B.weight", {6, 6}}}),
      reading_row("ReadingThatTargetParametersDeny", square,
                  R"(, "peft_version": "0.21.0", "target_parameters": ["mlp.experts.down_proj"])",
                  {"target_parameters", "gate_up_proj"}, gate_up),
  };
}

// ---- PEFT: writing; golden fixtures ----

template <class Change>
Row adapter_write_row(const std::string& name, PeftKeyLayout layout, Change change,
                      std::vector<std::string> says) {
  return {name,
          [layout, change](Scene& s) {
            OwnedAdapter owned;
            owned.adapter.layers[0] = owned.layer(kModel, 2, 3, true);
            PeftWriteOptions options;
            change(owned, options);
            write_peft_adapter(s.out / "adapter", owned.adapter, kModel, layout, options);
          },
          std::move(says)};
}

const std::filesystem::path kFixture =
    std::filesystem::path(EPLORA_SOURCE_DIR) / "property_tests/golden/moe-mid-fused-patterns";

template <class Change>
Row fixture_row(const std::string& name, Change change, std::vector<std::string> says) {
  return {name,
          [change](Scene& s) {
            std::filesystem::copy(kFixture, s.in / "f", std::filesystem::copy_options::recursive);
            load_golden_fixture(s.in / "f");
            change(s.in / "f");
            load_golden_fixture(s.in / "f");
          },
          std::move(says)};
}

void rewrite(const std::filesystem::path& path,
             const std::function<void(std::vector<TensorToWrite>&)>& change) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::vector<TensorToWrite> list;
  for (const auto& [name, view] : file.tensors()) list.push_back({name, view.type, view.shape, view.data});
  change(list);
  write_safetensors(path, list);
}

Rows other_file_rows() {
  return {
      adapter_write_row("WriteAFusedAdapterWithTwoAs", kFused,
                        [](auto& o, auto&) { o.adapter.layers[0] = o.layer(kModel, 2, 0, false); },
                        {"layer 0", "up lora_A", "one A"}),
      adapter_write_row("WriteAnEmptyAdapter", kEach, [](auto& o, auto&) { o.adapter.layers.clear(); },
                        {"adapter", "without any weights"}),
      adapter_write_row("WriteAnAdapterForAnotherModel", kEach,
                        [](auto& o, auto&) { o.adapter.layers[0].down.A.cols = 5; }, {"lora_A shape", "I=6"}),
      adapter_write_row("WriteAScaleOfInfinity", kEach,
                        [](auto& o, auto&) { o.adapter.layers[0].down_scale = INFINITY; },
                        {"scale", "inf", "finite"}),
      adapter_write_row("WriteANegativeLayer", kEach,
                        [](auto& o, auto&) { o.adapter.layers[-1] = o.adapter.layers[0]; },
                        {"layer id", "-1", ">= 0"}),
      adapter_write_row("WriteAnUnknownDtype", kEach,
                        [](auto&, auto& options) { options.dtype = static_cast<DType>(8); }, {"dtype", "8"}),
      {"WriteAnAdapterOverAFile",
       [](Scene& s) {
         write_bytes(s.in / "file", "x");
         OwnedAdapter owned;
         owned.adapter.layers[0] = owned.layer(kModel, 2, 3, true);
         write_peft_adapter(s.in / "file", owned.adapter, kModel, kEach);
       },
       {"file", "folder"}},
      {"GoldenFolderWithoutFixtures",
       [](Scene& s) { list_golden_fixtures(s.in.path()); },
       {"golden folder", "golden.safetensors"}},
      fixture_row("GoldenTensorMissing",
                  [](const auto& f) {
                    rewrite(f / "golden.safetensors", [](auto& list) { list.erase(list.begin()); });
                  },
                  {"golden.safetensors", "'hidden_states'", "missing"}),
      fixture_row("GoldenTensorUnknown",
                  [](const auto& f) {
                    rewrite(f / "golden.safetensors", [](auto& list) {
                      list.push_back({"extra", TensorType::f32, {1}, kOne});
                    });
                  },
                  {"golden.safetensors", "'extra'", "unknown"}),
      fixture_row("GoldenTensorOfAnotherDtype",
                  [](const auto& f) {
                    rewrite(f / "golden.safetensors", [](auto& list) {
                      for (TensorToWrite& t : list)
                        if (t.name == "topk_ids") t.type = TensorType::f32;
                    });
                  },
                  {"'topk_ids'", "F32 [43, 3]", "I32 [43, 3]"}),
      fixture_row("GoldenBaseOfAnotherShape",
                  [](const auto& f) {
                    rewrite(f / "base_layer_1.safetensors", [](auto& list) {
                      for (TensorToWrite& t : list)
                        if (t.name.ends_with("down_proj")) t.shape = {6, 36, 40};
                    });
                  },
                  {"down_proj", "[6, 36, 40]", "[6, 40, 36]"}),
      fixture_row("GoldenBaseTensorUnknown",
                  [](const auto& f) {
                    rewrite(f / "base_layer_1.safetensors", [](auto& list) {
                      list.push_back({"b", TensorType::f32, {1}, kOne});
                    });
                  },
                  {"base_layer_1.safetensors", "'b'", "unknown"}),
      fixture_row(
          "GoldenWithoutALayer",
          [](const auto& f) { write_bytes(f / "fixture.json", R"({"num_tokens": 43, "adapters": []})"); },
          {"fixture.json", "layer", "missing"}),
      fixture_row("GoldenAdapterMissing",
                  [](const auto& f) { std::filesystem::remove_all(f / "adapters/1"); },
                  {"adapters/1", "missing"}),
  };
}

INSTANTIATE_TEST_SUITE_P(Safetensors, BadFile, testing::ValuesIn(safetensors_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(Writer, BadFile, testing::ValuesIn(writer_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(ModelConfig, BadFile, testing::ValuesIn(config_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(PeftConfig, BadFile, testing::ValuesIn(peft_config_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(PeftTensors, BadFile, testing::ValuesIn(peft_tensor_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(PeftReading, BadFile, testing::ValuesIn(reading_rows()), RowName());
INSTANTIATE_TEST_SUITE_P(Files, BadFile, testing::ValuesIn(other_file_rows()), RowName());

}  // namespace
}  // namespace eplora
