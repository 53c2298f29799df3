#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that must hold before a change lands: format, lint, build, unit and property tests, mutants of both orders, golden
# fixtures, the same suite under address and undefined-behaviour sanitizers, the other Thrust, and the documents. Prints
# seconds per stage; goes on after a failed stage and exits 1 at the end. Works with no GPU and no CUDA toolkit.
# usage: scripts/test.sh [--cases N] [--quick]     --cases: property cases (2000); --quick: no sanitizers, no lint, no second order
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cases=2000 quick=0
while (($#)); do
  case "$1" in
    --cases) cases=${2:?--cases needs a number}; shift 2 ;;
    --quick) quick=1; shift ;;
    *) echo "test.sh: unknown option $1; the options are --cases N and --quick" >&2; exit 2 ;;
  esac
done

jobs=$(nproc) names=() seconds=() verdicts=() passed=0 failed=0 skipped=0
logs=build/test-logs
mkdir -p "$logs"

stage() {  # stage NAME COMMAND...: quiet when it passes, the end of its log when it fails
  local name=$1 start=$SECONDS verdict
  shift
  printf '== %-18s ' "$name"
  if "$@" >"$logs/$name.log" 2>&1; then verdict=passed; ((++passed)); else verdict=FAILED; ((++failed)); fi
  names+=("$name") seconds+=($((SECONDS - start))) verdicts+=("$verdict")
  printf '%s in %d s\n' "$verdict" $((SECONDS - start))
  if [[ $verdict == FAILED ]]; then tail -n 60 "$logs/$name.log" | sed 's/^/   | /'; fi
  [[ $verdict == passed ]]
}
skip() {  # skip NAME REASON
  ((++skipped)); names+=("$1") seconds+=(0) verdicts+=("skipped: $2")
  printf '== %-18s skipped: %s\n' "$1" "$2"
}

sources() { git ls-files '*.h' '*.cpp' '*.cu' '*.cuh'; }
check_format() { sources | xargs clang-format --dry-run --Werror; }
build() { cmake --preset "$1" && cmake --build --preset "$1" -j "$jobs" "${@:2}"; }
lint() { git ls-files 'reference/*.cpp' 'optimized/*.cpp' 'cli/*.cpp' 'benchmarks/*.cpp' | grep -v '^optimized/thrust/' |
         xargs -P "$jobs" -n 4 clang-tidy -p build --quiet --extra-arg=-Wno-unknown-warning-option 2>&1 |
         sed '/ warnings generated\.$/d'; }
unit_tests() { "$1"/eplora_unit_tests --gtest_brief=1; }
second_order() { cmake --build build -j "$jobs" --target eplora_second_order && ./build/eplora_second_order; }
property_tests() { "$1"/eplora_property_tests --gtest_brief=1 --cases "$2"; }
# What a reader without a GPU can check of the recorded timings: hashes of sampled inputs and outputs, by the reference.
bench_files() {
  local file
  for file in $(grep -l '"eplora.results/2"' benchmarks/results/*.json property_tests/cli/bench_results.json); do
    ./build/eplora bench verify "$file" --sample 24 || return 1
  done
}
no_cuda() {  # what a machine without nvcc builds: the system's Thrust, no GPU backend
  cmake -S . -B build-no-cuda -G Ninja -DCMAKE_BUILD_TYPE=Release -DEPLORA_CUDA=OFF &&
    cmake --build build-no-cuda -j "$jobs" --target eplora_unit_tests eplora_property_tests &&
    unit_tests build-no-cuda && property_tests build-no-cuda 200
}

stage setup ./scripts/setup.sh --dev || exit 1
# What clang-format and clang-tidy say differs between versions; the tree is kept by version 14.
llvm14() { [[ $(clang-format --version) == *"version 14."* && $(clang-tidy --version) == *"version 14."* ]]; }
other_llvm="the tree is kept by clang-format and clang-tidy 14; here is another version"
if llvm14; then stage format check_format; else skip format "$other_llvm"; fi
if stage build build release; then
  stage unit-tests unit_tests build
  stage property-tests property_tests build "$cases"
  # What was generated, one property an operation; the log has them all.
  grep '^distribution of .* on reference' "$logs/property-tests.log" | sort -t. -u -k1,1 | fold -s -w 110 | sed 's/^/   | /'
  stage mutants ./build/eplora mutants
  stage golden ./build/eplora compare --golden property_tests/golden --json
  stage command-line python3 property_tests/cli/command_line_test.py ./build/eplora
  stage gpu-stage python3 property_tests/cli/gpu_stage_test.py ./build/eplora
  stage layout-proofs python3 property_tests/cli/layout_check_test.py ./build/eplora
  stage layout-presets python3 property_tests/cli/layout_presets_test.py ./build/eplora
  with_numpy=
  for python in python3 /usr/bin/python3; do  # another python3 may stand first in the path
    if [[ -z $with_numpy ]] && "$python" -c 'import numpy' 2>/dev/null; then with_numpy=$python; fi
  done
  if [[ -n $with_numpy ]]; then
    stage check-python "$with_numpy" property_tests/cli/check_python_test.py ./build/eplora
  else
    skip check-python "no python3 here has NumPy (scripts/setup.sh installs the system's)"
  fi
  stage bench-files bench_files
  stage golden-files python3 scripts/make_golden.py --verify
  stage layout-pictures python3 property_tests/cli/layout_show_test.py ./build/eplora
  stage documents python3 scripts/check_docs.py ./build/eplora
  if ((quick)); then skip lint "--quick"; elif llvm14; then stage lint lint; else skip lint "$other_llvm"; fi
fi
if ((quick)); then
  skip second-order "--quick"; skip sanitizers "--quick"; skip no-cuda "--quick"
else
  stage second-order second_order
  if stage build-sanitized build asan --target eplora_unit_tests eplora_property_tests; then
    stage asan-unit unit_tests build-asan
    stage asan-property property_tests build-asan 200
  fi
  if grep -q 'EPLORA_CCCL_INCLUDE:PATH=/' build/CMakeCache.txt; then
    stage no-cuda no_cuda
  else
    skip no-cuda "no CUDA toolkit here: that is what was tested above"
  fi
fi
# The property tests run on every backend that this machine has; here is what it has not. With a GPU the tests of its own run
# too; what takes longer, sanitizers and 20 000 cases, is scripts/gpu_test.sh.
gpu_missing() {
  ./build/eplora list --json | python3 -c '
import json, sys
known = json.load(sys.stdin)
missing = [b for b in known["backends"] if b["name"] != "reference" and not b.get("available", True)]
if missing:
    reason = missing[0].get("reason") or missing[0].get("unavailable")
    names = ", ".join(b["name"] for b in missing)
    print(len(missing), "backends x", len(known["properties"]), "properties not run (" + names + "):", reason)'
}
gpu_tests() { ./build/eplora_gpu_tests --gtest_brief=1; }
missing=$(gpu_missing 2>/dev/null)
if [[ -n $missing ]]; then
  if [[ -x build/eplora_gpu_tests ]]; then missing="$(gpu_tests | sed -n 's/.* \([0-9]*\) were skipped.*/\1/p') GPU tests and $missing"; fi
  skip gpu "$missing"
else
  stage gpu gpu_tests
fi

printf '\n%-18s %8s  %s\n' stage seconds verdict
for i in "${!names[@]}"; do printf '%-18s %8d  %s\n' "${names[i]}" "${seconds[i]}" "${verdicts[i]}"; done
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
