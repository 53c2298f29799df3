#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on a fresh machine: install what is missing, build, and compare the sharded reference and every backend
# against what transformers and PEFT recorded. Arguments go to `eplora compare`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

./scripts/setup.sh >&2
if command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]]; then
  echo "cuda: toolkit found; its Thrust is used" >&2
else
  echo "cuda: no toolkit (nvcc) found: the system's Thrust is used, GPU parts are skipped" >&2
fi
log=$(mktemp)
echo "build: into build/ (a few minutes the first time)" >&2
if ! { cmake --preset release && cmake --build --preset release --target eplora; } >"$log" 2>&1; then
  tail -n 60 "$log" >&2
  echo "build: failed; the whole log is $log" >&2
  exit 5
fi
rm -f "$log"
exec ./build/eplora compare "$@"
