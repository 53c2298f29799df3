#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the build needs from the system's packages (Debian 12+, Ubuntu 24.04+), and nothing that is there already.
# usage: scripts/setup.sh [--dev]      --dev adds clang-format and clang-tidy for scripts/test.sh
set -euo pipefail

packages=(g++ cmake ninja-build ccache libeigen3-dev libgtest-dev librapidcheck-dev libcli11-dev libfmt-dev
          nlohmann-json3-dev libtomlplusplus-dev libtbb-dev libbenchmark-dev libthrust-dev libssl-dev python3
          python3-numpy)
[[ "${1:-}" == "--dev" ]] && packages+=(clang-format clang-tidy)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "setup: everything is installed"
  exit 0
fi

command -v apt-get >/dev/null || {
  echo "setup: no apt-get here; install these by hand: ${missing[*]}" >&2
  exit 4
}
as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || { echo "setup: run as root or install sudo; missing: ${missing[*]}" >&2; exit 4; }
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "setup: installing failed; the whole log is $log" >&2
  exit 4
fi
rm -f "$log"
