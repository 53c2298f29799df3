// SPDX-License-Identifier: Apache-2.0
#include "optimized/guarded_run.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "optimized/guarded_memory.h"
#include "reference/check.h"

namespace eplora {
namespace {

thread_local GuardedRunObserver* observer = nullptr;

template <class Problem, class Result>
Result shown(const Problem& problem, Result result) {
  if (observer != nullptr) observer->saw(problem, result);
  return result;
}

/// Some value in `[0, count)`, or 0: what stands where nobody may read. It is valid, so reading it gives a
/// wrong result.
std::int64_t valid_decoy(std::uint64_t place, std::uint8_t poison, std::int64_t count) {
  std::uint64_t mixed = (place + 1) * 0x9E37'79B9'7F4A'7C15U + poison;
  mixed = (mixed ^ (mixed >> 29)) * 0xBF58'476D'1CE4'E5B9U;
  return count <= 0 ? 0 : static_cast<std::int64_t>((mixed >> 32) % static_cast<std::uint64_t>(count));
}

std::span<const std::byte> bytes_at(const void* data, std::size_t bytes) {
  return {static_cast<const std::byte*>(data), bytes};
}

/// One call under guard: copies of the problem's arrays in the backend's memory.
class Call {
  MemoryAccess& memory_;

 public:
  Call(Backend& backend, std::uint8_t poison, Operation operation)
      : memory_(memory_access(backend.memory_space())), buffers(memory_, poison), poison_(poison) {
    who_ = "backend " + std::string(backend.name()) + ", " + std::string(to_string(operation)) + ",";
  }

  GuardedBuffers buffers;

  /// Exactly the elements that a strided matrix has, `(rows-1)*row_stride + cols`: a reader of more meets the
  /// red zone. Gaps between rows and rows past the real ones hold decoys, ids in `[0, num_ids)`.
  IdMatrix ids(const IdMatrix& host, std::int64_t num_tokens, std::int64_t num_ids) {
    return host.type == IdType::int32 ? ids_of<std::int32_t>(host, num_tokens, num_ids)
                                      : ids_of<std::int64_t>(host, num_tokens, num_ids);
  }

  /// Tokens past the real ones hold decoys, adapters in `[0, max_loras)`.
  std::span<const std::int32_t> mapping(std::span<const std::int32_t> host, std::int64_t num_tokens,
                                        std::int64_t max_loras) {
    std::vector<std::int32_t> copy(host.begin(), host.end());
    for (std::size_t t = static_cast<std::size_t>(num_tokens); t < copy.size(); ++t)
      copy[t] = static_cast<std::int32_t>(valid_decoy(t, poison_, max_loras));
    return array("token_lora_mapping", copy);
  }

  std::span<const std::int32_t> array(std::string name, std::span<const std::int32_t> host) {
    return {buffers.input<std::int32_t>(std::move(name), host), host.size()};
  }

  NumTokens num_tokens(const NumTokens& host) {
    if (host.kind != NumTokens::Kind::pointer) return host;
    return NumTokens::at(buffers.input<std::int32_t>("num_tokens", std::span(host.pointer, 1)));
  }

  /// The last buffer; all of them are in the backend's memory then.
  ExecutionContext context(std::size_t workspace_bytes) {
    void* const workspace = buffers.workspace(workspace_bytes);
    buffers.upload();
    return {workspace, workspace_bytes, memory_.stream()};
  }

  AlignOutput blocks(std::int64_t capacity, std::int64_t block_size) {
    if (capacity < 0 || capacity > kMaxIndex)
      throw GuardViolation(who_ + " reports a capacity of " + std::to_string(capacity) +
                           "; it must be 0 to 2^31-1");
    capacity_ = capacity;
    num_blocks_ = capacity / block_size;
    return {buffers.output<std::int32_t>("sorted_token_ids", capacity_),
            buffers.output<std::int32_t>("expert_ids", num_blocks_),
            buffers.output<std::int32_t>("num_tokens_post_padded", 1)};
  }

  AlignResult read(const AlignOutput& output) const {
    return {buffers.read(output.sorted_token_ids, capacity_), buffers.read(output.expert_ids, num_blocks_),
            buffers.read(output.num_tokens_post_padded, 1).front()};
  }

  void verify() { buffers.verify(who_); }

 private:
  template <class Id>
  IdMatrix ids_of(const IdMatrix& host, std::int64_t num_tokens, std::int64_t num_ids) {
    std::vector<Id> copy(
        host.rows == 0 ? 0 : static_cast<std::size_t>((host.rows - 1) * host.row_stride + host.cols));
    for (std::size_t i = 0; i < copy.size(); ++i) copy[i] = static_cast<Id>(valid_decoy(i, poison_, num_ids));
    for (std::int64_t t = 0; t < num_tokens; ++t)
      std::copy_n(static_cast<const Id*>(host.data) + t * host.row_stride, host.cols,
                  copy.data() + t * host.row_stride);
    return {buffers.input<Id>("topk_ids", copy), host.type, host.rows, host.cols, host.row_stride};
  }

  std::uint8_t poison_;
  std::string who_;
  std::int64_t capacity_ = 0, num_blocks_ = 0;
};

/// The adapter's tensors in the backend's memory. Views may share memory (a fused A stands in both halves,
/// interleaved halves interlock), so memory is copied range by range, overlapping ranges as one.
class AdapterCopy {
 public:
  AdapterCopy(const Adapter& host, GuardedBuffers& buffers) : adapter_(host) {
    for_each_tensor([&](const StridedTensor& tensor) { ranges_.push_back(range_of(tensor)); });
    std::ranges::sort(ranges_, {}, &MemoryRange::begin);
    std::size_t last = 0;
    for (std::size_t i = 1; i < ranges_.size(); ++i) {
      if (ranges_[i].begin < ranges_[last].end || ranges_[i].begin == ranges_[last].begin) {
        ranges_[last].end = std::max(ranges_[last].end, ranges_[i].end);
        ranges_[last].element_size = std::max(ranges_[last].element_size, ranges_[i].element_size);
      } else {
        ranges_[++last] = ranges_[i];
      }
    }
    if (!ranges_.empty()) ranges_.resize(last + 1);
    for (MemoryRange& range : ranges_)
      range.copy = static_cast<const std::byte*>(buffers.input(
          "adapter weights", bytes_at(range.begin, static_cast<std::size_t>(range.end - range.begin)),
          range.element_size));
    for_each_tensor([&](StridedTensor& tensor) {
      const std::byte* const begin = range_of(tensor).begin;
      const auto holder = std::prev(std::ranges::upper_bound(ranges_, begin, {}, &MemoryRange::begin));
      tensor.data = holder->copy + (static_cast<const std::byte*>(tensor.data) - holder->begin);
    });
  }

  const Adapter& adapter() const { return adapter_; }

 private:
  struct MemoryRange {
    const std::byte *begin, *end;
    std::size_t element_size;
    const std::byte* copy = nullptr;
  };

  static MemoryRange range_of(const StridedTensor& tensor) {
    std::int64_t low = 0, high = 0;
    const auto stretch = [&](std::int64_t count, std::int64_t stride) {
      (stride < 0 ? low : high) += (count - 1) * stride;
    };
    if (tensor.experts > 1) stretch(tensor.experts, tensor.expert_stride);
    stretch(tensor.rows, tensor.row_stride);
    stretch(tensor.cols, tensor.col_stride);
    const std::size_t size = bytes_of(tensor.dtype);
    const auto* const data = static_cast<const std::byte*>(tensor.data);
    return {data + low * static_cast<std::int64_t>(size), data + (high + 1) * static_cast<std::int64_t>(size),
            size};
  }

  template <class Visit>
  void for_each_tensor(const Visit& visit) {
    for (auto& [id, layer] : adapter_.layers)
      for (LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down})
        for (StridedTensor* tensor : {&pair->A, &pair->B})
          if (tensor->present()) visit(*tensor);
  }

  Adapter adapter_;
  std::vector<MemoryRange> ranges_;  // ascending, disjoint
};

/// A problem of deltas with NaN wherever no slot with an adapter needs a value.
class DeltaCopy {
 public:
  DeltaCopy(const DeltaProblem& host, GuardedBuffers& buffers, std::uint8_t poison)
      : host_(host), poison_(poison), n_(host.slots()), problem_(host) {
    std::vector<bool> slots(static_cast<std::size_t>(n_)), adapters(static_cast<std::size_t>(host.max_loras));
    visit(host.per_expert, host.max_loras * std::int64_t{host.num_local_experts},
          [&](std::int64_t slot, std::int64_t v) {
            slots[static_cast<std::size_t>(slot)] = true;
            adapters[static_cast<std::size_t>(v / host.num_local_experts)] = true;
          });
    const std::size_t weight = bytes_of(host.dtype);
    problem_.A = tiles(buffers, "A", host.A, host.A_tiles(), host.A_tile_elements(), host.A_blocks(), weight);
    problem_.B = tiles(buffers, "B", host.B, host.B_tiles(), host.B_tile_elements(), host.B_blocks(), weight);
    problem_.scale = floats(buffers, "scale", {host.scale, adapters.size()}, adapters);
    if (host.projection == DeltaProjection::down)
      problem_.topk_weights = {floats(buffers, "topk_weights", host.topk_weights, slots), slots.size()};
    problem_.token_lora_mask = {buffers.input<std::uint8_t>("token_lora_mask", host.token_lora_mask),
                                host.token_lora_mask.size()};
    problem_.per_expert =
        blocks(buffers, "per_expert", host.per_expert, host.max_loras * std::int64_t{host.num_local_experts});
    if (host.shared_outer) problem_.shared = blocks(buffers, "shared", host.shared, host.max_loras);
    copy_input(buffers, slots);
  }

  const DeltaProblem& problem() const { return problem_; }

 private:
  /// `body(slot, label)` for the used slots that get something added.
  template <class Body>
  void visit(const DeltaBlocks& blocks, std::int64_t labels, const Body& body) const {
    const std::int64_t used = *blocks.num_tokens_post_padded;
    require_in_range("num_tokens_post_padded", used, 0, blocks.capacity);
    for (std::int64_t i = 0; i < used; ++i) {
      const std::int64_t v = blocks.expert_ids[i / host_.block_size], slot = blocks.sorted_token_ids[i];
      if (v < 0) continue;
      require_in_range("expert_ids[" + std::to_string(i / host_.block_size) + "]", v, 0, labels - 1);
      if (0 <= slot && slot < n_ && host_.token_lora_mask[slot / host_.top_k] != 0) body(slot, v);
    }
  }

  /// A NaN in every type, one of two signs.
  std::vector<std::byte> nans(std::int64_t elements, std::size_t size) const {
    std::vector<std::byte> bytes(static_cast<std::size_t>(elements) * size, std::byte{0xFF});
    if ((poison_ & 0x80U) == 0)
      for (std::size_t i = size - 1; i < bytes.size(); i += size) bytes[i] = std::byte{0x7F};
    return bytes;
  }

  const void* tiles(GuardedBuffers& buffers, std::string name, const void* from, std::int64_t count,
                    std::int64_t elements, const DeltaBlocks& blocks, std::size_t size) const {
    std::vector<std::byte> copy = nans(count * elements, size);
    std::vector<bool> needed(static_cast<std::size_t>(count));
    visit(blocks, count, [&](std::int64_t, std::int64_t v) { needed[static_cast<std::size_t>(v)] = true; });
    const std::size_t tile = static_cast<std::size_t>(elements) * size;
    for (std::size_t v = 0; v < needed.size(); ++v)
      if (needed[v])
        std::memcpy(copy.data() + v * tile, static_cast<const std::byte*>(from) + v * tile, tile);
    return buffers.input(std::move(name), copy, size);
  }

  const float* floats(GuardedBuffers& buffers, std::string name, std::span<const float> from,
                      const std::vector<bool>& needed) const {
    std::vector<std::byte> copy = nans(static_cast<std::int64_t>(from.size()), sizeof(float));
    for (std::size_t i = 0; i < from.size(); ++i)
      if (needed[i]) std::memcpy(copy.data() + i * sizeof(float), &from[i], sizeof(float));
    return static_cast<const float*>(buffers.input(std::move(name), copy, sizeof(float)));
  }

  DeltaBlocks blocks(GuardedBuffers& buffers, const std::string& name, const DeltaBlocks& host,
                     std::int64_t labels) const {
    const std::int64_t used = *host.num_tokens_post_padded, num_blocks = host.capacity / host_.block_size;
    std::vector<std::int32_t> slots(static_cast<std::size_t>(host.capacity)),
        experts(static_cast<std::size_t>(num_blocks));
    for (std::int64_t i = 0; i < host.capacity; ++i)
      slots[static_cast<std::size_t>(i)] =
          i < used ? host.sorted_token_ids[i] : static_cast<std::int32_t>(valid_decoy(i, poison_, n_));
    for (std::int64_t b = 0; b < num_blocks; ++b)
      experts[static_cast<std::size_t>(b)] = b < used / host_.block_size
                                                 ? host.expert_ids[b]
                                                 : static_cast<std::int32_t>(valid_decoy(b, poison_, labels));
    DeltaBlocks copy = host;
    copy.sorted_token_ids = buffers.input<std::int32_t>(name + ".sorted_token_ids", slots);
    copy.expert_ids = buffers.input<std::int32_t>(name + ".expert_ids", experts);
    copy.num_tokens_post_padded = buffers.input<std::int32_t>(name + ".num_tokens_post_padded",
                                                              std::span(host.num_tokens_post_padded, 1));
    return copy;
  }

  void copy_input(GuardedBuffers& buffers, const std::vector<bool>& slots) {
    const ActivationMatrix& host = host_.input;
    const std::size_t size = bytes_of(host.dtype), row_bytes = static_cast<std::size_t>(host.cols) * size,
                      stride = static_cast<std::size_t>(host.row_stride) * size;
    std::vector<std::byte> copy =
        nans(host.rows == 0 ? 0 : (host.rows - 1) * host.row_stride + host.cols, size);
    const std::int64_t slots_per_row = host_.projection == DeltaProjection::gate_up ? host_.top_k : 1;
    for (std::size_t s = 0; s < slots.size(); ++s) {
      const std::size_t row = s / static_cast<std::size_t>(slots_per_row);
      if (slots[s])
        std::memcpy(copy.data() + row * stride, static_cast<const std::byte*>(host.data) + row * stride,
                    row_bytes);
    }
    problem_.input.data = buffers.input("input", copy, size);
  }

  const DeltaProblem& host_;
  std::uint8_t poison_;
  std::int64_t n_;
  DeltaProblem problem_;
};

}  // namespace

void observe_guarded_runs(GuardedRunObserver* with) { observer = with; }

DispatchResult GuardedRun::dispatch(const DispatchProblem& problem) const {
  validate(problem);
  validate_replica_offsets(problem.table, problem.offsets);
  Call call(backend_, poison_, Operation::dispatch);
  const std::int64_t real = problem.num_tokens.resolve(problem.topk_ids.rows), n = problem.topk_ids.size();
  DispatchProblem copy = problem;
  copy.topk_ids = call.ids(problem.topk_ids, real, problem.num_experts);
  copy.table = call.array("dispatch table", problem.table);
  copy.offsets = call.array("dispatch offsets", problem.offsets);
  copy.num_tokens = call.num_tokens(problem.num_tokens);
  const DispatchOutput output{call.buffers.output<std::int32_t>("local_ids", n)};
  backend_.dispatch(copy, output, call.context(backend_.workspace_bytes(copy)));
  call.verify();
  return shown(problem, DispatchResult{call.buffers.read(output.local_ids, n)});
}

RemapResult GuardedRun::remap(const RemapProblem& problem) const {
  validate(problem);
  Call call(backend_, poison_, Operation::remap);
  const std::int64_t T = problem.topk_ids.rows, real = problem.num_tokens.resolve(T),
                     n = problem.topk_ids.size();
  RemapProblem copy = problem;
  copy.topk_ids = call.ids(problem.topk_ids, real, problem.num_experts);
  copy.token_lora_mapping = call.mapping(problem.token_lora_mapping, real, problem.max_loras);
  copy.num_tokens = call.num_tokens(problem.num_tokens);
  const RemapOutput output{call.buffers.output<std::int32_t>("virtual_ids", n),
                           call.buffers.output<std::uint8_t>("token_lora_mask", T)};
  backend_.remap(copy, output, call.context(backend_.workspace_bytes(copy)));
  call.verify();
  return shown(problem, RemapResult{call.buffers.read(output.virtual_ids, n),
                                    call.buffers.read(output.token_lora_mask, T)});
}

AlignResult GuardedRun::align(const AlignProblem& problem) const {
  validate(problem);
  Call call(backend_, poison_, Operation::align);
  AlignProblem copy = problem;
  copy.ids = call.ids(problem.ids, problem.num_tokens.resolve(problem.ids.rows), problem.num_buckets);
  copy.num_tokens = call.num_tokens(problem.num_tokens);
  const AlignOutput output = call.blocks(
      backend_.capacity(problem.ids.size(), problem.num_buckets, problem.block_size, problem.sentinels),
      problem.block_size);
  backend_.align(copy, output, call.context(backend_.workspace_bytes(copy)));
  call.verify();
  return shown(problem, call.read(output));
}

RouteResult GuardedRun::route(const RouteProblem& problem) const {
  validate(problem);
  validate_replica_offsets(problem.table, problem.offsets);
  Call call(backend_, poison_, Operation::route);
  const std::int64_t T = problem.topk_ids.rows, real = problem.num_tokens.resolve(T);
  const bool global_ids = !problem.table.empty() || !problem.offsets.empty();
  RouteProblem copy = problem;
  copy.topk_ids =
      call.ids(problem.topk_ids, real, global_ids ? problem.num_experts : problem.num_local_experts);
  copy.token_lora_mapping = call.mapping(problem.token_lora_mapping, real, problem.max_loras);
  copy.table = call.array("dispatch table", problem.table);
  copy.offsets = call.array("dispatch offsets", problem.offsets);
  copy.num_tokens = call.num_tokens(problem.num_tokens);
  const RouteOutput output{call.blocks(backend_.capacity(problem.topk_ids.size(), problem.num_buckets(),
                                                         problem.block_size, problem.sentinels),
                                       problem.block_size),
                           call.buffers.output<std::uint8_t>("token_lora_mask", T)};
  backend_.route(copy, output, call.context(backend_.workspace_bytes(copy)));
  call.verify();
  return shown(problem, RouteResult{call.read(output.blocks), call.buffers.read(output.token_lora_mask, T)});
}

void GuardedRun::slice(const SliceProblem& problem, LoraBuffers& buffers) const {
  validate(problem);
  if (*problem.shape != buffers.shape())
    reject("buffers", "of another shape", "they must have the problem's shape");
  std::optional<LoraBuffers> before;
  if (observer != nullptr) before = buffers;
  Call call(backend_, poison_, Operation::slice);
  const AdapterCopy adapter(*problem.adapter, call.buffers);
  SliceProblem copy = problem;
  copy.adapter = &adapter.adapter();

  const BufferShape& shape = buffers.shape();
  const std::size_t element_size = bytes_of(shape.dtype);
  const BufferView host = buffers.view();
  BufferView view;
  view.tensor.resize(shape.layers.size(), {});
  for (std::size_t layer = 0; layer < shape.layers.size(); ++layer)
    for (BufferTensor tensor : kBufferTensors)
      if (shape.active(layer, tensor))
        view.tensor[layer][static_cast<std::size_t>(tensor)] =
            call.buffers.in_out("layer " + std::to_string(layer) + " " + std::string(to_string(tensor)),
                                buffers.bytes(layer, tensor), element_size);
  const std::size_t scale_bytes = static_cast<std::size_t>(shape.scale_elements()) * sizeof(float);
  view.scale =
      static_cast<float*>(call.buffers.in_out("scale", bytes_at(host.scale, scale_bytes), sizeof(float)));

  backend_.slice(copy, view, call.context(backend_.workspace_bytes(copy)));
  call.verify();
  for (std::size_t layer = 0; layer < shape.layers.size(); ++layer)
    for (BufferTensor tensor : kBufferTensors)
      if (shape.active(layer, tensor))
        call.buffers.read(view.tensor[layer][static_cast<std::size_t>(tensor)], buffers.bytes(layer, tensor));
  call.buffers.read(view.scale, {reinterpret_cast<std::byte*>(host.scale), scale_bytes});
  if (observer != nullptr) observer->saw(problem, *before, buffers);
}

DeltaResult GuardedRun::delta(const DeltaProblem& problem, std::span<const float> before) const {
  validate(problem);
  const std::int64_t n = problem.slots(), columns = problem.output_columns();
  require_in_range("before elements", static_cast<std::int64_t>(before.size()), n * columns, n * columns);
  Call call(backend_, poison_, Operation::delta);
  const DeltaCopy copy(problem, call.buffers, poison_);
  const std::int64_t stride = columns + poison_ % 4;
  float filler;  // of bytes `poison_`, between the rows
  std::memset(&filler, poison_, sizeof filler);
  std::vector<float> rows(static_cast<std::size_t>(n == 0 ? 0 : (n - 1) * stride + columns), filler);
  for (std::int64_t s = 0; s < n; ++s)
    std::memcpy(rows.data() + s * stride, before.data() + s * columns,
                static_cast<std::size_t>(columns) * sizeof(float));
  const DeltaOutput output{
      static_cast<float*>(call.buffers.in_out("output", std::as_bytes(std::span(rows)), sizeof(float))),
      stride};
  backend_.delta(copy.problem(), output, call.context(backend_.workspace_bytes(copy.problem())));
  call.verify();
  const std::vector<float> after = call.buffers.read(output.data, static_cast<std::int64_t>(rows.size()));
  DeltaResult result;
  result.output.resize(before.size());
  for (std::int64_t s = 0; s < n; ++s) {
    std::memcpy(result.output.data() + s * columns, after.data() + s * stride,
                static_cast<std::size_t>(columns) * sizeof(float));
    const std::int64_t gap = s + 1 < n ? stride - columns : 0, first = s * stride + columns;
    if (gap > 0 && std::memcmp(after.data() + first, rows.data() + first,
                               static_cast<std::size_t>(gap) * sizeof(float)) != 0)
      throw GuardViolation("backend " + std::string(backend_.name()) + ", delta, wrote between the rows " +
                           std::to_string(s) + " and " + std::to_string(s + 1) + " of the output");
  }
  if (observer != nullptr) observer->saw(problem, before, result);
  return result;
}

}  // namespace eplora
