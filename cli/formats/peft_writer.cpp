// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/peft_writer.h"

#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "cli/formats/atomic_file.h"
#include "cli/formats/safetensors.h"
#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

class PeftWriter {
 public:
  PeftWriter(const MoeGeometry& geometry, PeftKeyLayout layout, const PeftWriteOptions& options)
      : geometry_(geometry), layout_(layout), options_(options) {}

  void add(std::int32_t id, const AdapterLayer& layer) {
    const std::string experts =
        options_.model_prefix + ".layers." + std::to_string(id) + "." + options_.block + ".experts";
    if (layer.gate_up[0].present()) {
      if (layout_ == PeftKeyLayout::fused) {
        require_one_A(id, layer);
        add_fused(experts, layer.gate_up[0].A, fused_B(layer), Projection::gate_up, layer.down.present());
        add_scale(experts, Projection::gate_up, layer.gate_up[0].rank(), layer.gate_up_scale);
      } else {
        for (std::int32_t h = 0; h < geometry_.halves(); ++h) {
          const Projection half = h == 0 && geometry_.gated ? Projection::gate : Projection::up;
          add_named(experts, layer.gate_up[static_cast<std::size_t>(h)], half);
          add_scale(experts, half, layer.gate_up[static_cast<std::size_t>(h)].rank(), layer.gate_up_scale);
        }
      }
    }
    if (!layer.down.present()) return;
    if (layout_ == PeftKeyLayout::fused)
      add_fused(experts, layer.down.A, {layer.down.B}, Projection::down, false);
    else
      add_named(experts, layer.down, Projection::down);
    add_scale(experts, Projection::down, layer.down.rank(), layer.down_scale);
  }

  void write(const std::filesystem::path& folder) {
    if (tensors_.empty())
      reject("adapter", "without any weights", "it must hold at least one projection of one layer");
    const std::string text = config().dump(2) + "\n";
    for (std::size_t i = 0; i < tensors_.size(); ++i) tensors_[i].data = contents_[i].data();
    safetensors_header(tensors_);  // its checks, before the folder is touched
    make_folder("adapter", folder);
    AtomicFile config_file(folder / "adapter_config.json");
    config_file.write(std::as_bytes(std::span(text)));
    write_safetensors(folder / "adapter_model.safetensors", tensors_, {{"format", "pt"}});
    config_file.commit();
  }

 private:
  /// A tensor of the file, filled element by element: `at(i)` gives the source view and its index.
  template <class At>
  void add_tensor(const std::string& name, std::vector<std::int64_t> shape, At at) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : shape) elements *= extent;
    contents_.emplace_back(static_cast<std::size_t>(elements) * bytes_of(options_.dtype));
    for (std::int64_t i = 0; i < elements; ++i) {
      const auto [tensor, index] = at(i);
      convert_element(tensor->data, tensor->dtype, index, contents_.back().data(), options_.dtype, i);
    }
    tensors_.push_back(
        {"base_model.model." + name + ".weight", as_tensor_type(options_.dtype), std::move(shape), nullptr});
  }
  struct Element {
    const StridedTensor* tensor;
    std::int64_t index;
  };

  void require_one_A(std::int32_t id, const AdapterLayer& layer) const {
    if (!geometry_.gated) return;
    const StridedTensor &gate = layer.gate_up[0].A, &up = layer.gate_up[1].A;
    bool equal = gate.rows == up.rows;
    for (std::int64_t e = 0; equal && e < gate.experts; ++e)
      for (std::int64_t j = 0; equal && j < gate.rows; ++j)
        for (std::int64_t i = 0; equal && i < gate.cols; ++i)
          equal =
              std::bit_cast<std::uint32_t>(gate.at(e, j, i)) == std::bit_cast<std::uint32_t>(up.at(e, j, i));
    if (!equal)
      reject("adapter layer " + std::to_string(id) + " up lora_A", "another than gate's",
             "the fused key layout holds one A for both halves");
  }

  std::vector<StridedTensor> fused_B(const AdapterLayer& layer) const {
    if (!geometry_.gated) return {layer.gate_up[0].B};
    return {layer.gate_up[0].B, layer.gate_up[1].B};
  }

  /// A [n*r, in], expert slowest; B [sum of rows, r*n], expert fastest, its halves stacked or interleaved.
  void add_fused(const std::string& experts, const StridedTensor& A, const std::vector<StridedTensor>& B,
                 Projection projection, bool other_present) {
    const bool base_layer = projection == Projection::gate_up && other_present;
    const std::string module = experts + (base_layer ? ".base_layer" : "");
    const std::int64_t r = A.rows, in = A.cols;
    add_tensor(module + ".lora_A", {A.experts * r, in}, [&](std::int64_t i) {
      return Element{&A, A.index(i / (r * in), i / in % r, i % in)};
    });
    const auto halves = static_cast<std::int64_t>(B.size());
    const std::int64_t n = B[0].experts, rows = B[0].rows;
    add_tensor(module + ".lora_B", {halves * rows, r * n}, [&](std::int64_t i) {
      const std::int64_t o = i / (r * n), j = i / n % r, e = i % n;
      const bool interleaved = geometry_.form == GateUpForm::interleaved;
      const StridedTensor& half = B[static_cast<std::size_t>(interleaved ? o % halves : o / rows)];
      return Element{&half, half.index(e, interleaved ? o / halves : o % rows, j)};
    });
    targets_.insert("experts." + std::string(to_string(stored(projection))));
  }

  /// One tensor an expert, or [n, rows, cols]; a factor shared by all experts stands once, without their
  /// number.
  void add_named(const std::string& experts, const LoraPair& pair, Projection projection) {
    const std::string name(to_string(projection));
    for (const Factor factor : {Factor::A, Factor::B}) {
      const StridedTensor& tensor = factor == Factor::A ? pair.A : pair.B;
      const std::int64_t rows = tensor.rows, cols = tensor.cols;
      const auto element = [&](std::int64_t e, std::int64_t i) {
        return Element{&tensor, tensor.index(e, i / cols, i % cols)};
      };
      const std::string suffix = "." + name + "." + std::string(to_string(factor));
      if (layout_ == PeftKeyLayout::stacked) {
        add_tensor(experts + suffix, {tensor.experts, rows, cols},
                   [&](std::int64_t i) { return element(i / (rows * cols), i % (rows * cols)); });
      } else if (tensor.experts == 1 && geometry_.num_experts > 1) {
        add_tensor(experts + suffix, {rows, cols}, [&](std::int64_t i) { return element(0, i); });
      } else {
        for (std::int64_t e = 0; e < tensor.experts; ++e)
          add_tensor(experts + "." + std::to_string(e) + suffix, {rows, cols},
                     [&](std::int64_t i) { return element(e, i); });
      }
    }
    targets_.insert(name);
  }

  Projection stored(Projection projection) const {
    return projection == Projection::gate_up && !geometry_.gated ? Projection::up : projection;
  }

  void add_scale(const std::string& experts, Projection projection, std::int64_t r, float scale) {
    if (!std::isfinite(scale)) reject("scale of " + experts, std::to_string(scale), "it must be finite");
    const auto rank = static_cast<double>(r);
    const double alpha = static_cast<double>(scale) * (options_.use_rslora ? std::sqrt(rank) : rank);
    std::string pattern = experts + "." + std::string(to_string(stored(projection)));
    if (layout_ == PeftKeyLayout::per_expert)
      pattern = experts + "\\.([0-9]+\\.)?" + std::string(to_string(projection));
    if (modules_.empty()) first_ = {pattern, r, alpha};
    modules_.push_back({pattern, r, alpha});
  }

  nlohmann::ordered_json config() const {
    nlohmann::ordered_json ranks = nlohmann::ordered_json::object(), alphas = ranks;
    for (const Module& module : modules_) {
      if (module.r != first_.r) ranks[module.pattern] = module.r;
      if (module.alpha != first_.alpha) alphas[module.pattern] = module.alpha;
    }
    nlohmann::ordered_json json = {{"peft_type", "LORA"},
                                   {"peft_version", options_.peft_version},
                                   {"r", first_.r},
                                   {"lora_alpha", first_.alpha},
                                   {"rank_pattern", ranks},
                                   {"alpha_pattern", alphas},
                                   {"use_rslora", options_.use_rslora},
                                   {"bias", "none"},
                                   {"inference_mode", true}};
    const bool parameters = layout_ == PeftKeyLayout::fused;
    json["target_modules"] = parameters ? nlohmann::ordered_json::array() : nlohmann::ordered_json(targets_);
    if (parameters) json["target_parameters"] = targets_;
    return json;
  }

  struct Module {
    std::string pattern;
    std::int64_t r = 0;
    double alpha = 0;
  };

  const MoeGeometry& geometry_;
  PeftKeyLayout layout_;
  const PeftWriteOptions& options_;
  std::vector<TensorToWrite> tensors_;
  std::vector<std::vector<std::byte>> contents_;
  std::set<std::string> targets_;
  std::vector<Module> modules_;
  Module first_;
};

}  // namespace

void write_peft_adapter(const std::filesystem::path& folder, const Adapter& adapter,
                        const MoeGeometry& geometry, PeftKeyLayout layout, const PeftWriteOptions& options) {
  validate(adapter, geometry, kMaxIndex);
  bytes_of(options.dtype);
  PeftWriter writer(geometry, layout, options);
  for (const auto& [id, layer] : adapter.layers) {
    if (id < 0) reject("adapter layer id", std::to_string(id), "it must be >= 0");
    writer.add(id, layer);
  }
  writer.write(folder);
}

}  // namespace eplora
