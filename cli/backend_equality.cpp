// SPDX-License-Identifier: Apache-2.0
#include "cli/backend_equality.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "optimized/guarded_run.h"
#include "reference/check.h"
#include "reference/lora/slice.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"
#include "reference/routing/route.h"

namespace eplora {

template <class T>
std::string first_difference(const std::string& name, const std::vector<T>& got, const std::vector<T>& want) {
  if (got.size() != want.size())
    return fmt::format("{} has {} entries; the reference has {}", name, got.size(), want.size());
  const auto [at, reference] = std::mismatch(got.begin(), got.end(), want.begin());
  if (at == got.end()) return "";
  return fmt::format("{}[{}] is {}; the reference has {}", name, at - got.begin(), +*at, +*reference);
}
template std::string first_difference(const std::string&, const std::vector<std::int32_t>&,
                                      const std::vector<std::int32_t>&);
template std::string first_difference(const std::string&, const std::vector<std::uint8_t>&,
                                      const std::vector<std::uint8_t>&);

namespace {

std::string first_difference_of(const AlignResult& got, const AlignResult& want) {
  if (got.num_tokens_post_padded != want.num_tokens_post_padded)
    return fmt::format("num_tokens_post_padded is {}; the reference has {}", got.num_tokens_post_padded,
                       want.num_tokens_post_padded);
  const std::string ids = first_difference("sorted_token_ids", got.sorted_token_ids, want.sorted_token_ids);
  return ids.empty() ? first_difference("expert_ids", got.expert_ids, want.expert_ids) : ids;
}

std::string first_difference_of(const LoraBuffers& got, const LoraBuffers& want) {
  for (std::size_t layer = 0; layer < want.shape().layers.size(); ++layer) {
    for (const BufferTensor tensor : kBufferTensors) {
      if (!want.shape().active(layer, tensor)) continue;
      const auto found = got.bytes(layer, tensor), expected = want.bytes(layer, tensor);
      const auto [at, reference] = std::mismatch(found.begin(), found.end(), expected.begin());
      if (at == found.end()) continue;
      const std::int64_t element =
          (at - found.begin()) / static_cast<std::int64_t>(bytes_of(want.shape().dtype));
      const std::int64_t size = want.shape().slot_elements(tensor);
      const auto slot = static_cast<std::int32_t>(element / size);
      return fmt::format("layer {} {} slot {} element {} is {}; the reference has {}", layer,
                         to_string(tensor), slot, element % size, got.at(layer, tensor, slot, element % size),
                         want.at(layer, tensor, slot, element % size));
    }
  }
  for (std::size_t i = 0; i < want.scales().size(); ++i)
    if (!(got.scales()[i] == want.scales()[i]))
      return fmt::format("scale[{}] is {}; the reference has {}", i, got.scales()[i], want.scales()[i]);
  return "";
}

/// Layers that some adapter has; all of them stand in the buffers.
std::vector<BufferLayer> layers_of(const std::vector<const Adapter*>& adapters) {
  std::set<std::int32_t> ids;
  for (const Adapter* adapter : adapters)
    for (const auto& layer : adapter->layers) ids.insert(layer.first);
  std::vector<BufferLayer> layers;
  layers.reserve(ids.size());
  for (const std::int32_t id : ids) layers.push_back({id});
  return layers;
}

std::int64_t largest_rank(const std::vector<const Adapter*>& adapters) {
  std::int64_t rank = 1;
  for (const Adapter* adapter : adapters)
    for (const auto& [id, layer] : adapter->layers)
      for (const LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down})
        if (pair->present()) rank = std::max(rank, pair->rank());
  return rank;
}

/// All operations of one backend on one rank.
class RankComparison {
 public:
  RankComparison(Backend& backend, const Layout& layout, const EqualityData& data, std::int32_t rank,
                 BackendVerdict& verdict)
      : backend_(backend), run_(backend), layout_(layout), data_(data), rank_(rank), verdict_(verdict) {
    const Range tokens = layout.token_range(data.topk_ids.rows, rank);
    ids_ = data.topk_ids;
    const std::int64_t width = ids_.type == IdType::int32 ? 4 : 8;
    ids_.data = static_cast<const char*>(ids_.data) + tokens.begin * ids_.row_stride * width;
    ids_.rows = tokens.size();
    mapping_ = data.token_lora_mapping.subspan(tokens.begin, tokens.size());
    slot_offset_ = tokens.begin * ids_.cols;
    table_ = layout.placement.dispatch_table(layout.place(rank).ep_rank);
    num_local_ = static_cast<std::int32_t>(layout.local_experts(rank).size());
    max_loras_ = static_cast<std::int32_t>(data.adapters.size());
  }

  void run() {
    const DispatchProblem dispatch{
        ids_, data_.geometry.num_experts, table_.local_ids, table_.offsets, slot_offset_, {}};
    const DispatchResult local = reference::dispatch(dispatch);
    judge(Operation::dispatch,
          [&] { return first_difference("local_ids", run_.dispatch(dispatch).local_ids, local.local_ids); });
    const IdMatrix local_ids = IdMatrix::of(local.local_ids, ids_.cols);
    for (const NoAdapter policy : {NoAdapter::base_slot, NoAdapter::sentinel}) {
      const RemapProblem remap{local_ids, mapping_, num_local_, max_loras_, false, policy, {}};
      const RemapResult virtual_ids = reference::remap(remap);
      judge(Operation::remap, [&] {
        const RemapResult got = run_.remap(remap);
        const std::string ids = first_difference("virtual_ids", got.virtual_ids, virtual_ids.virtual_ids);
        return ids.empty()
                   ? first_difference("token_lora_mask", got.token_lora_mask, virtual_ids.token_lora_mask)
                   : ids;
      });
      for (const Sentinels sentinels : {Sentinels::keep, Sentinels::drop}) {
        align(IdMatrix::of(virtual_ids.virtual_ids, ids_.cols), sentinels);
        route(policy, sentinels);
      }
    }
    slice();
  }

 private:
  void align(const IdMatrix& ids, Sentinels sentinels) {
    const AlignProblem problem{ids, num_local_ * max_loras_, data_.block_size, sentinels, {}};
    const AlignResult want = reference::align(problem);
    judge(Operation::align, [&] { return first_difference_of(run_.align(problem), want); });
  }

  void route(NoAdapter policy, Sentinels sentinels) {
    const RouteProblem problem{ids_,
                               mapping_,
                               data_.geometry.num_experts,
                               table_.local_ids,
                               table_.offsets,
                               slot_offset_,
                               num_local_,
                               max_loras_,
                               false,
                               policy,
                               data_.block_size,
                               sentinels,
                               {}};
    const RouteResult want = reference::route(problem);
    judge(Operation::route, [&] { return first_difference(run_.route(problem), want); });
  }

  void slice() {
    if (data_.adapters.empty()) return;
    const RankPlace& place = layout_.place(rank_);
    const BufferShape shape = buffer_shape(data_.geometry, place, num_local_, layers_of(data_.adapters),
                                           max_loras_, largest_rank(data_.adapters), DType::f32);
    constexpr std::uint8_t kFill =
        0xA5;  // a byte that nobody wrote is the same on both sides only if it stays
    LoraBuffers got(shape, kFill), want(shape, kFill);
    for (std::int32_t slot = 0; slot < max_loras_; ++slot) {
      const SliceProblem problem{data_.geometry,       place,  layout_.local_experts(rank_),
                                 data_.adapters[slot], &shape, slot};
      reference::slice(problem, want.view());
      judge(Operation::slice, [&] {
        run_.slice(problem, got);
        return first_difference_of(got, want);
      });
    }
  }

  void judge(Operation operation, const std::function<std::string()>& difference) {
    OperationVerdict& verdict = verdict_.operations[static_cast<std::size_t>(operation)];
    if (!backend_.supports(operation)) return;
    std::string found;
    try {
      found = difference();
    } catch (const BackendUnavailable&) {
      throw;
    } catch (const std::exception& error) {
      found = error.what();
    }
    ++verdict.comparisons;
    if (verdict.state == OperationVerdict::State::different) return;
    verdict.state = found.empty() ? OperationVerdict::State::equal : OperationVerdict::State::different;
    if (!found.empty()) verdict.difference = fmt::format("rank {}: {}", rank_, found);
  }

  Backend& backend_;
  GuardedRun run_;
  const Layout& layout_;
  const EqualityData& data_;
  std::int32_t rank_;
  BackendVerdict& verdict_;
  IdMatrix ids_;
  std::span<const std::int32_t> mapping_;
  std::int64_t slot_offset_ = 0;
  DispatchTable table_;
  std::int32_t num_local_ = 0, max_loras_ = 0;
};

std::string_view state_name(OperationVerdict::State state) {
  switch (state) {
    case OperationVerdict::State::not_supported:
      return "not supported";
    case OperationVerdict::State::equal:
      return "equal";
    case OperationVerdict::State::different:
      return "different";
  }
  return "?";
}

}  // namespace

std::string first_difference(const RouteResult& got, const RouteResult& want) {
  const std::string blocks = first_difference_of(got.blocks, want.blocks);
  return blocks.empty() ? first_difference("token_lora_mask", got.token_lora_mask, want.token_lora_mask)
                        : blocks;
}

Cell OperationVerdict::cell() const {
  switch (state) {
    case State::not_supported:
      return {"-", Style::faint};
    case State::equal:
      return {"equal", Style::good};
    case State::different:
      return {"DIFFERENT", Style::bad};
  }
  return {"?"};
}

bool BackendVerdict::agrees() const {
  return std::none_of(operations.begin(), operations.end(), [](const OperationVerdict& v) {
    return v.state == OperationVerdict::State::different;
  });
}

std::string BackendVerdict::first_difference() const {
  for (const Operation operation : kOperations)
    if (!of(operation).difference.empty())
      return fmt::format("{}, {}, {}", backend, to_string(operation), of(operation).difference);
  return "";
}

BackendVerdict compare_backend(Backend& backend, const Layout& layout, const EqualityData& data) {
  BackendVerdict verdict;
  verdict.backend = backend.name();
  for (std::int32_t rank = 0; rank < layout.mesh.num_ranks(); ++rank)
    RankComparison(backend, layout, data, rank, verdict).run();
  return verdict;
}

nlohmann::ordered_json to_json(const BackendVerdict& verdict) {
  nlohmann::ordered_json operations = nlohmann::ordered_json::object();
  for (const Operation operation : kOperations)
    if (operation != Operation::delta)  // its law is a numeric bound: `eplora check` asks it
      operations[std::string(to_string(operation))] = {{"state", state_name(verdict.of(operation).state)},
                                                       {"comparisons", verdict.of(operation).comparisons},
                                                       {"difference", verdict.of(operation).difference}};
  return {{"backend", verdict.backend}, {"agrees", verdict.agrees()}, {"operations", std::move(operations)}};
}

}  // namespace eplora
