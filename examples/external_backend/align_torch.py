# SPDX-License-Identifier: Apache-2.0
"""Align as a Python function over torch tensors, on the GPU where there is one, else on the CPU.

    scripts/check_python.py examples/external_backend/align_torch.py:align --op align
"""
import torch


def align(ids, num_tokens, num_buckets, block_size, sentinels, capacity):
    n, V, B, device = ids.numel(), num_buckets, block_size, ids.device
    bucket = torch.full(ids.shape, V, dtype=torch.int64, device=device)  # V: the sentinel bucket
    real = ids[:num_tokens].to(torch.int64)
    bucket[:num_tokens] = torch.where((real >= 0) & (real < V), real, V)

    ordered, slots = torch.sort(bucket.reshape(-1), stable=True)
    begin = torch.searchsorted(ordered, torch.arange(V + 2, device=device))  # of each bucket among the slots
    counts = begin[1:] - begin[:-1]
    if sentinels == "drop":
        counts[V] = 0
        slots, ordered = slots[ordered < V], ordered[ordered < V]
    blocks = (counts + B - 1) // B
    first = torch.cumsum(blocks, 0) - blocks  # the block in which each bucket begins
    used = blocks.sum()

    labels = torch.arange(V + 1, device=device)
    labels[V] = -1
    of_blocks = torch.repeat_interleave(labels, blocks)
    expert_ids = torch.full((capacity // B,), -1, dtype=torch.int32, device=device)
    expert_ids[: of_blocks.numel()] = of_blocks.to(torch.int32)

    place = first[ordered] * B + torch.arange(slots.numel(), device=device) - begin[ordered]
    sorted_token_ids = torch.full((capacity,), n, dtype=torch.int32, device=device)
    sorted_token_ids[place] = slots.to(torch.int32)
    return sorted_token_ids, expert_ids, (used * B).to(torch.int32)


align.eplora_arrays = "torch"
align.eplora_device = "cuda" if torch.cuda.is_available() else "cpu"
