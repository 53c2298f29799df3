#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges a Python function over NumPy or torch arrays with the property suite of `eplora check`.

The program loads a small bridge (libpython_bridge.so) as it loads anybody's library; the bridge starts this
script again with --serve in a process of its own, which calls the function. docs/checking_from_python.md.
"""
import argparse
import ctypes
import importlib
import importlib.util
import mmap
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OK, INVALID_INPUT, UNAVAILABLE = 0, 2, 4  # exit codes, as eplora's
FAILED, RESTART = 3, 1000  # what the bridge is told
GARBAGE = 0x5A
WIDE = 1 << 26  # bytes: a matrix beyond it is made sparse
MAP_NORESERVE = 0x4000  # Linux; older versions of the module mmap do not name it
FORM = {  # the header's order; the first word of each is the canonical one
    "order": ["stable", "free", "nondeterministic"],
    "sentinel": ["last", "first", "drop", "per_foreign_expert"],
    "tail": ["written", "unwritten"],
    "ids": ["any", "at_least_minus_one", "minus_one_to_v", "distinct_in_token"],
    "shared_outer_sentinels": ["dropped", "routed"],
    "scale_in_b": ["no", "yes"],
    "values": ["canonical", "any"],
}


class Refused(Exception):
    """Bad input of ours: (exit code, sentence)."""


def refuse(sentence, code=INVALID_INPUT):
    raise Refused(code, sentence)


def load(spec):
    where, _, name = spec.rpartition(":")
    if not where or not name:
        refuse(f"FUNCTION = {spec}: it must be FILE.py:function or module:function")
    try:
        if where.endswith(".py"):
            if not Path(where).is_file():
                refuse(f"FUNCTION = {spec}: there is no file {where}")
            sys.path.insert(0, str(Path(where).resolve().parent))
            found = importlib.util.spec_from_file_location(Path(where).stem, where)
            module = importlib.util.module_from_spec(found)
            sys.modules[found.name] = module
            found.loader.exec_module(module)
        else:
            sys.path.insert(0, os.getcwd())
            module = importlib.import_module(where)
    except Refused:
        raise
    except ImportError as error:
        refuse(f"FUNCTION = {spec}: importing it failed: {error}", UNAVAILABLE)
    except (Exception, SystemExit) as error:
        refuse(f"FUNCTION = {spec}: importing it failed: {type(error).__name__}: {error}")
    function = getattr(module, name, None)
    if not callable(function):
        refuse(f"FUNCTION = {spec}: {where} has no function {name}")
    return function


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


# ---- the process that calls the function -------------------------------------------------------------------


class Wrong(Exception):
    """What the function returned is not what the contract says."""


class Server:
    def __init__(self, descriptor):
        self.channel = socket.socket(fileno=descriptor)
        self.stream = self.channel.makefile("rb")
        import numpy
        self.numpy = numpy
        self.function = load(os.environ["EPLORA_PYTHON_SPEC"])
        self.arrays, self.device = os.environ["EPLORA_PYTHON_ARRAYS"], os.environ["EPLORA_PYTHON_DEVICE"]
        if self.arrays == "torch":
            import torch
            self.torch = torch

    def receive(self, size):
        data = self.stream.read(size)
        if len(data) != size:
            sys.exit(OK)  # the program is gone
        return data

    def array(self, dtype):
        return self.numpy.frombuffer(self.receive(int.from_bytes(self.receive(8), "little", signed=True)), dtype)

    def given(self, array):
        """The array as the function gets it."""
        return array if self.arrays == "numpy" else self.torch.from_numpy(array).to(self.device)

    def rows(self, values, rows, cols, stride):
        """A strided [rows, cols]; garbage between rows, but in wide matrices (P15), where nothing between rows is touched."""
        np = self.numpy
        size, values = rows * stride * values.itemsize, values.reshape(rows, cols)
        if size <= WIDE:
            whole = np.full(size, GARBAGE, np.uint8).view(values.dtype).reshape(rows, stride)
            whole[:, :cols] = values
            return self.given(whole)[:, :cols]
        if self.arrays == "torch" and self.device != "cpu":
            kept = self.torch.from_numpy(values.copy())
            whole = self.torch.empty((rows, stride), dtype=kept.dtype, device=self.device)
            whole[:, :cols] = kept.to(self.device)
            return whole[:, :cols]
        sparse = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        whole = np.frombuffer(sparse, values.dtype).reshape(rows, stride)
        whole[:, :cols] = values
        return self.given(whole)[:, :cols]

    def back(self, name, value, dtypes, shape):
        """One output as contiguous bytes, or Wrong."""
        np = self.numpy
        if value is None:
            raise Wrong(f"{name} is None")
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and shape == (1,):
            if not -2**31 <= value < 2**31:
                raise Wrong(f"{name} = {value} does not fit an int32")
            value = np.array([value], np.int32)
        if not isinstance(value, np.ndarray):
            raise Wrong(f"{name} is a {type(value).__name__}, not an array")
        if shape == (1,) and value.shape == ():
            value = value.reshape(1)
        if str(value.dtype) not in dtypes:
            raise Wrong(f"{name} has dtype {value.dtype}; it must be {' or '.join(dtypes)}")
        if value.shape != shape:
            raise Wrong(f"{name} has shape {list(value.shape)}; it must be {list(shape)}")
        return np.ascontiguousarray(value).tobytes()

    def problem(self):
        """Keyword arguments and the outputs' (name, dtypes, shape)."""
        np = self.numpy
        s = np.frombuffer(self.receive(16 * 8), np.int64).tolist()
        op, T, K, stride, kind, num_tokens = s[:6]
        ids = self.rows(self.array(np.int64 if kind else np.int32), T, K, stride)
        int32, mask = ("int32",), ("uint8", "bool")

        def blocks(capacity, size):
            return [("sorted_token_ids", int32, (capacity,)), ("expert_ids", int32, (capacity // size,)),
                    ("num_tokens_post_padded", int32, (1,))]

        def words(shared_outer, no_adapter):
            return {"shared_outer": bool(shared_outer), "no_adapter": ["base_slot", "sentinel"][no_adapter]}

        if op == 0:
            return {"ids": ids, "num_tokens": num_tokens, "num_buckets": s[6], "block_size": s[7],
                    "sentinels": ["keep", "drop"][s[8]], "capacity": s[9]}, blocks(s[9], s[7])
        mapping = self.given(self.array(np.int32).copy())
        if op == 1:
            return {"topk_ids": ids, "num_tokens": num_tokens, "token_lora_mapping": mapping, "num_experts": s[6],
                    "max_loras": s[7], **words(s[8], s[9])}, [("virtual_ids", int32, (T, K)),
                                                              ("token_lora_mask", mask, (T,))]
        table, offsets = (self.given(a.copy()) if a.size else None for a in (self.array(np.int32), self.array(np.int32)))
        return {"topk_ids": ids, "num_tokens": num_tokens, "token_lora_mapping": mapping, "num_experts": s[6],
                "table": table, "offsets": offsets, "slot_offset": s[7], "num_local_experts": s[8], "max_loras": s[9],
                "block_size": s[10], **words(s[11], s[12]), "sentinels": ["keep", "drop"][s[13]],
                "capacity": s[14]}, blocks(s[14], s[10]) + [("token_lora_mask", mask, (T,))]

    def bytes_of(self, value):
        return value.cpu().numpy().tobytes() if self.arrays == "torch" else value.tobytes()

    def answer(self):
        arguments, outputs = self.problem()
        arrays = {name: value for name, value in arguments.items() if hasattr(value, "dtype")}
        before = {name: self.bytes_of(value) for name, value in arrays.items()}
        found = self.function(**arguments)
        names = ", ".join(name for name, _, _ in outputs)
        if not isinstance(found, (tuple, list)) or len(found) != len(outputs):
            what = f"{len(found)} values" if isinstance(found, (tuple, list)) else f"a {type(found).__name__}"
            raise Wrong(f"the function returned {what}; it must return ({names})")
        data = b"".join(self.back(name, value, dtypes, shape) for (name, dtypes, shape), value in zip(outputs, found))
        for name, value in arrays.items():
            if self.bytes_of(value) != before[name]:
                raise Wrong(f"the function changed its input {name}")
        return data

    def serve(self):
        while True:
            restart = 0
            try:
                data, status = self.answer(), OK
            except Wrong as wrong:
                data, status = str(wrong).encode(), FAILED
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                sentence = f"{type(error).__name__}: {error}"
                data = f"{sentence.splitlines()[0]} ({Path(where.filename).name}:{where.lineno})".encode()
                status = FAILED
                # After a fault on the device every later call would fail.
                restart = RESTART if re.search(r"CUDA|cuda", sentence) else 0
            self.channel.sendall((status + restart).to_bytes(8, "little") + len(data).to_bytes(8, "little") + data)
            if restart:
                sys.stdout.flush()
                os._exit(OK)


# ---- the process that the user starts ----------------------------------------------------------------------


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
    parser.add_argument("--op", required=True, choices=["align", "remap", "route"], help="what it computes")
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
    environment = {**os.environ, "EPLORA_PYTHON": sys.executable, "EPLORA_PYTHON_SCRIPT": os.path.abspath(__file__),
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
        ran = subprocess.run([str(eplora), "check", "--backend", str(library), *more], env=environment,
                             capture_output=True, text=True, check=False)

        def ours_of(text):
            text = text.replace(f"eplora check --backend {library}", shlex.join(ours))
            text = re.sub(re.escape(str(library)) + "(?=  )", lambda _: name.ljust(len(str(library))), text)
            return text.replace(str(library), name)

        sys.stdout.write(ours_of(ran.stdout))
        sys.stderr.write(ours_of(ran.stderr))
        for i, word in enumerate(more):
            flag, _, value = word.partition("=")
            page = Path(value or (more[i + 1] if i + 1 < len(more) else "")) if flag == "--report" else None
            if page and page.is_file():
                page.write_text(ours_of(page.read_text()))
    return 128 - ran.returncode if ran.returncode < 0 else ran.returncode


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--serve"]:
            os.dup2(2, 1)  # what the function prints is no part of the report
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: with the process that asked
            Server(int(sys.argv[2])).serve()
        sys.exit(main())
    except Refused as refused:
        print(f"check_python.py: {refused.args[1]}", file=sys.stderr)
        sys.exit(refused.args[0])
