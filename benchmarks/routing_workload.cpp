// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/routing_workload.h"

#include <cstring>

#include "benchmarks/parallel.h"
#include "benchmarks/synthetic.h"
#include "reference/check.h"
#include "reference/contract/blocks.h"
#include "reference/contract/ids.h"
#include "reference/layout/placement.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"
#include "reference/routing/route.h"

namespace eplora::bench {
namespace {

/// One input set on the host. `ids` are what the operation reads: global ids, local ids or virtual ids.
struct InputSet {
  std::vector<std::int32_t> ids, mapping, table;
  std::int32_t num_experts = 0, local_experts = 0, max_loras = 0, num_buckets = 0, block_size = 1;
  std::int64_t top_k = 1;

  RouteProblem route() const {
    RouteProblem problem;
    problem.topk_ids = IdMatrix::of(ids, top_k);
    problem.token_lora_mapping = mapping;
    problem.num_experts = num_experts;
    problem.table = table;
    problem.num_local_experts = local_experts;
    problem.max_loras = max_loras;
    problem.block_size = block_size;
    return problem;
  }
  RemapProblem remap() const {
    RemapProblem problem;
    problem.topk_ids = IdMatrix::of(ids, top_k);
    problem.token_lora_mapping = mapping;
    problem.num_experts = local_experts;
    problem.max_loras = max_loras;
    return problem;
  }
  AlignProblem align() const {
    return {IdMatrix::of(ids, top_k), num_buckets, block_size, Sentinels::keep, {}};
  }
};

std::vector<std::int32_t> router_ids(const RoutingShape& shape, Pattern pattern, std::uint64_t seed,
                                     int set) {
  switch (pattern) {
    case Pattern::uniform:
      return random_topk_ids(seed, shape.tokens, shape.num_experts, shape.top_k);
    case Pattern::zipf:
      return zipf_topk_ids(seed, shape.tokens, shape.num_experts, shape.top_k);
    case Pattern::one_expert:  // linear placement: the first experts are this rank's
      return std::vector<std::int32_t>(shape.slots(), set % shape.local_experts());
    case Pattern::sentinels:
      return std::vector<std::int32_t>(shape.slots(), -1);
  }
  return {};
}

InputSet make_inputs(Suite suite, const RoutingShape& shape, Pattern pattern, int set) {
  const std::uint64_t seed =
      1000 * (static_cast<std::uint64_t>(pattern) + 1) + static_cast<std::uint64_t>(set);
  InputSet inputs;
  inputs.ids = router_ids(shape, pattern, seed, set);
  inputs.mapping = pattern == Pattern::one_expert
                       ? std::vector<std::int32_t>(shape.tokens, set % shape.max_loras)
                       : random_lora_mapping(seed, shape.tokens, shape.max_loras);
  if (shape.ep > 1) inputs.table = Placement::linear(shape.num_experts, shape.ep).dispatch_table(0).local_ids;
  inputs.num_experts = shape.num_experts;
  inputs.local_experts = shape.local_experts();
  inputs.max_loras = shape.max_loras;
  inputs.num_buckets = static_cast<std::int32_t>(shape.buckets());
  inputs.block_size = shape.block_size;
  inputs.top_k = shape.top_k;
  if (suite == Suite::route) return inputs;
  if (shape.ep > 1) {
    DispatchProblem dispatch;
    dispatch.topk_ids = IdMatrix::of(inputs.ids, shape.top_k);
    dispatch.num_experts = shape.num_experts;
    dispatch.table = inputs.table;
    inputs.ids = reference::dispatch(dispatch).local_ids;
    inputs.table.clear();
  }
  if (suite == Suite::align) {
    inputs.ids = reference::remap(inputs.remap()).virtual_ids;
    inputs.mapping.clear();
  }
  return inputs;
}

/// An output array in canonical order, and what the reference says stands in it.
using Bytes = std::vector<std::byte>;

template <class T>
Bytes bytes_of_values(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<Bytes> blocks_in_order(const AlignResult& blocks) {
  return {bytes_of_values(blocks.sorted_token_ids), bytes_of_values(blocks.expert_ids),
          bytes_of_values(std::vector<std::int32_t>{blocks.num_tokens_post_padded})};
}

std::vector<Bytes> expected_outputs(Suite suite, const InputSet& inputs) {
  if (suite == Suite::remap) {
    const RemapResult result = reference::remap(inputs.remap());
    return {bytes_of_values(result.virtual_ids), bytes_of_values(result.token_lora_mask)};
  }
  if (suite == Suite::align) return blocks_in_order(reference::align(inputs.align()));
  const RouteResult result = reference::route(inputs.route());
  std::vector<Bytes> outputs = blocks_in_order(result.blocks);
  outputs.push_back(bytes_of_values(result.token_lora_mask));
  return outputs;
}

std::vector<std::string> output_names(Suite suite) {
  if (suite == Suite::remap) return {"virtual_ids", "token_lora_mask"};
  return {"sorted_token_ids", "expert_ids", "num_tokens_post_padded", "token_lora_mask"};
}

PartDigests digests_of(const InputSet& inputs, const std::vector<Bytes>& outputs) {
  Sha256 in, out;
  for (const auto* values : {&inputs.ids, &inputs.mapping, &inputs.table})
    in.add_values(std::span<const std::int32_t>(*values));
  for (const Bytes& bytes : outputs) out.add(bytes);
  return {in.finish(), out.finish()};
}

/// One input set in a backend's memory.
struct LoadedSet {
  std::vector<Buffer> inputs, outputs;
  Buffer workspace;

  RouteProblem route;
  RemapProblem remap;
  AlignProblem align;

  template <class T>
  T* output(std::size_t index) const {
    return reinterpret_cast<T*>(outputs[index].data());
  }
};

class LoadedRouting final : public Loaded {
 public:
  LoadedRouting(Suite suite, Backend& backend, MemoryAccess& memory, const std::vector<InputSet>& inputs,
                const std::vector<std::vector<Bytes>>& expected)
      : suite_(suite), backend_(backend), memory_(memory), inputs_(inputs), expected_(expected) {
    for (std::size_t i = 0; i < inputs.size(); ++i) sets_.push_back(load_set(memory, inputs[i], expected[i]));
  }

  void poison(const Fill& fill) override {
    for (const LoadedSet& set : sets_) {
      for (const Buffer& output : set.outputs) fill(output.data(), output.size(), 0xA5);
      fill(set.workspace.data(), set.workspace.size(), 0x5A);
    }
  }

  void refresh(const Fill& fill, int round) override {
    round_ = static_cast<std::size_t>(round);
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      const InputSet& inputs = inputs_[holds(i)];
      const std::vector<std::int32_t>* const arrays[] = {&inputs.ids, &inputs.mapping, &inputs.table};
      for (std::size_t k = 0; k < std::size(arrays); ++k)
        memory_.copy_to(sets_[i].inputs[k].data(), arrays[k]->data(),
                        arrays[k]->size() * sizeof(std::int32_t));
    }
    poison(fill);
  }

  void enqueue(int index, void* stream) override {
    const LoadedSet& set = sets_[static_cast<std::size_t>(index)];
    const ExecutionContext context{set.workspace.data(), set.workspace.size(), stream};
    if (suite_ == Suite::remap) {
      backend_.remap(set.remap, {set.output<std::int32_t>(0), set.output<std::uint8_t>(1)}, context);
      return;
    }
    const AlignOutput blocks{set.output<std::int32_t>(0), set.output<std::int32_t>(1),
                             set.output<std::int32_t>(2)};
    if (suite_ == Suite::align)
      backend_.align(set.align, blocks, context);
    else
      backend_.route(set.route, {blocks, set.output<std::uint8_t>(3)}, context);
  }

  std::string difference() override {
    const std::vector<std::string> names = output_names(suite_);
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      if (!answers_in_bytes()) {
        if (const contract::Verdict violation = judged(i))
          return "input set " + std::to_string(i) + ", " + violation->property + ": " + violation->sentence;
        continue;
      }
      for (std::size_t k = 0; k < expected_[holds(i)].size(); ++k) {
        const Bytes& want = expected_[holds(i)][k];
        Bytes got(sets_[i].outputs[k].size());
        sets_[i].outputs[k].read(got.data());
        if (got == want) continue;
        const auto [a, b] = std::mismatch(got.begin(), got.end(), want.begin());
        return "input set " + std::to_string(i) + ", " + names[k] + ", byte " +
               std::to_string(a - got.begin()) + ": expected " + std::to_string(std::to_integer<int>(*b)) +
               ", found " + std::to_string(std::to_integer<int>(*a));
      }
    }
    return {};
  }

 private:
  /// Which input set stands in the memory of set `i`.
  std::size_t holds(std::size_t i) const { return (i + round_) % sets_.size(); }

  std::int64_t capacity(const AlignProblem& p) const {
    return backend_.capacity(p.ids.size(), p.num_buckets, p.block_size, p.sentinels);
  }
  /// What the blocks of a set are an align of: route's are those of the ids that it gives its slots.
  AlignProblem shape_of_blocks(const InputSet& inputs) const {
    return {
        IdMatrix::of(inputs.ids, inputs.top_k), inputs.num_buckets, inputs.block_size, Sentinels::keep, {}};
  }

  /// Whether the reference's bytes are the only right ones.
  bool answers_in_bytes() const {
    if (backend_.form() != contract::Form{}) return false;
    if (suite_ == Suite::remap) return true;
    const AlignProblem p = shape_of_blocks(inputs_.front());
    return capacity(p) == align_capacity(p.ids.size(), p.num_buckets, p.block_size, p.sentinels);
  }

  template <class T>
  std::vector<T> read(std::size_t i, std::size_t output, std::int64_t count) const {
    const Buffer& buffer = sets_[i].outputs[output];
    std::vector<std::byte> bytes(buffer.size());
    buffer.read(bytes.data());
    std::vector<T> values(static_cast<std::size_t>(count));
    if (count > 0) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }

  contract::Verdict judged(std::size_t i) const {
    const InputSet& inputs = inputs_[holds(i)];
    const contract::Form form = backend_.form();
    const auto tokens = static_cast<std::int64_t>(inputs.mapping.size());
    if (suite_ == Suite::remap) {
      const RemapProblem problem = inputs.remap();
      const RemapResult result{read<std::int32_t>(i, 0, problem.topk_ids.size()),
                               read<std::uint8_t>(i, 1, tokens)};
      if (contract::Verdict violation = contract::p1_closure(problem, result, form)) return violation;
      return contract::p2_decode(problem, result);
    }
    const AlignProblem shape = shape_of_blocks(inputs);
    const std::int64_t entries = capacity(shape);
    const AlignResult blocks{read<std::int32_t>(i, 0, entries),
                             read<std::int32_t>(i, 1, entries / shape.block_size),
                             read<std::int32_t>(i, 2, 1).front()};
    if (suite_ == Suite::align) return contract::judge_blocks(shape, blocks, entries, form);
    return contract::judge_route(inputs.route(), {blocks, read<std::uint8_t>(i, 3, tokens)}, entries, form);
  }

  LoadedSet load_set(MemoryAccess& memory, const InputSet& inputs, const std::vector<Bytes>& expected) {
    RouteProblem route = suite_ == Suite::route ? inputs.route() : RouteProblem{};
    RemapProblem remap = suite_ == Suite::remap ? inputs.remap() : RemapProblem{};
    AlignProblem align = suite_ == Suite::align ? inputs.align() : AlignProblem{};
    const std::size_t workspace_bytes = suite_ == Suite::route   ? backend_.workspace_bytes(route)
                                        : suite_ == Suite::remap ? backend_.workspace_bytes(remap)
                                                                 : backend_.workspace_bytes(align);
    LoadedSet set{{}, {}, Buffer(memory, std::max<std::size_t>(workspace_bytes, 1)), route, remap, align};
    const auto load = [&](const std::vector<std::int32_t>& values) {
      set.inputs.emplace_back(memory, std::max<std::size_t>(values.size() * sizeof(std::int32_t), 1));
      if (!values.empty())
        memory.copy_to(set.inputs.back().data(), values.data(), values.size() * sizeof(std::int32_t));
      return reinterpret_cast<const std::int32_t*>(set.inputs.back().data());
    };
    const std::int32_t* const ids = load(inputs.ids);
    const std::int32_t* const mapping = load(inputs.mapping);
    const std::int32_t* const table = load(inputs.table);
    set.route.topk_ids.data = set.remap.topk_ids.data = set.align.ids.data = ids;
    set.route.token_lora_mapping = set.remap.token_lora_mapping = {mapping, inputs.mapping.size()};
    set.route.table = {table, inputs.table.size()};
    for (const Bytes& bytes : expected) {
      std::size_t size = bytes.size();
      const std::size_t k = set.outputs.size();
      if (suite_ != Suite::remap && k < 2) {  // as long as the backend says, which may be wrong
        const std::int64_t entries = std::max<std::int64_t>(capacity(shape_of_blocks(inputs)), 0);
        size = std::max(size, static_cast<std::size_t>(k == 0 ? entries : entries / inputs.block_size) *
                                  sizeof(std::int32_t));
      }
      set.outputs.emplace_back(memory, size);
    }
    return set;
  }

  Suite suite_;
  Backend& backend_;
  MemoryAccess& memory_;
  const std::vector<InputSet>& inputs_;
  const std::vector<std::vector<Bytes>>& expected_;
  std::size_t round_ = 0;
  std::vector<LoadedSet> sets_;
};

class RoutingWorkload final : public Workload {
 public:
  RoutingWorkload(Suite suite, const RoutingShape& shape, Pattern pattern, int sets)
      : suite_(suite), shape_(shape), inputs_(sets), expected_(sets), parts_(sets) {
    parallel_for(sets, [&](std::int64_t i) {
      inputs_[i] = make_inputs(suite, shape, pattern, static_cast<int>(i));
      expected_[i] = expected_outputs(suite, inputs_[i]);
      parts_[i] = digests_of(inputs_[i], expected_[i]);
    });
  }

  int sets() const override { return static_cast<int>(inputs_.size()); }
  std::int64_t bytes() const override { return routing_bytes(suite_, shape_); }
  const std::vector<PartDigests>& parts() const override { return parts_; }
  std::unique_ptr<Loaded> load(Backend& backend, MemoryAccess& memory) const override {
    return std::make_unique<LoadedRouting>(suite_, backend, memory, inputs_, expected_);
  }

 private:
  Suite suite_;
  RoutingShape shape_;
  std::vector<InputSet> inputs_;
  std::vector<std::vector<Bytes>> expected_;
  std::vector<PartDigests> parts_;
};

}  // namespace

int rotating_sets(const RoutingShape& shape) { return shape.slots() > (1 << 21) ? 4 : 8; }

void validate(const RoutingShape& shape) {
  require_in_range("tokens", shape.tokens, 1, 1 << 24);
  require_in_range("num_experts", shape.num_experts, 1, 1 << 16);
  require_in_range("top_k", shape.top_k, 1, shape.num_experts);
  require_in_range("ep", shape.ep, 1, shape.num_experts);
  require_in_range("max_loras", shape.max_loras, 1, 1 << 16);
  require_in_range("block_size", shape.block_size, 1, 1 << 16);
  require_in_range("slots", shape.slots(), 1, 1 << 26);
  require_in_range("buckets", shape.buckets(), 1, 1 << 24);
  require_in_range("capacity",
                   align_capacity(shape.slots(), shape.buckets(), shape.block_size, Sentinels::keep), 1,
                   1 << 28);
}

std::unique_ptr<Workload> make_routing_workload(Suite suite, const RoutingShape& shape, Pattern pattern,
                                                int sets) {
  validate(shape);
  return std::make_unique<RoutingWorkload>(suite, shape, pattern, sets);
}

PartDigests routing_digests(Suite suite, const RoutingShape& shape, Pattern pattern, int set) {
  validate(shape);
  const InputSet inputs = make_inputs(suite, shape, pattern, set);
  return digests_of(inputs, expected_outputs(suite, inputs));
}

std::int64_t routing_bytes(Suite suite, const RoutingShape& shape) {
  const std::int64_t n = shape.slots(), T = shape.tokens, word = sizeof(std::int32_t);
  const std::int64_t capacity = align_capacity(n, shape.buckets(), shape.block_size, Sentinels::keep);
  const std::int64_t blocks = word * (capacity + capacity / shape.block_size + 1);
  if (suite == Suite::remap) return word * (n + T) + word * n + T;
  if (suite == Suite::align) return word * n + blocks;
  return word * (n + T + (shape.ep > 1 ? shape.num_experts : 0)) + blocks + T;
}

}  // namespace eplora::bench
