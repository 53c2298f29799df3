// SPDX-License-Identifier: Apache-2.0
// Equal inputs, equal bytes: captured graphs replayed a thousand times on two streams with workspace and
// outputs overwritten in between, and different problems under way on two streams at once. Every replay is
// compared with the reference, byte for byte.
#include "optimized/cuda/check.h"
#include "property_tests/gpu/gpu_test.h"
#include "property_tests/gpu/placed.h"

namespace eplora::gpu {
namespace {

constexpr int kReplays = 1000;

struct Size {
  std::int64_t n, V;
};
/// One a tier and more: every plan of the table of goals is near one of them.
constexpr Size kSizes[] = {{8, 1024},     {64, 512},       {512, 128},     {2048, 4096},   {16384, 512},
                           {65536, 1024}, {131072, 14336}, {262144, 2048}, {1048576, 4096}};

class Replay : public GpuTest {
 protected:
  /// Replays of what `placed` enqueues, by turns on two streams.
  bool replay(const std::string& who, const Placed& placed, int replays) {
    const Stream streams[2];
    const Graph graph([&](cudaStream_t stream) { placed.enqueue(stream); });
    for (int i = 0; i < replays; ++i) {
      const Stream& stream = streams[i % 2];
      placed.garble(i, stream);
      graph.launch(stream);
      placed.fetch(stream);
      stream.wait();
      if (!count(who + ", replay " + std::to_string(i), placed.difference())) return false;
    }
    return true;
  }

  /// The same without a graph, for what cannot be captured.
  bool repeat(const std::string& who, const Placed& placed, int times) {
    const Stream streams[2];
    for (int i = 0; i < times; ++i) {
      const Stream& stream = streams[i % 2];
      placed.garble(i, stream);
      placed.enqueue(stream);
      placed.fetch(stream);
      stream.wait();
      if (!count(who + ", run " + std::to_string(i), placed.difference())) return false;
    }
    return true;
  }

  /// Two problems under way at once, each on its stream, started without waiting for the other.
  bool side_by_side(const std::string& who, const Placed& a, const Placed& b, int rounds) {
    const Stream streams[2];
    const Placed* const both[2] = {&a, &b};
    for (int i = 0; i < rounds; ++i) {
      for (int k = 0; k < 2; ++k) both[k]->garble(i + k, streams[k]);
      for (int again = 0; again < 3; ++again)
        for (int k = 0; k < 2; ++k) both[k]->enqueue(streams[k]);
      for (int k = 0; k < 2; ++k) both[k]->fetch(streams[k]);
      for (int k = 0; k < 2; ++k) streams[k].wait();
      for (int k = 0; k < 2; ++k)
        if (!count(who + ", round " + std::to_string(i) + ", stream " + std::to_string(k),
                   both[k]->difference()))
          return false;
    }
    return true;
  }

  static GpuCase of_size(const Size& size, std::uint64_t number) {
    return size.n < 100000
               ? make_case(size.n, size.V, number)
               : plain_case(size.n, size.V, 64, number % 2 == 0 ? Pattern::uniform : Pattern::outside);
  }
};

TEST_F(Replay, aThousandReplaysOfRouteGiveEqualBytes) {
  for (const char* const name : {"cuda", "cuda-unfused"}) {
    const auto backend = make_backend(name);
    for (const Size& size : kSizes) {
      if (size.n > 300000 && std::string_view(name) != "cuda") continue;
      const GpuCase c = of_size(size, 10);
      if (!replay(std::string(name) + ", " + c.text(), Placed(*backend, c), kReplays)) return;
    }
  }
}

TEST_F(Replay, aThousandReplaysOfEveryTierGiveEqualBytes) {
  for (const cuda::RouteTier tier : kAllTiers)
    for (const Size& size :
         {Size{60, 200}, Size{240, 3000}, Size{1000, 128}, Size{4000, 512}, Size{40000, 1024}}) {
      const GpuCase c = of_size(size, 23);
      for (const cuda::RoutePlan& plan :
           cuda::plans_of_tier(tier, size_of(c.n(), c.V(), c.capacity()), device())) {
        const auto backend = make_plan_backend(plan);
        if (!replay(std::string(backend->name()) + ", " + c.text(), Placed(*backend, c), kReplays)) return;
      }
    }
}

TEST_F(Replay, aThousandReplaysOfSliceGiveEqualBytes) {
  const auto backend = make_backend("cuda");
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    const RandomSlice c(seed);
    if (backend->workspace_bytes(c.problem) > 0) continue;  // too large a table to be captured
    if (!replay("slice, seed " + std::to_string(seed), Placed(*backend, c), kReplays)) return;
  }
}

TEST_F(Replay, thrustGivesEqualBytesOnTwoStreams) {
  const auto backend = make_backend("thrust-cuda");
  for (const Size& size : kSizes) {
    const GpuCase c = of_size(size, 11);
    if (!repeat(c.text(), Placed(*backend, c), size.n > 100000 ? 20 : 200)) return;
  }
  for (const std::uint64_t seed : {1, 2, 3})
    if (!repeat("slice, seed " + std::to_string(seed), Placed(*backend, RandomSlice(seed)), 100)) return;
}

TEST_F(Replay, twoStreamsAtOnceGiveTheBytesOfEach) {
  for (const char* const name : {"cuda", "cuda-unfused", "thrust-cuda"}) {
    const auto backend = make_backend(name);
    for (std::size_t i = 0; i + 1 < std::size(kSizes); ++i) {
      const GpuCase a = of_size(kSizes[i], 31), b = of_size(kSizes[i + 1], 42),
                    other = of_size(kSizes[i], 54);
      const int rounds = kSizes[i + 1].n > 200000 ? 10 : 100;
      const Placed placed(*backend, a);
      if (!side_by_side(a.text() + " beside " + b.text(), placed, Placed(*backend, b), rounds)) return;
      if (!side_by_side(a.text() + " beside " + other.text(), placed, Placed(*backend, other), rounds))
        return;
    }
    if (!side_by_side("two slicings", Placed(*backend, RandomSlice(7)), Placed(*backend, RandomSlice(8)),
                      100))
      return;
  }
}

TEST_F(Replay, everyTierRunsBesideItself) {
  for (const cuda::RouteTier tier : kAllTiers) {
    const GpuCase a = make_case(250, 200, 60), b = make_case(250, 200, 71);
    const auto first = cuda::plans_of_tier(tier, size_of(250, 200, a.capacity()), device()),
               second = cuda::plans_of_tier(tier, size_of(250, 200, b.capacity()), device());
    if (first.empty() || second.empty()) continue;
    const auto one = make_plan_backend(first.front()), other = make_plan_backend(second.front());
    if (!side_by_side(std::string(one->name()), Placed(*one, a), Placed(*other, b), 200)) return;
  }
}

}  // namespace
}  // namespace eplora::gpu
