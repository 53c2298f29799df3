// SPDX-License-Identifier: Apache-2.0
// DeepSpeed-MoE. mp = r % MP, d = r / MP; ep = d % EP, expert data parallel = d / EP: with model parallelism
// the EP groups have stride MP, and an expert's columns are cut over mp. E / EP experts a rank. Groups are
// kept by their size, so that layers of one model may differ in EP: "layers=8@0-3+7" takes EP = 8 in those
// layers. Sources: deepspeed/utils/groups.py; deepspeed/moe/layer.py.
#include <charconv>
#include <utility>

#include "reference/check.h"
#include "reference/layout/engines/engine_presets.h"

namespace eplora::engines {
namespace {

constexpr std::int32_t kMostLayers = 1 << 16;

/// An EP size, and the layers that have it.
struct LayersOfEp {
  std::int32_t ep = 1;
  std::vector<std::int32_t> layers;
};

/// "8@0-3+7/2@5": EP sizes with their layers, ids and ranges of ids.
class LayersReader {
 public:
  LayersReader(const PresetArguments& a, std::string text) : a_(a), text_(std::move(text)), rest_(text_) {}
  std::vector<LayersOfEp> read() {
    std::vector<LayersOfEp> all;
    do {
      LayersOfEp& one = all.emplace_back();
      one.ep = number();
      if (one.ep < 1 || !take('@')) refuse();
      do {
        const std::int32_t first = number(), last = take('-') ? number() : first;
        if (last < first) refuse();
        for (std::int32_t layer = first; layer <= last; ++layer) one.layers.push_back(layer);
      } while (take('+'));
    } while (take('/'));
    if (!rest_.empty()) refuse();
    return all;
  }

 private:
  [[noreturn]] void refuse() const {
    a_.refuse("layers", "'" + text_ + "'",
              "it must be like 8@0-3+7/2@5: EP=8 in layers 0 to 3 and 7, EP=2 in layer 5; numbers below " +
                  std::to_string(kMostLayers));
  }
  bool take(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::int32_t number() {
    std::int32_t value = -1;
    const auto [end, fault] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (fault != std::errc{} || value < 0 || value >= kMostLayers) refuse();
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }
  const PresetArguments& a_;
  std::string text_;
  std::string_view rest_;
};

}  // namespace

DeploymentSpec deepspeed(const PresetArguments& a, const PresetInput& input) {
  const std::int32_t world = a.size("world"), mp = a.size("mp"), E = input.num_experts;
  a.ranks({world});
  const auto experts = [&](std::int32_t ep) -> std::vector<Axis> {
    a.require_divides("world", world, "mp * ep", saturating_product(mp, ep));
    a.require_divides("num_experts", E, "ep", ep);
    return {{"edp", world / mp / ep}, {"ep", ep}, {"mp", mp}};
  };
  DeploymentSpec spec = two_grids({{"dp", world / mp}, {"mp", mp}}, {"dp"}, {"mp"}, experts(a.size("ep")),
                                  {{"edp"}, {"ep"}, {"mp"}, {}, {}, {}}, E);
  if (!a.has("layers")) return spec;
  for (LayersOfEp& other : LayersReader(a, a.word("layers", "")).read()) {
    LayerClassSpec c = spec.classes.front();
    c.name = c.grid = "ep_size_" + std::to_string(other.ep);
    c.layers = std::move(other.layers);
    spec.grids.push_back({c.grid, experts(other.ep)});
    spec.classes.push_back(std::move(c));
  }
  return spec;
}

}  // namespace eplora::engines
