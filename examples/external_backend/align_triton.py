# SPDX-License-Identifier: Apache-2.0
"""Align as two Triton kernels, a program a bucket: one counts the bucket's slots, the other places them.

Every program reads all slots in ascending order and writes its own bucket alone, so that the result is stable
and the same every time; a fast one would share the reading. Sizes are not specialized on, or each new batch
would be compiled again. Needs a GPU.

    scripts/check_python.py examples/external_backend/align_triton.py:align --op align
"""
import torch
import triton
import triton.language as tl

CHUNK = 256
SIZES = ["n", "K", "row_stride", "num_tokens", "V", "B"]


@triton.jit
def is_mine(ids, slot, v, n, K, row_stride, num_tokens, V):
    """Whether each slot belongs to bucket v; V is the sentinel bucket."""
    t = slot // K
    id = tl.load(ids + t * row_stride + slot % K, mask=(slot < n) & (t < num_tokens), other=-1)
    valid = (id >= 0) & (id < V)
    return (slot < n) & ((valid & (id == v)) | ((valid == 0) & (v == V)))


@triton.jit(do_not_specialize=SIZES)
def count_slots(ids, counts, n, K, row_stride, num_tokens, V, CHUNK: tl.constexpr):
    v = tl.program_id(0)
    lane = tl.arange(0, CHUNK)
    found = tl.zeros([CHUNK], dtype=tl.int32)
    for start in range(0, n, CHUNK):
        found += is_mine(ids, start + lane, v, n, K, row_stride, num_tokens, V).to(tl.int32)
    tl.store(counts + v, tl.sum(found, axis=0))


@triton.jit(do_not_specialize=SIZES)
def place_slots(ids, first, blocks, sorted_token_ids, expert_ids, n, K, row_stride, num_tokens, V, B,
                CHUNK: tl.constexpr):
    v = tl.program_id(0)
    lane = tl.arange(0, CHUNK)
    begin = tl.load(first + v)  # the block in which the bucket begins
    length = tl.load(blocks + v)
    placed = tl.sum(tl.zeros([CHUNK], dtype=tl.int32), axis=0)
    for start in range(0, n, CHUNK):
        slot = start + lane
        mine = is_mine(ids, slot, v, n, K, row_stride, num_tokens, V)
        here = mine.to(tl.int32)
        place = begin * B + placed + tl.cumsum(here, axis=0) - 1
        tl.store(sorted_token_ids + place, slot, mask=mine)
        placed += tl.sum(here, axis=0)
    label = tl.where(lane >= 0, tl.where(v < V, v, -1), -1)
    for start in range(0, length, CHUNK):
        tl.store(expert_ids + begin + start + lane, label, mask=start + lane < length)


def align(ids, num_tokens, num_buckets, block_size, sentinels, capacity):
    n, K, V, B, device = ids.numel(), ids.shape[1], num_buckets, block_size, ids.device
    sorted_token_ids = torch.full((capacity,), n, dtype=torch.int32, device=device)
    expert_ids = torch.full((capacity // B,), -1, dtype=torch.int32, device=device)
    counts = torch.empty(V + 1, dtype=torch.int32, device=device)
    sizes = (n, K, ids.stride(0), num_tokens, V)
    count_slots[(V + 1,)](ids, counts, *sizes, CHUNK=CHUNK)
    placed = V + 1
    if sentinels == "drop":
        counts[V] = 0
        placed = V
    blocks = (counts + (B - 1)) // B
    ends = torch.cumsum(blocks, 0, dtype=torch.int32)
    if placed > 0:
        place_slots[(placed,)](ids, ends - blocks, blocks, sorted_token_ids, expert_ids, *sizes, B, CHUNK=CHUNK)
    return sorted_token_ids, expert_ids, ends[-1:] * B


align.eplora_arrays = "torch"
align.eplora_device = "cuda"
