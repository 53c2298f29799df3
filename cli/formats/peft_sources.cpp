// SPDX-License-Identifier: Apache-2.0
#include "cli/formats/peft_sources.h"

#include "cli/formats/strict_json.h"
#include "reference/check.h"

namespace eplora {
namespace {

constexpr std::array kFactors = {Factor::A, Factor::B};

std::string subject(const SafetensorsFile& file, const std::string& name) {
  return file.path() + ": tensor " + in_quotes(name);
}

/// Puts the source where it belongs; false when something stands there.
bool place(PeftLayerSources& layer, const PeftSource& source) {
  const auto factor = static_cast<std::size_t>(source.key.factor);
  if (source.key.layout == PeftKeyLayout::fused) {
    std::optional<PeftSource>& slot = layer.fused[source.key.base_layer ? 1 : 0][factor];
    if (slot) return false;
    slot = source;
    return true;
  }
  NamedFactor& named = layer.named[static_cast<std::size_t>(*source.key.projection)][factor];
  if (source.key.layout == PeftKeyLayout::per_expert)
    return named.per_expert.emplace(source.key.expert, source).second;
  if (named.stacked) return false;
  named.stacked = source;
  return true;
}

[[noreturn]] void reject_lone(const SafetensorsFile& file, const PeftSource& source) {
  const Factor other = source.key.factor == Factor::A ? Factor::B : Factor::A;
  reject(subject(file, source.view->name) + " counterpart " + std::string(to_string(other)), "missing",
         "lora_A and lora_B come together");
}

void require_pairs(const SafetensorsFile& file, const PeftLayerSources& layer) {
  for (const auto& pair : layer.fused)
    if (pair[0].has_value() != pair[1].has_value()) reject_lone(file, pair[0] ? *pair[0] : *pair[1]);
  for (const auto& pair : layer.named) {
    for (const NamedFactor& factor : pair)
      if (factor.stacked && !factor.per_expert.empty())
        reject(subject(file, factor.stacked->view->name), "beside tensors of single experts",
               "a factor stands once for all experts or once for each");
    if (pair[0].present() != pair[1].present())
      reject_lone(file, pair[0].present() ? pair[0].any() : pair[1].any());
    for (const Factor factor : kFactors) {
      const NamedFactor& own = pair[static_cast<std::size_t>(factor)];
      const NamedFactor& other = pair[1 - static_cast<std::size_t>(factor)];
      if (other.stacked) continue;
      for (const auto& [expert, source] : own.per_expert)
        if (!other.per_expert.contains(expert)) reject_lone(file, source);
    }
  }
}

}  // namespace

bool PeftLayerSources::has_fused() const { return fused[0][0].has_value() || fused[1][0].has_value(); }

bool PeftLayerSources::has_named() const {
  for (const auto& pair : named)
    if (pair[0].present()) return true;
  return false;
}

PeftSources sort_peft_tensors(const SafetensorsFile& file) {
  PeftSources sources;
  for (const auto& [name, view] : file.tensors()) {
    if (!names_expert_tensor(name)) {
      sources.outside.push_back(name);
      continue;
    }
    const std::optional<PeftKey> key = parse_peft_key(name);
    if (!key)
      reject(subject(file, name), "unknown",
             "an expert tensor is named "
             "...layers.{L}.<block>.experts.[{e}.<proj>.|base_layer.|<proj>.]lora_{A,B}.weight");
    PeftLayerSources& layer = sources.layers[key->layer];
    if (layer.experts.empty()) layer.experts = key->experts;
    if (layer.experts != key->experts)
      reject(subject(file, name), "another block of layer " + std::to_string(key->layer),
             "the layer's experts are " + in_quotes(layer.experts));
    if (!place(layer, {&view, *key}))
      reject(subject(file, name), "a second tensor of its kind", "a factor may stand once, under one name");
    sources.consumed.push_back(name);
  }
  for (const auto& [id, layer] : sources.layers) {
    require_pairs(file, layer);
    if (layer.has_fused() && layer.has_named())
      reject(file.path() + ": layer " + std::to_string(id), "in two key layouts",
             "fused tensors (experts.lora_A) and tensors with a projection's name exclude each other");
  }
  return sources;
}

}  // namespace eplora
