# SPDX-License-Identifier: Apache-2.0
"""The process that calls a Python function for `eplora check`: problems come over a socket from the bridge
(optimized/python/python_bridge.c), arrays of NumPy or torch are made of them, and what the function returns goes back.
scripts/check_python.py takes `load` from here and says by the environment what is to be called.

usage, by the bridge alone: check_python_server.py DESCRIPTOR
"""
import ctypes
import importlib
import importlib.util
import mmap
import os
import re
import signal
import socket
import sys
import traceback
from pathlib import Path

OK, INVALID_INPUT, UNAVAILABLE = 0, 2, 4  # exit codes, as eplora's
FAILED, RESTART = 3, 1000  # what the bridge is told
ALIGN, REMAP, ROUTE, DISPATCH, SLICE = range(5)  # and what it asks
BF16 = 2
GARBAGE = 0x5A
WIDE = 1 << 26  # bytes: a matrix beyond it is made sparse
MAP_NORESERVE = 0x4000  # Linux; older versions of the module mmap do not name it


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
            torch.zeros(1, device=self.device).cpu()  # wakes the device

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

    def integers(self, count):
        return self.numpy.frombuffer(self.receive(8 * count), self.numpy.int64).tolist()

    def problem(self):
        """Keyword arguments, the arrays among them that must not change, and what makes bytes of what is returned."""
        np = self.numpy
        s = self.integers(16)
        if s[0] == SLICE:
            return self.slice_problem(s)
        op, T, K, stride, kind, num_tokens = s[:6]
        ids = self.rows(self.array(np.int64 if kind else np.int32), T, K, stride)
        int32, mask = ("int32",), ("uint8", "bool")

        def blocks(capacity, size):
            return [("sorted_token_ids", int32, (capacity,)), ("expert_ids", int32, (capacity // size,)),
                    ("num_tokens_post_padded", int32, (1,))]

        def words(shared_outer, no_adapter):
            return {"shared_outer": bool(shared_outer), "no_adapter": ["base_slot", "sentinel"][no_adapter]}

        def given_or_none(array):
            return self.given(array.copy()) if array.size else None

        if op == ALIGN:
            arguments = {"ids": ids, "num_tokens": num_tokens, "num_buckets": s[6], "block_size": s[7],
                         "sentinels": ["keep", "drop"][s[8]], "capacity": s[9]}
            outputs = blocks(s[9], s[7])
        elif op == DISPATCH:
            arguments = {"topk_ids": ids, "num_tokens": num_tokens, "num_experts": s[6],
                         "table": self.given(self.array(np.int32).copy()), "offsets": given_or_none(self.array(np.int32)),
                         "slot_offset": s[7]}
            outputs = [("local_ids", int32, (T, K))]
        else:
            arguments = {"topk_ids": ids, "num_tokens": num_tokens,
                         "token_lora_mapping": self.given(self.array(np.int32).copy()), "num_experts": s[6]}
            if op == REMAP:
                arguments |= {"max_loras": s[7], **words(s[8], s[9])}
                outputs = [("virtual_ids", int32, (T, K)), ("token_lora_mask", mask, (T,))]
            else:
                arguments |= {"table": given_or_none(self.array(np.int32)), "offsets": given_or_none(self.array(np.int32)),
                              "slot_offset": s[7], "num_local_experts": s[8], "max_loras": s[9], "block_size": s[10],
                              **words(s[11], s[12]), "sentinels": ["keep", "drop"][s[13]], "capacity": s[14]}
                outputs = blocks(s[14], s[10]) + [("token_lora_mask", mask, (T,))]
        inputs = {name: value for name, value in arguments.items() if hasattr(value, "dtype")}
        return arguments, inputs, lambda found: self.outputs(outputs, found)

    def outputs(self, wanted, found):
        names = ", ".join(name for name, _, _ in wanted)
        if len(wanted) == 1 and not isinstance(found, (tuple, list)):
            found = (found,)
        if not isinstance(found, (tuple, list)) or len(found) != len(wanted):
            what = f"{len(found)} values" if isinstance(found, (tuple, list)) else f"a {type(found).__name__}"
            raise Wrong(f"the function returned {what}; it must return ({names})")
        return b"".join(self.back(name, value, dtypes, shape) for (name, dtypes, shape), value in zip(wanted, found))

    def weights(self, data, dtype, shape):
        """An array of weights from bytes. BF16, which NumPy does not have, is bfloat16 in torch and the bits as uint16 in NumPy."""
        np = self.numpy
        kind = [np.float32, np.float16, np.uint16][dtype]
        if self.arrays == "numpy":
            return np.frombuffer(bytearray(data), kind).reshape(shape)
        array = self.torch.from_numpy(np.frombuffer(bytearray(data), np.int16 if dtype == BF16 else kind).reshape(shape))
        return (array.view(self.torch.bfloat16) if dtype == BF16 else array).to(self.device)

    def slice_problem(self, s):
        (_, num_experts, H, intermediate, gated, form, shared_outer, dtype, moe_tp_rank, moe_tp, E_local, num_layers,
         num_buffers, L, R, slot) = s
        c, i, E_a = 2 if gated else 1, intermediate // moe_tp, 1 if shared_outer else E_local
        local_experts = self.given(self.array(self.numpy.int32).copy())
        inputs, layers, buffers, written = {"local_experts": local_experts}, [], [], []
        for _ in range(num_layers):
            layer = {"layer_id": self.integers(1)[0]}
            layer["gate_up_scale"], layer["down_scale"] = self.numpy.frombuffer(self.receive(8), self.numpy.float32).tolist()
            for name in ("gate_A", "up_A", "gate_B", "up_B", "down_A", "down_B"):
                kind, *shape = self.integers(4)
                size = shape[0] * shape[1] * shape[2] * (4 if kind == 0 else 2)
                layer[name] = self.weights(self.receive(size), kind, shape) if shape[0] else None
                if shape[0]:
                    inputs[f"layer {layer['layer_id']}, {name}"] = layer[name]
            layers.append(layer)
        for _ in range(num_buffers):
            has_id, layer_id, has_gate_up, has_down = self.integers(4)
            buffer = {"layer_id": layer_id if has_id else None}
            for name, has, shape in (("gate_up_A", has_gate_up, (L, E_a, c, R, H)), ("gate_up_B", has_gate_up, (L, E_local, c * i, R)),
                                     ("down_A", has_down, (L, E_local, R, i)), ("down_B", has_down, (L, E_a, H, R))):
                data = self.receive(self.integers(1)[0])
                buffer[name] = self.weights(data, dtype, shape) if has else None
                if has:
                    written.append(buffer[name])
            buffers.append(buffer)
        scale = self.weights(self.receive(self.integers(1)[0]), 0, (num_buffers, 2, L))
        written.append(scale)
        arguments = {"layers": layers, "buffers": buffers, "scale": scale, "local_experts": local_experts,
                     "moe_tp_rank": moe_tp_rank, "moe_tp": moe_tp, "num_experts": num_experts, "hidden": H,
                     "intermediate": intermediate, "gated": bool(gated), "gate_up_form": ["stacked", "interleaved"][form],
                     "shared_outer": bool(shared_outer), "dtype": ["F32", "F16", "BF16"][dtype], "slot": slot}

        def finish(found):
            if found is not None:
                raise Wrong(f"the function returned a {type(found).__name__}; it must write into buffers and scale and return nothing")
            return b"".join(self.bytes_of(array) for array in written)

        return arguments, inputs, finish

    def bytes_of(self, value):
        if self.arrays == "numpy":
            return value.tobytes()
        return (value.view(self.torch.int16) if value.dtype == self.torch.bfloat16 else value).cpu().numpy().tobytes()

    def answer(self):
        arguments, inputs, finish = self.problem()
        before = {name: self.bytes_of(value) for name, value in inputs.items()}
        data = finish(self.function(**arguments))
        for name, value in inputs.items():
            if self.bytes_of(value) != before[name]:
                raise Wrong(f"the function changed its input {name}")
        return data

    def serve(self):
        self.channel.sendall((1).to_bytes(8, "little"))  # ready: what comes now is a case's time
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


if __name__ == "__main__":
    try:
        os.dup2(2, 1)  # what the function prints is no part of the report
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: with the process that asked
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked is interrupted too, and ends this
        Server(int(sys.argv[1])).serve()
    except Refused as refused:
        print(f"check_python.py: {refused.args[1]}", file=sys.stderr)
        sys.exit(refused.args[0])
