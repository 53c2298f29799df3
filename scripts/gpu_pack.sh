#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copies the programs that need a GPU, and the shared libraries they need, into a folder, so that a machine with a GPU and
# without a toolchain can run them: scripts/gpu_test.sh --binaries DIR.
# usage: scripts/gpu_pack.sh DIR [BUILD]     BUILD: the build folder, build/ unless given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# < 1 || $# > 2)) || [[ $1 == -* ]]; then
  echo "usage: scripts/gpu_pack.sh DIR [BUILD]" >&2
  exit 2
fi
to=$1 build=${2:-build} limit=$((64 * 1024 * 1024))

mkdir -p "$to"
for program in eplora eplora_property_tests eplora_gpu_tests; do
  if [[ ! -x $build/$program ]]; then echo "gpu_pack.sh: $build/$program is not there: build it first" >&2; exit 1; fi
  strip -o "$to/$program" "$build/$program"
done
for library in align_cuda faulty_cuda; do  # for stage external
  cp "$build/external/lib$library.so" "$to/"
done
cp "$build/libpython_bridge.so" "$to/"  # for scripts/check_python.py
# Every library but those of the C and C++ compilers and of the driver: they belong to the machine.
for program in "$to"/eplora*; do ldd "$program"; done |
  awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u |
  grep -Ev '^(libc|libm|libdl|librt|libpthread|ld-linux.*|libcuda|libgcc_s|libstdc\+\+)\.so' |
  while read -r name path; do cp -L "$path" "$to/$name"; done
git describe --always --dirty --abbrev=40 --exclude='*' >"$to/COMMIT" 2>/dev/null || rm -f "$to/COMMIT"

size=$(du -sb "$to" | cut -f1)
du -h "$to"/* | sort -h
echo "$((size / 1024 / 1024)) MiB in $to"
if ((size >= limit)); then echo "gpu_pack.sh: that is more than $((limit / 1024 / 1024)) MiB" >&2; exit 1; fi
