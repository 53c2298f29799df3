#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a GPU, in one command: the GPU tests, the property suite on the three GPU backends, compute-sanitizer
# on a reduced set, shared libraries behind the C ABI, and the benchmark. Writes <date>-<device>.json (the benchmark's),
# <date>-<device>-checks.json (all the rest) and <date>-<device>.md into benchmarks/results. With --binaries it needs bash and
# python3 alone; make that folder with scripts/gpu_pack.sh, inside the tree. Long runs split with --only: a later run adds to
# the files of an earlier one of the same commit and date, and a run that is cut off leaves what it had.
# usage: scripts/gpu_test.sh [--binaries DIR] [--only STAGE,...] [--cases N] [--threads N] [--output DIR] [--commit H]
#        [--date YYYY-MM-DD] [--seed S] [--time SECONDS] [--bench ARGUMENTS]
#        scripts/gpu_test.sh merge [--output DIR] CHECKS.json...     several checks files of one commit into one
# stages: gpu-tests, properties (properties-thrust-cuda, properties-cuda-unfused, properties-cuda), sanitizers (memcheck,
#         racecheck, initcheck, synccheck), external, bench. exit: 0 all passed, 1 something failed, 2 usage, 3 no GPU here
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binaries= arguments=()
while (($#)); do
  case "$1" in
    --binaries) binaries=${2:?--binaries needs a folder}; shift 2 ;;
    *) arguments+=("$1"); shift ;;
  esac
done

if [[ ${arguments[0]:-} != merge && -z $binaries ]]; then
  binaries=build
  cmake --preset release >/dev/null
  cmake --build --preset release -j "$(nproc)" --target eplora eplora_property_tests eplora_gpu_tests external_libraries
  cp -f build/external/lib{align,faulty}_cuda.so build/
fi
exec python3 scripts/gpu_test.py --binaries "${binaries:-build}" "${arguments[@]}"
