// SPDX-License-Identifier: Apache-2.0
// The list of all properties, found by name.
#include <algorithm>
#include <cctype>

#include "property_tests/properties/properties.h"
#include "property_tests/suite/property.h"
#include "reference/check.h"

namespace eplora::suite {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

}  // namespace

std::string PropertyInfo::full_name() const {
  std::string text = operation;
  if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text + "." + name;
}

const std::vector<PropertyDefinition>& all_properties() {
  static const std::vector<PropertyDefinition> kAll = [] {
    std::vector<PropertyDefinition> all;
    for (const auto& make : {dispatch_properties, remap_properties, align_properties, route_properties,
                             layout_properties, slice_properties, delta_properties, layer_properties})
      for (PropertyDefinition& p : make()) all.push_back(std::move(p));
    return all;
  }();
  return kAll;
}

const std::vector<PropertyInfo>& list_properties() {
  static const std::vector<PropertyInfo> kInfos = [] {
    std::vector<PropertyInfo> infos;
    for (const PropertyDefinition& p : all_properties()) infos.push_back(p.info);
    return infos;
  }();
  return kInfos;
}

std::vector<PropertyInfo> find_properties(std::string_view text) {
  const std::string wanted = lower(text);
  std::vector<PropertyInfo> exact, starting;
  for (const PropertyInfo& info : list_properties()) {
    if (wanted == lower(info.full_name()) || wanted == lower(info.name)) exact.push_back(info);
    if (wanted == info.operation || lower(info.full_name()).starts_with(wanted)) starting.push_back(info);
  }
  if (!exact.empty()) return exact;
  if (starting.empty())
    reject(
        "property", text,
        "a property's name, its start, or one of dispatch, remap, align, route, layout, slice, delta, layer");
  return starting;
}

const PropertyDefinition& definition_of(std::string_view full_name) {
  for (const PropertyDefinition& p : all_properties())
    if (p.info.full_name() == full_name) return p;
  reject("property", full_name, "the full name of a property of this build");
}

std::optional<std::string> reason_not_asked(const PropertyInfo& property, const Backend& backend) {
  return reason_to_skip(definition_of(property.full_name()), backend);
}

std::optional<std::string> reason_to_skip(const PropertyDefinition& property, const Backend& backend) {
  for (const Operation operation : property.needs)
    if (!backend.supports(operation))
      return std::string(backend.name()) + " does not offer " + std::string(to_string(operation));
  if (property.host_only && backend.memory_space() != MemorySpace::host)
    return "judged through a sparse mapping in host memory; " + std::string(backend.name()) +
           " computes in " + std::string(to_string(backend.memory_space())) + " memory";
  if (property.canonical && backend.form() != contract::Form{})
    return "bytes are compared only in the canonical form; " + std::string(backend.name()) + " declares " +
           contract::to_string(backend.form());
  if (property.scale_apart && backend.form().scale_in_B)
    return "asks for B and its scale apart; " + std::string(backend.name()) + " declares scale_in_B=yes";
  return std::nullopt;
}

}  // namespace eplora::suite
