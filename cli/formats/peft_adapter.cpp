// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/peft_adapter.h"

#include <algorithm>
#include <cstring>

#include "cli/formats/peft_sources.h"
#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

StridedTensor transpose(StridedTensor tensor) {
  std::swap(tensor.rows, tensor.cols);
  std::swap(tensor.row_stride, tensor.col_stride);
  return tensor;
}

/// Rows of half `h` of a `[experts, 2I, r]` view.
StridedTensor half_of(StridedTensor tensor, std::int64_t h, std::int64_t intermediate, GateUpForm form) {
  const std::int64_t first = form == GateUpForm::stacked ? h * intermediate : h;
  tensor.data = static_cast<const std::byte*>(tensor.data) +
                first * tensor.row_stride * static_cast<std::int64_t>(bytes_of(tensor.dtype));
  tensor.rows = intermediate;
  if (form == GateUpForm::interleaved) tensor.row_stride *= 2;
  return tensor;
}

std::string size_text(std::int64_t value, const char* symbol) {
  return std::string(symbol) + "=" + std::to_string(value);
}

std::string pair_text(std::int64_t in, std::int64_t out) {
  return "(" + std::to_string(in) + ", " + std::to_string(out) + ")";
}

}  // namespace

/// Builds the adapter layer by layer; every check happens before a view is made.
class PeftLoader {
 public:
  PeftLoader(const std::filesystem::path& folder, const MoeGeometry& geometry, const PeftLoadOptions& options)
      : geometry_(geometry), options_(options), folder_(folder) {}

  PeftAdapter load() {
    validate(geometry_);
    out_.config_ = read_peft_config(folder_ / "adapter_config.json");
    const std::filesystem::path weights = folder_ / "adapter_model.safetensors";
    std::error_code error;
    if (!std::filesystem::exists(weights, error) &&
        std::filesystem::exists(folder_ / "adapter_model.bin", error))
      reject((folder_ / "adapter_model.bin").string(), "a pickle",
             "the weights must be in adapter_model.safetensors");
    out_.file_ = std::make_shared<const SafetensorsFile>(SafetensorsFile::open(weights));
    const PeftSources sources = sort_peft_tensors(*out_.file_);
    out_.in_file_ = out_.file_->names();
    out_.consumed_ = sources.consumed;
    out_.refused_ = sources.outside;
    refuse_other_modules(sources);

    out_.key_layout_ = layout_of(sources.layers.begin()->second);
    for (const auto& [id, layer] : sources.layers) {
      if (options_.num_layers && id >= *options_.num_layers)
        reject(out_.file_->path() + ": layer", std::to_string(id),
               "the model has layers [0, " + std::to_string(*options_.num_layers) + ")");
      layer_id_ = id;
      AdapterLayer& target = out_.adapter_.layers[id];
      if (layer.has_fused())
        build_fused(layer, target);
      else
        build_named(layer, target);
    }
    require_one_orientation();
    require_targets();
    const std::int64_t limit = options_.max_lora_rank > 0 ? options_.max_lora_rank : out_.max_rank_;
    validate(out_.adapter_, geometry_, limit);
    return std::move(out_);
  }

 private:
  std::string tensor_text(const TensorView& view) const {
    return out_.file_->path() + ": tensor " + in_quotes(view.name);
  }

  static PeftKeyLayout layout_of(const PeftLayerSources& layer) {
    if (layer.has_fused()) return PeftKeyLayout::fused;
    for (const auto& pair : layer.named)
      for (const NamedFactor& factor : pair)
        if (!factor.per_expert.empty()) return PeftKeyLayout::per_expert;
    return PeftKeyLayout::stacked;
  }

  void refuse_other_modules(const PeftSources& sources) const {
    if (!sources.outside.empty() && !options_.allow_other_modules) {
      std::string names;
      for (std::size_t i = 0; i < sources.outside.size() && i < 8; ++i)
        names.append(i == 0 ? "" : ", ").append(in_quotes(sources.outside[i]));
      if (sources.outside.size() > 8) names += " and " + std::to_string(sources.outside.size() - 8) + " more";
      reject(out_.file_->path() + ": tensors outside the routed experts", names,
             "an adapter may hold tensors of routed experts only, unless other modules are allowed and left "
             "out");
    }
    if (sources.layers.empty())
      reject(out_.file_->path() + ": tensors of routed experts", "none", "an MoE adapter must have some");
  }

  // ---- ranks, scales, memory ----

  std::int64_t experts_of(Projection projection, Factor factor) const {
    const bool outer = (projection == Projection::down) == (factor == Factor::B);
    return outer && geometry_.shared_outer ? 1 : geometry_.num_experts;
  }
  std::int64_t in_of(Projection projection) const {
    return projection == Projection::down ? geometry_.intermediate : geometry_.hidden;
  }
  std::int64_t out_of(Projection projection) const {
    if (projection == Projection::down) return geometry_.hidden;
    return geometry_.intermediate * (projection == Projection::gate_up ? geometry_.halves() : 1);
  }

  const void* element_aligned(const TensorView& view) {
    const auto unit = static_cast<std::size_t>(bytes_of(view.type));
    if (reinterpret_cast<std::uintptr_t>(view.data) % unit == 0) return view.data;
    return own(static_cast<std::size_t>(view.bytes),
               [&](std::byte* to) { std::memcpy(to, view.data, static_cast<std::size_t>(view.bytes)); });
  }

  template <class Fill>
  const void* own(std::size_t bytes, Fill fill) {
    out_.gathered_.push_back(std::make_unique<std::byte[]>(bytes));
    fill(out_.gathered_.back().get());
    return out_.gathered_.back().get();
  }

  // ---- fused: experts.[base_layer.]lora_{A,B} ----

  struct Reading {
    Projection projection;
    bool transposed;
    bool operator==(const Reading&) const = default;
  };

  std::string parameter_name(const PeftLayerSources& layer, Projection projection) const {
    const Projection stored =
        projection == Projection::gate_up && !geometry_.gated ? Projection::up : projection;
    return layer.experts + "." + std::string(to_string(stored));
  }

  Reading read_dimensions(const PeftLayerSources& layer, const TensorView& A, const TensorView& B,
                          bool& by_version) {
    const std::int64_t in = A.shape[1], out = B.shape[0];
    std::vector<Reading> fitting;
    std::string allowed;
    for (const bool transposed : {false, true})
      for (const Projection projection : {Projection::gate_up, Projection::down}) {
        std::int64_t want_in = in_of(projection), want_out = out_of(projection);
        if (transposed) std::swap(want_in, want_out);
        allowed.append(allowed.empty() ? "" : ", ").append(pair_text(want_in, want_out));
        allowed.append(" ").append(to_string(projection)).append(transposed ? " transposed" : "");
        if (in == want_in && out == want_out) fitting.push_back({projection, transposed});
      }
    const std::string subject = tensor_text(A) + " with its B: (A.in, B.out)";
    if (fitting.empty()) reject(subject, pair_text(in, out), "for this model it must be one of " + allowed);
    by_version = fitting.size() > 1;
    if (fitting.size() > 1) {
      const std::optional<bool> in_out = out_.config_.reads_parameters_as_in_out();
      if (!in_out)
        reject(subject, pair_text(in, out),
               "it fits more than one reading and peft_version, " + in_quotes(out_.config_.peft_version) +
                   ", does not decide; it must name a release");
      // A model that interleaves gate and up (gpt_oss) stores [E, in, out], which every version reads as it
      // stands.
      const bool transposed = *in_out && geometry_.form == GateUpForm::stacked;
      std::erase_if(fitting, [&](const Reading& reading) { return reading.transposed != transposed; });
    }
    if (fitting.size() > 1)
      std::erase_if(fitting, [&](const Reading& reading) {
        return !out_.config_.target_parameters ||
               !out_.config_.targets_parameter(parameter_name(layer, reading.projection));
      });
    if (fitting.size() != 1)
      reject(subject, pair_text(in, out),
             "target_parameters and peft_version must leave exactly one of " + allowed);
    return fitting[0];
  }

  void build_fused(const PeftLayerSources& layer, AdapterLayer& target) {
    std::optional<Projection> first;
    for (const auto& pair : layer.fused) {
      if (!pair[0]) continue;
      const TensorView &A = *pair[0]->view, &B = *pair[1]->view;
      for (const TensorView* view : {&A, &B})
        if (view->shape.size() != 2)
          reject(tensor_text(*view) + " shape", shape_to_string(view->shape),
                 "a fused factor has two dimensions");
      bool by_version = false;
      const Reading reading = read_dimensions(layer, A, B, by_version);
      const Projection projection = reading.projection;
      const std::string name = parameter_name(layer, projection);
      if (first == projection)
        reject(tensor_text(A), "a second " + std::string(to_string(projection)),
               "a layer has one of each projection");
      first = projection;
      if (!out_.config_.targets_parameter(name))
        reject(out_.config_.file + ": target_parameters", "without " + in_quotes(name),
               "the file holds tensors of that shape: " + in_quotes(A.name));
      const std::int64_t r = out_.config_.rank_of(name);
      const std::int64_t n_A = experts_of(projection, reading.transposed ? Factor::B : Factor::A);
      const std::int64_t n_B = experts_of(projection, reading.transposed ? Factor::A : Factor::B);
      require_shape(A, {saturating_product(n_A, r), A.shape[1]}, "rows: " + fused_size(r, n_A));
      require_shape(B, {B.shape[0], saturating_product(n_B, r)}, "columns: " + fused_size(r, n_B));
      // A [E*r, in]: expert slowest. B [out, r*E]: expert fastest.
      StridedTensor file_A{element_aligned(A), as_dtype(A.type), n_A,        r,
                           A.shape[1],         r * A.shape[1],   A.shape[1], 1};
      StridedTensor file_B{element_aligned(B), as_dtype(B.type), n_B, B.shape[0], r, 1, r * n_B, n_B};
      LoraPair whole{file_A, file_B};
      if (reading.transposed) whole = {transpose(file_B), transpose(file_A)};
      put(target, projection, whole, out_.config_.scale_of(name));
      out_.readings_.push_back({layer_id_, projection, reading.transposed, by_version});
      used_parameters_.push_back(name);
    }
  }

  std::string fused_size(std::int64_t r, std::int64_t experts) const {
    const std::string rank = size_text(r, "r") + " by the adapter's config";
    if (experts != geometry_.num_experts) return rank + ", shared by all experts";
    return "r*E with " + rank + " and " + size_text(experts, "E");
  }

  void put(AdapterLayer& target, Projection projection, const LoraPair& whole, float scale) {
    out_.max_rank_ = std::max(out_.max_rank_, whole.rank());
    if (projection == Projection::down) {
      target.down = whole;
      target.down_scale = scale;
      return;
    }
    target.gate_up_scale = scale;
    for (std::int64_t h = 0; h < geometry_.halves(); ++h)
      target.gate_up[static_cast<std::size_t>(h)] = {
          whole.A, geometry_.gated ? half_of(whole.B, h, geometry_.intermediate, geometry_.form) : whole.B};
  }

  void require_shape(const TensorView& view, const std::vector<std::int64_t>& shape,
                     const std::string& meaning) const {
    if (!is_float(view.type))
      reject(tensor_text(view) + " dtype", to_string(view.type), "it must be F32, F16 or BF16");
    if (view.shape != shape)
      reject(tensor_text(view) + " shape", shape_to_string(view.shape),
             "it must be " + shape_to_string(shape) + " (" + meaning + ")");
  }

  // ---- per expert and stacked: experts.[{e}.]<proj>.lora_{A,B} ----

  struct NamedPair {
    LoraPair pair;
    float scale = 0;
  };

  /// The module's rank and scale by the config; the first module sets them for the projection, later ones
  /// must agree.
  struct Agreed {
    std::string module;
    std::int64_t r = 0;
    float scale = 0;
  };

  void agree(Agreed& agreed, const PeftSource& source) const {
    const std::string& module = source.key.module;
    const std::int64_t r = out_.config_.rank_of(module);
    const float scale = out_.config_.scale_of(module);
    if (agreed.module.empty()) agreed = {module, r, scale};
    if (r != agreed.r)
      reject(tensor_text(*source.view) + " rank", std::to_string(r),
             "all experts of a projection must have one rank; " + in_quotes(agreed.module) + " has " +
                 std::to_string(agreed.r));
    if (scale != agreed.scale)
      reject(tensor_text(*source.view) + " scale", std::to_string(scale),
             "all experts of a projection must have one scale; " + in_quotes(agreed.module) + " has " +
                 std::to_string(agreed.scale));
  }

  NamedPair build_pair(const PeftLayerSources& layer, Projection projection) {
    const auto& factors = layer.named[static_cast<std::size_t>(projection)];
    Agreed agreed;
    for (const NamedFactor& factor : factors) {
      if (factor.stacked) agree(agreed, *factor.stacked);
      for (const auto& [expert, source] : factor.per_expert) agree(agreed, source);
    }
    used_parameters_.push_back(layer.experts + "." + std::string(to_string(projection)));
    const std::int64_t in = in_of(projection), out = out_of(projection);
    return {{build_factor(factors[0], projection, Factor::A, agreed.r, in),
             build_factor(factors[1], projection, Factor::B, out, agreed.r)},
            agreed.scale};
  }

  StridedTensor build_factor(const NamedFactor& named, Projection projection, Factor factor,
                             std::int64_t rows, std::int64_t cols) {
    const std::int64_t experts = experts_of(projection, factor);
    const std::string meaning = std::string(to_string(projection)) + " " + std::string(to_string(factor)) +
                                ", " + size_text(geometry_.num_experts, "E") + ", " +
                                size_text(geometry_.hidden, "H") + ", " +
                                size_text(geometry_.intermediate, "I") + ", ranks by the adapter's config";
    StridedTensor tensor{nullptr, DType::f32, experts, rows, cols, rows * cols, cols, 1};
    if (named.stacked) {
      const TensorView& view = *named.stacked->view;
      require_shape(
          view,
          view.shape.size() == 2 && experts == 1 ? std::vector{rows, cols} : std::vector{experts, rows, cols},
          meaning);
      tensor.data = element_aligned(view);
      tensor.dtype = as_dtype(view.type);
      return tensor;
    }
    require_experts(named, experts, projection);
    const TensorView& first = *named.per_expert.begin()->second.view;
    tensor.dtype = as_dtype(first.type);
    for (const auto& [expert, source] : named.per_expert) {
      require_shape(*source.view, {rows, cols}, meaning);
      if (source.view->type != first.type)
        reject(tensor_text(*source.view) + " dtype", to_string(source.view->type),
               "all experts must have one dtype; expert 0 has " + std::string(to_string(first.type)));
    }
    const auto bytes = static_cast<std::size_t>(first.bytes);
    tensor.data = own(bytes * static_cast<std::size_t>(experts), [&](std::byte* to) {
      for (const auto& [expert, source] : named.per_expert)
        std::memcpy(to + bytes * static_cast<std::size_t>(expert), source.view->data, bytes);
    });
    return tensor;
  }

  void require_experts(const NamedFactor& named, std::int64_t experts, Projection projection) const {
    const TensorView& first = *named.per_expert.begin()->second.view;
    if (experts == 1 && geometry_.num_experts > 1)
      reject(tensor_text(first), "one of several experts'",
             "with shared-outer weights this factor stands once for all");
    const auto& [last_expert, last] = *named.per_expert.rbegin();
    if (last_expert >= experts)
      reject(tensor_text(*last.view) + " expert", std::to_string(last_expert),
             "the model has experts [0, " + std::to_string(experts) + ")");
    std::int64_t expected = 0;
    for (const auto& [expert, source] : named.per_expert) {
      if (expert != expected) break;
      ++expected;
    }
    if (expected != experts)
      reject(out_.file_->path() + ": layer " + std::to_string(layer_id_) + " " +
                 std::string(to_string(projection)) + " of expert " + std::to_string(expected),
             "missing", "all " + std::to_string(experts) + " experts must be there");
  }

  void build_named(const PeftLayerSources& layer, AdapterLayer& target) {
    const auto present = [&](Projection projection) {
      return layer.named[static_cast<std::size_t>(projection)][0].present();
    };
    const auto name_of = [&](Projection projection) {
      return tensor_text(*layer.named[static_cast<std::size_t>(projection)][0].any().view);
    };
    const std::string where = out_.file_->path() + ": layer " + std::to_string(layer_id_) + " ";
    const bool gate = present(Projection::gate), up = present(Projection::up),
               both = present(Projection::gate_up);
    if (both && (gate || up))
      reject(name_of(Projection::gate_up), "beside gate_proj or up_proj",
             "the two halves stand fused or apart");
    if (!geometry_.gated && (gate || both))
      reject(name_of(gate ? Projection::gate : Projection::gate_up), "a gate",
             "the model's experts are not gated");
    if (geometry_.gated && gate != up)
      reject(where + (gate ? "up_proj" : "gate_proj"), "missing",
             "gate and up come together: the buffers hold both halves");
    if (both) {
      const NamedPair fused = build_pair(layer, Projection::gate_up);
      put(target, Projection::gate_up, fused.pair, fused.scale);
    } else if (up) {
      const NamedPair second = build_pair(layer, Projection::up);
      const NamedPair half = gate ? build_pair(layer, Projection::gate) : second;
      if (half.scale != second.scale)
        reject(where + "scale of up_proj", std::to_string(second.scale),
               "the buffers hold one scale for both halves; gate_proj has " + std::to_string(half.scale));
      target.gate_up[0] = half.pair;
      if (gate) target.gate_up[1] = second.pair;
      target.gate_up_scale = half.scale;
      out_.max_rank_ = std::max({out_.max_rank_, half.pair.rank(), second.pair.rank()});
    }
    if (present(Projection::down)) {
      const NamedPair down = build_pair(layer, Projection::down);
      put(target, Projection::down, down.pair, down.scale);
    }
  }

  // ---- the file against itself ----

  /// All parameters of a model are stored one way round; where a version decided, unambiguous shapes must not
  /// disagree.
  void require_one_orientation() const {
    for (const PeftReading& decided : out_.readings_)
      for (const PeftReading& plain : out_.readings_)
        if (decided.by_version && !plain.by_version && decided.transposed != plain.transposed)
          reject(out_.config_.file + ": peft_version", in_quotes(out_.config_.peft_version),
                 "it makes " + std::string(to_string(decided.projection)) + " of layer " +
                     std::to_string(decided.layer) +
                     (decided.transposed ? " transposed" : " not transposed") + ", but the shapes of " +
                     std::string(to_string(plain.projection)) + " of layer " + std::to_string(plain.layer) +
                     " say the opposite");
  }

  /// Every expert parameter that the config targets has tensors.
  void require_targets() const {
    if (!out_.config_.target_parameters) return;
    for (const std::string& target : *out_.config_.target_parameters) {
      const std::string last = target.substr(target.rfind('.') + 1);
      if (last != "gate_up_proj" && last != "up_proj" && last != "down_proj") continue;
      const bool used = std::any_of(
          used_parameters_.begin(), used_parameters_.end(),
          [&](const std::string& name) { return name == target || name.ends_with("." + target); });
      if (!used)
        reject(out_.config_.file + ": target_parameters entry", in_quotes(target),
               "the file holds no tensors of it");
    }
  }

  const MoeGeometry& geometry_;
  const PeftLoadOptions& options_;
  std::filesystem::path folder_;
  PeftAdapter out_;
  std::int32_t layer_id_ = 0;
  std::vector<std::string> used_parameters_;
};

const AdapterLayer* PeftAdapter::layer(std::int32_t id) const {
  const auto found = adapter_.layers.find(id);
  return found == adapter_.layers.end() ? nullptr : &found->second;
}

PeftAdapter load_peft_adapter(const std::filesystem::path& folder, const MoeGeometry& geometry,
                              const PeftLoadOptions& options) {
  return PeftLoader(folder, geometry, options).load();
}

bool peft_adapter_is_shared_outer(const std::filesystem::path& folder) {
  const SafetensorsFile file = SafetensorsFile::open(folder / "adapter_model.safetensors");
  const PeftSources sources = sort_peft_tensors(file);
  const auto experts = [](const NamedFactor& factor) -> std::int64_t {
    if (!factor.stacked) return static_cast<std::int64_t>(factor.per_expert.size());
    const std::vector<std::int64_t>& shape = factor.stacked->view->shape;
    return shape.size() == 3 ? shape[0] : 1;
  };
  for (const auto& [id, layer] : sources.layers) {
    for (const auto& pair : layer.named)
      if (pair[0].present() && experts(pair[0]) != experts(pair[1])) return true;
    for (const auto& pair : layer.fused)
      if (pair[0] && pair[0]->view->shape.size() == 2 && pair[1]->view->shape.size() == 2 &&
          pair[0]->view->shape[0] != pair[1]->view->shape[1])
        return true;
  }
  return false;
}

}  // namespace eplora
