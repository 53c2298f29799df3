#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws a result file of `eplora bench`: time of route against slots, one line a backend, with the floors and the goals.
Equal files give equal pictures, byte for byte (with one version of matplotlib; scripts/requirements-plot.txt names it).

usage: scripts/plot.py FILE.json -o PICTURE.svg [--suite route|remap|align]
exit: 0 drawn, 1 the file has nothing to draw, 2 usage or a file that cannot be used, 4 matplotlib is missing
"""
import argparse
import json
import sys
from pathlib import Path

COLOURS = {"cuda": "#1f5fd0", "cuda-unfused": "#c2410c", "thrust-cuda": "#15803d", "reference": "#6d28d9", "thrust-host": "#b45309"}
INK, FAINT = "#1f2328", "#6e7781"
LEAST_GAP = 1.32  # between two labels at the right edge, as a ratio of times


def fail(code, sentence):
    print(f"plot.py: {sentence}", file=sys.stderr)
    sys.exit(code)


def slots(shape):
    return shape["tokens"] * shape["top_k"]


def read(path, suite):
    """The document, and the suite's shapes of uniform ids by slots, without those of models."""
    try:
        document = json.loads(Path(path).read_text())
        if document.get("schema") != "eplora.results/2":
            fail(2, f"{path} is no result file of eplora bench (schema eplora.results/2)")
        shapes = [s for s in document["shapes"] if s["suite"] == suite and s["pattern"] == "uniform" and "model" not in s]
        for shape in shapes:
            shape["slots"] = slots(shape)
            shape["times"] = {t["backend"]: t["median_us"] for t in shape["timings"]}
        floors = document["floors"]
        document["empty_us"] = min(f["median_us"] for f in floors if f["kind"] == "empty")
        document["bytes_per_us"] = max(f["bytes"] / f["median_us"] for f in floors if f["kind"] == "copy")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fail(2, f"{path} cannot be used: {type(error).__name__}: {error}")
    if not shapes:
        fail(1, f"{path} has no times of {suite} on uniform ids")
    return document, sorted(shapes, key=lambda s: (s["slots"], s["ep"], s["buckets"]))


def apart(ends):
    """Places for labels that want to stand at `ends` {text: time}: at least LEAST_GAP between two."""
    placed = {}
    last = 1e-9
    for text, time in sorted(ends.items(), key=lambda item: item[1]):
        last = placed[text] = max(time, last * LEAST_GAP)
    return placed


def draw(document, shapes, suite, path):
    try:
        import matplotlib
    except ImportError:
        fail(4, "matplotlib is missing: pip install -r scripts/requirements-plot.txt")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "eplora", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
                                "text.color": INK, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "xtick.color": FAINT, "ytick.color": FAINT})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.6, 5.0), facecolor="white", layout="constrained")
    axes.set_facecolor("white")
    whole = [s for s in shapes if s["ep"] == 1]
    parted = [s for s in shapes if s["ep"] != 1]
    ends, colours = {}, {}

    def line(name, points, colour, **style):
        if points:
            axes.plot(*zip(*points), color=colour, **style)
            ends[name], colours[name] = points[-1][1], colour

    names = list(dict.fromkeys(name for s in shapes for name in s["times"]))
    for name in names:
        colour = COLOURS.get(name, INK)
        line(name, [(s["slots"], s["times"][name]) for s in whole if name in s["times"]], colour, linewidth=2.2 if name == "cuda" else 1.5,
             marker="o", markersize=5, zorder=4)
        axes.plot([s["slots"] for s in parted if name in s["times"]], [s["times"][name] for s in parted if name in s["times"]],
                  linestyle="", marker="o", markersize=6, markerfacecolor="white", markeredgecolor=colour, zorder=5)
    line("empty launch", [(s["slots"], document["empty_us"]) for s in whole], FAINT, linestyle="--", linewidth=1.2, zorder=2)
    line("copy of the bytes", [(s["slots"], s["bytes"] / document["bytes_per_us"]) for s in whole], FAINT, linestyle=":", linewidth=1.4, zorder=2)
    goals = [(s["slots"], s["goal_us"]) for s in shapes if "goal_us" in s]
    engines = [(s["slots"], s["engines_today_us"]) for s in shapes if "engines_today_us" in s]
    if goals and document["memory"] == "cuda":
        axes.plot(*zip(*goals), linestyle="", marker="_", markersize=15, markeredgewidth=2.2, color=INK, zorder=6, label="goal")
    if engines and document["memory"] == "cuda":
        axes.plot(*zip(*engines), linestyle="", marker="x", markersize=6, markeredgewidth=1.5, color="#be123c", zorder=3, label="engines today")

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.6 * min(document["empty_us"], *(t for s in shapes for t in s["times"].values())))
    right = max(s["slots"] for s in shapes)
    for name, place in apart(ends).items():
        axes.annotate(name, (right, ends[name]), xytext=(right * 1.35, place), color=colours[name], va="center",
                      fontweight="bold" if name == "cuda" else "normal", annotation_clip=False)
    if parted:
        axes.plot([], [], linestyle="", marker="o", markersize=6, markerfacecolor="white", markeredgecolor=FAINT, label="three quarters sentinels")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", frameon=False)
    ticks = sorted({s["slots"] for s in shapes})
    spaced = []  # labels need room: a factor of four between neighbours
    for t in ticks:
        if not spaced or t >= 4 * spaced[-1]:
            spaced.append(t)
    ticks = spaced
    axes.set_xticks(ticks, [f"{t // 1024}K" if 1024 <= t < 1 << 20 else f"{t >> 20}M" if t >= 1 << 20 else str(t) for t in ticks])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(min(ticks) / 1.5, right * 1.2)
    axes.set_xlabel("slots (tokens x top-k)")
    axes.set_ylabel("microseconds a call, median")
    axes.grid(True, which="major", color="#d8dee4", linewidth=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{suite} on {document['device']}, uniform ids", loc="left", color=INK, fontsize=11)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def main():
    parser = argparse.ArgumentParser(description="Draws a result file of `eplora bench` as SVG.")
    parser.add_argument("file", metavar="FILE.json")
    parser.add_argument("-o", "--output", required=True, metavar="PICTURE.svg")
    parser.add_argument("--suite", choices=["route", "remap", "align"], default="route")
    options = parser.parse_args()
    document, shapes = read(options.file, options.suite)
    if not Path(options.output).resolve().parent.is_dir():
        fail(2, f"the folder of {options.output} is not there")
    draw(document, shapes, options.suite, options.output)


if __name__ == "__main__":
    main()
