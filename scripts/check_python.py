#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges a Python function over NumPy or torch arrays with the property suite of `eplora check`.

The program loads a small bridge (libpython_bridge.so) as it loads anybody's library; the bridge starts
check_python_server.py in a process of its own, which calls the function. docs/checking_from_python.md.
"""
import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from check_python_server import UNAVAILABLE, Refused, load, refuse

ROOT = Path(__file__).resolve().parent.parent
FORM = {  # the header's order; the first word of each is the canonical one
    "order": ["stable", "free", "nondeterministic"],
    "sentinel": ["last", "first", "drop", "per_foreign_expert"],
    "tail": ["written", "unwritten"],
    "ids": ["any", "at_least_minus_one", "minus_one_to_v", "distinct_in_token"],
    "shared_outer_sentinels": ["dropped", "routed"],
    "scale_in_b": ["no", "yes"],
    "values": ["canonical", "any"],
}


def form_numbers(declared):
    numbers = []
    for key, value in declared.items():
        if key not in FORM or value not in FORM[key]:
            refuse(f"form: {key}={value}: it must be one of " +
                   "; ".join(f"{k}={'|'.join(words)}" for k, words in FORM.items()))
    for key, words in FORM.items():
        number = words.index(declared.get(key, words[0]))
        numbers.append(1 - number if key == "values" else number)
    return " ".join(map(str, numbers))


def program(path):
    if path:
        return Path(path)
    for folder in ("build", "build-gpu"):
        if (ROOT / folder / "eplora").is_file():
            return ROOT / folder / "eplora"
    return ROOT / "build/eplora"


def main():
    parser = argparse.ArgumentParser(
        description="Judges a Python function over NumPy or torch arrays with the property suite of eplora check.",
        epilog="Other options (--property, --cases, --seed, --save, --replay, --json, ...) are handed to eplora check. "
               "example: scripts/check_python.py examples/external_backend/align_numpy.py:align --op align")
    parser.add_argument("function", metavar="FUNCTION", help="FILE.py:function or module:function")
    parser.add_argument("--op", required=True, choices=["align", "dispatch", "remap", "route", "slice"], help="what it computes")
    parser.add_argument("--arrays", choices=["numpy", "torch"], help="what it is handed (its eplora_arrays, or numpy)")
    parser.add_argument("--device", metavar="NAME", help="torch's name of a device (its eplora_device, or cpu)")
    parser.add_argument("--form", default="", metavar="KEY=VALUE,...", help="what it does not promise (its eplora_form)")
    parser.add_argument("--eplora", metavar="PATH", help="the program (default: build/eplora, build-gpu/eplora)")
    options, more = parser.parse_known_args()
    for word in more:
        if word.split("=")[0] in ("--backend", "--child"):
            parser.error(f"{word} is this script's to say")
    eplora = program(options.eplora)
    bridge = eplora.resolve().parent / "libpython_bridge.so"
    for file in (eplora, bridge):
        if not file.is_file():
            refuse(f"there is no {file}; build the project, or say where it is by --eplora", UNAVAILABLE)
    try:
        importlib.import_module("numpy")
    except ImportError as error:
        refuse(f"NumPy is needed: {error}", UNAVAILABLE)
    function = load(options.function)
    declared = dict(getattr(function, "eplora_form", {}))
    for part in filter(None, options.form.split(",")):
        key, _, value = part.partition("=")
        declared[key] = value
    arrays = options.arrays or getattr(function, "eplora_arrays", "numpy")
    device = options.device or getattr(function, "eplora_device", "cpu")
    if arrays == "numpy" and device != "cpu":
        refuse(f"--device {device}: NumPy's arrays are in host memory; add --arrays torch")
    if arrays == "torch":
        try:
            torch = importlib.import_module("torch")
        except ImportError as error:
            refuse(f"--arrays torch: {error}", UNAVAILABLE)
        if device.startswith("cuda") and not torch.cuda.is_available():
            refuse(f"--device {device}: torch finds no CUDA device here", UNAVAILABLE)
    name = f"{Path(options.function.rpartition(':')[0]).stem}.{options.function.rpartition(':')[2]}"
    environment = {**os.environ, "EPLORA_PYTHON": sys.executable, "EPLORA_PYTHON_SCRIPT": str(ROOT / "scripts/check_python_server.py"),
                   "EPLORA_PYTHON_SPEC": options.function, "EPLORA_PYTHON_OP": options.op,
                   "EPLORA_PYTHON_ARRAYS": arrays, "EPLORA_PYTHON_DEVICE": device, "EPLORA_PYTHON_NAME": name,
                   "EPLORA_PYTHON_DESCRIPTION": f"a Python function over {arrays} arrays on {device}",
                   "EPLORA_PYTHON_FORM": form_numbers(declared)}
    ours = ["python3", os.path.relpath(__file__), options.function, "--op", options.op]
    for flag in ("arrays", "device", "form", "eplora"):
        if getattr(options, flag):
            ours += [f"--{flag}", getattr(options, flag)]
    with tempfile.TemporaryDirectory(prefix="eplora-") as folder:
        library = Path(folder) / f"{name}.so"  # of this name are the files of counterexamples
        library.symlink_to(bridge)

        def ours_of(text):
            text = text.replace(f"eplora check --backend {library}", shlex.join(ours))
            width = max(len(name), len("backend"))  # of the table's column, which was made for the library's path
            text = re.sub("^(property +)backend +(?=  verdict)", lambda m: m[1] + "backend".ljust(width), text, flags=re.M)
            text = re.sub("^(-+  )-+(?=  -)", lambda m: m[1] + "-" * width, text, flags=re.M)
            text = re.sub(re.escape(str(library)) + "(?=  )", lambda _: name.ljust(width), text)
            return text.replace(str(library), name)

        def relay(lines, to):
            try:
                for line in lines:  # as they come: imports make a run long enough to be watched
                    to.write(ours_of(line))
                    to.flush()
            except BrokenPipeError:  # nobody reads on: the program learns it by its own pipe
                lines.close()
                os.dup2(os.open(os.devnull, os.O_WRONLY), to.fileno())  # for what is still to be flushed

        ran = subprocess.Popen([str(eplora), "check", "--backend", str(library), *more], env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        errors = threading.Thread(target=relay, args=(ran.stderr, sys.stderr))
        errors.start()
        try:
            relay(ran.stdout, sys.stdout)
        except KeyboardInterrupt:  # the program gets it too, and ends
            pass
        errors.join()
        ran.wait()
        for i, word in enumerate(more):
            flag, _, value = word.partition("=")
            page = Path(value or (more[i + 1] if i + 1 < len(more) else "")) if flag == "--report" else None
            if page and page.is_file():
                page.write_text(ours_of(page.read_text()))
    return 128 - ran.returncode if ran.returncode < 0 else ran.returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as refused:
        print(f"check_python.py: {refused.args[1]}", file=sys.stderr)
        sys.exit(refused.args[0])
