// SPDX-License-Identifier: Apache-2.0
#include "property_tests/gpu/placed.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "optimized/cuda/check.h"
#include "reference/check.h"
#include "reference/lora/slice.h"

namespace eplora::gpu {
namespace {

std::size_t round_up(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

template <class T>
std::span<const std::byte> bytes_of_values(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

void* device_memory(std::size_t bytes) {
  void* memory = nullptr;
  EPLORA_CUDA_CHECK(cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)));
  return memory;
}

}  // namespace

Stream::Stream() { EPLORA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
Stream::~Stream() { cudaStreamDestroy(stream_); }
void Stream::wait() const { EPLORA_CUDA_CHECK(cudaStreamSynchronize(stream_)); }

Graph::Graph(const std::function<void(cudaStream_t)>& enqueue) {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  EPLORA_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue(stream);
  EPLORA_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  EPLORA_CUDA_CHECK(cudaGraphInstantiate(&executable_, graph, 0));
  EPLORA_CUDA_CHECK(cudaGraphDestroy(graph));
}
Graph::~Graph() { cudaGraphExecDestroy(executable_); }
void Graph::launch(cudaStream_t stream) const { EPLORA_CUDA_CHECK(cudaGraphLaunch(executable_, stream)); }

void* Placed::input(const void* values, std::size_t bytes) {
  inputs_.push_back(device_memory(bytes));
  if (bytes > 0) EPLORA_CUDA_CHECK(cudaMemcpy(inputs_.back(), values, bytes, cudaMemcpyHostToDevice));
  return inputs_.back();
}

template <class T>
T* Placed::input(std::span<const T> values) {
  return static_cast<T*>(input(values.data(), values.size_bytes()));
}

std::size_t Placed::output(const char* name, std::span<const std::byte> want) {
  const std::size_t begin = want_.size();
  parts_.push_back({name, begin, begin + want.size()});
  want_.insert(want_.end(), want.begin(), want.end());
  want_.resize(round_up(std::max<std::size_t>(want_.size(), begin + 1)));
  return begin;
}

void Placed::allocate(std::size_t workspace_bytes) {
  workspace_begin_ = want_.size();
  bytes_ = workspace_begin_ + workspace_bytes;
  device_ = static_cast<std::byte*>(device_memory(bytes_));
  EPLORA_CUDA_CHECK(
      cudaMallocHost(reinterpret_cast<void**>(&found_), std::max<std::size_t>(want_.size(), 1)));
  if (!before_.empty()) initial_ = static_cast<std::byte*>(input(before_.data(), before_.size()));
}

Placed::Placed(Backend& backend, const GpuCase& c) {
  const RouteResult want = expected(c);
  const std::size_t sorted = output("sorted_token_ids", bytes_of_values(want.blocks.sorted_token_ids)),
                    experts = output("expert_ids", bytes_of_values(want.blocks.expert_ids)),
                    post = output("num_tokens_post_padded",
                                  std::as_bytes(std::span(&want.blocks.num_tokens_post_padded, 1))),
                    mask = output("token_lora_mask", bytes_of_values(want.token_lora_mask));
  const auto as_ids = [&](const auto& values) {
    return input(values.data(), values.size() * sizeof(values[0]));
  };
  RouteProblem problem = c.route();
  problem.topk_ids.data = c.wide ? as_ids(c.ids64) : as_ids(c.ids32);
  const auto on_device = [&](std::span<const std::int32_t> values) {
    return std::span<const std::int32_t>(
        static_cast<std::int32_t*>(input(values.data(), values.size_bytes())), values.size());
  };
  problem.token_lora_mapping = on_device(problem.token_lora_mapping);
  if (!problem.table.empty()) problem.table = on_device(problem.table);
  if (!problem.offsets.empty()) problem.offsets = on_device(problem.offsets);
  if (problem.num_tokens.kind == NumTokens::Kind::pointer)
    problem.num_tokens.pointer = on_device(std::span(&c.num_tokens, 1)).data();
  AlignProblem align = c.align();
  align.ids = problem.topk_ids;
  align.num_tokens = problem.num_tokens;
  const std::size_t workspace =
      c.align_only ? backend.workspace_bytes(align) : backend.workspace_bytes(problem);
  allocate(workspace);
  const auto at = [this](std::size_t offset) { return reinterpret_cast<std::int32_t*>(device_ + offset); };
  const RouteOutput to{{at(sorted), at(experts), at(post)}, reinterpret_cast<std::uint8_t*>(device_ + mask)};
  enqueue_ = [=, this, &backend, align_only = c.align_only](cudaStream_t stream) {
    const ExecutionContext context{device_ + workspace_begin_, workspace, stream};
    if (align_only)
      backend.align(align, to.blocks, context);
    else
      backend.route(problem, to, context);
  };
}

Placed::Placed(Backend& backend, const RandomSlice& c) {
  LoraBuffers buffers(c.shape, 0xCD);
  std::vector<std::array<std::size_t, 4>> tensors(c.shape.layers.size());
  reference::slice(c.problem, buffers.view());
  for (std::size_t layer = 0; layer < tensors.size(); ++layer)
    for (const BufferTensor tensor : kBufferTensors)
      if (c.shape.active(layer, tensor))
        tensors[layer][static_cast<std::size_t>(tensor)] =
            output(to_string(tensor).data(), std::as_const(buffers).bytes(layer, tensor));
  const std::size_t scale = output("scale", std::as_bytes(buffers.scales()));
  before_.assign(want_.size(), std::byte{0xCD});

  std::vector<const std::byte*> copies;
  copies.reserve(c.memory.size());
  for (const std::vector<std::uint64_t>& words : c.memory)
    copies.push_back(static_cast<std::byte*>(input(words.data(), words.size() * sizeof(std::uint64_t))));
  struct Kept {
    Adapter adapter;
    BufferShape shape;
    std::vector<std::int32_t> local_experts;
  };
  const auto kept = std::make_shared<Kept>(Kept{c.adapter, c.shape, c.local_experts});
  for (auto& [id, layer] : kept->adapter.layers)
    for (LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down})
      for (StridedTensor* tensor : {&pair->A, &pair->B}) {
        if (!tensor->present()) continue;
        const auto* const data = static_cast<const std::byte*>(tensor->data);
        for (std::size_t i = 0; i < copies.size(); ++i) {
          const auto bytes = bytes_of_values(c.memory[i]);
          if (bytes.data() <= data && data < bytes.data() + bytes.size()) {
            tensor->data = copies[i] + (data - bytes.data());
            break;
          }
        }
      }
  const std::size_t workspace = backend.workspace_bytes(c.problem);
  allocate(workspace);
  BufferView view;
  view.tensor.resize(tensors.size(), {});
  for (std::size_t layer = 0; layer < tensors.size(); ++layer)
    for (const BufferTensor tensor : kBufferTensors)
      if (c.shape.active(layer, tensor))
        view.tensor[layer][static_cast<std::size_t>(tensor)] =
            device_ + tensors[layer][static_cast<std::size_t>(tensor)];
  view.scale = reinterpret_cast<float*>(device_ + scale);
  SliceProblem problem = c.problem;
  problem.adapter = &kept->adapter;
  problem.shape = &kept->shape;
  problem.local_experts = kept->local_experts;
  enqueue_ = [=, this, &backend](cudaStream_t stream) {
    SliceProblem one = problem;
    one.adapter = &kept->adapter;  // holds on to what the problem views
    backend.slice(one, view, {device_ + workspace_begin_, workspace, stream});
  };
}

Placed::~Placed() {
  cudaDeviceSynchronize();
  for (void* memory : inputs_) cudaFree(memory);
  cudaFree(device_);
  cudaFreeHost(found_);
}

void Placed::garble(int round, cudaStream_t stream) const {
  EPLORA_CUDA_CHECK(cudaMemsetAsync(device_, round * 37 + 1, bytes_, stream));
  if (initial_ != nullptr)
    EPLORA_CUDA_CHECK(cudaMemcpyAsync(device_, initial_, workspace_begin_, cudaMemcpyDeviceToDevice, stream));
}

void Placed::fetch(cudaStream_t stream) const {
  EPLORA_CUDA_CHECK(cudaMemcpyAsync(found_, device_, workspace_begin_, cudaMemcpyDeviceToHost, stream));
}

std::string Placed::difference() const {
  for (const Part& part : parts_) {
    if (std::memcmp(found_ + part.begin, want_.data() + part.begin, part.end - part.begin) == 0) continue;
    const auto* const at =
        std::mismatch(found_ + part.begin, found_ + part.end, want_.data() + part.begin).first;
    return part.name + ": the byte at offset " + std::to_string(at - found_ - part.begin) +
           " is not the reference's";
  }
  return {};
}

}  // namespace eplora::gpu
