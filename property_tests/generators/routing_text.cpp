// SPDX-License-Identifier: Apache-2.0
// Routing cases in words and as JSON.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "property_tests/generators/routing_cases.h"
#include "reference/check.h"

namespace eplora::suite {
namespace {

NoAdapter no_adapter_from(const std::string& name) {
  if (name != "base_slot" && name != "sentinel") reject("no_adapter", name, "base_slot or sentinel");
  return name == "sentinel" ? NoAdapter::sentinel : NoAdapter::base_slot;
}

Sentinels sentinels_from(const std::string& name) {
  if (name != "keep" && name != "drop") reject("sentinels", name, "keep or drop");
  return name == "drop" ? Sentinels::drop : Sentinels::keep;
}

/// One line a token: its ids and, where the case has one, its adapter.
std::string token_table(const IdBatch& batch, const std::vector<std::int32_t>* mapping) {
  std::string text = mapping != nullptr ? "  token | adapter | ids\n" : "  token | ids\n";
  for (std::int64_t t = 0; t < std::min<std::int64_t>(batch.T, 16); ++t) {
    text += "  " + std::to_string(t) + (t >= batch.real_rows() ? " (padding)" : "") + " | ";
    if (mapping != nullptr) text += std::to_string((*mapping)[t]) + " | ";
    for (std::int64_t k = 0; k < batch.K; ++k) text += std::to_string(batch.ids[t * batch.K + k]) + " ";
    text.back() = '\n';
  }
  if (batch.T > 16) text += "  ... " + std::to_string(batch.T) + " tokens in all\n";
  return text;
}

std::string policies(bool shared_outer, NoAdapter no_adapter) {
  std::string text = shared_outer ? " shared_outer" : "";
  return text + (no_adapter == NoAdapter::sentinel ? " no_adapter=sentinel" : "");
}

}  // namespace

std::string DispatchCase::show() const {
  return "dispatch " + show_ids(batch) + " E=" + std::to_string(num_experts) + " table=" + show_list(table) +
         (offsets.empty() ? "" : " offsets=" + show_list(offsets)) +
         (slot_offset == 0 ? "" : " slot_offset=" + std::to_string(slot_offset));
}
std::string DispatchCase::table_text() const { return token_table(batch, nullptr); }
Labels DispatchCase::labels() const {
  Labels labels;
  add_labels(batch, num_experts, labels);
  if (!offsets.empty()) labels.emplace_back("replicas");
  if (slot_offset > 0) labels.emplace_back("slot_offset > 0");
  if (std::all_of(table.begin(), table.end(), [](std::int32_t id) { return id < 0; }))
    labels.emplace_back("rank without experts");
  else if (!table.empty() && table.back() >= 0)
    labels.emplace_back("last expert is local");
  return labels;
}
nlohmann::json DispatchCase::json() const {
  return {{"batch", batch_json(batch)},
          {"num_experts", num_experts},
          {"table", table},
          {"offsets", offsets},
          {"slot_offset", slot_offset}};
}
DispatchCase DispatchCase::from_json(const nlohmann::json& json) {
  DispatchCase c;
  c.batch = batch_from_json(json.at("batch"));
  c.num_experts = json.at("num_experts");
  c.table = json.at("table").get<std::vector<std::int32_t>>();
  c.offsets = json.at("offsets").get<std::vector<std::int32_t>>();
  c.slot_offset = json.at("slot_offset");
  validate(DispatchStorage(c).problem);
  validate_replica_offsets(c.table, c.offsets);
  return c;
}

std::string RemapCase::show() const {
  return "remap " + show_ids(batch) + " adapters=" + show_list(mapping) +
         " E=" + std::to_string(num_experts) + " L=" + std::to_string(max_loras) +
         policies(shared_outer, no_adapter);
}
std::string RemapCase::table_text() const { return token_table(batch, &mapping); }
Labels RemapCase::labels() const {
  Labels labels;
  add_labels(batch, num_experts, labels);
  add_mapping_labels(mapping, max_loras, labels);
  if (shared_outer) labels.emplace_back("shared_outer");
  labels.emplace_back("no_adapter " + std::string(to_string(no_adapter)));
  return labels;
}
nlohmann::json RemapCase::json() const {
  return {{"batch", batch_json(batch)},   {"token_lora_mapping", mapping},
          {"num_experts", num_experts},   {"max_loras", max_loras},
          {"shared_outer", shared_outer}, {"no_adapter", to_string(no_adapter)}};
}
RemapCase RemapCase::from_json(const nlohmann::json& json) {
  RemapCase c;
  c.batch = batch_from_json(json.at("batch"));
  c.mapping = json.at("token_lora_mapping").get<std::vector<std::int32_t>>();
  c.num_experts = json.at("num_experts");
  c.max_loras = json.at("max_loras");
  c.shared_outer = json.at("shared_outer");
  c.no_adapter = no_adapter_from(json.at("no_adapter"));
  validate(RemapStorage(c).problem);
  return c;
}

std::string AlignCase::show() const {
  return "align " + show_ids(batch) + " V=" + std::to_string(num_buckets) +
         " B=" + std::to_string(block_size) + " sentinels=" + std::string(to_string(sentinels));
}
std::string AlignCase::table_text() const { return token_table(batch, nullptr); }
Labels AlignCase::labels() const {
  Labels labels;
  add_labels(batch, num_buckets, labels);
  labels.emplace_back("sentinels " + std::string(to_string(sentinels)));
  labels.emplace_back(block_size == 1                        ? "block 1"
                      : (block_size & (block_size - 1)) == 0 ? "block 2^k"
                                                             : "block odd");
  return labels;
}
nlohmann::json AlignCase::json() const {
  return {{"batch", batch_json(batch)},
          {"num_buckets", num_buckets},
          {"block_size", block_size},
          {"sentinels", to_string(sentinels)}};
}
AlignCase AlignCase::from_json(const nlohmann::json& json) {
  AlignCase c;
  c.batch = batch_from_json(json.at("batch"));
  c.num_buckets = json.at("num_buckets");
  c.block_size = json.at("block_size");
  c.sentinels = sentinels_from(json.at("sentinels"));
  validate(AlignStorage(c).problem);
  return c;
}

std::string RouteCase::show() const {
  return "route " + show_ids(batch) + " adapters=" + show_list(mapping) + " on rank " + std::to_string(rank) +
         " of " + show_layout(layout) + (dispatch ? "" : ", ids already local") +
         ", L=" + std::to_string(max_loras) + " B=" + std::to_string(block_size) +
         policies(shared_outer, no_adapter) + " sentinels=" + std::string(to_string(sentinels)) +
         (slot_offset == 0 ? "" : " slot_offset=" + std::to_string(slot_offset));
}
std::string RouteCase::table_text() const { return token_table(batch, &mapping); }
Labels RouteCase::labels() const {
  Labels labels;
  add_labels(batch, layout.placement.num_experts, labels);
  add_mapping_labels(mapping, max_loras, labels);
  add_labels(layout, labels);
  if (rank > 0) labels.emplace_back("rank > 0");
  if (!dispatch) labels.emplace_back("ids already local");
  if (shared_outer) labels.emplace_back("shared_outer");
  labels.emplace_back("sentinels " + std::string(to_string(sentinels)));
  return labels;
}
nlohmann::json RouteCase::json() const {
  return {{"batch", batch_json(batch)},
          {"token_lora_mapping", mapping},
          {"layout", layout_json(layout)},
          {"rank", rank},
          {"dispatch", dispatch},
          {"max_loras", max_loras},
          {"block_size", block_size},
          {"shared_outer", shared_outer},
          {"no_adapter", to_string(no_adapter)},
          {"sentinels", to_string(sentinels)},
          {"slot_offset", slot_offset}};
}
RouteCase RouteCase::from_json(const nlohmann::json& json) {
  RouteCase c;
  c.batch = batch_from_json(json.at("batch"));
  c.mapping = json.at("token_lora_mapping").get<std::vector<std::int32_t>>();
  c.layout = layout_from_json(json.at("layout"));
  c.rank = json.at("rank");
  c.dispatch = json.at("dispatch");
  c.max_loras = json.at("max_loras");
  c.block_size = json.at("block_size");
  c.shared_outer = json.at("shared_outer");
  c.no_adapter = no_adapter_from(json.at("no_adapter"));
  c.sentinels = sentinels_from(json.at("sentinels"));
  c.slot_offset = json.at("slot_offset");
  validate(RouteStorage(c, make_layout(c.layout)).problem);
  return c;
}

std::string LayoutCase::show() const {
  return "layout " + show_layout(layout) + ", I=" + std::to_string(intermediate()) +
         " T=" + std::to_string(num_tokens);
}
std::string LayoutCase::table_text() const { return "  " + show() + "\n"; }
Labels LayoutCase::labels() const {
  Labels labels;
  add_labels(layout, labels);
  labels.emplace_back(num_tokens < token_shards_of(layout) ? "tokens < shards" : "tokens >= shards");
  return labels;
}
nlohmann::json LayoutCase::json() const {
  return {
      {"layout", layout_json(layout)}, {"columns_per_rank", columns_per_rank}, {"num_tokens", num_tokens}};
}
LayoutCase LayoutCase::from_json(const nlohmann::json& json) {
  LayoutCase c;
  c.layout = layout_from_json(json.at("layout"));
  c.columns_per_rank = json.at("columns_per_rank");
  c.num_tokens = json.at("num_tokens");
  require_in_range("columns_per_rank", c.columns_per_rank, 1, 1 << 20);
  require_in_range("num_tokens", c.num_tokens, 0, kMaxIndex);
  return c;
}

}  // namespace eplora::suite
