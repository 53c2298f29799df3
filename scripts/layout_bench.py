#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seconds, CPU seconds and peak memory of `eplora layout check` and `eplora layout cost` over a ladder of ranks, with the machine and the
commands, as a result file and a table. Every run is a process of its own; the median of the runs counts, the greatest peak.
Standard library only.

usage: scripts/layout_bench.py PATH_TO_EPLORA [--ranks 8,64,...] [--runs N] [--date YYYY-MM-DD] [--output DIR]
       scripts/layout_bench.py --show FILE.json      the table of a result file, as the documents show it
exit 0 = done, 1 = a run failed, 2 = usage
"""
import argparse
import datetime
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = "eplora.layout_bench/1"
LADDER = [8, 64, 512, 4096, 16384, 131072]
MODEL = "property_tests/cli/model_512_experts.json"
TOKENS = 1 << 20
MIB = 1 << 20


def layout_of(ranks):
    """Eight ranks share an expert's columns, up to 64 groups of them the experts, the rest is data parallel; attention is
    data parallel over all groups of eight, so that tokens travel."""
    tp = min(ranks, 8)
    ep = min(ranks // tp, 64)
    return (f"order=moe_dp:{ranks // tp // ep}/moe_ep:{ep}/moe_tp:{tp},attention=adp:{ranks // tp}/atp:{tp},"
            "placement=round_robin")


def commands_of(ranks):
    layout = layout_of(ranks)
    return {
        "check": ["layout", "check", layout, "--model", MODEL, "--json"],
        "cost": ["layout", "cost", layout, "--model", MODEL, "--tokens", str(TOKENS), "--trace", "zipf:1.1", "--json"],
    }


def timed(command):
    """One run: seconds by the clock, seconds of the processor, peak bytes; the last two as the kernel counted them."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    complaint = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}\nended with {child.returncode}: {complaint.strip()}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def machine():
    cpu, memory = platform.processor(), 0
    try:
        cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M).group(1)
        memory = int(re.search(r"^MemTotal:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.M).group(1)) * 1024
    except (OSError, AttributeError):
        pass
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_bytes": memory, "system": platform.system(),
            "load_average": round(os.getloadavg()[0], 1)}


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()


def measure(program, options):
    results, before = [], machine()  # the load as others made it
    for ranks in options.ranks:
        row = {"ranks": ranks, "layout": layout_of(ranks)}
        for name, words in commands_of(ranks).items():
            runs = [timed([program, *words]) for _ in range(options.runs)]
            row[name] = {"command": "eplora " + shlex.join(words), "seconds": [round(run[0], 4) for run in runs],
                         "cpu_seconds": [round(run[1], 4) for run in runs], "peak_bytes": max(run[2] for run in runs)}
            print(f"{ranks:>6} ranks  {name:<5}  {statistics.median(row[name]['seconds']):7.2f} s  {statistics.median(row[name]['cpu_seconds']):7.2f} CPU s"
                  f"  {row[name]['peak_bytes'] / MIB:8.1f} MiB", file=sys.stderr)
        results.append(row)
    return {"schema": SCHEMA, "date": options.date, "commit": commit(), "machine": before,
            "model": MODEL, "tokens": TOKENS, "runs": options.runs, "results": results}


def read(path):
    try:
        document = json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        sys.exit(f"layout_bench.py: {path}: {error}")
    if document.get("schema") != SCHEMA:
        sys.exit(f"layout_bench.py: {path} is no result file of this script (schema {SCHEMA})")
    return document


def table(document):
    """The table of a result file, in markdown."""
    lines = ["| ranks | dp x ep x tp | `check` s | CPU s | peak MiB | `cost` s | CPU s | peak MiB |",
             "|---:|---|---:|---:|---:|---:|---:|---:|"]
    for row in document["results"]:
        sizes = " x ".join(re.findall(r"moe_\w\w:(\d+)", row["layout"]))
        cells = [f"{row['ranks']}", sizes]
        for name in ("check", "cost"):
            cells += [f"{statistics.median(row[name][key]):.2f}" for key in ("seconds", "cpu_seconds")]
            cells.append(f"{row[name]['peak_bytes'] / MIB:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    machine_of = document["machine"]
    lines += ["", f"{document['date']}, {machine_of['cpu']}, {machine_of['cores']} cores, commit {document['commit'][:10]}; "
              f"{document['tokens']} tokens; medians of {document['runs']} runs, greatest peak. Others kept "
              f"{machine_of['load_average']} processes running when it began, so CPU s says more than the clock."]
    return "\n".join(lines) + "\n"


def slug_of(cpu):
    """'AMD EPYC 9654 96-Core Processor' -> 'amd-epyc-9654'."""
    words = re.sub(r"\(.*?\)|CPU|Processor|\d+-Core|@.*", " ", cpu).split()
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words[:3]).lower()).strip("-") or "unknown"


def write(path, text):
    draft = path.with_name(path.name + ".part")
    draft.write_text(text)
    draft.replace(path)
    print(path)


def ladder(text):
    ranks = [int(word) for word in text.split(",")]
    for one in ranks:
        if not 1 <= one <= 1 << 17 or one & (one - 1):
            raise argparse.ArgumentTypeError(f"{one} ranks; each must be a power of two up to {1 << 17}")
    return ranks


def positive(text):
    if not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text} runs; it must be in [1, 1000]")
    return int(text)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1], allow_abbrev=False)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--show")
    parser.add_argument("--ranks", type=ladder, default=LADDER)
    parser.add_argument("--runs", type=positive, default=3)
    parser.add_argument("--date", type=lambda text: datetime.date.fromisoformat(text).isoformat(),
                        default=datetime.datetime.now(datetime.timezone.utc).date().isoformat())
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if (options.program is None) == (options.show is None):
        parser.error("give the program to measure, or --show FILE.json")
    if options.show:
        print(table(read(options.show)), end="")
        return
    document = measure(str(Path(options.program).resolve()), options)
    stem = options.output / f"{options.date}-layout-{slug_of(document['machine']['cpu'])}"
    options.output.mkdir(parents=True, exist_ok=True)
    file = stem.with_name(stem.name + ".json")
    write(file, json.dumps(document, indent=1) + "\n")
    shown = os.path.relpath(file.resolve(), ROOT)
    write(stem.with_name(stem.name + ".md"),
          f"# Layouts against ranks\n\n<!-- scripts/layout_bench.py --show {shown} -->\n{table(document)}<!-- end -->\n")


if __name__ == "__main__":
    main()
