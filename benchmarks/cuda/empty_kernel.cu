// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/cuda/empty_kernel.h"

namespace eplora::bench {
namespace {

__global__ void empty() {}

}  // namespace

cudaError_t launch_empty(unsigned blocks, unsigned threads, cudaStream_t stream) {
  empty<<<blocks, threads, 0, stream>>>();
  return cudaGetLastError();
}

}  // namespace eplora::bench
