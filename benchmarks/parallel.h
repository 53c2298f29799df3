// SPDX-License-Identifier: Apache-2.0
// A loop over independent pieces of host work on all cores: making inputs, the reference, hashes. Never used
// while anything is being timed.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace eplora::bench {

/// `work(i)` for every i in [0, count), in any order. The first exception is thrown again when all threads
/// have stopped.
template <class Work>
void parallel_for(std::int64_t count, const Work& work) {
  std::atomic<std::int64_t> next = 0;
  std::exception_ptr failure;
  std::mutex failing;
  const auto loop = [&] {
    try {
      for (std::int64_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(failing);
      if (!failure) failure = std::current_exception();
    }
  };
  const std::int64_t cores = std::max<std::int64_t>(std::thread::hardware_concurrency(), 1);
  std::vector<std::thread> threads;
  for (std::int64_t t = 1; t < std::min(cores, count); ++t) threads.emplace_back(loop);
  loop();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace eplora::bench
