// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/golden_fixture.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/formats/safetensors.h"
#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

/// Hands out tensors with shape and dtype checked, and knows at the end which nobody asked for.
class StrictTensors {
 public:
  explicit StrictTensors(const std::filesystem::path& path) : file_(SafetensorsFile::open(path)) {}

  const TensorView& take(const std::string& name, TensorType type, const std::vector<std::int64_t>& shape) {
    const TensorView& view = file_.tensor(name);
    if (view.type != type || view.shape != shape)
      reject(file_.path() + ": tensor " + in_quotes(name),
             std::string(to_string(view.type)) + " " + shape_to_string(view.shape),
             "it must be " + std::string(to_string(type)) + " " + shape_to_string(shape));
    taken_.insert(name);
    return view;
  }

  void copy_floats(const std::string& name, const std::vector<std::int64_t>& shape, float* to) {
    const TensorView& view = take(name, TensorType::f32, shape);
    if (view.bytes > 0) std::memcpy(to, view.data, static_cast<std::size_t>(view.bytes));
  }

  std::vector<float> floats(const std::string& name, const std::vector<std::int64_t>& shape) {
    std::vector<float> values(static_cast<std::size_t>(take(name, TensorType::f32, shape).elements()));
    copy_floats(name, shape, values.data());
    return values;
  }

  std::vector<std::int32_t> ids(const std::string& name, const std::vector<std::int64_t>& shape) {
    const TensorView& view = take(name, TensorType::i32, shape);
    std::vector<std::int32_t> values(static_cast<std::size_t>(view.elements()));
    if (view.bytes > 0) std::memcpy(values.data(), view.data, static_cast<std::size_t>(view.bytes));
    return values;
  }

  void require_all_taken() const {
    for (const auto& [name, view] : file_.tensors())
      if (!taken_.contains(name))
        reject(file_.path() + ": tensor " + in_quotes(name), "unknown",
               "a fixture holds only what its README lists");
  }

  const SafetensorsFile& file() const { return file_; }

 private:
  SafetensorsFile file_;
  std::set<std::string, std::less<>> taken_;
};

std::int64_t whole_number(const nlohmann::ordered_json& root, const std::filesystem::path& path,
                          const char* key) {
  const auto found = root.find(key);
  if (found == root.end() || !found->is_number_unsigned() ||
      found->get<std::uint64_t>() > static_cast<std::uint64_t>(kMaxIndex))
    reject(path.string() + ": " + key, found == root.end() ? "missing" : found->dump(),
           "it must be a whole number in [0, 2147483647]");
  return found->get<std::int64_t>();
}

void read_base(GoldenFixture& fixture, const std::filesystem::path& folder) {
  const std::int64_t E = fixture.geometry.num_experts, H = fixture.geometry.hidden,
                     I = fixture.geometry.intermediate;
  const std::string layer = std::to_string(fixture.layer);
  StrictTensors base(folder / ("base_layer_" + layer + ".safetensors"));
  const std::string block = "model.layers." + layer + ".mlp.";
  base.take(block + "gate.weight", TensorType::f32, {E, H});  // the router: its choices are recorded
  if (base.file().contains(block + "experts.gate_up_proj")) {
    fixture.gate_up_proj = base.floats(block + "experts.gate_up_proj", {E, 2 * I, H});
    fixture.down_proj = base.floats(block + "experts.down_proj", {E, H, I});
  } else {
    fixture.gate_up_proj.resize(static_cast<std::size_t>(E * 2 * I * H));
    fixture.down_proj.resize(static_cast<std::size_t>(E * H * I));
    for (std::int64_t e = 0; e < E; ++e) {
      const std::string expert = block + "experts." + std::to_string(e) + ".";
      float* gate_up = fixture.gate_up_proj.data() + e * 2 * I * H;
      base.copy_floats(expert + "gate_proj.weight", {I, H}, gate_up);
      base.copy_floats(expert + "up_proj.weight", {I, H}, gate_up + I * H);
      base.copy_floats(expert + "down_proj.weight", {H, I}, fixture.down_proj.data() + e * H * I);
    }
  }
  base.require_all_taken();
}

void read_recording(GoldenFixture& fixture, const std::filesystem::path& folder) {
  const std::int64_t T = fixture.num_tokens, K = fixture.top_k, H = fixture.geometry.hidden;
  StrictTensors golden(folder / "golden.safetensors");
  fixture.hidden_states = golden.floats("hidden_states", {T, H});
  fixture.topk_ids = golden.ids("topk_ids", {T, K});
  fixture.topk_weights = golden.floats("topk_weights", {T, K});
  const auto every_token = [&](std::int32_t adapter) {
    return std::vector<std::int32_t>(static_cast<std::size_t>(T), adapter);
  };
  fixture.cases.push_back({"base", every_token(-1), golden.floats("output_base", {T, H})});
  for (std::size_t i = 0; i < fixture.adapters.size(); ++i) {
    const std::string number = std::to_string(i);
    fixture.cases.push_back({"adapter " + number, every_token(static_cast<std::int32_t>(i)),
                             golden.floats("output_adapter_" + number, {T, H})});
  }
  fixture.cases.push_back(
      {"mixed", golden.ids("token_lora_mapping", {T}), golden.floats("output_mixed", {T, H})});
  golden.require_all_taken();
}

}  // namespace

reference::MoeLayerProblem GoldenFixture::problem(const GoldenCase& golden_case) const {
  reference::MoeLayerProblem problem;
  problem.geometry = geometry;
  problem.base = {gate_up_proj, down_proj};
  for (const PeftAdapter& adapter : adapters) {
    const AdapterLayer* weights = adapter.layer(layer);
    if (weights == nullptr)
      reject("fixture " + name + " adapter", adapter.config().file,
             "it must have layer " + std::to_string(layer));
    problem.adapters.push_back(weights);
  }
  problem.topk_ids = IdMatrix::of(topk_ids, top_k);
  problem.topk_weights = topk_weights;
  problem.token_lora_mapping = golden_case.token_lora_mapping;
  problem.hidden_states = hidden_states;
  return problem;
}

GoldenFixture load_golden_fixture(const std::filesystem::path& folder) {
  GoldenFixture fixture;
  fixture.name =
      folder.has_filename() ? folder.filename().string() : folder.parent_path().filename().string();
  fixture.model = read_model_config(folder / "config.json");
  fixture.geometry = fixture.model.geometry();
  fixture.top_k = fixture.model.top_k;

  const std::filesystem::path about = folder / "fixture.json";
  const nlohmann::ordered_json root = read_json_object(about);
  fixture.layer = static_cast<std::int32_t>(whole_number(root, about, "layer"));
  fixture.num_tokens = whole_number(root, about, "num_tokens");
  if (const auto made = root.find("made_with"); made != root.end() && made->is_object())
    for (const auto& [key, value] : made->items())
      fixture.made_with[key] = value.is_string() ? value.get<std::string>() : value.dump();
  const auto adapters = root.find("adapters");
  if (adapters == root.end() || !adapters->is_array())
    reject(about.string() + ": adapters", "missing or no array", "it must list every adapter's settings");

  read_base(fixture, folder);
  PeftLoadOptions options;
  if (fixture.model.num_layers > 0) options.num_layers = fixture.model.num_layers;
  for (std::size_t i = 0; i < adapters->size(); ++i)
    fixture.adapters.push_back(
        load_peft_adapter(folder / "adapters" / std::to_string(i), fixture.geometry, options));
  read_recording(fixture, folder);
  return fixture;
}

std::vector<std::filesystem::path> list_golden_fixtures(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::exists(folder / "golden.safetensors", error)) return {folder};
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (std::filesystem::exists(entry.path() / "golden.safetensors", error)) found.push_back(entry.path());
  if (found.empty())
    reject("golden folder", folder.string(), "it must hold fixtures, each with a golden.safetensors");
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace eplora
