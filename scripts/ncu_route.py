#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What bounds the fused route kernels: each of the benchmark's shapes under ncu, a few launches in the middle of a run.

Writes FOLDER/ncu-route.json (the counters as ncu gave them, medians over the launches) and prints a Markdown table, the one in
benchmarks/NOTES.md. Clocks and caches are left as they are in the benchmark. Needs a GPU and the CUDA toolkit's ncu.
"""
import argparse
import csv
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

METRICS = {
    "us": "gpu__time_duration.sum",
    "cycles": "sm__cycles_elapsed.max",
    "blocks": "launch__grid_size",
    "threads": "launch__block_size",
    "registers": "launch__registers_per_thread",
    "instructions": "smsp__inst_executed.sum",
    "issue_percent": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "dram_bytes": "dram__bytes.sum",
    "l2_percent": "lts__t_sectors.avg.pct_of_peak_sustained_elapsed",
    "l2_read_sectors": "lts__t_sectors_op_read.sum",
    "l2_write_sectors": "lts__t_sectors_op_write.sum",
    "shared_percent": "l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed",
    "shared_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
    "shared_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
}
STALLS = ["barrier", "long_scoreboard", "short_scoreboard", "membar", "wait", "mio_throttle", "lg_throttle", "not_selected",
          "branch_resolving", "no_instruction", "imc_miss", "dispatch_stall", "drain", "sleeping", "math_pipe_throttle"]


def stall_metric(reason):
    return f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio"


def shapes_of(results):
    document = json.loads(pathlib.Path(results).read_text())
    return [s["shape"] for s in document["shapes"] if s["suite"] == "route" and s["pattern"] == "uniform" and "goal_us" in s]


def profile(binaries, shape, launches):
    wanted = list(METRICS.values()) + [stall_metric(s) for s in STALLS]
    command = ["ncu", "--csv", "--page", "raw", "--print-units", "base", "--cache-control", "none", "--clock-control", "none",
               "-k", "regex:route_", "--launch-skip", "24", "--launch-count", str(launches), "--kill", "on",
               "--metrics", ",".join(wanted), str(pathlib.Path(binaries) / "eplora"), "bench", "--suite", "route", "--backend", "cuda",
               "--pattern", "uniform", "--quick", "--shape", shape]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(lines))[1:]  # the first line below the names holds the units
    if not rows:
        raise RuntimeError(f"ncu gave nothing for {shape}: {done.stdout[-800:]} {done.stderr[-400:]}")
    number = lambda text: float(text.replace(",", "")) if text else float("nan")
    row = {"shape": shape, "kernel": rows[0]["Kernel Name"].split("(")[0].split("<")[0].split("::")[-1], "launches": len(rows)}
    for name, metric in METRICS.items():
        if metric in rows[0]:
            row[name] = statistics.median(number(r[metric]) for r in rows)
    row["us"] = row["us"] / 1000
    stalls = {s: statistics.median(number(r[stall_metric(s)]) for r in rows) for s in STALLS if stall_metric(s) in rows[0]}
    row["stalls"] = {s: round(v, 3) for s, v in sorted(stalls.items(), key=lambda item: -item[1])}
    return row


def table(rows):
    yield "| shape | kernel | us under ncu | blocks x threads | instructions a warp | issue slots busy | shared pipe | L2 | sectors written | longest waits, warps an issue |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for r in rows:
        warps = r["blocks"] * r["threads"] / 32
        waits = ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in list(r["stalls"].items())[:3])
        yield (f"| {r['shape']} | `{r['kernel']}` | {r['us']:.1f} | {r['blocks']:.0f} x {r['threads']:.0f} | {r['instructions'] / warps:.0f} "
               f"| {r['issue_percent']:.0f}% | {r['shared_percent']:.0f}% | {r['l2_percent']:.0f}% | {r['l2_write_sectors']:.0f} | {waits} |")


def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def document(options, rows):
    packed = pathlib.Path(options.binaries) / "COMMIT"
    commit = packed.read_text().strip() if packed.exists() else first_line("git", "rev-parse", "HEAD")
    return {"schema": "eplora.ncu", "version": 1,
            "device": first_line("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
            "driver": first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "ncu": first_line("ncu", "--version"), "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "commit": commit, "command": " ".join(["scripts/ncu_route.py", *sys.argv[1:]]), "rows": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", default="build", help="folder of the program eplora (default: build)")
    parser.add_argument("--results", default="benchmarks/results/2026-11-23-h100.json", help="result file that names the shapes")
    parser.add_argument("--output", default=".", help="folder for ncu-route.json")
    parser.add_argument("--launches", type=int, default=5, help="launches to profile a shape")
    parser.add_argument("shapes", nargs="*", help="shapes by name (default: all with a goal)")
    options = parser.parse_args()
    folder, rows = pathlib.Path(options.output), []
    folder.mkdir(parents=True, exist_ok=True)
    for shape in options.shapes or shapes_of(options.results):
        try:
            rows.append(profile(options.binaries, shape, options.launches))
        except (RuntimeError, subprocess.TimeoutExpired, KeyError) as error:
            print(f"ncu_route.py: {shape}: {error!r}", file=sys.stderr)
        # Anew after every shape: a run that is cut off leaves what it had.
        (folder / "ncu-route.json").write_text(json.dumps(document(options, rows), indent=1) + "\n")
    print("\n".join(table(rows)))
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
