// SPDX-License-Identifier: Apache-2.0
// Slicing on a GPU, timed; slice_test.cpp judges it. `slice_gpu time [row...]`:
// Qwen3-30B-A3B cut for one rank, graph replays of the one launch and of a device copy of the same total,
// alternating; JSON lines on standard output. Outputs are checked after timing: against `thrust-cuda` in
// every byte of every slot, and one layer against the reference on the host.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "optimized/cuda/check.h"
#include "optimized/cuda/cuda_backend.h"
#include "optimized/thrust/thrust_cuda_backend.h"
#include "reference/layout/presets.h"
#include "reference/lora/slice.h"

namespace eplora {
namespace {

// ---- timing

__device__ std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

__global__ void fill_random(std::uint64_t* words, std::uint64_t count, std::uint64_t seed) {
  for (std::uint64_t i = blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x; i < count;
       i += gridDim.x * std::uint64_t{blockDim.x})
    words[i] = mix(i * 0x9E3779B97F4A7C15ull + seed);
}

/// `result[0]`: words in which a and b differ; `result[1]`: a sum over a's words and their places.
__global__ void compare(const std::uint64_t* a, const std::uint64_t* b, std::uint64_t count,
                        unsigned long long* result) {
  unsigned long long different = 0, sum = 0;
  for (std::uint64_t i = blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x; i < count;
       i += gridDim.x * std::uint64_t{blockDim.x}) {
    different += a[i] != b[i];
    sum += mix(a[i] + mix(i + 1));
  }
  if (different != 0) atomicAdd(result, different);
  atomicAdd(result + 1, sum);
}

struct Device {
  void* data = nullptr;
  explicit Device(std::size_t bytes) { EPLORA_CUDA_CHECK(cudaMalloc(&data, bytes)); }
  ~Device() { cudaFree(data); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  std::byte* at(std::size_t offset) const { return static_cast<std::byte*>(data) + offset; }
};

struct Row {
  std::string name;
  SglangSizes sizes{4, 2, 1};
  PlacementKind placement = PlacementKind::linear;
  GateUpForm form = GateUpForm::stacked;
  std::int64_t r = 16;
  bool shared_outer = false, fused_B = false;
  DType from = DType::bf16;
  int layers = 48;
};

const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {.name = "tp=4 ep=2"},
      {.name = "tp=1 ep=1", .sizes = {1, 1, 1}},
      {.name = "tp=8 ep=1", .sizes = {8, 1, 1}},
      {.name = "tp=8 ep=8", .sizes = {8, 8, 1}},
      {.name = "tp=4 ep=2, round robin, interleaved",
       .placement = PlacementKind::round_robin,
       .form = GateUpForm::interleaved},
      {.name = "tp=4 ep=2, r=8", .r = 8},
      {.name = "tp=4 ep=2, shared outer", .shared_outer = true},
      {.name = "tp=4 ep=2, F32 to BF16", .from = DType::f32},
      {.name = "tp=4 ep=2, fused B with experts fastest", .fused_B = true},
      {.name = "tp=4 ep=2, 92 layers", .layers = 92},
  };
  return all;
}

/// Qwen3-30B-A3B, one rank (the last), slot 1 of 2.
struct Workload {
  Row row;
  MoeGeometry geometry{128, 2048, 768, true, GateUpForm::stacked, false};
  Layout layout;
  BufferShape shape;
  Adapter adapter;
  SliceProblem problem;
  std::size_t source_bytes = 0, slot_bytes = 0, buffer_bytes = 0;
  std::int64_t layer_source_bytes = 0;
  std::unique_ptr<Device> source;

  explicit Workload(const Row& which) : row(which) {
    geometry.form = row.form;
    geometry.shared_outer = row.shared_outer;
    layout = make_layout(sglang_layout(row.sizes, geometry.num_experts, row.placement));
    const std::int32_t rank = row.sizes.tp - 1;
    problem.geometry = geometry;
    problem.place = layout.place(rank);
    problem.local_experts = layout.local_experts(rank);
    std::vector<BufferLayer> layers;
    for (std::int32_t n = 0; n < row.layers; ++n) layers.push_back({n, true, true});
    shape = buffer_shape(geometry, problem.place, static_cast<std::int64_t>(problem.local_experts.size()),
                         layers, 2, 16, DType::bf16);
    layer_source_bytes = add_layers(nullptr);
    source = std::make_unique<Device>(static_cast<std::size_t>(layer_source_bytes * row.layers));
    fill_random<<<1024, 256>>>(static_cast<std::uint64_t*>(source->data),
                               static_cast<std::uint64_t>(layer_source_bytes * row.layers / 8), 7);
    EPLORA_CUDA_CHECK(cudaGetLastError());
    add_layers(source->at(0));
    problem.adapter = &adapter;
    problem.shape = &shape;
    problem.slot = 1;
    const std::int64_t r = row.r, H = shape.hidden, i = shape.intermediate;
    source_bytes = static_cast<std::size_t>(
                       row.layers * (shape.local_experts * 3 * i * r + shape.outer_experts() * 3 * H * r)) *
                   bytes_of(row.from);
    for (BufferTensor tensor : kBufferTensors)
      slot_bytes +=
          static_cast<std::size_t>(row.layers * shape.slot_elements(tensor)) * bytes_of(shape.dtype);
    buffer_bytes = 2 * slot_bytes + static_cast<std::size_t>(shape.scale_elements()) * sizeof(float);
  }

  /// Views from `base` on; returns the bytes of a layer.
  std::int64_t add_layers(const std::byte* base) {
    const std::int64_t E = geometry.num_experts, H = geometry.hidden, I = geometry.intermediate, r = row.r;
    const std::int64_t outer = geometry.shared_outer ? 1 : E,
                       size = static_cast<std::int64_t>(bytes_of(row.from));
    std::int64_t at = 0;
    const auto take = [&](std::int64_t elements) { return base + (at += elements * size) - elements * size; };
    const auto plain = [&](std::int64_t experts, std::int64_t lines, std::int64_t cols) {
      return StridedTensor{
          take(experts * lines * cols), row.from, experts, lines, cols, lines * cols, cols, 1};
    };
    const auto B = [&](std::int64_t experts, std::int64_t lines) {
      if (!row.fused_B) return plain(experts, lines, r);
      return StridedTensor{take(experts * lines * r), row.from, experts, lines, r, 1, r * experts, experts};
    };
    for (std::int32_t n = 0; n < (base == nullptr ? 1 : row.layers); ++n) {
      AdapterLayer layer;
      layer.gate_up[0].A = plain(outer, r, H);
      layer.gate_up[1].A = plain(outer, r, H);
      if (row.form == GateUpForm::interleaved) {
        const StridedTensor gate{take(E * 2 * I * r), row.from, E, I, r, 2 * I * r, 2 * r, 1};
        StridedTensor up = gate;
        up.data = static_cast<const std::byte*>(gate.data) + r * size;
        layer.gate_up[0].B = gate;
        layer.gate_up[1].B = up;
      } else {
        layer.gate_up[0].B = B(E, I);
        layer.gate_up[1].B = B(E, I);
      }
      layer.down = {plain(E, r, I), B(outer, H)};
      layer.gate_up_scale = 0.5F + static_cast<float>(n);
      layer.down_scale = 0.25F * static_cast<float>(n);
      adapter.layers[n] = layer;
    }
    return at / (base == nullptr ? 1 : row.layers);
  }

  BufferView view(const Device& buffers) const {
    BufferView view;
    std::size_t at = 0;
    for (int n = 0; n < row.layers; ++n) {
      std::array<void*, 4>& pointers = view.tensor.emplace_back();
      for (BufferTensor tensor : kBufferTensors) {
        pointers[static_cast<std::size_t>(tensor)] = buffers.at(at);
        at += 2 * static_cast<std::size_t>(shape.slot_elements(tensor)) * bytes_of(shape.dtype);
      }
    }
    view.scale = reinterpret_cast<float*>(buffers.at(at));
    return view;
  }

  /// One layer on the host, by the reference, against what stands on the device. Bytes that differ.
  std::int64_t differs_from_reference(const Device& buffers, int n) const {
    std::vector<std::uint64_t> host(static_cast<std::size_t>(layer_source_bytes / 8));
    const std::byte* const from = source->at(static_cast<std::size_t>(layer_source_bytes * n));
    EPLORA_CUDA_CHECK(
        cudaMemcpy(host.data(), from, static_cast<std::size_t>(layer_source_bytes), cudaMemcpyDeviceToHost));
    Adapter one{{{n, adapter.layers.at(n)}}};
    AdapterLayer& layer = one.layers[n];
    for (LoraPair* pair : {&layer.gate_up[0], &layer.gate_up[1], &layer.down})
      for (StridedTensor* tensor : {&pair->A, &pair->B})
        tensor->data = reinterpret_cast<const std::byte*>(host.data()) +
                       (static_cast<const std::byte*>(tensor->data) - from);
    BufferShape small = shape;
    small.layers = {{n, true, true}};
    SliceProblem part = problem;
    part.adapter = &one;
    part.shape = &small;
    LoraBuffers expected(small, 0xCD);
    reference::slice(part, expected.view());
    const BufferView device = view(buffers);
    std::int64_t wrong = 0;
    for (BufferTensor tensor : kBufferTensors) {
      const auto want = expected.bytes(0, tensor);
      std::vector<std::byte> got(want.size());
      EPLORA_CUDA_CHECK(
          cudaMemcpy(got.data(), device.tensor[static_cast<std::size_t>(n)][static_cast<std::size_t>(tensor)],
                     got.size(), cudaMemcpyDeviceToHost));
      for (std::size_t b = 0; b < got.size(); ++b) wrong += got[b] != want[b];
    }
    return wrong;
  }
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

cudaGraphExec_t capture(cudaStream_t stream, const std::function<void()>& enqueue) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  EPLORA_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue();
  EPLORA_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  EPLORA_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
  EPLORA_CUDA_CHECK(cudaGraphDestroy(graph));
  return executable;
}

int time_row(const Row& row, Backend& backend, Backend& other, bool small_copies) {
  const Workload w(row);
  const Device got(w.buffer_bytes), expected(w.buffer_bytes);
  const std::size_t total = w.source_bytes + w.slot_bytes, half = total / 2;
  const Device copy_from(half), copy_to(half);
  const Device workspace(std::max<std::size_t>(
      1, std::max(backend.workspace_bytes(w.problem), other.workspace_bytes(w.problem))));
  cudaStream_t stream = nullptr;
  cudaEvent_t start = nullptr, stop = nullptr;
  EPLORA_CUDA_CHECK(cudaStreamCreate(&stream));
  EPLORA_CUDA_CHECK(cudaEventCreate(&start));
  EPLORA_CUDA_CHECK(cudaEventCreate(&stop));
  for (const Device* buffers : {&got, &expected})
    EPLORA_CUDA_CHECK(cudaMemset(buffers->data, 0xCD, w.buffer_bytes));
  fill_random<<<1024, 256>>>(static_cast<std::uint64_t*>(copy_from.data), half / 8, 11);
  EPLORA_CUDA_CHECK(cudaDeviceSynchronize());

  const ExecutionContext context{workspace.data, backend.workspace_bytes(w.problem), stream};
  const ExecutionContext other_context{workspace.data, other.workspace_bytes(w.problem), stream};
  const BufferView view = w.view(got), other_view = w.view(expected);
  const auto timed = [&](const std::function<void()>& enqueue) {
    EPLORA_CUDA_CHECK(cudaEventRecord(start, stream));
    enqueue();
    EPLORA_CUDA_CHECK(cudaEventRecord(stop, stream));
    EPLORA_CUDA_CHECK(cudaEventSynchronize(stop));
    float ms = 0;
    EPLORA_CUDA_CHECK(cudaEventElapsedTime(&ms, start, stop));
    return ms * 1e3;
  };
  // A table that goes through memory cannot be captured; its calls are timed behind a copy that hides the
  // host's part.
  const bool captured = backend.workspace_bytes(w.problem) == 0;
  const auto copy = [&] {
    EPLORA_CUDA_CHECK(cudaMemcpyAsync(copy_to.data, copy_from.data, half, cudaMemcpyDeviceToDevice, stream));
  };
  const auto cut = [&] { backend.slice(w.problem, view, context); };
  const cudaGraphExec_t copy_graph = capture(stream, copy);
  const cudaGraphExec_t cut_graph = captured ? capture(stream, cut) : nullptr;
  std::vector<double> cuts, copies, calls, hosts;
  for (int i = 0; i < 25; ++i) {
    if (!captured) copy();
    const double cut_us = timed([&] {
      if (captured)
        EPLORA_CUDA_CHECK(cudaGraphLaunch(cut_graph, stream));
      else
        cut();
    });
    const double copy_us = timed([&] { EPLORA_CUDA_CHECK(cudaGraphLaunch(copy_graph, stream)); });
    if (i < 4) continue;
    cuts.push_back(cut_us);
    copies.push_back(copy_us);
  }
  for (int i = 0; i < 8; ++i) {
    const auto before = std::chrono::steady_clock::now();
    cut();
    hosts.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - before).count());
    EPLORA_CUDA_CHECK(cudaStreamSynchronize(stream));
    calls.push_back(timed(cut));
  }

  double thrust_us = 0;
  for (int i = 0; i < 2; ++i) thrust_us = timed([&] { other.slice(w.problem, other_view, other_context); });
  const Device result(16);
  EPLORA_CUDA_CHECK(cudaMemset(result.data, 0, 16));
  compare<<<1024, 256>>>(static_cast<const std::uint64_t*>(got.data),
                         static_cast<const std::uint64_t*>(expected.data), w.buffer_bytes / 8,
                         static_cast<unsigned long long*>(result.data));
  unsigned long long difference[2] = {1, 0};
  EPLORA_CUDA_CHECK(cudaMemcpy(difference, result.data, 16, cudaMemcpyDeviceToHost));
  const std::int64_t wrong = w.differs_from_reference(got, row.layers - 1);

  // What engines do: a copy for every layer, expert and projection.
  double loop_us = 0;
  std::int64_t loop_copies = 0;
  if (small_copies) {
    const auto loop = [&] {
      loop_copies = 0;
      const std::int64_t H = 2048, I = 768, R = 16, i = w.shape.intermediate,
                         first = w.problem.place.moe_tp_rank * i;
      const auto rows_of = [&](void* to, std::int64_t pitch, const StridedTensor& from, std::int64_t e,
                               std::int64_t row0, std::int64_t col0, std::int64_t lines, std::int64_t cols) {
        ++loop_copies;
        EPLORA_CUDA_CHECK(cudaMemcpy2DAsync(
            to, static_cast<std::size_t>(pitch * 2),
            static_cast<const std::byte*>(from.data) + from.index(e, row0, col0) * 2,
            static_cast<std::size_t>(from.row_stride * 2), static_cast<std::size_t>(cols * 2),
            static_cast<std::size_t>(lines), cudaMemcpyDeviceToDevice, stream));
      };
      for (int n = 0; n < row.layers; ++n)
        for (std::int64_t a = 0; a < w.shape.local_experts; ++a) {
          const std::int32_t e = w.problem.local_experts[static_cast<std::size_t>(a)];
          const AdapterLayer& layer = w.adapter.layers.at(n);
          const auto to = [&](BufferTensor tensor, std::int64_t offset) {
            const std::int64_t slot = w.shape.slot_elements(tensor);
            return static_cast<std::byte*>(
                       other_view.tensor[static_cast<std::size_t>(n)][static_cast<std::size_t>(tensor)]) +
                   (slot + a * (slot / w.shape.local_experts) + offset) * 2;
          };
          for (int h = 0; h < 2; ++h) {
            rows_of(to(BufferTensor::gate_up_A, h * R * H), H, layer.gate_up[h].A, e, 0, 0, R, H);
            rows_of(to(BufferTensor::gate_up_B, h * i * R), R, layer.gate_up[h].B, e, first, 0, i, R);
          }
          rows_of(to(BufferTensor::down_A, 0), i, layer.down.A, e, 0, first, R, i);
          rows_of(to(BufferTensor::down_B, 0), R, layer.down.B, e, 0, 0, H, R);
        }
      (void)I;
    };
    for (int i = 0; i < 2; ++i) loop_us = timed(loop);
  }

  const double cut_us = median(cuts), copy_us = median(copies);
  const auto [low, high] = std::ranges::minmax(cuts);
  const auto [copy_low, copy_high] = std::ranges::minmax(copies);
  const double rate = copy_us / cut_us;
  const bool right = difference[0] == 0 && wrong == 0;
  std::printf(
      "{\"row\": \"%s\", \"source_bytes\": %zu, \"destination_bytes\": %zu, \"timed_as\": \"%s\", "
      "\"slice_us\": %.1f, "
      "\"slice_min_us\": %.1f, \"slice_max_us\": %.1f, \"copy_us\": %.1f, \"copy_min_us\": %.1f, "
      "\"copy_max_us\": %.1f, "
      "\"slice_gb_per_s\": %.0f, \"copy_gb_per_s\": %.0f, \"rate_of_copy\": %.3f, \"call_us\": %.1f, "
      "\"host_us\": %.1f, "
      "\"thrust_us\": %.0f, \"loop_of_copies_us\": %.0f, \"loop_copies\": %lld, \"words_unlike_thrust\": "
      "%llu, "
      "\"bytes_unlike_reference\": %lld, \"output_sum\": \"%016llx\"}\n",
      row.name.c_str(), w.source_bytes, w.slot_bytes, captured ? "graph replay" : "call behind a copy",
      cut_us, low, high, copy_us, copy_low, copy_high, static_cast<double>(total) / cut_us * 1e-3,
      static_cast<double>(total) / copy_us * 1e-3, rate, median(calls), median(hosts), thrust_us, loop_us,
      static_cast<long long>(loop_copies), difference[0], static_cast<long long>(wrong), difference[1]);
  std::fflush(stdout);
  if (cut_graph != nullptr) cudaGraphExecDestroy(cut_graph);
  cudaGraphExecDestroy(copy_graph);
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  cudaStreamDestroy(stream);
  return right ? 0 : 1;
}

int run(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments[0] == "time") {
    const std::unique_ptr<Backend> backend = make_cuda_backend(), other = make_thrust_cuda_backend();
    int failures = 0;
    for (std::size_t i = 0; i < rows().size(); ++i) {
      const bool wanted = arguments.size() == 1 || std::find(arguments.begin() + 1, arguments.end(),
                                                             std::to_string(i)) != arguments.end();
      if (wanted) failures += time_row(rows()[i], *backend, *other, i == 0 && arguments.size() == 1);
    }
    return failures == 0 ? 0 : 1;
  }
  std::fputs("slice_gpu time [ROW...]\n", stderr);
  return 2;
}

}  // namespace
}  // namespace eplora

int main(int argc, char** argv) {
  try {
    return eplora::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "slice_gpu: %s\n", error.what());
    return 3;
  }
}
