# SPDX-License-Identifier: Apache-2.0
"""EP-rank slicing as a Python function over NumPy arrays: one adapter, cut for one rank into one slot of its buffers.

    scripts/check_python.py examples/external_backend/slice_numpy.py:cut --op slice
"""
import numpy as np


def to_float32(array):
    """F32 or F16 as they are, BF16 from its bits."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array.astype(np.float32)


def put(to, source):
    """Copies bits between equal types, else rounds to nearest even; a NaN becomes 0x7FFF."""
    if to.dtype == source.dtype:
        to[...] = source
        return
    values = to_float32(source)
    if to.dtype == np.uint16:
        bits = values.view(np.uint32).astype(np.uint64)
        narrow = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        to[...] = np.where(np.isnan(values), np.uint16(0x7FFF), narrow)
    else:
        with np.errstate(over="ignore"):
            to[...] = values
        if to.dtype == np.float16:
            to.view(np.uint16)[np.isnan(values)] = 0x7FFF


def cut(layers, buffers, scale, local_experts, moe_tp_rank, moe_tp, intermediate, gated, gate_up_form, shared_outer, slot,
        **others):
    i = intermediate // moe_tp
    columns = slice(moe_tp_rank * i, (moe_tp_rank + 1) * i)  # of I: this rank's
    adapter = {layer["layer_id"]: layer for layer in layers}

    def outer(tensor):  # gate_up A and down B: one for all experts where they are shared
        return tensor if shared_outer else tensor[local_experts]

    for n, buffer in enumerate(buffers):
        if buffer["layer_id"] is None:
            continue
        layer = adapter.get(buffer["layer_id"], {})
        if buffer["gate_up_A"] is not None:
            A, B = buffer["gate_up_A"][slot], buffer["gate_up_B"][slot]  # [E_a, c, R, H], [E, c*i, R]
            A[...] = B[...] = 0
            halves = ["gate", "up"] if gated else ["gate"]
            for h, half in enumerate(halves):
                if layer.get(half + "_A") is None:
                    continue
                r = layer[half + "_A"].shape[1]
                rows = B[:, h::2] if gate_up_form == "interleaved" and gated else B[:, h * i:(h + 1) * i]
                put(A[:, h, :r], outer(layer[half + "_A"]))
                put(rows[:, :, :r], layer[half + "_B"][local_experts, columns])
            scale[n, 0, slot] = layer["gate_up_scale"] if layer.get("gate_A") is not None else 0
        if buffer["down_A"] is not None:
            A, B = buffer["down_A"][slot], buffer["down_B"][slot]  # [E, R, i], [E_a, H, R]
            A[...] = B[...] = 0
            if layer.get("down_A") is not None:
                r = layer["down_A"].shape[1]
                put(A[:, :r], layer["down_A"][local_experts][:, :, columns])
                put(B[:, :, :r], outer(layer["down_B"]))
            scale[n, 1, slot] = layer["down_scale"] if layer.get("down_A") is not None else 0
