// SPDX-License-Identifier: Apache-2.0
// Cases of the integer half: dispatch, remap, align, route, and layouts by themselves. A `*Storage` gives the
// problem's view over memory that lives as long as it does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "property_tests/generators/id_batch.h"
#include "property_tests/generators/layout_draw.h"

namespace eplora::suite {

struct DispatchCase {
  static constexpr std::string_view kKind = "dispatch";
  bool operator==(const DispatchCase&) const = default;
  IdBatch batch;
  std::int32_t num_experts = 0;
  std::vector<std::int32_t> table, offsets;
  std::int64_t slot_offset = 0;

  std::string show() const;
  std::string table_text() const;
  Labels labels() const;
  Shrinks<DispatchCase> shrinks() const;
  nlohmann::json json() const;
  static DispatchCase from_json(const nlohmann::json& json);
};

struct RemapCase {
  static constexpr std::string_view kKind = "remap";
  bool operator==(const RemapCase&) const = default;
  IdBatch batch;
  std::vector<std::int32_t> mapping;
  std::int32_t num_experts = 0, max_loras = 0;
  bool shared_outer = false;
  NoAdapter no_adapter = NoAdapter::base_slot;

  std::string show() const;
  std::string table_text() const;
  Labels labels() const;
  Shrinks<RemapCase> shrinks() const;
  nlohmann::json json() const;
  static RemapCase from_json(const nlohmann::json& json);
};

struct AlignCase {
  static constexpr std::string_view kKind = "align";
  bool operator==(const AlignCase&) const = default;
  IdBatch batch;
  std::int32_t num_buckets = 0, block_size = 1;
  Sentinels sentinels = Sentinels::keep;

  std::string show() const;
  std::string table_text() const;
  Labels labels() const;
  Shrinks<AlignCase> shrinks() const;
  nlohmann::json json() const;
  static AlignCase from_json(const nlohmann::json& json);
};

/// Global ids of one batch, seen by one rank of a layout. Without `dispatch` the ids are local ids of that
/// rank already.
struct RouteCase {
  static constexpr std::string_view kKind = "route";
  bool operator==(const RouteCase&) const = default;
  IdBatch batch;
  std::vector<std::int32_t> mapping;
  LayoutSpec layout;
  std::int32_t rank = 0;
  bool dispatch = true;
  std::int32_t max_loras = 0, block_size = 1;
  bool shared_outer = false;
  NoAdapter no_adapter = NoAdapter::base_slot;
  Sentinels sentinels = Sentinels::keep;
  std::int64_t slot_offset = 0;

  /// E of the ids: the model's, or the rank's where they are local already.
  std::int32_t experts_of_ids() const;
  std::string show() const;
  std::string table_text() const;
  Labels labels() const;
  Shrinks<RouteCase> shrinks() const;
  nlohmann::json json() const;
  static RouteCase from_json(const nlohmann::json& json);
};

struct LayoutCase {
  static constexpr std::string_view kKind = "layout";
  bool operator==(const LayoutCase&) const = default;
  LayoutSpec layout;
  std::int64_t columns_per_rank = 1;  ///< I = columns_per_rank * moe_tp
  std::int64_t num_tokens = 0;

  std::int64_t intermediate() const { return columns_per_rank * moe_tp_of(layout); }
  std::string show() const;
  std::string table_text() const;
  Labels labels() const;
  Shrinks<LayoutCase> shrinks() const;
  nlohmann::json json() const;
  static LayoutCase from_json(const nlohmann::json& json);
};

DispatchCase draw_dispatch(Draw& draw, int size, const contract::Form& form);
RemapCase draw_remap(Draw& draw, int size, const contract::Form& form);
AlignCase draw_align(Draw& draw, int size, const contract::Form& form);
RouteCase draw_route(Draw& draw, int size, const contract::Form& form);
LayoutCase draw_layout_case(Draw& draw, int size, const contract::Form& form);

class DispatchStorage {
  IdStorage ids_;

 public:
  explicit DispatchStorage(const DispatchCase& c);
  const DispatchProblem problem;
};

class RemapStorage {
  IdStorage ids_;

 public:
  explicit RemapStorage(const RemapCase& c);
  const RemapProblem problem;
};

class AlignStorage {
  IdStorage ids_;

 public:
  explicit AlignStorage(const AlignCase& c);
  const AlignProblem problem;
};

/// `layout` is the implementation's answer to `c.layout`.
class RouteStorage {
  IdStorage ids_;
  DispatchTable table_;

 public:
  RouteStorage(const RouteCase& c, const Layout& layout);
  const RouteProblem problem;
};

}  // namespace eplora::suite
